//! The command line: results on standard output, everything else on standard error.
//! Exit codes: 0 done, 1 failed, 2 wrong usage.

mod args;
mod ask;
mod bench;
mod bleu;
mod compose;
mod eval;
mod import;
mod inspect;
mod output;
mod phantom;
mod report;
mod serve;
mod train;
mod verify;
mod verify_audit;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Images in, text out: draft radiology reports, answers, captions.
///
/// Every text is a draft by a demonstration model; a physician must verify it. Nothing leaves this machine.
#[derive(Debug, Parser)]
#[command(name = "swinseek", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  swinseek report samples/images/phantom.dcm            a radiograph in, a draft report out
  swinseek ask photo.png -p 'What colour is the shape?'
  swinseek report *.dcm --json | jq .impression
  swinseek phantom --count 1000 --seed 7 --out phantoms --dicom";

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, for the life of the program")]
enum Command {
    /// Write a draft radiology report for each image or DICOM file.
    Report(report::ReportArgs),
    /// Answer a question about one or more images.
    Ask(ask::AskArgs),
    /// Describe each image in a sentence.
    Caption(ask::CaptionArgs),
    /// Serve the OpenAI-compatible HTTP API.
    Serve(Box<serve::ServeArgs>),
    /// Check the audit file of a server.
    VerifyAudit(verify_audit::VerifyAuditArgs),
    /// Score a model or a live server on a data set, with the floors beside it.
    Eval(eval::EvalArgs),
    /// Score text files with BLEU, chrF, TER; the flags of sacreBLEU.
    Bleu(Box<bleu::BleuArgs>),
    /// Render synthetic radiographs with reports and questions.
    Phantom(phantom::PhantomArgs),
    /// Train a model from a recipe; goes on where it was interrupted.
    Train(train::TrainArgs),
    /// Join a vision and a language checkpoint into one model.
    Compose(compose::ComposeArgs),
    /// Turn a llama in llama.cpp's GGUF into a model directory.
    Import(import::ImportArgs),
    /// Compare a checkpoint with stored outputs of another implementation.
    Verify(verify::VerifyArgs),
    /// Describe a model directory: parts, parameters, types, digest.
    Inspect(inspect::InspectArgs),
    /// Measure speed and memory on this machine.
    Bench(bench::BenchArgs),
}

impl Cli {
    /// Parses the arguments of this process; exits on wrong usage.
    pub fn from_process() -> Self {
        Self::parse_from(bleu::in_full(std::env::args_os()))
    }
}

/// Runs a parsed command line.
pub fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Report(args) => report::run(&args),
        Command::Ask(args) => ask::run(&args),
        Command::Caption(args) => ask::run_caption(&args),
        Command::Serve(args) => serve::run(&args),
        Command::VerifyAudit(args) => verify_audit::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Bleu(args) => bleu::run(&args),
        Command::Phantom(args) => phantom::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Compose(args) => compose::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Bench(args) => bench::run(&args),
    }
}

/// Whether the reader of our output went away (`swinseek … | head`): not an error of ours.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind)
    };
    error.chain().any(|cause| kind(cause) == Some(std::io::ErrorKind::BrokenPipe))
}

/// The error and its causes in one line.
pub fn one_line(error: &anyhow::Error) -> String {
    let causes = error.chain().map(|cause| cause.to_string().lines().next().unwrap_or_default().to_owned());
    let mut parts: Vec<String> = Vec::new();
    for cause in causes {
        // A wrapper that repeats its cause says it once.
        if parts.last().is_none_or(|last| !last.ends_with(&cause)) {
            parts.push(cause);
        }
    }
    parts.join(": ")
}
