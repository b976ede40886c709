//! Sequences that decode together: each keeps its own cache and its own images, and gets what it would get alone.

use std::cell::RefCell;

use candle_core::{IndexOp, Tensor};
use swinseek_kernels::{Result, Trace};
use swinseek_language::{Cache, Context, LayerHook};

use crate::cross_attention::{CrossAttention, CrossMemory};
use crate::generate::{TokenModel, attention_rows, attention_trace, id_tensor, last_position};
use crate::model::{ImageMemory, SwinSeek};

/// What the model says of the token after the last one.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// One logit for each id of the vocabulary.
    pub logits: Vec<f32>,
    /// Attention of the last token over the memory, mean over cross layers and heads: sums to 1. Empty unless asked
    /// for.
    pub attention: Vec<f32>,
}

/// One sequence of a decoding step, over a memory of type `M` and a cache of type `C`.
#[derive(Debug)]
pub struct DecodeRow<'a, M = ImageMemory, C = Cache> {
    /// The token chosen last.
    pub token: u32,
    /// Its images.
    pub memory: Option<&'a M>,
    /// What came before the token, and after the step the token too.
    pub cache: &'a mut C,
    /// Record its attention over the memory.
    pub attention: bool,
}

/// Reads `ids` after what `cache` holds, in one pass.
pub fn read<M: TokenModel>(model: &M, ids: &[u32], cache: &mut M::Cache) -> Result<()> {
    model.forward(&id_tensor(&[ids])?, &Context::causal().last_only(), Some(cache), &mut Trace::off())?;
    Ok(())
}

/// As [`read`], and predicts the token after the last of `ids`.
pub fn predict<M: TokenModel>(
    model: &M,
    ids: &[u32],
    cache: &mut M::Cache,
    attention: bool,
) -> Result<Prediction> {
    let mut trace = attention_trace(attention);
    let context = Context::causal().last_only();
    let hidden = model.forward(&id_tensor(&[ids])?, &context, Some(cache), &mut trace)?;
    // Only the last position needs the head, by far the largest matrix of a small model.
    let logits = model.head(&last_position(&hidden)?)?;
    let attention = attention_rows(&trace)?.pop().unwrap_or_default();
    Ok(Prediction { logits: logits.i(0)?.to_vec1()?, attention })
}

impl SwinSeek {
    /// One step of many sequences that have read their prompts: a prediction for each row, bit for bit what
    /// [`predict`] gives for the row alone.
    ///
    /// After an error the caches are not to be used again.
    pub fn decode(&self, rows: &mut [DecodeRow]) -> Result<Vec<Prediction>> {
        let ids: Vec<[u32; 1]> = rows.iter().map(|row| [row.token]).collect();
        let ids: Vec<&[u32]> = ids.iter().map(<[u32; 1]>::as_slice).collect();
        let embedded = self.decoder().embed(&id_tensor(&ids)?)?;
        let seen = rows.iter().map(|row| match row.memory {
            Some(ImageMemory::Cross(memory)) => Some(memory),
            _ => None,
        });
        let hook = RowsHook {
            layers: self.cross(),
            memories: seen.collect(),
            traces: RefCell::new(rows.iter().map(|row| attention_trace(row.attention)).collect()),
        };
        let mut caches: Vec<&mut Cache> = rows.iter_mut().map(|row| &mut *row.cache).collect();
        let hidden = self.decoder().decode(&embedded, &mut caches, &hook, &mut Trace::off())?;
        let logits: Vec<Vec<f32>> = self.logits(&last_position(&hidden)?)?.to_vec2()?;
        let predict = |(logits, trace): (Vec<f32>, Trace)| {
            Ok(Prediction { logits, attention: attention_rows(&trace)?.pop().unwrap_or_default() })
        };
        logits.into_iter().zip(hook.traces.into_inner()).map(predict).collect()
    }
}

/// Runs the cross layers on rows that each have images of their own, or none.
struct RowsHook<'a> {
    layers: &'a CrossAttention,
    memories: Vec<Option<&'a CrossMemory>>,
    /// One trace a row.
    traces: RefCell<Vec<Trace>>,
}

impl LayerHook for RowsHook<'_> {
    fn before(&self, index: usize, hidden: Tensor, _: &mut Trace) -> Result<Tensor> {
        let Some(layer) = self.layers.at(index) else {
            return Ok(hidden);
        };
        let seeing: Vec<usize> =
            (0..self.memories.len()).filter(|&row| self.memories[row].is_some()).collect();
        let memories: Vec<&CrossMemory> = self.memories.iter().copied().flatten().collect();
        let mut traces = self.traces.borrow_mut();
        let mut traces: Vec<&mut Trace> = traces
            .iter_mut()
            .zip(&self.memories)
            .filter(|(_, memory)| memory.is_some())
            .map(|(t, _)| t)
            .collect();
        if seeing.is_empty() {
            return Ok(hidden);
        }
        if seeing.len() == self.memories.len() {
            return self.layers.decode(layer, &hidden, &memories, &mut traces);
        }
        let pick = |x: &Tensor, row: usize| x.narrow(0, row, 1);
        let rows = seeing.iter().map(|&row| pick(&hidden, row)).collect::<candle_core::Result<Vec<_>>>()?;
        let seen = self.layers.decode(layer, &Tensor::cat(&rows, 0)?, &memories, &mut traces)?;
        let row = |row: usize| match seeing.binary_search(&row) {
            Ok(place) => pick(&seen, place),
            Err(_) => pick(&hidden, row),
        };
        let rows = (0..self.memories.len()).map(row).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&rows, 0)?)
    }
}
