//! `swinseek report IMAGE…`

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use swinseek_fusion::pipeline::{Answer, Pipeline, REPORT_PROMPT, Request};

use super::args::{ModelArgs, SamplingArgs};
use super::output::{Picture, print_json, print_now, read_picture};

/// Stands under every report.
pub(super) const NOTICE: &str = "Draft by a demonstration model. A physician must verify it.";

/// Flags of `report`.
#[derive(Debug, Args)]
#[command(
    after_help = "Reads PNG, JPEG, GIF, WebP, BMP, TIFF and DICOM, told apart by content; `-` is standard input.
The report appears as it is written. With --json one object an image is printed: findings, impression,
sentences with their confidence (mean token probability) and the region they attended to (pixels: left, top,
right, bottom), the digests of model and image, seed and timing."
)]
pub(super) struct ReportArgs {
    /// Images or DICOM files; each gets its own report.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Take all images as views of one study and write one report.
    #[arg(long)]
    study: bool,
    /// Frame of a multi-frame file, from 0.
    #[arg(long, default_value_t = 0, value_name = "N")]
    frame: usize,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
    /// Print how long loading, the first token and the whole took, to standard error.
    #[arg(long)]
    timing: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// How long an answer took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// From the picture's bytes to the first token, milliseconds.
    pub(super) first_token_ms: f64,
    /// To the last token, milliseconds.
    pub(super) total_ms: f64,
    /// Tokens written.
    pub(super) tokens: usize,
}

impl Timing {
    pub(super) fn to_json(self) -> Value {
        json!({ "first_token_ms": round(self.first_token_ms), "total_ms": round(self.total_ms), "tokens": self.tokens })
    }
}

fn round(milliseconds: f64) -> f64 {
    (milliseconds * 10.0).round() / 10.0
}

pub(super) fn run(args: &ReportArgs) -> Result<ExitCode> {
    let loading = Instant::now();
    let pipeline = args.model.open()?;
    if args.timing {
        eprintln!("model loaded in {:.0} ms", loading.elapsed().as_secs_f64() * 1e3);
    }
    let studies: Vec<&[PathBuf]> =
        if args.study { vec![&args.images] } else { args.images.chunks(1).collect() };
    let mut failed = false;
    for study in &studies {
        if let Err(error) = report(args, &pipeline, study, studies.len() > 1) {
            if super::is_closed_pipe(&error) {
                return Err(error);
            }
            // The other reports are not lost because one file is bad.
            eprintln!("swinseek: {}", super::one_line(&error));
            failed = true;
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn report(args: &ReportArgs, pipeline: &Pipeline, paths: &[PathBuf], named: bool) -> Result<()> {
    let start = Instant::now();
    let pictures: Vec<Picture> =
        paths.iter().map(|path| read_picture(path, args.frame)).collect::<Result<_>>()?;
    if named && !args.json {
        print_now(&format!("{}\n", paths[0].display()))?;
    }
    let (answer, timing) = write(args, pipeline, &pictures, start)?;
    if args.json {
        print_json(&to_json(args, pipeline, paths, &pictures, &answer, timing))?;
    } else {
        let digests: Vec<&str> = pictures.iter().map(|picture| &picture.digest[..12]).collect();
        let (model, images, seed) = (short(pipeline.digest()), digests.join(" "), args.sampling.seed);
        print_now(&format!("\n\n{NOTICE}\nmodel {model} · image {images} · seed {seed}\n\n"))?;
    }
    if args.timing {
        let Timing { first_token_ms, total_ms, tokens } = timing;
        let rate = tokens as f64 / (total_ms - first_token_ms).max(1e-3) * 1e3;
        eprintln!(
            "first token {first_token_ms:.0} ms, {tokens} tokens in {total_ms:.0} ms ({rate:.0} tokens/s)"
        );
    }
    Ok(())
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

fn write(
    args: &ReportArgs,
    pipeline: &Pipeline,
    pictures: &[Picture],
    start: Instant,
) -> Result<(Answer, Timing)> {
    let images: Vec<_> = pictures.iter().map(|picture| picture.image.clone()).collect();
    let (params, stop) = args.sampling.params(true)?;
    let request = Request { images: &images, prompt: REPORT_PROMPT, params, stop };
    let mut first_token = None;
    let mut broken = None;
    let answer = pipeline.answer(&request, |piece| {
        first_token.get_or_insert_with(|| start.elapsed());
        let shown = if args.json { Ok(()) } else { print_now(&laid_out(piece)) };
        match shown {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                broken = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = broken {
        return Err(error.into());
    }
    let total_ms = start.elapsed().as_secs_f64() * 1e3;
    let first_token_ms = first_token.map_or(total_ms, |first| first.as_secs_f64() * 1e3);
    let timing = Timing { first_token_ms, total_ms, tokens: answer.tokens.len() };
    Ok((answer, timing))
}

/// The impression starts a paragraph of its own.
fn laid_out(piece: &str) -> String {
    piece.replace(" IMPRESSION:", "\n\nIMPRESSION:")
}

/// Findings and impression of a report's text.
pub(super) fn sections(text: &str) -> (&str, &str) {
    let (findings, impression) = text.split_once("IMPRESSION:").unwrap_or((text, ""));
    (findings.trim().trim_start_matches("FINDINGS:").trim(), impression.trim())
}

fn to_json(
    args: &ReportArgs,
    pipeline: &Pipeline,
    paths: &[PathBuf],
    pictures: &[Picture],
    answer: &Answer,
    timing: Timing,
) -> Value {
    let (findings, impression) = sections(&answer.text);
    let images = paths.iter().zip(pictures).map(|(path, picture)| {
        let (width, height) = (picture.image.width(), picture.image.height());
        json!({ "path": path.display().to_string(), "digest": picture.digest, "width": width, "height": height })
    });
    let sentences = answer.sentences.iter().map(|sentence| {
        let region = sentence.region.map(|seen| {
            let edges = [seen.region.left, seen.region.top, seen.region.right, seen.region.bottom];
            json!({ "image": seen.image, "bbox": edges.map(|edge| edge.round() as i64) })
        });
        json!({ "text": sentence.text, "confidence": sentence.confidence, "region": region })
    });
    json!({
        "findings": findings,
        "impression": impression,
        "sentences": sentences.collect::<Vec<_>>(),
        "text": answer.text,
        "finish_reason": super::ask::finish_name(answer.finish),
        "token_logprobs": answer.tokens.iter().map(|token| token.logprob).collect::<Vec<_>>(),
        "model": pipeline.digest(),
        "images": images.collect::<Vec<_>>(),
        "seed": args.sampling.seed,
        "timing": timing.to_json(),
        "notice": NOTICE,
    })
}

/// One greedy report of `path`, for `bench`.
pub(super) fn time_once(pipeline: &Pipeline, path: &Path) -> Result<Timing> {
    let start = Instant::now();
    let picture = read_picture(path, 0)?;
    let request = Request {
        images: &[picture.image],
        prompt: REPORT_PROMPT,
        params: swinseek_fusion::GenerateParams::default(),
        stop: Vec::new(),
    };
    let mut first = None;
    let answer = pipeline.answer(&request, |_| {
        first.get_or_insert_with(|| start.elapsed());
        ControlFlow::Continue(())
    })?;
    let total_ms = start.elapsed().as_secs_f64() * 1e3;
    let first_token_ms = first.map_or(total_ms, |first| first.as_secs_f64() * 1e3);
    Ok(Timing { first_token_ms, total_ms, tokens: answer.tokens.len() })
}
