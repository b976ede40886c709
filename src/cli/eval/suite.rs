//! `swinseek eval suite`: a model's table of scores.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::super::args::ModelArgs;
use super::super::output::print_json;
use crate::suite::{Options, run as run_suite};

/// Flags of `eval suite`.
#[derive(Debug, Args)]
#[command(
    after_help = "Phantom studies are rendered from the seed. Reports are scored with BLEU-4 (sacreBLEU's 13a) against four references,
beside a constant report, a random training report, the same model on noise, and a fifth report by the grammar.
LUNA16 crops and easy-VQA are scored when their folders are given."
)]
pub(super) struct SuiteArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Phantom studies to report on; 0 for none.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    studies: usize,
    /// Seed of the phantom studies.
    #[arg(long, default_value_t = 424_242)]
    seed: u64,
    /// Follow this many continuations of a report and keep the likeliest; 1 is greedy.
    #[arg(long, default_value_t = 1, value_name = "N")]
    beams: usize,
    /// Folder of the LUNA16 crops (labels.csv, images/).
    #[arg(long, value_name = "DIR")]
    luna16: Option<PathBuf>,
    /// The folder `easy_vqa/data` of the Python package easy-vqa.
    #[arg(long, value_name = "DIR")]
    easy_vqa: Option<PathBuf>,
    /// Most easy-VQA questions, evenly spaced; 0 for all.
    #[arg(long, default_value_t = 0, value_name = "N")]
    questions: usize,
    /// Also write the table to FILE.md and FILE.json.
    #[arg(long, short = 'o', value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON instead of Markdown.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &SuiteArgs) -> Result<ExitCode> {
    let pipeline = args.model.open()?;
    let options = Options {
        studies: args.studies,
        seed: args.seed,
        beams: args.beams,
        luna16: args.luna16.clone(),
        easy_vqa: args.easy_vqa.clone(),
        questions: args.questions,
    };
    let bar = ProgressBar::new(1);
    bar.set_style(ProgressStyle::with_template("{msg:18} {bar:30} {pos}/{len}  {per_sec}, {eta} left")?);
    let table = run_suite(&pipeline, &options, &|part, done, count| {
        bar.set_length(count as u64);
        bar.set_message(part.to_owned());
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let result = serde_json::json!({ "model": pipeline.digest(), "rows": table.rows, "notes": table.notes });
    if let Some(out) = &args.out {
        let write = |extension: &str, text: &str| {
            let path = out.with_extension(extension);
            std::fs::write(&path, text).with_context(|| format!("{}: cannot be written", path.display()))
        };
        write("md", &table.to_markdown())?;
        write("json", &serde_json::to_string_pretty(&result)?)?;
    }
    if args.json {
        print_json(&result)?;
    } else {
        print!("{}", table.to_markdown());
    }
    Ok(ExitCode::SUCCESS)
}
