//! `swinseek bench`: speed and memory on this machine.

mod labels;
mod load;
mod models;
mod onnx;
mod plot;
mod roofline;
mod rows;
mod train;
mod work;

use std::io::BufRead;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use swinseek_kernels::Compute;
use swinseek_kernels::device::path_names;

use self::plot::Dot;
use self::roofline::{Roofline, read_bytes};
use self::work::{Ceiling, Work};
use super::args::ModelArgs;
use super::output::print_json;
use crate::server::PrecisionFlag;

/// Flags of `bench`.
#[derive(Debug, Args)]
#[command(
    after_help = "Weights of the large models are random: speed does not depend on them. Each row is run once to warm up, then --runs
times; the median is printed with the fastest and slowest run, and what it is of this machine's ceiling: products of matrices per
second for encoders and prompts, measured at the start, and reading of memory for decoding, measured again behind each row. The
training step is that of `swinseek train`: two micro-batches side by side, forward and backward, clipping and AdamW, in the
precision of training whatever --precision says.

To compare with another program in turn, `--on-demand` runs the one row that --filter leaves for each line on standard input,
and prints its milliseconds."
)]
#[allow(clippy::struct_excessive_bools)] // Flags of a command line.
pub(super) struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Runs of each row; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only rows whose name contains this, or the row that is called so.
    #[arg(long, default_value = "")]
    filter: String,
    /// Small models and few runs: a look in some seconds.
    #[arg(long, conflicts_with = "runs")]
    quick: bool,
    /// Decoders also in 8 and 4 bits; otherwise only as --precision says.
    #[arg(long)]
    all_precisions: bool,
    /// Run one row for each line on standard input.
    #[arg(long, requires = "filter", conflicts_with = "svg")]
    on_demand: bool,
    /// Draw the rows under this machine's ceilings (a roofline plot), each whose operations and bytes are known, as SVG.
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    svg: Option<PathBuf>,
    /// Image or DICOM file for the report row.
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/images/phantom.dcm"))]
    image: PathBuf,
    /// Print JSON lines instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    onnx: onnx::OnnxArgs,
    #[command(flatten)]
    load: load::LoadArgs,
}

/// A row, ready to run: each call does it once.
struct Prepared {
    work: Option<Work>,
    /// Tokens or images of a run, and their name.
    units: (f64, &'static str),
    run: Box<dyn FnMut() -> Result<()>>,
}

impl Prepared {
    /// The same, waited for where the device works on its own. The ceilings are the processor's: a GPU has none here.
    fn on(mut self, compute: &Compute) -> Self {
        if compute.device.is_cpu() {
            return self;
        }
        let device = compute.device.clone();
        let run = move || {
            (self.run)()?;
            Ok(device.synchronize()?)
        };
        Self { work: None, units: self.units, run: Box::new(run) }
    }
}

/// A row that may be measured.
struct Case {
    name: String,
    /// Whether `--quick` leaves it out.
    large: bool,
    prepare: Box<dyn FnOnce() -> Result<Prepared>>,
}

/// One measured row.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// Median of the runs, milliseconds.
    milliseconds: f64,
    /// Fastest and slowest run, milliseconds.
    range: [f64; 2],
    /// What the time buys, such as `1520 tokens/s`.
    rate: String,
    /// Operations or bytes a second, such as `1810 GFLOP/s`.
    work: String,
    /// Floating-point operations of a run.
    flops: Option<f64>,
    /// Bytes of weights and inputs that a run reads.
    bytes: Option<f64>,
    /// Part of the measured ceiling of this machine.
    share: Option<f64>,
    /// Largest memory of the process so far, MiB.
    peak_mib: Option<u64>,
}

