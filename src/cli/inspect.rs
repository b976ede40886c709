//! `swinseek inspect DIR`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::output::print_json;

/// Flags of `inspect`.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// Model directory.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &InspectArgs) -> Result<ExitCode> {
    let summary = swinseek_fusion::inspect(&args.dir)?;
    if args.json {
        print_json(&summary)?;
        return Ok(ExitCode::SUCCESS);
    }
    let millions = |count: u64| format!("{:.2} M", count as f64 / 1e6);
    println!("{:<20} {}", "architecture", summary.architecture);
    println!("{:<20} {}", "parameters", millions(summary.parameters));
    let share = 100.0 * summary.active_parameters as f64 / summary.parameters.max(1) as f64;
    println!("{:<20} {} ({share:.1} %)", "active per token", millions(summary.active_parameters));
    for (part, count) in &summary.parts {
        println!("  {part:<18} {}", millions(*count));
    }
    for (dtype, count) in &summary.dtypes {
        println!("{:<20} {}", format!("stored as {dtype}"), millions(*count));
    }
    if summary.adapter_parameters > 0 {
        println!("{:<20} {}", "added by adapters", millions(summary.adapter_parameters));
    }
    println!("{:<20} {:.1} MB", "weight files", summary.size_bytes as f64 / 1e6);
    let rows = [
        ("context", summary.context_length),
        ("vocabulary", summary.vocab_size),
        ("hidden size", summary.hidden_size),
        ("decoder layers", summary.num_hidden_layers),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            println!("{name:<20} {value}");
        }
    }
    if let Some([experts, used]) = summary.experts {
        println!("{:<20} {experts}, {used} per token", "routed experts");
    }
    if let Some([height, width]) = summary.image_size {
        println!("{:<20} {height} x {width}", "image");
    }
    println!("{:<20} {}", "digest", summary.digest);
    Ok(ExitCode::SUCCESS)
}
