//! `swinseek compose --vision DIR --language DIR --out DIR`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use swinseek_fusion::checkpoint::StoredType;
use swinseek_fusion::{ComposeOptions, compose};

/// Flags of `compose`.
#[derive(Debug, Args)]
#[command(
    after_help = "The new cross-attention layers have gates at zero: until they are trained, the composed model writes
exactly what the language model alone would write. Tokenizer and preprocessor files are copied."
)]
pub(super) struct ComposeArgs {
    /// Swin checkpoint (Hugging Face or timm layout).
    #[arg(long, value_name = "DIR")]
    vision: PathBuf,
    /// Llama or DeepSeek checkpoint.
    #[arg(long, value_name = "DIR")]
    language: PathBuf,
    /// Where the model is written.
    #[arg(long, short = 'o', value_name = "DIR")]
    out: PathBuf,
    /// The `fusion` object of the new config.json, as JSON; what it leaves out gets a default.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    fusion: String,
    /// How weights are stored.
    #[arg(long, value_enum, default_value_t = Stored::F32)]
    dtype: Stored,
    /// Seed of the fresh layers.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// How a command writes weights.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Stored {
    F32,
    F16,
    /// Large matrices in 8 bits with a scale each row, the rest in f32.
    Int8,
}

impl From<Stored> for StoredType {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::F32 => Self::F32,
            Stored::F16 => Self::F16,
            Stored::Int8 => Self::Int8,
        }
    }
}

pub(super) fn run(args: &ComposeArgs) -> Result<ExitCode> {
    let fusion = serde_json::from_str(&args.fusion).context("--fusion: not JSON")?;
    let options = ComposeOptions { fusion, stored: args.dtype.into(), seed: args.seed };
    compose(&args.vision, &args.language, &args.out, &options)?;
    println!("{}", args.out.display());
    Ok(ExitCode::SUCCESS)
}
