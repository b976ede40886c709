//! `swinseek verify DIR --golden FILE`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use swinseek_fusion::verify::verify;
use swinseek_kernels::Compute;

use super::args::DeviceArgs;
use super::output::print_json;
use crate::server::PrecisionFlag;

/// Flags of `verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "FILE holds inputs (pixel_values, input_ids, …) and the outputs that another implementation computed from them.
Exit code 0 only when every stored tensor is within the tolerance, and every integer and greedy token is equal."
)]
pub(super) struct VerifyArgs {
    /// Checkpoint: a folder with config.json and model.safetensors (or its shards).
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Stored inputs and outputs.
    #[arg(long, value_name = "FILE")]
    golden: PathBuf,
    /// Largest absolute difference allowed; the default is fp32 summation order, with room.
    #[arg(long, default_value_t = 2e-5)]
    tolerance: f64,
    /// How matrices are multiplied; other than f32 differs from the stored outputs by its own rounding.
    #[arg(long, value_enum, default_value_t = PrecisionFlag::F32)]
    precision: PrecisionFlag,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &VerifyArgs) -> Result<ExitCode> {
    let compute = Compute { precision: args.precision.into(), device: args.device.open()? };
    let report = verify(&args.dir, &args.golden, args.tolerance, compute)?;
    if args.json {
        print_json(&report)?;
    } else {
        for row in &report.rows {
            let difference =
                row.max_abs_diff.map_or("-".to_owned(), |difference| format!("{difference:.1e}"));
            let note = row.note.as_deref().unwrap_or_default();
            println!("{:<4} {:<44} {difference:>8} {note}", if row.ok { "ok" } else { "FAIL" }, row.name);
        }
        let (rows, failed) = (report.rows.len(), report.failures().count());
        println!(
            "{}: {rows} tensors, largest difference {:.1e}, {failed} fail at {:e}",
            report.architecture,
            report.max_abs_diff(),
            args.tolerance
        );
    }
    Ok(if report.ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
