//! `swinseek bleu`: scores of text files, with the flags of sacreBLEU.

mod args;
mod flags;
mod inputs;
mod print;
mod table;

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use swinseek_evals::lines::{Chunk, Lines};
use swinseek_evals::metric::{self, Metric, Resampling, ResamplingKind, Signature};
use swinseek_evals::resample::Interval;
use swinseek_evals::significance::{Sample, paired_bootstrap, paired_randomization};

pub(super) use args::BleuArgs;
pub(super) use flags::in_full;
use inputs::{Batch, Inputs};

/// A score of one metric for one system.
struct Outcome {
    score: f64,
    detail: Option<String>,
    interval: Option<Interval>,
    /// Against the baseline.
    p_value: Option<f64>,
}

/// What is printed of one metric.
struct Column {
    name: String,
    signature: Signature,
    /// For each system.
    outcomes: Vec<Outcome>,
}

/// Statistics of one system under one metric.
struct Tally {
    sum: Vec<f64>,
    /// The rows of all segments, where they are resampled.
    rows: Vec<f64>,
}

pub(super) fn run(args: &BleuArgs) -> Result<ExitCode> {
    args.validate()?;
    let metrics = args.metrics()?;
    let files = system_files(args)?;
    let mut inputs = Inputs::open(&args.references, args.num_refs, &files)?;
    let references = Some(args.references.len() * args.num_refs);
    if args.sentence_level {
        let signature = Signature::new(&*metrics[0], references, None);
        return print_sentences(args, &*metrics[0], &signature, &mut inputs);
    }
    let tallies = tally(args, &metrics, &mut inputs)?;
    let names = system_names(args, &files, tallies.len());
    if args.paired() && names.len() < 2 {
        bail!("a paired test needs two systems or more, found one");
    }
    let groups = args.groups.as_deref().map(read_groups).transpose()?;
    let resampling = resampling(args, groups.as_deref());
    let mut columns = Vec::new();
    for (index, metric) in metrics.iter().enumerate() {
        let of_metric = tallies.iter().map(|system| &system[index]);
        columns.push(Column {
            name: metric.name(),
            signature: Signature::new(&**metric, references, resampling),
            outcomes: outcomes(args, &**metric, of_metric, groups.as_deref())?,
        });
    }
    print::results(args, &names, &columns)?;
    Ok(ExitCode::SUCCESS)
}

/// The hypothesis files; in a paired test the baseline may be named twice, any other file once.
fn system_files(args: &BleuArgs) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in &args.input {
        if args.paired() && files.first() == Some(path) {
            continue;
        }
        if files.contains(path) {
            bail!("{}: given as two systems", path.display());
        }
        files.push(path.clone());
    }
    Ok(files)
}

fn system_names(args: &BleuArgs, files: &[PathBuf], count: usize) -> Vec<String> {
    let mut names: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    if files.is_empty() {
        let first = usize::from(!args.paired());
        names = (first..count + first).map(|number| format!("System {number}")).collect();
    }
    if args.paired() {
        names[0] = if files.is_empty() { "Baseline".to_owned() } else { format!("Baseline: {}", names[0]) };
    }
    names
}

/// Statistics of every system under every metric. Text is forgotten batch by batch.
fn tally(args: &BleuArgs, metrics: &[Box<dyn Metric>], inputs: &mut Inputs) -> Result<Vec<Vec<Tally>>> {
    let keep_rows = args.confidence || args.paired();
    let mut tallies: Vec<Vec<Tally>> = Vec::new();
    let mut tokenized = 0;
    while let Some(batch) = inputs.next()? {
        if tallies.is_empty() {
            let empty =
                || metrics.iter().map(|metric| Tally { sum: vec![0.0; metric.width()], rows: Vec::new() });
            tallies = (0..batch.systems()).map(|_| empty().collect()).collect();
        }
        for (system, tallies) in tallies.iter_mut().enumerate() {
            let segments = batch.of_system(system);
            tokenized += segments.iter().filter(|segment| segment.hypothesis.ends_with(" .")).count();
            for (metric, tally) in metrics.iter().zip(tallies) {
                let rows = metric::rows(&**metric, &segments)?;
                metric::add_rows(&mut tally.sum, &rows);
                if keep_rows {
                    tally.rows.extend(rows);
                }
            }
        }
    }
    if tokenized >= 100 && !args.force && !args.quiet && metrics[0].name() == "BLEU" {
        eprintln!(
            "swinseek: {tokenized} hypotheses end in ` .`: BLEU expects text that is not tokenised (--force says it is meant)"
        );
    }
    Ok(tallies)
}

