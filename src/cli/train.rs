//! `swinseek train RECIPE.toml`

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::train::recipe::Recipe;

/// Flags of `train`.
#[derive(Debug, Args)]
#[command(
    after_help = "The run directory (`output` of the recipe) gets metrics.jsonl, loss.svg, checkpoints/ and, at the end, model/.
Killed at any moment, the same command goes on from the last checkpoint and ends with the same model.
With `[adapter]` (rank, alpha, targets) low-rank additions to the recipe's model are trained, and model/ is an adapter in PEFT's files
that every command takes as a model; `from` goes on from such an adapter.
The recipes of the default model are samples/recipes/default.toml and, for its adapter, samples/recipes/adapter-1.toml to -3.toml."
)]
pub(super) struct TrainArgs {
    /// The recipe.
    #[arg(value_name = "RECIPE.toml")]
    recipe: PathBuf,
    /// Stop after this step (of the recipe's schedule) with a checkpoint; the next call goes on.
    #[arg(long, value_name = "STEP")]
    until: Option<u64>,
    /// Stop with a checkpoint once this many minutes have passed.
    #[arg(long, value_name = "MINUTES")]
    minutes: Option<f64>,
    /// Write the model directory from the last checkpoint now, without training on.
    #[arg(long)]
    export: bool,
}

pub(super) fn run(args: &TrainArgs) -> Result<ExitCode> {
    let recipe = Recipe::load(&args.recipe)?;
    if args.export {
        crate::train::export_now(&recipe)?;
        println!("{}", recipe.output.join("model").display());
        return Ok(ExitCode::SUCCESS);
    }
    let bar = ProgressBar::new(recipe.schedule.steps);
    let style = "{bar:30} {pos}/{len} steps  {msg}  {elapsed} elapsed, {eta} left";
    bar.set_style(ProgressStyle::with_template(style)?);
    let started = std::time::Instant::now();
    let mut smooth: Option<f64> = None;
    crate::train::run(&recipe, &mut |_, line| {
        let loss = smooth.map_or(line.loss, |smooth| 0.95 * smooth + 0.05 * line.loss);
        smooth = Some(loss);
        bar.set_position(line.step);
        bar.set_message(format!("loss {loss:.3}  {:.2} s/step", line.seconds));
        if let Some(bleu) = line.bleu {
            bar.println(format!("step {}: validation BLEU-4 {bleu:.1}, loss {loss:.3}", line.step));
        }
        let late = args.minutes.is_some_and(|minutes| started.elapsed().as_secs_f64() > 60.0 * minutes);
        if late || args.until == Some(line.step) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    bar.finish();
    println!("{}", recipe.output.display());
    Ok(ExitCode::SUCCESS)
}
