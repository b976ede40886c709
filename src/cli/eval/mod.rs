//! `swinseek eval`

mod compare;
mod merge;
mod run;
mod show;
mod suite;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Flags of `eval`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = run::HELP)]
pub(super) struct EvalArgs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare two result directories over the same items, with paired tests.
    Compare(compare::CompareArgs),
    /// Join the result directories of all shards of a run; the result is that of the undivided run.
    Merge(merge::MergeArgs),
    /// The table of the default model: phantom studies rendered from a seed, LUNA16 crops, easy-VQA.
    Suite(suite::SuiteArgs),
}

pub(super) fn run(args: &EvalArgs) -> Result<ExitCode> {
    match &args.command {
        Some(Command::Compare(args)) => compare::run(args),
        Some(Command::Merge(args)) => merge::run(args),
        Some(Command::Suite(args)) => suite::run(args),
        None => run::run(&args.run),
    }
}
