//! A model whose answers are a function of prompt and images, whose steps the test lets happen one by one.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use anyhow::{Result, bail};
use swinseek::engine::{EngineModel, Job, ModelInfo, PreparedImage};
use swinseek_fusion::projector::MemoryLayout;
use swinseek_fusion::session::{DecodeRow, Prediction};
use swinseek_language::sampler::SamplingParams;
use swinseek_language::text_stream::TextStream;
use swinseek_language::tokenizer::Tokenizer;
use swinseek_vision::preprocess::{Channels, Image, PixelValues, Preprocessor, Samples};

pub(super) const VOCAB: usize = 930;
/// A prompt that begins with this makes a decoding step panic.
pub(super) const PANICS: u32 = 900;
/// A prompt that begins with this cannot be read.
pub(super) const FAILS: u32 = 901;

/// What the model was asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    Encode,
    /// First token of the prompt, tokens read.
    Prefill(u32, usize),
    /// First tokens of the prompts of the rows.
    Decode(Vec<u32>),
}

/// Steps that may still happen, and what has happened.
#[derive(Default)]
pub(super) struct Control {
    permits: Mutex<usize>,
    changed: Condvar,
    pub(super) calls: Mutex<Vec<Call>>,
}

impl Control {
    /// Lets `n` more decoding steps happen.
    pub(super) fn allow(&self, n: usize) {
        let mut permits = self.permits.lock().unwrap();
        *permits = permits.saturating_add(n);
        drop(permits);
        self.changed.notify_all();
    }

    /// First tokens of the rows of every decoding step so far.
    pub(super) fn steps(&self) -> Vec<Vec<u32>> {
        let step = |call: &Call| match call {
            Call::Decode(rows) => Some(rows.clone()),
            _ => None,
        };
        self.calls.lock().unwrap().iter().filter_map(step).collect()
    }

    fn take(&self) {
        let permits = self.permits.lock().unwrap();
        *self.changed.wait_while(permits, |permits| *permits == 0).unwrap() -= 1;
    }

    fn note(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }
}

pub(super) struct Mock {
    pub(super) control: Arc<Control>,
    pub(super) image_bytes: usize,
    tokenizer: Tokenizer,
}

impl Mock {
    /// A model that waits for [`Control::allow`] before each step.
    pub(super) fn gated() -> (Self, Arc<Control>) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/model/tokenizer.json");
        let tokenizer = Tokenizer::from_bytes(&std::fs::read(file).unwrap()).unwrap();
        let control = Arc::<Control>::default();
        (Self { control: Arc::clone(&control), image_bytes: 1000, tokenizer }, control)
    }

    /// A model that never waits.
    pub(super) fn free() -> (Self, Arc<Control>) {
        let (mock, control) = Self::gated();
        control.allow(usize::MAX);
        (mock, control)
    }
}

/// The tokens of a sequence, and its images.
fn next(cache: &[u32], memory: Option<&Vec<[u8; 32]>>) -> Prediction {
    let mut hasher = blake3::Hasher::new();
    for id in cache {
        hasher.update(&id.to_le_bytes());
    }
    for digest in memory.into_iter().flatten() {
        hasher.update(digest);
    }
    let bytes = hasher.finalize();
    let id = 100 + usize::from(u16::from_le_bytes([bytes.as_bytes()[0], bytes.as_bytes()[1]])) % 700;
    let mut logits = vec![0.0; VOCAB];
    logits[id] = 5.0;
    Prediction { logits, attention: Vec::new() }
}

impl EngineModel for Mock {
    type Image = [u8; 32];
    type Memory = Vec<[u8; 32]>;
    type Cache = Vec<u32>;

    fn info(&self) -> ModelInfo {
        ModelInfo {
            name: "mock".to_owned(),
            digest: "00".to_owned(),
            context_length: 100,
            vocab_size: VOCAB,
            created: 0,
            images_in_context: false,
            kernels: ["none"; 2],
        }
    }

    fn stop_ids(&self) -> &[u32] {
        &[2]
    }

    fn text_stream(&self, stop: &[String]) -> Result<TextStream> {
        Ok(TextStream::new(&self.tokenizer, stop)?)
    }

    fn encode(&self, image: &PreparedImage) -> Result<[u8; 32]> {
        self.control.note(Call::Encode);
        Ok(image.digest)
    }

    fn image_bytes(&self, _: &[u8; 32]) -> usize {
        self.image_bytes
    }

    fn memory(&self, images: &[[u8; 32]]) -> Result<Vec<[u8; 32]>> {
        Ok(images.to_vec())
    }

    fn layout<'a>(&self, _: &'a Vec<[u8; 32]>) -> Option<&'a MemoryLayout> {
        None
    }

    fn new_cache(&self) -> Vec<u32> {
        Vec::new()
    }

    fn cache_len(&self, cache: &Vec<u32>) -> usize {
        cache.len()
    }

    fn copy(&self, cache: &Vec<u32>, range: Range<usize>) -> Result<Vec<u32>> {
        Ok(cache[range].to_vec())
    }

    fn append(&self, cache: &mut Vec<u32>, tokens: &Vec<u32>) -> Result<()> {
        cache.extend(tokens);
        Ok(())
    }

    fn cache_bytes(&self, cache: &Vec<u32>) -> usize {
        cache.len() * 100
    }

    fn prefill(&self, ids: &[u32], _: Option<&Vec<[u8; 32]>>, cache: &mut Vec<u32>) -> Result<()> {
        cache.extend(ids);
        self.control.note(Call::Prefill(cache[0], ids.len()));
        if cache[0] == FAILS {
            bail!("unreadable");
        }
        Ok(())
    }

    fn prefill_last(
        &self,
        ids: &[u32],
        memory: Option<&Vec<[u8; 32]>>,
        cache: &mut Vec<u32>,
        _: bool,
    ) -> Result<Prediction> {
        self.prefill(ids, memory, cache)?;
        Ok(next(cache, memory))
    }

    fn decode(&self, rows: &mut [DecodeRow<'_, Vec<[u8; 32]>, Vec<u32>>]) -> Result<Vec<Prediction>> {
        self.control.take();
        self.control.note(Call::Decode(rows.iter().map(|row| row.cache[0]).collect()));
        assert!(rows.iter().all(|row| row.cache[0] != PANICS), "planted");
        let row = |row: &mut DecodeRow<'_, Vec<[u8; 32]>, Vec<u32>>| {
            row.cache.push(row.token);
            next(row.cache, row.memory)
        };
        Ok(rows.iter_mut().map(row).collect())
    }
}

/// A job of `length` prompt tokens that begins with `first`, greedy.
pub(super) fn job(first: u32, length: usize, max_new_tokens: usize) -> Job {
    let mut prompt: Vec<u32> = (0..length as u32).map(|i| 10 + (i + first) % 50).collect();
    prompt[0] = first;
    Job {
        prompt,
        images: Vec::new(),
        sampling: SamplingParams::default(),
        max_new_tokens,
        stop: Vec::new(),
        constraint: None,
        evidence: false,
        deadline: None,
    }
}

/// An image with that number in its digest.
pub(super) fn image(number: u64) -> PreparedImage {
    let gray = Image::new(2, 2, Channels::Luma, Samples::U8(vec![0; 4])).unwrap();
    let config = serde_json::json!({"do_resize": false, "do_rescale": true, "do_normalize": false});
    let pixels: PixelValues = Preprocessor::from_json(&config).unwrap().apply(&gray).unwrap();
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&number.to_le_bytes());
    PreparedImage { pixels, digest, tokens: 4 }
}
