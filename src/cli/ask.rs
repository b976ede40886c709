//! `swinseek ask IMAGE… -p QUESTION` and `swinseek caption IMAGE…`

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use swinseek_fusion::FinishReason;
use swinseek_fusion::pipeline::{CAPTION_PROMPT, Pipeline, Request};

use super::args::{ModelArgs, SamplingArgs};
use super::output::{Picture, print_json, print_now, read_picture};

/// Flags of `ask`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  swinseek ask shape.png -p 'What colour is the shape?'
  swinseek ask chest.dcm -p 'Is there a pleural effusion?' --json")]
pub(super) struct AskArgs {
    /// Images or DICOM files, all for the one question; `-` is standard input.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// The question.
    #[arg(long, short = 'p', value_name = "QUESTION")]
    prompt: String,
    #[command(flatten)]
    common: CommonArgs,
}

/// Flags of `caption`.
#[derive(Debug, Args)]
pub(super) struct CaptionArgs {
    /// Images or DICOM files; each gets its own caption.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
struct CommonArgs {
    /// Frame of a multi-frame file, from 0.
    #[arg(long, default_value_t = 0, value_name = "N")]
    frame: usize,
    /// Print JSON: the answer with its log-probabilities, digests, seed and timing.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    model: ModelArgs,
}

pub(super) fn run(args: &AskArgs) -> Result<ExitCode> {
    let pipeline = args.common.model.open()?;
    answer(&args.common, &pipeline, &args.images, &args.prompt)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn run_caption(args: &CaptionArgs) -> Result<ExitCode> {
    let pipeline = args.common.model.open()?;
    let mut failed = false;
    for path in args.images.chunks(1) {
        if let Err(error) = answer(&args.common, &pipeline, path, CAPTION_PROMPT) {
            if super::is_closed_pipe(&error) {
                return Err(error);
            }
            eprintln!("swinseek: {}", super::one_line(&error));
            failed = true;
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// How an answer's end is called in JSON, as in the OpenAI API.
pub(super) fn finish_name(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Cancelled => "cancelled",
    }
}

fn answer(args: &CommonArgs, pipeline: &Pipeline, paths: &[PathBuf], prompt: &str) -> Result<()> {
    let start = Instant::now();
    let pictures: Vec<Picture> =
        paths.iter().map(|path| read_picture(path, args.frame)).collect::<Result<_>>()?;
    let images: Vec<_> = pictures.iter().map(|picture| picture.image.clone()).collect();
    let (params, stop) = args.sampling.params(false)?;
    let request = Request { images: &images, prompt, params, stop };
    let mut broken = None;
    let answer = pipeline.answer(&request, |piece| {
        let shown = if args.json { Ok(()) } else { print_now(piece) };
        shown.map_or_else(
            |error| {
                broken = Some(error);
                ControlFlow::Break(())
            },
            ControlFlow::Continue,
        )
    })?;
    if let Some(error) = broken {
        return Err(error.into());
    }
    if !args.json {
        print_now("\n")?;
        return Ok(());
    }
    let confidence = answer.tokens.iter().map(|token| f64::from(token.logprob).exp()).sum::<f64>()
        / answer.tokens.len().max(1) as f64;
    print_json(&json!({
        "answer": answer.text,
        "confidence": confidence,
        "token_logprobs": answer.tokens.iter().map(|token| token.logprob).collect::<Vec<_>>(),
        "finish_reason": finish_name(answer.finish),
        "model": pipeline.digest(),
        "images": paths.iter().zip(&pictures).map(|(path, picture)| json!({ "path": path.display().to_string(), "digest": picture.digest })).collect::<Vec<_>>(),
        "seed": args.sampling.seed,
        "timing": { "total_ms": (start.elapsed().as_secs_f64() * 1e4).round() / 10.0 },
    }))
}
