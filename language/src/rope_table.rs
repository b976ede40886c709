//! Cosines and sines of the positions of one forward pass, from a table that grows with use.

use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Tensor};
use swinseek_kernels::{Error, Result};

use crate::rope_scaling::RopeConfig;

const FIRST_LENGTH: usize = 256;
/// Positions that a table may cover although the model was made for fewer.
const LEAST_LIMIT: usize = 1 << 17;

/// Where the tokens of a pass stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Positions {
    /// Every sequence of the batch stands at `start..start + len`.
    Shared {
        /// Position of the first token.
        start: usize,
        /// Number of tokens.
        len: usize,
    },
    /// One row of positions per sequence.
    PerRow(Vec<Vec<u32>>),
}

/// Cosine and sine of a pass, each `(batch or 1, tokens, dim / 2)`.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    pub(crate) cos: Tensor,
    pub(crate) sin: Tensor,
}

impl Rotation {
    /// Of the last `tokens` alone.
    pub(crate) fn last(&self, tokens: usize) -> Result<Self> {
        Ok(Self { cos: last(&self.cos, tokens)?, sin: last(&self.sin, tokens)? })
    }
}

/// The last `tokens` of `x (batch, all, ..)`.
pub(crate) fn last(x: &Tensor, tokens: usize) -> Result<Tensor> {
    let all = x.dim(1)?;
    Ok(if tokens == all { x.clone() } else { x.narrow(1, all - tokens, tokens)?.contiguous()? })
}

/// Tables of one decoder, `(length, dim / 2)`, doubled when a position lies beyond them.
#[derive(Debug)]
pub(crate) struct RopeTable {
    config: RopeConfig,
    tables: Mutex<Option<Rotation>>,
}

impl RopeTable {
    pub(crate) fn new(config: RopeConfig) -> Self {
        Self { config, tables: Mutex::new(None) }
    }

    /// Cosine and sine at `positions`.
    pub(crate) fn rotation(&self, positions: &Positions, device: &Device) -> Result<Rotation> {
        let needed = match positions {
            Positions::Shared { start, len } => start + len,
            Positions::PerRow(rows) => rows.iter().flatten().max().map_or(0, |&p| p as usize + 1),
        };
        let limit = self.config.max_position_embeddings.max(LEAST_LIMIT);
        if needed > limit {
            return Err(Error::Input(format!(
                "position {} is beyond the limit of {limit} tokens",
                needed - 1
            )));
        }
        let table = self.table(needed, device)?;
        match positions {
            Positions::Shared { start, len } => {
                let slice = |t: &Tensor| t.narrow(0, *start, *len)?.unsqueeze(0);
                Ok(Rotation { cos: slice(&table.cos)?, sin: slice(&table.sin)? })
            }
            Positions::PerRow(rows) => {
                let flat: Vec<u32> = rows.concat();
                let index = Tensor::from_vec(flat, rows.len() * rows[0].len(), device)?;
                let shape = (rows.len(), rows[0].len(), self.config.dim / 2);
                let select = |t: &Tensor| t.index_select(&index, 0)?.reshape(shape);
                Ok(Rotation { cos: select(&table.cos)?, sin: select(&table.sin)? })
            }
        }
    }

    /// A table of at least `needed` positions.
    fn table(&self, needed: usize, device: &Device) -> Result<Rotation> {
        if self.config.depends_on_length(needed) {
            // As transformers: the whole pass uses the frequencies of its longest sequence.
            return self.build(needed, needed, device);
        }
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = tables.as_ref()
            && table.cos.dim(0)? >= needed
            && table.cos.device().same_device(device)
        {
            return Ok(table.clone());
        }
        let table = self.build(needed.next_power_of_two().max(FIRST_LENGTH), 0, device)?;
        Ok(tables.insert(table).clone())
    }

    fn build(&self, length: usize, seq_len: usize, device: &Device) -> Result<Rotation> {
        let frequencies = self.config.inverse_frequencies(seq_len);
        let factor = self.config.attention_factor();
        // Angles in f32, as the reference has them; their sine and cosine in f64, rounded once.
        let angles: Vec<f64> =
            (0..length).flat_map(|p| frequencies.iter().map(move |f| f64::from(p as f32 * f))).collect();
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|&angle| f(angle) as f32 * factor as f32).collect();
            Tensor::from_vec(values, (length, frequencies.len()), device)
        };
        Ok(Rotation { cos: table(f64::cos)?, sin: table(f64::sin)? })
    }
}
