//! `POST /v1/chat/completions` with `stream`: role, content, finish, usage, in OpenAI's order.

use axum::response::sse;

use super::response::{Chunk, ChunkChoice, Delta, Shape, UsageField};
use crate::engine::Event;
use crate::server::error::ApiResult;
use crate::server::running::{Counts, Token, failure, finish_name};
use crate::server::sse::{Writer, data};
use crate::server::state::App;

/// Writes the chunks of a request's answers.
pub(super) struct ChatWriter {
    shape: Shape,
    app: App,
    choices: usize,
    counts: Counts,
}

impl ChatWriter {
    pub(super) fn new(shape: Shape, app: App, choices: usize) -> Self {
        Self { shape, app, choices, counts: Counts::default() }
    }

    fn chunk(
        &self,
        index: usize,
        delta: Delta,
        tokens: Option<&[Token]>,
        finish: Option<&'static str>,
    ) -> sse::Event {
        let logprobs = tokens.and_then(|tokens| self.shape.logprobs_of(tokens, &self.app));
        let choice = ChunkChoice { index, delta, logprobs, finish_reason: finish };
        let usage = self.shape.include_usage.then_some(UsageField::Later);
        data(&Chunk { head: &self.shape.head, choices: vec![choice], usage })
    }

    fn content(&self, index: usize, text: String, tokens: Option<&[Token]>) -> sse::Event {
        self.chunk(index, Delta { content: Some(text), ..Delta::default() }, tokens, None)
    }
}

impl Writer for ChatWriter {
    fn begin(&mut self) -> Vec<sse::Event> {
        let role = || Delta { role: Some("assistant"), content: Some(String::new()) };
        (0..self.choices).map(|index| self.chunk(index, role(), None, None)).collect()
    }

    async fn on(&mut self, index: usize, event: Event) -> ApiResult<Vec<sse::Event>> {
        Ok(match event {
            Event::Started { prompt_tokens, cached_tokens, image_tokens } => {
                self.counts.add(index == 0, Counts::of_prompt(prompt_tokens, cached_tokens, image_tokens));
                Vec::new()
            }
            Event::Token { id, text, logprob, top_logprobs } => {
                self.counts.completion += 1;
                let token = Token { id, logprob, top_logprobs };
                if text.is_empty() && !self.shape.logprobs {
                    return Ok(Vec::new());
                }
                vec![self.content(index, text, Some(&[token]))]
            }
            Event::Finished { reason, rest, .. } => {
                let mut events = Vec::new();
                if !rest.is_empty() {
                    events.push(self.content(index, rest, None));
                }
                events.push(self.chunk(index, Delta::default(), None, Some(finish_name(reason))));
                events
            }
            Event::Failed { kind, message } => return Err(failure(kind, &message)),
        })
    }

    fn end(&mut self) -> Vec<sse::Event> {
        if !self.shape.include_usage {
            return Vec::new();
        }
        let usage = Some(UsageField::Now(self.counts.into()));
        vec![data(&Chunk { head: &self.shape.head, choices: Vec::new(), usage })]
    }
}
