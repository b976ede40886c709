//! Messages of a request to turns of the template and the images they show.

use swinseek_language::prompt;

use super::request::{ChatMessage, Content, ImageUrl, Part};
use crate::server::error::{ApiError, ApiResult};
use crate::server::media::Source;
use crate::server::settings::Limits;

/// Turns for the template, and the images in their order, each with the name of its field.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) messages: Vec<prompt::Message>,
    pub(super) images: Vec<(Source, String)>,
    /// Bytes of all texts.
    pub(super) bytes: usize,
}

impl Conversation {
    /// Checks roles, parts and the number of images before any image is decoded.
    pub(super) fn new(messages: Vec<ChatMessage>, limits: &Limits) -> ApiResult<Self> {
        if messages.is_empty() {
            return Err(ApiError::invalid("messages", "messages is empty, expected at least one"));
        }
        check_images(&messages, limits.images)?;
        let mut conversation = Self { messages: Vec::new(), images: Vec::new(), bytes: 0 };
        for (index, message) in messages.into_iter().enumerate() {
            conversation.push(index, message, limits)?;
        }
        let last = conversation.messages.last().map_or("", |message| &message.role);
        if last != "user" {
            let message = "the last message must be the user's: there is nothing to answer";
            return Err(ApiError::invalid("messages", message));
        }
        Ok(conversation)
    }

    fn push(&mut self, index: usize, message: ChatMessage, limits: &Limits) -> ApiResult<()> {
        let param = format!("messages.{index}");
        let role = match message.role.as_str() {
            "system" | "developer" if index == 0 => "system",
            "system" | "developer" => {
                let message = "a system message stands in front of all others";
                return Err(ApiError::invalid(format!("{param}.role"), message));
            }
            "user" => "user",
            "assistant" => "assistant",
            "tool" | "function" => {
                return Err(ApiError::unsupported(&format!("{param}.role"), "this model calls no tools"));
            }
            _ => {
                let message = "the role is unknown, expected system, user or assistant";
                return Err(ApiError::invalid(format!("{param}.role"), message));
            }
        };
        let param = format!("{param}.content");
        let content = match message.content {
            None => return Err(ApiError::invalid(param, "the message has no content")),
            Some(Content::Text(text)) => {
                self.bytes += text.len();
                prompt::Content::Text(text)
            }
            Some(Content::Parts(parts)) => self.parts(parts, role, &param, limits)?,
        };
        self.messages.push(prompt::Message { role: role.to_owned(), content, other: serde_json::Map::new() });
        Ok(())
    }

    fn parts(
        &mut self,
        parts: Vec<Part>,
        role: &str,
        param: &str,
        limits: &Limits,
    ) -> ApiResult<prompt::Content> {
        if parts.is_empty() {
            return Err(ApiError::invalid(param, "the message has no content"));
        }
        let mut content = Vec::with_capacity(parts.len());
        for (index, part) in parts.into_iter().enumerate() {
            let param = format!("{param}.{index}");
            content.push(match (part.r#type.as_str(), part.text, part.image_url) {
                ("text", Some(text), None) => {
                    self.bytes += text.len();
                    prompt::Part::Text { text }
                }
                ("image_url", None, Some(image)) if role == "user" => {
                    self.image(&image, &format!("{param}.image_url"), limits)?;
                    prompt::Part::Image
                }
                ("image_url", None, Some(_)) => {
                    let message = "only the user's messages may hold images";
                    return Err(ApiError::invalid(format!("{param}.image_url"), message));
                }
                ("text" | "image_url", ..) => {
                    let message = "a text part has `text` alone, an image_url part `image_url` alone";
                    return Err(ApiError::invalid(param, message));
                }
                ("input_audio" | "file" | "video_url" | "audio_url", ..) => {
                    return Err(ApiError::unsupported(
                        &format!("{param}.type"),
                        "this model reads texts and images only",
                    ));
                }
                _ => {
                    let message = "the part's type is unknown, expected text or image_url";
                    return Err(ApiError::invalid(format!("{param}.type"), message));
                }
            });
        }
        Ok(prompt::Content::Parts(content))
    }

    fn image(&mut self, image: &ImageUrl, param: &str, limits: &Limits) -> ApiResult<()> {
        if !matches!(image.detail.as_deref(), None | Some("auto" | "low" | "high")) {
            return Err(ApiError::invalid(format!("{param}.detail"), "detail is auto, low or high"));
        }
        let source = Source::parse(&image.url, limits.image.max_bytes, param)?;
        self.images.push((source, param.to_owned()));
        Ok(())
    }
}

fn check_images(messages: &[ChatMessage], most: usize) -> ApiResult<()> {
    let images = |message: &ChatMessage| match &message.content {
        Some(Content::Parts(parts)) => parts.iter().filter(|part| part.image_url.is_some()).count(),
        _ => 0,
    };
    let count: usize = messages.iter().map(images).sum();
    if count > most {
        let message = format!("the request has {count} images, at most {most} are read");
        return Err(ApiError::invalid("messages", message).code("too_many_images"));
    }
    Ok(())
}
