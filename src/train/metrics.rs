//! What a run leaves to look at: `metrics.jsonl`, one line a step, and `loss.svg`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use serde::{Deserialize, Serialize};

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Line {
    /// Optimiser steps done.
    pub step: u64,
    /// Mean next-token loss over the micro-batches, nats.
    pub loss: f64,
    /// The same by data set, for those in this step.
    pub losses: std::collections::BTreeMap<String, f64>,
    /// Dense findings loss, when it is trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub findings_loss: Option<f64>,
    /// Learning rate.
    pub learning_rate: f64,
    /// Joint L2 norm of the gradients before clipping.
    pub gradient_norm: f64,
    /// Coefficient of variation of the experts' load, mean over layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_cv: Option<f64>,
    /// Seconds this step took.
    pub seconds: f64,
    /// BLEU-4 of reports on validation studies, 0 to 100, where this step was validated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bleu: Option<f64>,
}

/// Appends lines and redraws the plot.
pub struct Metrics {
    file: File,
    plot: PathBuf,
    lines: Vec<Line>,
}

impl Metrics {
    /// Opens `run/metrics.jsonl`, keeping the lines up to `step` (those after it are repeated by the resumed run).
    pub fn open(run: &Path, step: u64) -> Result<Self> {
        let path = run.join("metrics.jsonl");
        let mut lines = Vec::new();
        if let Ok(file) = File::open(&path) {
            let read = BufReader::new(file).lines().map_while(Result::ok);
            lines.extend(
                read.filter_map(|text| serde_json::from_str::<Line>(&text).ok())
                    .filter(|line| line.step <= step),
            );
        }
        let mut file = File::create(&path)?;
        for line in &lines {
            writeln!(file, "{}", serde_json::to_string(line)?)?;
        }
        Ok(Self { file, plot: run.join("loss.svg"), lines })
    }

    /// Writes one line.
    pub fn push(&mut self, line: Line) -> Result<()> {
        writeln!(self.file, "{}", serde_json::to_string(&line)?)?;
        self.lines.push(line);
        Ok(())
    }

    /// Draws the smoothed loss, and BLEU where it was measured, over the steps.
    pub fn plot(&self) -> Result<()> {
        let Some(last) = self.lines.last() else {
            return Ok(());
        };
        let top = self.lines.iter().map(|line| line.loss).fold(0.1, f64::max);
        let draw = |error| anyhow!("{}: cannot be drawn: {error}", self.plot.display());
        let root = SVGBackend::new(&self.plot, (900, 480)).into_drawing_area();
        root.fill(&WHITE).map_err(|e| draw(e.to_string()))?;
        let mut chart = ChartBuilder::on(&root)
            .margin(16)
            .caption("next-token loss (nats) and validation BLEU-4", ("sans-serif", 18))
            .x_label_area_size(36)
            .y_label_area_size(48)
            .right_y_label_area_size(48)
            .build_cartesian_2d(0.0..last.step as f64, 0.0..top)
            .map_err(|e| draw(e.to_string()))?
            .set_secondary_coord(0.0..last.step as f64, 0.0..100.0);
        chart.configure_mesh().x_desc("step").y_desc("loss").draw().map_err(|e| draw(e.to_string()))?;
        chart.configure_secondary_axes().y_desc("BLEU-4").draw().map_err(|e| draw(e.to_string()))?;
        chart.draw_series(LineSeries::new(self.smoothed(), &BLUE)).map_err(|e| draw(e.to_string()))?;
        let bleu = self.lines.iter().filter_map(|line| Some((line.step as f64, line.bleu?)));
        chart
            .draw_secondary_series(LineSeries::new(bleu, &RED).point_size(3))
            .map_err(|e| draw(e.to_string()))?;
        root.present().map_err(|e| draw(e.to_string()))
    }

    /// Exponential moving average over about 20 steps, corrected for its start.
    fn smoothed(&self) -> Vec<(f64, f64)> {
        let (mut sum, mut weight) = (0.0, 0.0);
        let average = |line: &Line| {
            sum = 0.95 * sum + line.loss;
            weight = 0.95 * weight + 1.0;
            (line.step as f64, sum / weight)
        };
        self.lines.iter().map(average).collect()
    }
}
