//! A model directory as a candidate.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde_json::{Map, Value, json};
use swinseek_evals::dataset::{Item, image_bytes};
use swinseek_evals::runner::{Candidate, CandidateError, Sight};
use swinseek_fusion::GenerateParams;
use swinseek_fusion::pipeline::{Pipeline, Request};
use swinseek_kernels::device::path_names;
use swinseek_kernels::{Compute, Precision};
use swinseek_vision::preprocess::{DecodeOptions, Image, decode};

use super::{Ask, noise};

/// A loaded model, asked greedily.
pub struct Local {
    pipeline: Pipeline,
    name: String,
    precision: Precision,
    ask: Ask,
    /// One for each item that is worked on at a time: items side by side, sequential inside, waste the least.
    pools: Mutex<Vec<ThreadPool>>,
    first_tokens: Mutex<Vec<Duration>>,
}

impl Local {
    /// Loads the model in `dir`, to work on `workers` items at a time with all threads.
    pub fn open(dir: &Path, compute: impl Into<Compute>, ask: Ask, workers: usize) -> Result<Self> {
        let compute = compute.into();
        let precision = compute.precision;
        let pipeline = Pipeline::open(dir, compute)?;
        let full = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let name = full.file_name().unwrap_or(full.as_os_str()).to_string_lossy().into_owned();
        let threads = (rayon::current_num_threads() / workers.max(1)).max(1);
        let pool = |_| ThreadPoolBuilder::new().num_threads(threads).build();
        let pools = (0..workers.max(1)).map(pool).collect::<Result<_, _>>().context("threads")?;
        let (pools, first_tokens) = (Mutex::new(pools), Mutex::new(Vec::new()));
        Ok(Self { pipeline, name, precision, ask, pools, first_tokens })
    }

    fn write(&self, item: &Item, sight: Sight) -> Result<String> {
        let start = Instant::now();
        let images: Vec<Image> = item
            .images
            .iter()
            .enumerate()
            .map(|(place, path)| {
                let picture = picture(path)?;
                match sight {
                    Sight::Pictures => Ok(picture),
                    Sight::Noise => noise::like(&picture, self.ask.seed, &item.id, place),
                }
            })
            .collect::<Result<_>>()?;
        let params = GenerateParams { max_new_tokens: self.ask.max_tokens, ..GenerateParams::default() };
        let request = Request { images: &images, prompt: self.ask.prompt_of(item), params, stop: Vec::new() };
        let mut first = None;
        let answer = self.pipeline.answer(&request, |_| {
            first.get_or_insert_with(|| start.elapsed());
            ControlFlow::Continue(())
        })?;
        self.first_tokens.lock().unwrap_or_else(PoisonError::into_inner).extend(first);
        Ok(answer.text)
    }
}

impl Candidate for Local {
    fn describe(&self) -> Value {
        let precision = self.precision.name();
        json!({ "kind": "directory", "name": self.name, "digest": self.pipeline.digest(), "precision": precision })
    }

    fn answer(&self, item: &Item, sight: Sight) -> Result<String, CandidateError> {
        let pool = self.pools.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let answer = match &pool {
            Some(pool) => pool.install(|| self.write(item, sight)),
            None => self.write(item, sight),
        };
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).extend(pool);
        answer.map_err(|error| CandidateError::Item(crate::cli::one_line(&error)))
    }

    /// What multiplies its matrices, and the median time from the picture's bytes to the first token.
    fn measured(&self) -> Map<String, Value> {
        let mut times = self.first_tokens.lock().unwrap_or_else(PoisonError::into_inner).clone();
        times.sort_unstable();
        let median = times.get(times.len() / 2).map(|time| json!(time.as_secs_f64() * 1e3));
        let kernels = json!(path_names(self.pipeline.model().device()));
        let median = median.map(|median| ("first_token_ms".to_owned(), median));
        [("kernels".to_owned(), kernels)].into_iter().chain(median).collect()
    }
}

/// Reads and decodes a picture of a data set; the error names it.
pub(super) fn picture(path: &Path) -> Result<Image> {
    let bytes = image_bytes(path)?;
    decode(&bytes, &DecodeOptions::default()).with_context(|| path.display().to_string())
}
