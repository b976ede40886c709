//! The `swinseek` binary: parses the command line and dispatches.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = swinseek::cli::Cli::parse();
    match swinseek::cli::run(cli) {
        Ok(code) => code,
        Err(error) if swinseek::cli::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("swinseek: {error:#}");
            ExitCode::FAILURE
        }
    }
}
