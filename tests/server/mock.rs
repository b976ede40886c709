//! A model that writes a fixed text, at a pace that a test decides.

use std::sync::{Arc, Condvar, Mutex};

use anyhow::Result;
use serde_json::{Value, json};
use swinseek::engine::{DecodeRow, EngineModel, ModelInfo, PreparedImage};
use swinseek_fusion::projector::MemoryLayout;
use swinseek_fusion::prompt_encoder::PromptEncoder;
use swinseek_fusion::session::Prediction;
use swinseek_language::text_stream::TextStream;
use swinseek_language::tokenizer::Tokenizer;
use swinseek_vision::preprocess::Preprocessor;

/// What the model writes.
pub const ANSWER: &str = "The lungs are clear. No effusion is seen.";
/// A prompt with this word makes the model panic.
pub const PANIC_WORD: &str = "panic";
pub const CONTEXT: usize = 256;
pub const IMAGE_TOKENS: usize = 20;

/// Lets a test hold the model before its next step.
#[derive(Clone, Default)]
pub struct Pace(Arc<(Mutex<bool>, Condvar)>);

impl Pace {
    pub fn hold(&self) {
        *self.0.0.lock().expect("lock") = true;
    }

    pub fn go(&self) {
        *self.0.0.lock().expect("lock") = false;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let held = self.0.0.lock().expect("lock");
        drop(self.0.1.wait_while(held, |held| *held).expect("lock"));
    }
}

pub struct Mock {
    tokenizer: Tokenizer,
    answer: Vec<u32>,
    panic: Vec<u32>,
    stop: Vec<u32>,
    pace: Pace,
}

/// Tokenizer and template of the default model, and a small picture size.
pub fn parts() -> (PromptEncoder, Preprocessor) {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/model/");
    let read = |file: &str| std::fs::read(format!("{dir}{file}")).expect(file);
    let tokenizer = Tokenizer::from_bytes(&read("tokenizer.json")).expect("tokenizer");
    let config: Value = serde_json::from_slice(&read("tokenizer_config.json")).expect("tokenizer_config");
    let prompts = PromptEncoder::new(tokenizer, &config, &Value::Null).expect("prompts");
    let size = json!({ "do_resize": true, "size": { "height": 16, "width": 16 } });
    (prompts, Preprocessor::from_json(&size).expect("preprocessor"))
}

impl Mock {
    pub fn new(prompts: &PromptEncoder, pace: Pace) -> Self {
        let tokenizer = prompts.tokenizer().clone();
        let encode = |text: &str| tokenizer.encode_untrusted(text).expect("ids");
        let stop = prompts.stop_ids().to_vec();
        Self { answer: encode(ANSWER), panic: encode(PANIC_WORD), stop, pace, tokenizer }
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
    /// Tokens of the answer so far.
    type Cache = usize;

    fn info(&self) -> ModelInfo {
        ModelInfo {
            name: "mock".to_owned(),
            digest: "0123456789abcdef".repeat(4),
            context_length: CONTEXT,
            vocab_size: self.tokenizer.vocab_size(),
            created: 1_700_000_000,
            images_in_context: false,
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

    fn new_cache(&self) -> usize {
        0
    }

    fn fork(&self, cache: &usize) -> Result<usize> {
        Ok(*cache)
    }

    fn cache_bytes(&self, _cache: &usize) -> usize {
        8
    }

    fn prefill(&self, _ids: &[u32], _memory: Option<&()>, _cache: &mut usize) -> Result<()> {
        Ok(())
    }

    fn prefill_last(&self, ids: &[u32], _: Option<&()>, cache: &mut usize, _: bool) -> Result<Prediction> {
        assert!(!ids.windows(self.panic.len()).any(|window| window == self.panic), "as asked");
        Ok(self.predict(*cache))
    }

    fn decode(&self, rows: &mut [DecodeRow<'_, Self>]) -> Result<Vec<Prediction>> {
        let step = |row: &mut DecodeRow<'_, Self>| {
            *row.cache += 1;
            self.predict(*row.cache)
        };
        Ok(rows.iter_mut().map(step).collect())
    }
}
