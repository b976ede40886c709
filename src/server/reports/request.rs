//! `POST /v1/reports`: the body, as JSON, as a form with files, or as one file.

use std::convert::Infallible;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use multer::Multipart;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::server::error::{ApiError, ApiResult};
use crate::server::json;
use crate::server::media::Source;
use crate::server::settings::Limits;

/// Longest text field of a form.
const MAX_TEXT: usize = 64 << 10;

/// A study to be described.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportRequest {
    /// Name of the model; may be left out.
    pub(super) model: Option<String>,
    /// The images of the study, in order.
    pub(super) images: Vec<ReportImageRef>,
    /// Why the study was made.
    pub(super) indication: Option<String>,
    /// An earlier report to compare with.
    pub(super) prior_report: Option<String>,
    /// Seed of the random choices; they are made only at a temperature above 0.
    pub(super) seed: Option<i64>,
    /// 0, the default, is greedy.
    #[schema(minimum = 0, maximum = 2)]
    pub(super) temperature: Option<f64>,
    /// Most new tokens.
    #[schema(minimum = 1)]
    pub(super) max_tokens: Option<u64>,
    /// Use only words of the server's term file.
    pub(super) lexicon: Option<bool>,
    /// `preview` and `overlay`: PNGs of the images, and of the regions that the sentences rest on.
    pub(super) include: Option<Vec<String>>,
    /// Send events while the report is written.
    pub(super) stream: Option<bool>,
    /// The end user, as the client calls them; only its hash is kept, in the audit record.
    pub(super) user: Option<String>,
}

/// One of the images.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportImageRef {
    /// A data URI, base64 alone, or an http(s) URL where the server allows it.
    pub(super) url: String,
    /// Frame of a multi-frame file, from 0.
    pub(super) frame: Option<u64>,
}

/// A form with files.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes the form; the fields are read one by one")]
pub(super) struct ReportForm {
    /// Images or DICOM files; may be given several times.
    #[schema(value_type = Vec<String>, format = Binary)]
    image: Vec<u8>,
    /// Frame of multi-frame files, from 0.
    frame: Option<u64>,
    /// Why the study was made.
    indication: Option<String>,
    /// An earlier report to compare with.
    prior_report: Option<String>,
    /// As in JSON, and so `temperature`, `max_tokens`, `lexicon`, `stream`, `model`, `user`.
    seed: Option<i64>,
    /// `preview` or `overlay`; may be given several times.
    include: Option<String>,
}

/// The images of a request with their frames and the names of their fields.
pub(super) type Images = Vec<(Source, usize, String)>;

/// Reads a body of any of the three kinds. Sizes are checked before anything is decoded.
pub(super) async fn read(
    headers: &HeaderMap,
    bytes: Bytes,
    limits: &Limits,
) -> ApiResult<(ReportRequest, Images)> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (request, images) = match media.as_str() {
        "application/json" => from_json(&bytes, limits)?,
        "multipart/form-data" => from_form(kind, bytes, limits).await?,
        media if media == "application/dicom" || media.starts_with("image/") => {
            (ReportRequest::default(), vec![(Source::Bytes(bytes.to_vec()), 0, "body".to_owned())])
        }
        _ => {
            let message =
                "the body must be application/json, multipart/form-data, application/dicom or image/*";
            let error = ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
            return Err(error.code("unsupported_media_type"));
        }
    };
    if images.is_empty() {
        return Err(ApiError::invalid("images", "a report needs at least one image"));
    }
    Ok((request, images))
}

fn check_count(count: usize, limits: &Limits) -> ApiResult<()> {
    if count > limits.images {
        let message = format!("the request has {count} images, at most {} are read", limits.images);
        return Err(ApiError::invalid("images", message).code("too_many_images"));
    }
    Ok(())
}

fn from_json(bytes: &[u8], limits: &Limits) -> ApiResult<(ReportRequest, Images)> {
    let mut request: ReportRequest = json::parse(bytes)?;
    check_count(request.images.len(), limits)?;
    let image = |(index, image): (usize, ReportImageRef)| {
        let param = format!("images.{index}");
        let source = Source::parse(&image.url, limits.image.max_bytes, &format!("{param}.url"))?;
        Ok((source, image.frame.map_or(0, |frame| usize::try_from(frame).unwrap_or(usize::MAX)), param))
    };
    let images = std::mem::take(&mut request.images).into_iter().enumerate().map(image);
    let images = images.collect::<ApiResult<Images>>()?;
    Ok((request, images))
}

async fn from_form(kind: &str, bytes: Bytes, limits: &Limits) -> ApiResult<(ReportRequest, Images)> {
    let broken = |_| ApiError::new(StatusCode::BAD_REQUEST, "the form cannot be read").code("invalid_form");
    let boundary = multer::parse_boundary(kind).map_err(broken)?;
    let body = futures_util::stream::iter([Ok::<_, Infallible>(bytes)]);
    let mut form = Multipart::new(body, boundary);
    let mut request = ReportRequest::default();
    let (mut images, mut frame) = (Vec::new(), 0);
    while let Some(field) = form.next_field().await.map_err(broken)? {
        let name = field.name().unwrap_or_default().to_owned();
        let value = field.bytes().await.map_err(broken)?;
        if matches!(name.as_str(), "image" | "images" | "file") {
            check_count(images.len() + 1, limits)?;
            let param = format!("images.{}", images.len());
            images.push((Source::Bytes(value.to_vec()), param));
        } else {
            let text = std::str::from_utf8(&value).ok().filter(|text| text.len() <= MAX_TEXT);
            let text =
                text.ok_or_else(|| ApiError::invalid(known(&name), "the field is no text, or too long"))?;
            text_field(&mut request, &mut frame, &name, text.trim())?;
        }
    }
    Ok((request, images.into_iter().map(|(source, param)| (source, frame, param)).collect()))
}

/// A name from outside goes back only if it is short and plain.
fn known(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn text_field(request: &mut ReportRequest, frame: &mut usize, name: &str, text: &str) -> ApiResult<()> {
    fn number<N: std::str::FromStr>(name: &str, text: &str) -> ApiResult<N> {
        text.parse().map_err(|_| ApiError::invalid(name, format!("{name} is not a number of its kind")))
    }
    let flag = || match text {
        "true" | "1" => Ok(Some(true)),
        "false" | "0" => Ok(Some(false)),
        _ => Err(ApiError::invalid(name, format!("{name} is neither true nor false"))),
    };
    match name {
        "model" => request.model = Some(text.to_owned()),
        "indication" => request.indication = Some(text.to_owned()),
        "prior_report" => request.prior_report = Some(text.to_owned()),
        "user" => request.user = Some(text.to_owned()),
        "seed" => request.seed = Some(number(name, text)?),
        "temperature" => request.temperature = Some(number(name, text)?),
        "max_tokens" => request.max_tokens = Some(number(name, text)?),
        "frame" => *frame = number(name, text)?,
        "lexicon" => request.lexicon = flag()?,
        "stream" => request.stream = flag()?,
        "include" => {
            let include = request.include.get_or_insert_default();
            // One too many is enough to be refused.
            include.extend(text.split(',').map(|item| item.trim().to_owned()).take(3));
            include.truncate(8);
        }
        _ => {
            let name = known(name);
            let message = format!("unknown parameter: `{name}`");
            return Err(ApiError::invalid(name, message).code("unknown_parameter"));
        }
    }
    Ok(())
}
