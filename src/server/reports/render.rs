//! From an answer to a report in one of its forms.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use swinseek_fusion::FinishReason;
use utoipa::ToSchema;

use super::accept::Form;
use super::request::ReportRequest;
use crate::formats::{self, Instance, NOTICE, Report, ReportImage, Study, fhir, overlay, sr, text};
use crate::server::admission::Received;
use crate::server::chat::response::Usage;
use crate::server::error::{ApiError, ApiResult};
use crate::server::media::Sight;
use crate::server::observe::random_id;
use crate::server::running::{Finished, finish_name};
use crate::server::state::App;

/// What a report is about, besides its text.
pub(super) struct Origins {
    id: String,
    created: u64,
    sights: Vec<Sight>,
    study: Option<Study>,
    drawn: Drawn,
    pub(super) seed: u64,
    /// The body's share of the memory of all bodies, for as long as images may be decoded again.
    pub(super) memory: Option<Arc<Received>>,
}

/// Pictures that go with a report.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Drawn {
    preview: bool,
    overlay: bool,
}

impl Drawn {
    pub(super) fn wanted(request: &ReportRequest) -> ApiResult<Self> {
        let mut drawn = Self::default();
        for (index, item) in request.include.iter().flatten().enumerate() {
            match item.as_str() {
                "preview" => drawn.preview = true,
                "overlay" => drawn.overlay = true,
                _ => {
                    let message = "include takes preview and overlay";
                    return Err(ApiError::invalid(format!("include.{index}"), message));
                }
            }
        }
        Ok(drawn)
    }

    pub(super) fn any(self) -> bool {
        self.preview || self.overlay
    }
}

/// A draft report.
#[derive(Serialize, ToSchema)]
pub(super) struct ReportBody {
    /// Of this report.
    id: String,
    /// `report`
    object: &'static str,
    /// Findings, impression, sentences with confidence and region, digests of model and images, seed, notice.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    report: Report,
    /// Name of the model.
    model_name: String,
    /// The text as the model wrote it, with its headings.
    text: String,
    /// `stop`, or `length` when the text is cut off.
    finish_reason: &'static str,
    /// What a reader of the report should know of its images.
    warnings: Vec<Warning>,
    usage: Usage,
}

/// Something about an image.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct Warning {
    /// Index of the image.
    image: usize,
    /// `burned_in_annotation`
    code: &'static str,
    /// For a person.
    message: &'static str,
}

impl Origins {
    /// Refuses images of two patients.
    pub(super) fn new(sights: Vec<Sight>, drawn: Drawn) -> ApiResult<Self> {
        let mut study: Option<Study> = None;
        for (index, sight) in sights.iter().enumerate() {
            let Some(facts) = &sight.dicom else { continue };
            let here = Study::from_facts(facts);
            match &study {
                Some(study) if !study.agrees_with(&here) => {
                    let message = "the DICOM files are of different studies or patients";
                    return Err(ApiError::unusable(format!("images.{index}"), message).code("mixed_studies"));
                }
                Some(_) => {}
                None => study = Some(here),
            }
        }
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Ok(Self { id: random_id("report-"), created, sights, study, drawn, seed: 0, memory: None })
    }

    pub(super) fn digests(&self) -> Vec<String> {
        self.sights.iter().map(|sight| sight.digest.clone()).collect()
    }

    fn warnings(&self) -> Vec<Warning> {
        let warning = |(image, sight): (usize, &Sight)| {
            sight.burned_in().then_some(Warning {
                image,
                code: "burned_in_annotation",
                message: "the file says that its pixels hold identifying text",
            })
        };
        self.sights.iter().enumerate().filter_map(warning).collect()
    }

    fn image(sight: &Sight) -> ReportImage {
        let facts = sight.dicom.as_deref();
        ReportImage {
            digest: sight.digest.clone(),
            width: sight.size.0,
            height: sight.size.1,
            preview: None,
            overlay: None,
            instance: facts.and_then(|facts| Instance::from_facts(facts, sight.frame, sight.frames)),
        }
    }
}

fn png_uri(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(png))
}

fn report(app: &App, origins: &Origins, answer: &Finished) -> ApiResult<Report> {
    let (findings, impression) = formats::sections(&answer.text);
    let mut notice = NOTICE.to_owned();
    if answer.reason == FinishReason::Length {
        notice.push_str(" The text is incomplete: it reached its token limit.");
    }
    let mut report = Report {
        findings: findings.to_owned(),
        impression: impression.to_owned(),
        sentences: formats::sentences(&answer.sentences),
        model: app.engine.info().digest.clone(),
        images: origins.sights.iter().map(Origins::image).collect(),
        seed: origins.seed,
        notice,
        created: origins.created,
        study: origins.study.clone(),
    };
    if origins.drawn.any() {
        draw(app, origins, &mut report)?;
    }
    Ok(report)
}

fn draw(app: &App, origins: &Origins, report: &mut Report) -> ApiResult<()> {
    for (index, sight) in origins.sights.iter().enumerate() {
        let image = sight.image(&app.settings)?;
        if origins.drawn.preview {
            let png = overlay::preview(&image).map_err(|error| failed(&error))?;
            report.images[index].preview = Some(png_uri(&png));
        }
        if origins.drawn.overlay {
            let png = overlay::overlay(report, index, &image).map_err(|error| failed(&error))?;
            report.images[index].overlay = Some(png_uri(&png));
        }
    }
    Ok(())
}

/// The JSON form.
pub(super) fn body(app: &App, origins: &Origins, answer: &Finished) -> ApiResult<ReportBody> {
    Ok(ReportBody {
        id: origins.id.clone(),
        object: "report",
        report: report(app, origins, answer)?,
        model_name: app.model_name.clone(),
        text: answer.text.clone(),
        finish_reason: finish_name(answer.reason),
        warnings: origins.warnings(),
        usage: answer.counts.into(),
    })
}

/// The bytes of a form.
pub(super) fn render(app: &App, origins: &Origins, answer: &Finished, form: Form) -> ApiResult<Vec<u8>> {
    fn json(value: &impl Serialize) -> ApiResult<Vec<u8>> {
        serde_json::to_vec(value).map_err(|error| failed(&error.into()))
    }
    match form {
        Form::Json | Form::Events => json(&body(app, origins, answer)?),
        Form::Text => Ok(text::render(&report(app, origins, answer)?).into_bytes()),
        Form::Fhir => json(&fhir::render(&report(app, origins, answer)?)),
        Form::Dicom => sr::render(&report(app, origins, answer)?).map_err(|error| failed(&error)),
    }
}

fn failed(error: &anyhow::Error) -> ApiError {
    tracing::error!(error = %format!("{error:#}"), "a report cannot be written");
    ApiError::internal()
}