pub(super) fn run(args: &BenchArgs) -> Result<ExitCode> {
    if args.load.is_wanted() {
        load::run(&args.load, &args.image, args.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut cases = rows::cases(args)?;
    // A whole name means that row alone, though others may begin like it.
    let exact = cases.iter().any(|case| case.name == args.filter);
    cases.retain(|case| if exact { case.name == args.filter } else { case.name.contains(&args.filter) });
    cases.retain(|case| !(args.quick && case.large));
    if args.on_demand {
        return on_demand(cases);
    }
    let mut roofline = Roofline::measure();
    let mut dots = Vec::new();
    // Drawn now too: a file that cannot be written is told before minutes of measuring, and an interrupted run leaves a picture.
    let draw =
        |roofline, dots: &[Dot]| args.svg.as_ref().map_or(Ok(()), |path| plot::write(path, roofline, dots));
    draw(roofline, &dots)?;
    let device = args.model.device.open()?;
    let exact = args.model.precision == PrecisionFlag::F32 && device.is_cpu();
    let [path, int8_path] = path_names(&device);
    let path = if exact { "f32" } else { path };
    let (flops, bytes) = (roofline.bf16_flops / 1e12, roofline.read_bytes / 1e9);
    if args.json {
        print_json(&json!({
            "threads": rayon::current_num_threads(), "path": path, "int8_path": int8_path,
            "ceiling_tflops": flops, "ceiling_read_gb_per_s": bytes,
        }))?;
    } else {
        eprintln!(
            "{} threads; products: {path}, in few bits: {}; ceilings: {flops:.2} TFLOP/s in bf16, {bytes:.1} GB/s from memory",
            rayon::current_num_threads(),
            int8_path
        );
        println!(
            "{:<40} {:>10} {:>17} {:>16} {:>14} {:>7} {:>9}",
            "row", "median ms", "range", "rate", "work", "share", "peak MiB"
        );
    }
    let runs = if args.quick { 3 } else { args.runs.max(1) };
    for case in cases {
        let Prepared { work, units, mut run } = (case.prepare)()?;
        let time = measure(runs, &mut run)?;
        let peak_mib = peak_mib();
        // The model's memory goes before the memory that is measured comes.
        drop(run);
        let mut now = roofline;
        if work.is_some_and(|work| work.ceiling == Ceiling::Memory) {
            now.read_bytes = read_bytes();
            roofline.read_bytes = roofline.read_bytes.max(now.read_bytes);
        }
        dots.extend(work.map(|work| Dot::new(&case.name, work, time.0 / 1e3)));
        emit(args, &Row { peak_mib, ..row(case.name, time, (work, units), now) })?;
        draw(roofline, &dots)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the only case for each line that comes in.
fn on_demand(mut cases: Vec<Case>) -> Result<ExitCode> {
    let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    anyhow::ensure!(cases.len() == 1, "--on-demand runs one row, --filter leaves {}: {names:?}", cases.len());
    let Some(case) = cases.pop() else { return Ok(ExitCode::FAILURE) };
    let mut prepared = (case.prepare)()?;
    (prepared.run)()?;
    println!("{}", case.name);
    for line in std::io::stdin().lock().lines() {
        line?;
        let start = Instant::now();
        (prepared.run)()?;
        println!("{:.4}", start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(ExitCode::SUCCESS)
}

fn row(
    name: String,
    (milliseconds, range): (f64, [f64; 2]),
    (work, (count, unit)): (Option<Work>, (f64, &str)),
    roofline: Roofline,
) -> Row {
    let seconds = milliseconds / 1e3;
    let [flops, bytes] = [work.map(|work| work.flops), work.map(|work| work.bytes)];
    let (work, share) = match work {
        Some(Work { flops, ceiling: Ceiling::Products, .. }) => {
            (format!("{:.0} GFLOP/s", flops / seconds / 1e9), Some(flops / seconds / roofline.bf16_flops))
        }
        Some(Work { bytes, ceiling: Ceiling::Memory, .. }) => {
            (format!("{:.1} GB/s", bytes / seconds / 1e9), Some(bytes / seconds / roofline.read_bytes))
        }
        None => (String::new(), None),
    };
    let rate = format!("{:.1} {unit}/s", count / seconds);
    Row { name, milliseconds, range, rate, work, flops, bytes, share, peak_mib: None }
}

fn emit(args: &BenchArgs, row: &Row) -> Result<()> {
    if args.json {
        return print_json(row);
    }
    let range = format!("{:.1} - {:.1}", row.range[0], row.range[1]);
    let peak = row.peak_mib.map_or("-".to_owned(), |mib| mib.to_string());
    let share = row.share.map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0));
    println!(
        "{:<40} {:>10.2} {range:>17} {:>16} {:>14} {share:>7} {peak:>9}",
        row.name, row.milliseconds, row.rate, row.work
    );
    Ok(())
}

fn median(mut times: Vec<f64>) -> (f64, [f64; 2]) {
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], [times[0], times[times.len() - 1]])
}

/// Runs `work` once to warm up and `runs` times for the clock.
fn measure(runs: usize, work: &mut dyn FnMut() -> Result<()>) -> Result<(f64, [f64; 2])> {
    work()?;
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(times))
}

/// Largest resident memory of this process, where the system tells.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}
