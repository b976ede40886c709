//! `swinseek eval --data DIR`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde_json::json;
use swinseek_evals::dataset::{Dataset, OpenOptions, Task};
use swinseek_evals::profile::Profile;
use swinseek_evals::resample::Bootstrap;
use swinseek_evals::runner::{Candidate, HYPOTHESES, Measure, MetricName};

use super::super::args::{ModelArgs, key_in};
use super::super::output::print_json;
use super::show::table;
use crate::eval::{
    Ask, DataChoice, Done, Local, Plan, Server, ServerOptions, default_prompt, run as run_plan,
};

pub(super) const HELP: &str = "Examples:
  swinseek eval --data phantoms --metric bleu
  swinseek eval --data flickr8k --url http://localhost:8000 --metric bleu,chrf --json
  swinseek eval --data phantoms --shard 1/2 --out part1

The result directory gets run.json, hypotheses.jsonl, shard.json, result.json and report.html. Answers are written as they come: a run
that was killed goes on where it was when the same command is given again. Without --out the directory is
eval-results/DATA-SPLIT-MODEL-DIGEST below the current one. Standard output is a table, or with --json what result.json holds.

An item that fails (its picture is not there, the server refuses it) counts as an empty answer, is named at the end, and makes
the exit code 1; it is asked again by the next run. Floors: for reports and captions a constant and a random text of the train split,
for questions the majority answer, the most frequent answer to the same question and a random one; --blind adds the model on noise.";

/// Failed items that are named on standard error; all are in the file.
const SHOWN: usize = 20;

/// Flags of a run.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct RunArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    server: ServerArgs,
    /// Data set: a folder or an annotation file.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Split: train, val or test.
    #[arg(long, default_value = "test")]
    split: String,
    /// Layout of the files (r2gen, karpathy, easy-vqa, …); told from them by default.
    #[arg(long)]
    layout: Option<String>,
    /// What is to be written: report, caption or question; told by the layout by default.
    #[arg(long)]
    task: Option<String>,
    /// The instruction for reports and captions; by default the one of training.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Metrics, separated by commas: bleu, chrf, ter, rouge_l, cider, accuracy. By default bleu, under profiles of the caption
    /// evaluation also rouge_l and cider, for questions also accuracy.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    metric: Vec<String>,
    /// Protocol of tokenisation and arithmetic: sacrebleu, coco, r2gen-iu, r2gen-mimic, r2gengpt-mimic, nltk, coco-words.
    #[arg(long, default_value = "sacrebleu")]
    profile: String,
    /// Only the first N items.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Only items I, I+N, I+2N, … (I from 1); `eval merge` joins the parts.
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    shard: String,
    /// Leave bad records of the annotation files out and count them.
    #[arg(long)]
    skip_bad: bool,
    /// Result directory.
    #[arg(long, short = 'o', value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with what the result directory holds (this is what happens anyway).
    #[arg(long, conflicts_with = "fresh")]
    resume: bool,
    /// Forget what the result directory holds.
    #[arg(long)]
    fresh: bool,
    /// Run the model on noise too; takes the same time once more.
    #[arg(long)]
    blind: bool,
    /// Leave the floors out.
    #[arg(long)]
    no_floors: bool,
    /// Resamples of the 95 % intervals.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    resamples: usize,
    /// Seed of resamples, random floor and noise.
    #[arg(long, default_value_t = 12345)]
    seed: u64,
    /// Most tokens of an answer.
    #[arg(long, default_value_t = 256, value_name = "N")]
    max_tokens: usize,
    /// Print what result.json holds.
    #[arg(long)]
    json: bool,
}

/// Flags of a served model.
#[derive(Debug, Args)]
struct ServerArgs {
    /// OpenAI-compatible server, such as http://localhost:8000, instead of a model directory. Pictures are sent to it.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Name of the model at the server; by default the first that it lists.
    #[arg(long, value_name = "NAME")]
    served_model: Option<String>,
    /// Environment variable that holds the API key.
    #[arg(long, value_name = "VAR")]
    api_key_env: Option<String>,
    /// Requests at a time.
    #[arg(long, default_value_t = 4, value_name = "N")]
    concurrency: usize,
    /// Longest time for an answer of the server, seconds.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    timeout: u64,
    /// How often a request is tried again when the server is busy (429, 503) or out of reach.
    #[arg(long, default_value_t = 5, value_name = "N")]
    retries: u32,
}

impl ServerArgs {
    fn options(&self, url: &str) -> Result<ServerOptions> {
        let key = self.api_key_env.as_deref().map(key_in);
        Ok(ServerOptions {
            url: url.to_owned(),
            model: self.served_model.clone(),
            key: key.transpose()?,
            concurrency: self.concurrency.max(1),
            timeout: Duration::from_secs(self.timeout.max(1)),
            retries: self.retries,
        })
    }
}

