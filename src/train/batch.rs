//! From records to tensors: one micro-batch.

use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};
use swinseek_fusion::prompt_encoder::PromptEncoder;
use swinseek_kernels::ops::loss::IGNORE;
use swinseek_vision::preprocess::Preprocessor;

use super::data::Record;
use super::findings::Region;

/// Inputs and targets of a micro-batch, right-padded.
#[derive(Clone)]
pub struct Batch {
    /// `(rows, channels, height, width)`.
    pub pixels: Tensor,
    /// Token ids `(rows, length)`.
    pub ids: Tensor,
    /// For each position, row by row, the next token or [`IGNORE`]: only answers are learnt.
    pub targets: Vec<u32>,
    /// Which positions hold a token rather than padding.
    pub real: Vec<bool>,
    /// Findings' boxes by image.
    pub regions: Vec<Option<Vec<Region>>>,
}

impl Batch {
    /// Encodes `records`. A row longer than the model's context of `max_length` tokens is an error.
    pub fn new(
        records: &[Record],
        prompts: &PromptEncoder,
        preprocessor: &Preprocessor,
        max_length: usize,
    ) -> Result<Self> {
        let mut rows = Vec::with_capacity(records.len());
        let mut pixels = Vec::with_capacity(records.len());
        let mut regions = Vec::with_capacity(records.len());
        for record in records {
            let prompt = prompts.encode(&record.prompt, 1)?;
            let answer = prompts.encode_answer(&record.answer)?;
            let length = prompt.len() + answer.len();
            ensure!(
                length <= max_length,
                "a training text has {length} tokens, the model's context {max_length}"
            );
            rows.push((prompt, answer));
            let values = preprocessor.apply(&record.image)?;
            pixels.push(values.to_tensor(&Device::Cpu)?);
            let boxes = record.findings.as_ref();
            regions.push(
                boxes.map(|boxes| {
                    boxes.iter().map(|finding| Region::new(finding, &values.geometry)).collect()
                }),
            );
        }
        // The last token of a row is only ever a target, so the input is one shorter.
        let length = rows.iter().map(|(prompt, answer)| prompt.len() + answer.len() - 1).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(rows.len() * length);
        let mut targets = Vec::with_capacity(rows.len() * length);
        let mut real = Vec::with_capacity(rows.len() * length);
        for (prompt, answer) in rows {
            let row: Vec<u32> = prompt.iter().chain(&answer).copied().collect();
            let pad = length + 1 - row.len();
            ids.extend(
                row[..row.len() - 1].iter().copied().chain(std::iter::repeat_n(prompts.pad_id(), pad)),
            );
            targets.extend(
                std::iter::repeat_n(IGNORE, prompt.len() - 1)
                    .chain(answer)
                    .chain(std::iter::repeat_n(IGNORE, pad)),
            );
            real.extend((0..length).map(|position| position < row.len() - 1));
        }
        let ids = Tensor::from_vec(ids, (records.len(), length), &Device::Cpu)?;
        Ok(Self { pixels: Tensor::cat(&pixels, 0)?, ids, targets, real, regions })
    }
}
