//! `swinseek eval merge SHARD_DIR… --out DIR`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use swinseek_evals::runner::{BLIND, Environment, HYPOTHESES, encode_all, merge, write_file};

use super::super::output::print_json;
use super::show::table;
use crate::eval::{save, save_header};

/// Flags of `eval merge`.
#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// Result directories of all shards.
    #[arg(required = true, value_name = "SHARD_DIR")]
    shards: Vec<PathBuf>,
    /// Result directory of the whole.
    #[arg(long, short = 'o', value_name = "DIR")]
    out: PathBuf,
    /// Print what result.json holds.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &MergeArgs) -> Result<ExitCode> {
    let merged = merge(&args.shards)?;
    let dir = &args.out;
    std::fs::create_dir_all(dir).with_context(|| format!("{}: cannot be made", dir.display()))?;
    save_header(dir, &merged.statistics.run)?;
    write_file(&dir.join(HYPOTHESES), &encode_all(&merged.lines))?;
    if let Some(blind) = &merged.blind {
        write_file(&dir.join(BLIND), &encode_all(blind))?;
    }
    // Shards may have run on different machines, at the same time: neither machine nor speed is one of the whole.
    let result = save(dir, &merged.statistics, &merged.lines, &Environment::default())?;
    let result = result.context("the shards do not make a whole")?;
    if args.json {
        print_json(&result)?;
    } else {
        print!("{}", table(&result));
        println!("{}", dir.display());
    }
    Ok(ExitCode::SUCCESS)
}
