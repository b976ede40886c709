//! From a conversation to prompt ids: chat templates in Jinja, as published models bring them.
//!
//! Text from outside never becomes a control token: before a template sees it, every spelling of one is broken by a
//! mark that no template removes, and the mark splits the text again when it is encoded. Only an assistant's own turns may hold `<think>` and
//! `</think>`.

mod builtin;
mod environment;

use std::collections::HashSet;

use minijinja::Environment;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use swinseek_kernels::{Error, Result};

use crate::tokenizer::{Tokenizer, token_text};
pub use builtin::{Builtin, OWN_TEMPLATE, SPECIAL_TOKENS};

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What was said and shown.
    pub content: Content,
    /// Further fields for the template (`tool_calls`, `name`), passed on as they are.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Content of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Text alone.
    Text(String),
    /// Texts and images in order.
    Parts(Vec<Part>),
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Part {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// The place of the next image.
    Image,
}

impl Message {
    /// A message of text alone.
    pub fn text(role: impl Into<String>, text: impl Into<String>) -> Self {
        Self { role: role.into(), content: Content::Text(text.into()), other: Map::new() }
    }

    /// A user's turn: `images` images, then the text.
    pub fn user(text: impl Into<String>, images: usize) -> Self {
        let mut parts = vec![Part::Image; images];
        parts.push(Part::Text { text: text.into() });
        Self { role: "user".into(), content: Content::Parts(parts), other: Map::new() }
    }

    /// Places for images in this message.
    pub fn images(&self) -> usize {
        match &self.content {
            Content::Text(_) => 0,
            Content::Parts(parts) => parts.iter().filter(|part| **part == Part::Image).count(),
        }
    }
}

/// Breaks the spelling of control tokens in text from outside; a noncharacter, which no text may use.
const BREAK: char = '\u{FDD0}';

/// A compiled chat template with the token texts that it may write. Cloning is cheap next to a prompt.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// The template walks through content parts itself; others get one text.
    takes_parts: bool,
    bos_token: String,
    eos_token: String,
    image_token: String,
    now: Option<i64>,
    variables: Map<String, Value>,
}

impl ChatTemplate {
    /// Compiles Jinja source, with the settings and functions of Hugging Face `apply_chat_template`. The token texts
    /// `bos_token`, `eos_token` and `image_token` are those of `tokenizer_config` (text, or an object with `content`).
    ///
    /// # Errors
    /// [`Error::Config`] naming the line of the template or the field.
    pub fn new(source: &str, tokenizer_config: &Value) -> Result<Self> {
        let token = |field: &str| -> Result<String> {
            Ok(token_text(field, &tokenizer_config[field])?.unwrap_or_default().to_owned())
        };
        Ok(Self {
            environment: environment::with_template(source)?,
            takes_parts: ["['type']", "[\"type\"]", ".type"].iter().any(|spelling| source.contains(spelling)),
            bos_token: token("bos_token")?,
            eos_token: token("eos_token")?,
            image_token: token("image_token")?,
            now: None,
            variables: Map::new(),
        })
    }

    /// The template in `tokenizer_config.json`, else our own.
    ///
    /// # Errors
    /// As [`ChatTemplate::named`].
    pub fn from_tokenizer_config(config: &Value) -> Result<Self> {
        Self::named(config, "default")?.map_or_else(|| Self::new(OWN_TEMPLATE, config), Ok)
    }

    /// The template in `tokenizer_config.json`, else the one whose markers `tokenizer` knows; a token text that the
    /// file does not give comes from the vocabulary.
    ///
    /// # Errors
    /// As [`ChatTemplate::named`] and [`Tokenizer::special_ids`].
    pub fn for_tokenizer(tokenizer: &Tokenizer, config: &Value) -> Result<Self> {
        let template = Self::named(config, "default")?;
        let mut template =
            template.map_or_else(|| Self::new(&Builtin::of(tokenizer).source(), config), Ok)?;
        let ids = tokenizer.special_ids(&Value::Null, config)?;
        let fields = [
            (&mut template.bos_token, ids.bos),
            (&mut template.eos_token, ids.eos.first().copied()),
            (&mut template.image_token, ids.image),
        ];
        for (text, id) in fields {
            if let Some(token) = id.and_then(|id| tokenizer.token(id)).filter(|_| text.is_empty()) {
                *text = token;
            }
        }
        Ok(template)
    }

    /// The template `name` in `tokenizer_config.json`: `chat_template` is text, or a list of `{name, template}`.
    /// `None` when the file has no template.
    ///
    /// # Errors
    /// [`Error::Config`] when the field has another form, the name is unknown, or the template does not compile.
    pub fn named(config: &Value, name: &str) -> Result<Option<Self>> {
        match &config["chat_template"] {
            Value::Null => Ok(None),
            Value::String(source) => Self::new(source, config).map(Some),
            Value::Array(templates) => {
                let names: Vec<&str> = templates.iter().filter_map(|t| t["name"].as_str()).collect();
                let source =
                    templates.iter().find(|t| t["name"] == name).and_then(|t| t["template"].as_str());
                let source = source.ok_or_else(|| {
                    Error::config(
                        "chat_template",
                        format!("no template `{name}`, there are: {}", names.join(", ")),
                    )
                })?;
                Self::new(source, config).map(Some)
            }
            other => {
                Err(Error::config("chat_template", format!("{other}, expected text or a list of templates")))
            }
        }
    }

