//! `swinseek import FILE.gguf --out DIR`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use swinseek_fusion::checkpoint::{Gguf, save, write_atomic};
use swinseek_language::tokenizer::Tokenizer;

use super::compose::Stored;

/// Flags of `import`.
#[derive(Debug, Args)]
#[command(
    after_help = "DIR can be the language part of `swinseek compose`, or be looked at with `swinseek inspect`.\n\n\
        Quantised tensors (Q8_0, Q4_0, Q4_K and llama.cpp's other types) become real numbers: exactly with `--dtype f32`, \
        where values of Q4_0 are the same again under `--precision int4`. The tokenizer inside a GGUF file is not read: give the model's own \
        tokenizer.json. The whole model passes through memory."
)]
pub(super) struct ImportArgs {
    /// A llama in llama.cpp's format.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where config.json and model.safetensors are written.
    #[arg(long, short = 'o', value_name = "DIR")]
    out: PathBuf,
    /// The tokenizer.json that belongs to the model; it is copied.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// How weights are stored.
    #[arg(long, value_enum, default_value_t = Stored::F16)]
    dtype: Stored,
}

pub(super) fn run(args: &ImportArgs) -> Result<ExitCode> {
    let gguf = Gguf::open(&args.file)?;
    let vocabulary = gguf.config()["vocab_size"].as_u64().unwrap_or(0) as usize;
    let tokenizer = args.tokenizer.as_deref().map(|path| read_tokenizer(path, vocabulary)).transpose()?;
    save(&args.out, gguf.config(), &gguf.load_all()?, args.dtype.into())?;
    match tokenizer {
        Some(bytes) => write_atomic(&args.out.join("tokenizer.json"), &bytes)?,
        None => {
            eprintln!("without a tokenizer, which the model needs to read and write text (--tokenizer FILE)");
        }
    }
    println!("{}", args.out.display());
    Ok(ExitCode::SUCCESS)
}

/// A tokenizer file whose ids the model knows.
fn read_tokenizer(path: &Path, vocabulary: usize) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let fits = Tokenizer::from_bytes(&bytes).and_then(|tokenizer| tokenizer.check_fits(vocabulary));
    fits.with_context(|| path.display().to_string())?;
    Ok(bytes)
}
