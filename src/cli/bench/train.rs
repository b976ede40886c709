//! The row of a training step: the trainer's own, on micro-batches that are the same each time.

use std::path::Path;

use anyhow::Result;
use candle_core::{Device, Tensor};
use swinseek_fusion::ModelConfig;
use swinseek_fusion::checkpoint::Checkpoint;
use swinseek_kernels::ops::loss::IGNORE;

use super::Prepared;
use crate::train::batch::Batch;
use crate::train::findings::Region;
use crate::train::learner::{Learner, Rules};
use crate::train::recipe::{BatchTable, LossTable};

/// Micro-batches of a step.
const MICRO_BATCHES: usize = 2;
/// Tokens of the prompt, the image's place included: those of "Write the report." in the default model.
const PROMPT: usize = 8;
/// Tokens of the answers of a micro-batch, each with its end: the means, by rank, of eight reports on phantoms in the default
/// model's vocabulary (median 41, mean 46).
const ANSWERS: [usize; 8] = [52, 29, 76, 40, 32, 61, 36, 45];
/// The last token is only ever a target.
const LENGTH: usize = PROMPT + 76 - 1;
/// The recipe's last: small enough that the hundredth step on the same rows is like the first.
const LEARNING_RATE: f64 = 5e-5;

/// Name of the row.
pub(super) fn name() -> String {
    format!("train step, {MICRO_BATCHES} x {} images, {LENGTH} tokens", ANSWERS.len())
}

/// Forward, loss, backward, clipping and AdamW with the weights of `directory`.
pub(super) fn step(directory: &Path) -> Result<Prepared> {
    let checkpoint = Checkpoint::open(directory)?;
    let config = ModelConfig::from_json(checkpoint.config())?;
    let rules = Rules {
        batch: BatchTable { micro_batches: MICRO_BATCHES, ..BatchTable::default() },
        losses: LossTable { findings: 1.0, ..LossTable::default() },
        ..Rules::default()
    };
    let mut learner = Learner::new(&config, checkpoint.load_all()?, None, 1, rules)?;
    let batches = (0..MICRO_BATCHES).map(|index| batch(&config, index)).collect::<Result<Vec<_>>>()?;
    let run = move || {
        let draw = |index| Ok((String::new(), batches[index as usize].clone()));
        learner.step(LEARNING_RATE, &draw).map(drop)
    };
    let images = (MICRO_BATCHES * ANSWERS.len()) as f64;
    Ok(Prepared { work: None, units: (images, "images"), run: Box::new(run) })
}

/// Made-up pixels and tokens in the shapes of eight reports; every image has one finding.
fn batch(config: &ModelConfig, index: usize) -> Result<Batch> {
    let rows = ANSWERS.len();
    let (height, width) = config.vision.image_size;
    let shape = (rows, config.vision.num_channels, height, width);
    let count = rows * config.vision.num_channels * height * width;
    let pixels = (0..count).map(|i| ((i + index) * 7919 % 1009) as f32 / 504.5 - 1.0).collect();
    let pixels = Tensor::from_vec::<_, f32>(pixels, shape, &Device::Cpu)?;
    let vocabulary = config.language.vocab_size;
    let token = |i: usize| ((i + index) * 7919 % vocabulary) as u32;
    let ids = Tensor::from_vec((0..rows * LENGTH).map(token).collect(), (rows, LENGTH), &Device::Cpu)?;
    let (mut targets, mut real) = (Vec::new(), Vec::new());
    for (row, answer) in ANSWERS.into_iter().enumerate() {
        for position in 0..LENGTH {
            let learnt = (PROMPT - 1..PROMPT + answer - 1).contains(&position);
            targets.push(if learnt { token(row * LENGTH + position + 1) } else { IGNORE });
            real.push(position < PROMPT + answer - 1);
        }
    }
    let class = config.fusion.findings_classes.iter().flatten().next();
    let regions = (0..rows)
        .map(|_| class.map(|class| vec![Region { class: class.clone(), bbox: [0.3, 0.4, 0.5, 0.6] }]));
    Ok(Batch { pixels, ids, targets, real, regions: regions.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_row_fills_the_batch_and_answers_alone_are_learnt() -> Result<()> {
        let config = Checkpoint::open(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/samples/model")))?;
        let batch = batch(&ModelConfig::from_json(config.config())?, 1)?;
        let rows = ANSWERS.len();
        assert_eq!(batch.ids.dims(), [rows, LENGTH]);
        assert_eq!(batch.pixels.dims(), [rows, 3, 192, 192]);
        assert_eq!(batch.targets.len(), rows * LENGTH);
        let learnt = batch.targets.iter().filter(|&&target| target != IGNORE).count();
        assert_eq!(learnt, ANSWERS.iter().sum::<usize>());
        // The prompt is read besides, less the last token of each answer.
        assert_eq!(batch.real.iter().filter(|&&real| real).count(), learnt + rows * (PROMPT - 1));
        assert!(batch.real.chunks(LENGTH).any(|row| row.iter().all(|&real| real)), "no row is full");
        Ok(())
    }
}
