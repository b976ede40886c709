//! `swinseek phantom --count N --seed S --out DIR`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use swinseek_phantom::StudyOptions;
use swinseek_phantom::{Format, Options, Split, write_dataset};

/// Flags of `phantom`.
#[derive(Debug, Args)]
#[command(
    after_help = "DIR gets images/ and annotations.json in the R2Gen layout (id, report, image_path, split), extended by four
references, findings with boxes (pixels: left, top, right, bottom), questions and a caption.
The same count, seed and size give the same bytes. The pictures are synthetic: no person is shown."
)]
pub(super) struct PhantomArgs {
    /// Studies to render.
    #[arg(long, short = 'n', value_name = "N")]
    count: usize,
    /// Seed of the set.
    #[arg(long, short = 's', default_value_t = 0)]
    seed: u64,
    /// Directory to write; made if missing.
    #[arg(long, short = 'o', value_name = "DIR")]
    out: PathBuf,
    /// Width and height of a picture in pixels.
    #[arg(long, default_value_t = 256, value_name = "PIXELS")]
    size: usize,
    /// Write 12-bit DICOM files, MONOCHROME1 and MONOCHROME2 in turn, instead of 8-bit PNG.
    #[arg(long)]
    dicom: bool,
    /// Shares of the splits, such as `train:0.8,val:0.1,test:0.1`.
    #[arg(long, default_value = "test:1")]
    split: Split,
}

pub(super) fn run(args: &PhantomArgs) -> Result<ExitCode> {
    StudyOptions { size: args.size }.validate()?;
    let format = if args.dicom { Format::Dicom } else { Format::Png };
    let options = Options { format, study: StudyOptions { size: args.size }, split: args.split };
    let bar = ProgressBar::new(args.count as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} studies  {per_sec}, {eta} left")?);
    write_dataset(&args.out, args.count, args.seed, &options, &|done| {
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    println!("{}", args.out.display());
    Ok(ExitCode::SUCCESS)
}
