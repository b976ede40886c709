//! A report as events: `delta` while it is written, section by section, then `report`.

use std::time::Instant;

use axum::response::sse;
use serde_json::json;

use super::render::{Origins, body};
use super::sections::Sections;
use crate::engine::Event;
use crate::formats::Section;
use crate::server::error::{ApiError, ApiResult};
use crate::server::running::{Counts, Finished, failure};
use crate::server::sse::{Writer, named};
use crate::server::state::App;

/// Writes the events of one report.
pub(super) struct ReportWriter {
    app: App,
    /// Until the report is made of them.
    origins: Option<Origins>,
    deadline: Instant,
    sections: Sections,
    counts: Counts,
}

impl ReportWriter {
    pub(super) fn new(app: App, origins: Origins, deadline: Instant) -> Self {
        let (sections, counts) = (Sections::default(), Counts::default());
        Self { app, origins: Some(origins), deadline, sections, counts }
    }
}

fn deltas(shown: Vec<(Section, String)>) -> Vec<sse::Event> {
    let delta = |(section, text)| named("delta", &json!({ "section": section, "text": text }));
    shown.into_iter().map(delta).collect()
}

impl Writer for ReportWriter {
    fn begin(&mut self) -> Vec<sse::Event> {
        Vec::new()
    }

    async fn on(&mut self, _index: usize, event: Event) -> ApiResult<Vec<sse::Event>> {
        match event {
            Event::Started { prompt_tokens, cached_tokens, image_tokens } => {
                self.counts = Counts::of_prompt(prompt_tokens, cached_tokens, image_tokens);
                Ok(Vec::new())
            }
            Event::Token { text, .. } => {
                self.counts.completion += 1;
                Ok(deltas(self.sections.push(&text)))
            }
            Event::Finished { reason, rest, text, sentences } => {
                let mut events = deltas(self.sections.push(&rest));
                events.extend(deltas(self.sections.finish()));
                let origins = self.origins.take().ok_or_else(ApiError::internal)?;
                let answer = Finished { text, tokens: Vec::new(), reason, sentences, counts: self.counts };
                let app = self.app.clone();
                let work = move || body(&app, &origins, &answer);
                let report = self.app.gate.blocking(self.deadline, work).await?;
                events.push(named("report", &report));
                Ok(events)
            }
            Event::Failed { kind, message } => Err(failure(kind, &message)),
        }
    }

    fn end(&mut self) -> Vec<sse::Event> {
        Vec::new()
    }
}
