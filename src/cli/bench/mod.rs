//! `swinseek bench`: speed and memory on this machine.

mod load;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use candle_core::{Device, Tensor};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use swinseek_fusion::checkpoint::FreshSource;
use swinseek_kernels::{Precision, Trace, Weights, gemm};
use swinseek_language::{Cache, Context, Decoder, LanguageConfig, NoHook};
use swinseek_vision::{Encoder, VisionConfig};

use super::args::ModelArgs;
use super::output::print_json;
use super::report;

/// Flags of `bench`.
#[derive(Debug, Args)]
#[command(
    after_help = "Weights of the large models are random: speed does not depend on them. Medians of the runs are printed, with
operations per second of the matrix products, and the process's largest memory so far."
)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Runs of each row; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only rows whose name contains this.
    #[arg(long, default_value = "")]
    filter: String,
    /// Image or DICOM file for the report row.
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/images/phantom.dcm"))]
    image: PathBuf,
    /// Print JSON lines instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    load: load::LoadArgs,
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
    /// Largest memory of the process so far, MiB.
    peak_mib: Option<u64>,
}

pub(super) fn run(args: &BenchArgs) -> Result<ExitCode> {
    if args.load.is_wanted() {
        load::run(&args.load, &args.image, args.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let precision = Precision::from(args.model.precision);
    let path = if precision == Precision::Bf16 { gemm::path_name() } else { "f32" };
    eprintln!("{} threads, matrix products: {path}", rayon::current_num_threads());
    if !args.json {
        println!("{:<34} {:>10} {:>21} {:>18} {:>10}", "row", "median ms", "range", "rate", "peak MiB");
    }
    let mut emit = |row: Row| -> Result<()> {
        if args.json {
            return print_json(&row);
        }
        let range = format!("{:.1} - {:.1}", row.range[0], row.range[1]);
        let peak = row.peak_mib.map_or("-".to_owned(), |mib| mib.to_string());
        println!("{:<34} {:>10.1} {range:>21} {:>18} {peak:>10}", row.name, row.milliseconds, row.rate);
        Ok(())
    };
    let wanted = |name: &str| name.contains(&args.filter);
    if wanted("report, default model") {
        report_rows(args, &mut emit)?;
    }
    if wanted("swin-b 224") {
        swin_rows(args, precision, &mut emit)?;
    }
    if wanted("decoder 0.5b") {
        decoder_rows(args, precision, &mut emit)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn median(mut times: Vec<f64>) -> (f64, [f64; 2]) {
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], [times[0], times[times.len() - 1]])
}

/// Runs `work` once to warm up and `runs` times for the clock.
fn measure(runs: usize, mut work: impl FnMut() -> Result<()>) -> Result<(f64, [f64; 2])> {
    work()?;
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs.max(1) {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(times))
}

fn row(name: &str, (milliseconds, range): (f64, [f64; 2]), rate: String) -> Row {
    Row { name: name.to_owned(), milliseconds, range, rate, peak_mib: peak_mib() }
}

/// Largest resident memory of this process, where the system tells.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

fn report_rows(args: &BenchArgs, emit: &mut impl FnMut(Row) -> Result<()>) -> Result<()> {
    let pipeline = args.model.open()?;
    let (mut first, mut tokens) = (Vec::new(), 0);
    let whole = measure(args.runs, || {
        let timing = report::time_once(&pipeline, &args.image)?;
        first.push(timing.first_token_ms);
        tokens = timing.tokens;
        Ok(())
    })?;
    emit(row("report, default model: first token", median(first), String::new()))?;
    emit(row("report, default model: whole", whole, format!("{:.0} tokens/s", tokens as f64 / whole.0 * 1e3)))
}

fn swin_rows(args: &BenchArgs, precision: Precision, emit: &mut impl FnMut(Row) -> Result<()>) -> Result<()> {
    let config = VisionConfig::from_json(&json!({
        "model_type": "swin", "image_size": 224, "patch_size": 4, "num_channels": 3, "embed_dim": 128,
        "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 7, "mlp_ratio": 4.0, "qkv_bias": true,
        "hidden_act": "gelu", "use_absolute_embeddings": false, "layer_norm_eps": 1e-5
    }))?;
    let encoder = Encoder::new(&config, &Weights::new(Arc::new(FreshSource::new(1)), precision))?;
    for batch in [1, 8] {
        let pixels = Tensor::ones((batch, 3, 224, 224), candle_core::DType::F32, &Device::Cpu)?;
        let time = measure(args.runs, || Ok(encoder.forward(&pixels, &mut Trace::off()).map(drop)?))?;
        // 15.4 GMAC an image (Liu et al. 2021, table 1).
        let rate = format!("{:.0} GFLOP/s", 30.8 * batch as f64 / time.0 * 1e3);
        emit(row(&format!("swin-b 224, batch {batch}"), time, rate))?;
    }
    Ok(())
}

fn decoder_rows(
    args: &BenchArgs,
    precision: Precision,
    emit: &mut impl FnMut(Row) -> Result<()>,
) -> Result<()> {
    let config = LanguageConfig::from_json(&json!({
        "model_type": "llama", "vocab_size": 32256, "hidden_size": 1280, "intermediate_size": 3584, "num_hidden_layers": 20,
        "num_attention_heads": 20, "num_key_value_heads": 20, "hidden_act": "silu", "rms_norm_eps": 1e-6,
        "max_position_embeddings": 4096, "rope_theta": 10000.0, "tie_word_embeddings": false
    }))?;
    let decoder = Decoder::new(&config, &Weights::new(Arc::new(FreshSource::new(1)), precision))?;
    let step = |ids: &[u32], cache: &mut Cache| -> Result<()> {
        let ids = Tensor::from_slice(ids, (1, ids.len()), &Device::Cpu)?;
        let hidden = decoder.forward(
            &decoder.embed(&ids)?,
            &Context::causal(),
            Some(cache),
            &NoHook,
            &mut Trace::off(),
        )?;
        let last = hidden.narrow(1, hidden.dim(1)? - 1, 1)?;
        decoder.lm_head(&last)?;
        Ok(())
    };
    let prompt: Vec<u32> = (0..512).collect();
    let prefill = measure(args.runs, || step(&prompt, &mut Cache::new(&config)))?;
    emit(row("decoder 0.5b: prefill 512", prefill, format!("{:.0} tokens/s", 512e3 / prefill.0)))?;
    let mut cache = Cache::new(&config);
    step(&prompt, &mut cache)?;
    let decode = measure(8 * args.runs, || step(&[7], &mut cache))?;
    emit(row("decoder 0.5b: decode at 512", decode, format!("{:.1} tokens/s", 1e3 / decode.0)))
}