pub(super) fn run(args: &RunArgs) -> Result<ExitCode> {
    let mut plan = match plan(args) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("swinseek: {}", super::super::one_line(&error));
            return Ok(ExitCode::from(2));
        }
    };
    let dataset = plan.data.open()?;
    for line in &dataset.skipped {
        eprintln!("skipped: {line}");
    }
    if plan.metrics.is_empty() {
        plan.metrics = MetricName::defaults(dataset.task, plan.profile);
    }
    let prompt = args.prompt.clone().unwrap_or_else(|| default_prompt(dataset.task).to_owned());
    let ask = Ask { prompt, max_tokens: args.max_tokens, seed: args.seed };
    let done = if let Some(url) = &args.server.url {
        let options = args.server.options(url)?;
        plan.workers = options.concurrency;
        evaluate(&plan, &dataset, &Server::connect(&options, ask.clone())?, &ask)?
    } else {
        let items = plan.shard.positions(dataset.items.len()).len();
        plan.workers = rayon::current_num_threads().min(items).max(1);
        let dir = args.model.directory()?;
        let local = Local::open(&dir, args.model.compute()?, ask.clone(), plan.workers)?;
        evaluate(&plan, &dataset, &local, &ask)?
    };
    finish(args, &plan, &done)
}

/// What the flags ask for; an error is wrong usage.
fn plan(args: &RunArgs) -> Result<Plan> {
    let Some(data) = &args.data else {
        bail!(
            "eval: --data DIR is missing; `eval suite` is the table of the default model, --help shows more"
        );
    };
    let task = args.task.as_deref().map(task).transpose()?;
    let options = OpenOptions {
        split: args.split.parse()?,
        layout: args.layout.as_deref().map(str::parse).transpose()?,
        skip_bad: args.skip_bad,
        limit: args.limit,
    };
    let counts =
        [("limit", args.limit), ("max-tokens", Some(args.max_tokens)), ("resamples", Some(args.resamples))];
    if let Some((name, _)) = counts.iter().find(|(_, count)| *count == Some(0)) {
        bail!("--{name} 0: expected at least 1");
    }
    let mut metrics: Vec<MetricName> = Vec::new();
    for name in &args.metric {
        let metric = name.parse()?;
        if !metrics.contains(&metric) {
            metrics.push(metric);
        }
    }
    let profile: Profile = args.profile.parse()?;
    for &metric in &metrics {
        Measure::new(metric, profile)?;
    }
    Ok(Plan {
        data: DataChoice { path: data.clone(), options, task },
        metrics,
        profile,
        shard: args.shard.parse()?,
        out: args.out.clone(),
        fresh: args.fresh,
        floors: !args.no_floors,
        blind: args.blind,
        workers: 1,
        bootstrap: Bootstrap { resamples: args.resamples, seed: args.seed },
    })
}

fn task(name: &str) -> Result<Task> {
    Ok(match name {
        "report" => Task::Report,
        "caption" => Task::Caption,
        "question" => Task::Question,
        _ => bail!("task: `{name}`, expected one of report, caption, question"),
    })
}

fn evaluate(plan: &Plan, dataset: &Dataset, candidate: &dyn Candidate, ask: &Ask) -> Result<Done> {
    let bar = ProgressBar::new(1);
    let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = write!(out, "{:.1} images/s", state.per_sec());
    };
    let style = ProgressStyle::with_template("{msg:8} {bar:30} {pos}/{len}  {rate}, {eta} left")?;
    bar.set_style(style.with_key("rate", rate));
    let done = run_plan(plan, dataset, candidate, ask, &mut |part, done, count, fresh| {
        bar.set_length(count as u64);
        bar.set_message(part);
        bar.set_position(done as u64);
        if !fresh || done == 1 {
            // What was there before says nothing about the speed.
            bar.reset_eta();
        }
    });
    bar.finish_and_clear();
    done
}

fn finish(args: &RunArgs, plan: &Plan, done: &Done) -> Result<ExitCode> {
    for (id, reason) in done.failed.iter().take(SHOWN) {
        eprintln!("swinseek: {id}: {reason}");
    }
    if let Some(more) = done.failed.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        eprintln!("swinseek: {more} more items without an answer, see {HYPOTHESES}");
    }
    let dir = done.dir.display();
    match &done.result {
        Some(result) if args.json => print_json(result)?,
        Some(result) => {
            print!("{}", table(result));
            println!("{dir}");
        }
        None if args.json => {
            print_json(&json!({ "shard": plan.shard, "directory": done.dir, "errors": done.failed.len() }))?;
        }
        None => println!("{dir}"),
    }
    Ok(if done.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
