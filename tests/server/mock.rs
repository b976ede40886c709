//! A model that writes a fixed text, at a pace that a test decides.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};

use anyhow::Result;
use serde_json::Value;
use swinseek::engine::{EngineModel, Frontend, ModelInfo, PreparedImage};
use swinseek_fusion::ModelConfig;
use swinseek_fusion::projector::MemoryLayout;
use swinseek_fusion::prompt_encoder::PromptEncoder;
use swinseek_fusion::session::{DecodeRow, Prediction};
use swinseek_language::text_stream::TextStream;
use swinseek_language::tokenizer::Tokenizer;
use swinseek_vision::preprocess::Preprocessor;

/// What the model writes.
pub(super) const ANSWER: &str = "The lungs are clear. No effusion is seen.";
pub(super) const FINDINGS: &str = "The lungs are clear. No effusion is seen.";
pub(super) const IMPRESSION: &str = "No acute finding.";
/// A prompt with this word makes the model panic.
pub(super) const PANIC_WORD: &str = "panic";
pub(super) const CONTEXT: usize = 256;

/// A report as models write them.
pub(super) fn report() -> String {
    format!("FINDINGS: {FINDINGS} IMPRESSION: {IMPRESSION}")
}

/// Lets a test hold the model before its next step.
#[derive(Clone, Default)]
pub(super) struct Pace(Arc<(Mutex<Held>, Condvar)>);

#[derive(Default)]
struct Held {
    held: bool,
    /// Steps that may be taken all the same.
    steps: usize,
}

impl Pace {
    pub(super) fn hold(&self) {
        *self.0.0.lock().expect("lock") = Held { held: true, steps: 0 };
    }

    /// Lets a model that is held take one step.
    pub(super) fn step(&self) {
        self.0.0.lock().expect("lock").steps += 1;
        self.0.1.notify_all();
    }

    pub(super) fn go(&self) {
        *self.0.0.lock().expect("lock") = Held::default();
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let held = self.0.0.lock().expect("lock");
        let mut held = self.0.1.wait_while(held, |held| held.held && held.steps == 0).expect("lock");
        held.steps = held.steps.saturating_sub(1);
    }
}

/// How many tokens a sequence has, and how many of them are its prompt.
#[derive(Default)]
pub(super) struct Tokens {
    all: usize,
    prompt: usize,
}

pub(super) struct Mock {
    tokenizer: Tokenizer,
    answer: Vec<u32>,
    panic: Vec<u32>,
    stop: Vec<u32>,
    pace: Pace,
}

/// The front of the default model: real tokenizer, template and preprocessing.
pub(super) fn frontend() -> Frontend {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/model/");
    let read = |file: &str| std::fs::read(format!("{dir}{file}")).expect(file);
    let json = |file: &str| -> Value { serde_json::from_slice(&read(file)).expect(file) };
    let tokenizer = Tokenizer::from_bytes(&read("tokenizer.json")).expect("tokenizer");
    let prompts =
        PromptEncoder::new(tokenizer, &json("tokenizer_config.json"), &Value::Null).expect("prompts");
    let preprocessor = Preprocessor::from_json(&json("preprocessor_config.json")).expect("preprocessor");
    let config = ModelConfig::from_json(&json("config.json")).expect("config");
    Frontend::new(prompts, preprocessor, config, "mock".to_owned())
}

impl Mock {
    pub(super) fn new(prompts: &PromptEncoder, answer: &str, pace: Pace) -> Self {
        let tokenizer = prompts.tokenizer().clone();
        let encode = |text: &str| tokenizer.encode_untrusted(text).expect("ids");
        let stop = prompts.stop_ids().to_vec();
        Self { answer: encode(answer), panic: encode(PANIC_WORD), stop, pace, tokenizer }
    }

    /// The answer's next token, or the end.
    fn predict(&self, step: usize) -> Prediction {
        self.pace.wait();
        let id = self.answer.get(step).copied().unwrap_or(self.stop[0]) as usize;
        let mut logits: Vec<f32> = (0..self.tokenizer.vocab_size()).map(|id| (id % 7) as f32 * 0.1).collect();
        logits[id] = 9.0;
        Prediction { logits, attention: Vec::new() }
    }
}

impl EngineModel for Mock {
    type Image = ();
    type Memory = ();
    type Cache = Tokens;

    fn info(&self) -> ModelInfo {
        ModelInfo {
            name: "mock".to_owned(),
            digest: "0123456789abcdef".repeat(4),
            context_length: CONTEXT,
            vocab_size: self.tokenizer.vocab_size(),
            created: 1_700_000_000,
            images_in_context: false,
            kernels: ["none"; 2],
        }
    }

    fn stop_ids(&self) -> &[u32] {
        &self.stop
    }

    fn text_stream(&self, stop: &[String]) -> Result<TextStream> {
        Ok(TextStream::new(&self.tokenizer, stop)?)
    }

    fn encode(&self, _image: &PreparedImage) -> Result<()> {
        Ok(())
    }

    fn image_bytes(&self, (): &()) -> usize {
        1
    }

    fn memory(&self, _images: &[()]) -> Result<()> {
        Ok(())
    }

    fn layout<'a>(&self, (): &'a ()) -> Option<&'a MemoryLayout> {
        None
    }

    fn new_cache(&self) -> Tokens {
        Tokens::default()
    }

    fn cache_len(&self, cache: &Tokens) -> usize {
        cache.all
    }

    fn copy(&self, _cache: &Tokens, range: Range<usize>) -> Result<Tokens> {
        Ok(Tokens { all: range.len(), prompt: 0 })
    }

    fn append(&self, cache: &mut Tokens, tokens: &Tokens) -> Result<()> {
        // What comes from the prefix cache is prompt.
        cache.all += tokens.all;
        cache.prompt = cache.all;
        Ok(())
    }

    fn cache_bytes(&self, cache: &Tokens) -> usize {
        cache.all
    }

    fn prefill(&self, ids: &[u32], _memory: Option<&()>, cache: &mut Tokens) -> Result<()> {
        cache.all += ids.len();
        Ok(())
    }

    fn prefill_last(&self, ids: &[u32], _: Option<&()>, cache: &mut Tokens, _: bool) -> Result<Prediction> {
        assert!(!ids.windows(self.panic.len()).any(|window| window == self.panic), "as asked");
        cache.all += ids.len();
        cache.prompt = cache.all;
        Ok(self.predict(0))
    }

    fn decode(&self, rows: &mut [DecodeRow<'_, (), Tokens>]) -> Result<Vec<Prediction>> {
        let step = |row: &mut DecodeRow<'_, (), Tokens>| {
            row.cache.all += 1;
            self.predict(row.cache.all - row.cache.prompt)
        };
        Ok(rows.iter_mut().map(step).collect())
    }
}
