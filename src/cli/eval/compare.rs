//! `swinseek eval compare A B`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;
use swinseek_evals::resample::Bootstrap;
use swinseek_evals::runner::compare;

use super::super::output::print_json;

/// Flags of `eval compare`.
#[derive(Debug, Args)]
#[command(
    after_help = "p is the chance of a difference at least this large if both runs came from the same process: of the paired
bootstrap (bs) and of the paired approximate randomisation (ar), both as in sacreBLEU."
)]
pub(super) struct CompareArgs {
    /// Result directory of the baseline.
    a: PathBuf,
    /// Result directory of the system beside it.
    b: PathBuf,
    /// Resamples of the paired bootstrap.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    resamples: usize,
    /// Trials of the paired approximate randomisation.
    #[arg(long, default_value_t = swinseek_evals::significance::TRIALS, value_name = "N")]
    trials: usize,
    /// Seed of both.
    #[arg(long, default_value_t = 12345)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CompareArgs) -> Result<ExitCode> {
    if args.resamples == 0 || args.trials == 0 {
        bail!("--resamples and --trials: expected at least 1");
    }
    let bootstrap = Bootstrap { resamples: args.resamples, seed: args.seed };
    let comparisons = compare(&args.a, &args.b, bootstrap, args.trials)?;
    if args.json {
        print_json(&json!({
            "a": args.a, "b": args.b, "metrics": comparisons,
            "resamples": args.resamples, "trials": args.trials, "seed": args.seed,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("A: {}\nB: {}\n", args.a.display(), args.b.display());
    println!("{:<10} {:>9} {:>9} {:>9} {:>8} {:>8}", "metric", "A", "B", "B - A", "p (bs)", "p (ar)");
    for row in comparisons {
        println!(
            "{:<10} {:>9.3} {:>9.3} {:>+9.3} {:>8.4} {:>8.4}",
            row.metric, row.a, row.b, row.difference, row.p_bootstrap, row.p_randomization
        );
    }
    Ok(ExitCode::SUCCESS)
}