    /// Gives the time, in seconds since 1970 UTC, to templates that ask for it; asking without it is an error.
    #[must_use]
    pub fn with_now(mut self, seconds: i64) -> Self {
        self.now = Some(seconds);
        self
    }

    /// Gives the template a further variable (`thinking`, `tools`).
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: Value) -> Self {
        self.variables.insert(name.to_owned(), value);
        self
    }

    /// The prompt as text, for reading; with `add_generation_prompt` it ends where the assistant begins. To encode it
    /// use [`ChatTemplate::encode`], which keeps text apart from control tokens.
    ///
    /// # Errors
    /// [`Error::Config`] when the template fails, naming its line.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        Ok(self.render_shielded(messages, add_generation_prompt, &[])?.replace(BREAK, ""))
    }

    /// The ids of the prompt. Control tokens come from the template alone; all other text is encoded as it stands in
    /// the rendered prompt, so that tokens may span from template to message as in training.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`] and [`Tokenizer::encode`].
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>> {
        let prompt = self.render_shielded(messages, add_generation_prompt, &tokenizer.control_tokens())?;
        let mut ids = Vec::new();
        for piece in prompt.split(BREAK) {
            ids.extend(tokenizer.encode(piece, false)?);
        }
        Ok(ids)
    }

    fn render_shielded(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        control: &[String],
    ) -> Result<String> {
        let mut variables = self.variables.clone();
        let messages: Value = messages.iter().map(|message| self.message_value(message, control)).collect();
        variables.insert("messages".into(), messages);
        variables.insert("bos_token".into(), self.bos_token.as_str().into());
        variables.insert("eos_token".into(), self.eos_token.as_str().into());
        variables.insert("add_generation_prompt".into(), add_generation_prompt.into());
        environment::render(&self.environment, variables, self.now)
    }

    /// A message as templates expect it: a map with `role` and `content`.
    fn message_value(&self, message: &Message, control: &[String]) -> Value {
        // Templates look for the reasoning of earlier answers to leave it out, and answers may well hold some.
        let answer: Vec<String>;
        let mut control = control;
        if message.role == "assistant" {
            answer = control
                .iter()
                .filter(|token| !matches!(token.as_str(), "<think>" | "</think>"))
                .cloned()
                .collect();
            control = &answer;
        }
        let content: Value = match &message.content {
            Content::Text(text) => shield(text, control).into(),
            Content::Parts(parts) if self.takes_parts => parts
                .iter()
                .map(|part| match part {
                    Part::Text { text } => json!({"type": "text", "text": shield(text, control)}),
                    Part::Image => json!({"type": "image"}),
                })
                .collect(),
            Content::Parts(parts) => flatten(parts, &self.image_token, control).into(),
        };
        let mut value = Map::new();
        value.insert("role".into(), shield(&message.role, control).into());
        value.insert("content".into(), content);
        for (name, field) in &message.other {
            value.entry(name.clone()).or_insert_with(|| shield_value(field, control));
        }
        value.into()
    }
}

/// Parts as one text: image tokens and texts, each on a line of its own as in DeepSeek VL2. A model without an image
/// token sees its images through cross-attention, and its prompt does not mention them.
fn flatten(parts: &[Part], image_token: &str, control: &[String]) -> String {
    let lines: Vec<String> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Text { text } => Some(shield(text, control)),
            Part::Image => Some(image_token.to_owned()).filter(|token| !token.is_empty()),
        })
        .collect();
    lines.join("\n")
}

/// Puts a [`BREAK`] behind the first character of every spelling of a control token, and of every beginning of one at
/// the end of the text, which the text after it could complete.
fn shield(text: &str, control: &[String]) -> String {
    let text = text.replace(BREAK, "");
    // Published vocabularies have hundreds of control tokens, all of which begin with one of a few characters.
    let openings: HashSet<char> = control.iter().filter_map(|token| token.chars().next()).collect();
    let mut shielded = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        shielded.push(c);
        let rest = &text[at..];
        let spells = |token: &String| rest.starts_with(token.as_str()) || token.starts_with(rest);
        if openings.contains(&c) && control.iter().any(spells) {
            shielded.push(BREAK);
        }
    }
    shielded
}

/// [`shield`] for every text inside a JSON value.
fn shield_value(value: &Value, control: &[String]) -> Value {
    match value {
        Value::String(text) => shield(text, control).into(),
        Value::Array(items) => items.iter().map(|item| shield_value(item, control)).collect(),
        Value::Object(fields) => {
            let fields =
                fields.iter().map(|(name, field)| (shield(name, control), shield_value(field, control)));
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}
