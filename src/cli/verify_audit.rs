//! `swinseek verify-audit FILE`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;

/// Flags of `verify-audit`.
#[derive(Debug, Args)]
#[command(
    after_help = "The chain shows lines that were changed, removed, inserted or moved. Lines missing at the end show only
against a head that was noted elsewhere (the server logs it when it starts and stops): give it with --head."
)]
pub(super) struct VerifyAuditArgs {
    /// The file that `serve --audit` wrote.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Hash that the last record must have.
    #[arg(long, value_name = "HASH")]
    head: Option<String>,
}

pub(super) fn run(args: &VerifyAuditArgs) -> Result<ExitCode> {
    let end = crate::server::verify_audit(&args.file)?;
    if let Some(head) = &args.head {
        let name = args.file.display();
        ensure!(
            *head == end.head,
            "{name}: ends with {}, expected {head}: records are missing or were added",
            end.head
        );
    }
    println!("{} records, head {}", end.seq, end.head);
    Ok(ExitCode::SUCCESS)
}