fn read_groups(path: &std::path::Path) -> Result<Vec<String>> {
    let (mut lines, mut chunk, mut groups) = (Lines::open(path)?, Chunk::default(), Vec::new());
    loop {
        lines.read(&mut chunk, 1 << 15)?;
        if chunk.is_empty() {
            return Ok(groups);
        }
        groups.extend(chunk.iter().map(str::to_owned));
    }
}

fn resampling(args: &BleuArgs, groups: Option<&[String]>) -> Option<Resampling> {
    let groups = groups.map(|groups| groups.iter().collect::<HashSet<_>>().len());
    let (kind, count) = if args.paired_ar {
        (ResamplingKind::Randomization, args.paired_ar_n)
    } else {
        (ResamplingKind::Bootstrap, args.bootstrap()?.resamples)
    };
    Some(Resampling { kind, count, seed: args.seed, groups })
}

fn outcomes<'a>(
    args: &BleuArgs,
    metric: &dyn Metric,
    tallies: impl Iterator<Item = &'a Tally>,
    groups: Option<&[String]>,
) -> Result<Vec<Outcome>> {
    let mut baseline: Option<Sample<'_>> = None;
    let mut outcomes = Vec::new();
    for Tally { sum, rows } in tallies {
        let (score, detail) = (metric.score_sum(sum), metric.detail(sum));
        let mut outcome = Outcome { score, detail, interval: None, p_value: None };
        if !rows.is_empty() {
            let mut sample = Sample::new(metric.width(), rows.clone(), |sum| metric.score_sum(sum))?;
            if let Some(groups) = groups {
                sample = sample.grouped(groups).context("--groups")?;
            }
            let bootstrap = args.bootstrap();
            match (&baseline, bootstrap) {
                (Some(baseline), _) if args.paired_ar => {
                    let paired = paired_randomization(baseline, &sample, args.paired_ar_n, args.seed)?;
                    outcome.p_value = Some(paired.p_value);
                }
                (Some(baseline), Some(bootstrap)) if args.paired_bs => {
                    let paired = paired_bootstrap(baseline, &sample, bootstrap)?;
                    (outcome.p_value, outcome.interval) = (Some(paired.p_value), paired.interval);
                }
                (_, Some(bootstrap)) => outcome.interval = Some(sample.interval(bootstrap)?),
                _ => (),
            }
            baseline.get_or_insert(sample);
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn print_sentences(
    args: &BleuArgs,
    metric: &dyn Metric,
    signature: &Signature,
    inputs: &mut Inputs,
) -> Result<ExitCode> {
    while let Some(batch) = inputs.next()? {
        print_batch(args, metric, signature, &batch)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print_batch(args: &BleuArgs, metric: &dyn Metric, signature: &Signature, batch: &Batch<'_>) -> Result<()> {
    if batch.systems() > 1 {
        bail!("--sentence-level takes one system, found {}", batch.systems());
    }
    let outcome = |row: &[f64]| Outcome {
        score: metric.score_sum(row),
        detail: metric.detail(row),
        interval: None,
        p_value: None,
    };
    let rows = metric::rows(metric, &batch.of_system(0))?;
    print::sentences(args, &metric.name(), signature, rows.chunks_exact(metric.width()).map(outcome))
}
