//! Flags that several commands share.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use clap::Args;
use swinseek_fusion::GenerateParams;
use swinseek_fusion::pipeline::Pipeline;
use swinseek_kernels::Compute;
use swinseek_language::sampler::SamplingParams;

use crate::server::PrecisionFlag;

/// Which model runs.
#[derive(Debug, Clone, Args)]
pub(super) struct ModelArgs {
    /// Model directory (config.json, model.safetensors, tokenizer.json, preprocessor_config.json).
    /// Without it the default model is used: a small demonstration, trained on synthetic radiographs.
    #[arg(long, short = 'm', value_name = "DIR", env = "SWINSEEK_MODEL")]
    pub(super) model: Option<PathBuf>,
    /// How matrices are multiplied.
    #[arg(long, value_enum, default_value_t)]
    pub(super) precision: PrecisionFlag,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
}

/// Where a model runs.
#[derive(Debug, Clone, Args)]
pub(super) struct DeviceArgs {
    /// Where the model computes: cpu, cuda or cuda:N. GPUs need a build with `--features cuda`.
    #[arg(long, value_name = "NAME", default_value = "cpu", env = "SWINSEEK_DEVICE")]
    pub(super) device: String,
}

impl DeviceArgs {
    pub(super) fn open(&self) -> Result<Device> {
        Ok(swinseek_kernels::device::open(&self.device)?)
    }
}

impl ModelArgs {
    /// How and where it computes.
    pub(super) fn compute(&self) -> Result<Compute> {
        Ok(Compute { precision: self.precision.into(), device: self.device.open()? })
    }

    /// The directory meant: the flag, the variable `SWINSEEK_MODEL`, or the default model.
    pub(super) fn directory(&self) -> Result<PathBuf> {
        self.model.clone().map_or_else(default_model, Ok)
    }

    /// Loads it.
    pub(super) fn open(&self) -> Result<Pipeline> {
        Ok(Pipeline::open(&self.directory()?, self.compute()?)?)
    }
}

/// The API key that the variable of `--api-key-env` holds.
pub(super) fn key_in(variable: &str) -> Result<String> {
    std::env::var(variable).with_context(|| format!("--api-key-env {variable}: the variable holds no key"))
}

/// The directory of the default model.
pub(super) fn default_model() -> Result<PathBuf> {
    let beside = PathBuf::from("samples/model");
    let built = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/samples/model"));
    match [beside, built].into_iter().find(|dir| dir.join("config.json").exists()) {
        Some(dir) => Ok(dir),
        None => {
            bail!(
                "the default model (samples/model of the source tree) is not here; name one with --model DIR"
            )
        }
    }
}

/// How the next token is chosen. The default is greedy: the same words each time.
#[derive(Debug, Args)]
pub(super) struct SamplingArgs {
    /// 0 always takes the likeliest token; higher values vary more.
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    pub(super) temperature: f64,
    /// Choose among the K likeliest tokens only; 0 for all.
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub(super) top_k: usize,
    /// Choose among the likeliest tokens that together reach probability P.
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    pub(super) top_p: f64,
    /// Leave out tokens less likely than P times the likeliest.
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    pub(super) min_p: f64,
    /// Above 1, tokens that were already written become less likely.
    #[arg(long, default_value_t = 1.0, value_name = "R")]
    pub(super) repetition_penalty: f64,
    /// Seed of the random choices.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Most tokens to write; what the context leaves by default, at most 256.
    #[arg(long, value_name = "N")]
    pub(super) max_tokens: Option<usize>,
    /// Stop before this text would appear; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub(super) stop: Vec<String>,
    /// Follow this many continuations and keep the likeliest (greedy only).
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(super) beams: usize,
}

impl SamplingArgs {
    /// The same as parameters of the generation loop, and the stop texts. `attention` keeps what evidence needs.
    pub(super) fn params(&self, attention: bool) -> Result<(GenerateParams, Vec<String>)> {
        let sampling = SamplingParams {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
            ..SamplingParams::default()
        };
        sampling.validate()?;
        if self.beams > 1 && self.temperature > 0.0 {
            bail!("--beams {}: beam search is greedy, expected --temperature 0", self.beams);
        }
        let mut params =
            GenerateParams { sampling, num_beams: self.beams, attention, ..GenerateParams::default() };
        if let Some(most) = self.max_tokens {
            params.max_new_tokens = most;
        }
        Ok((params, self.stop.clone()))
    }
}
