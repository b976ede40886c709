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

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Stored {
    F32,
    F16,
    Int8,
}

pub(super) fn run(args: &ComposeArgs) -> Result<ExitCode> {
    let fusion = serde_json::from_str(&args.fusion).context("--fusion: not JSON")?;
    let stored = match args.dtype {
        Stored::F32 => StoredType::F32,
        Stored::F16 => StoredType::F16,
        Stored::Int8 => StoredType::Int8,
    };
    compose(&args.vision, &args.language, &args.out, &ComposeOptions { fusion, stored, seed: args.seed })?;
    println!("{}", args.out.display());
    Ok(ExitCode::SUCCESS)
}
