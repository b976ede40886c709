//! Keys and values of earlier tokens, so that a decoding step computes only the new ones.

use std::ops::Range;

use candle_core::Tensor;
use swinseek_kernels::{Error, Result};

use crate::config::LanguageConfig;

/// Buffers grow in steps of this many tokens at least.
const BLOCK: usize = 64;

/// Position and kind of one cached token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) position: u32,
    /// Not padding.
    pub(crate) real: bool,
}

/// What attention needs of earlier tokens: keys and values, or with latent attention `[c ; k^R]` alone
/// (`kv_lora_rank + qk_rope_head_dim` numbers a token and layer), and the keys of the indexer.
///
/// For inference: gradients do not flow through it.
#[derive(Debug)]
pub struct Cache {
    layers: Vec<LayerCache>,
    tokens: Vec<Vec<Token>>,
}

/// The buffers of one layer.
#[derive(Debug, Default)]
pub(crate) struct LayerCache {
    /// `(batch, tokens, kv_heads, head_dim)`, or the latents `(batch, tokens, 1, kv_lora_rank + rope)`.
    pub(crate) keys: Buffer,
    /// `(batch, tokens, kv_heads, head_dim)`; unused with latents.
    pub(crate) values: Buffer,
    /// `(batch, tokens, 1, index_head_dim)`
    pub(crate) index_keys: Buffer,
}

impl LayerCache {
    fn buffers(&mut self) -> [&mut Buffer; 3] {
        [&mut self.keys, &mut self.values, &mut self.index_keys]
    }
}

impl Cache {
    /// An empty cache for a decoder of that shape; the first pass fixes the batch size.
    pub fn new(config: &LanguageConfig) -> Self {
        let layers = config.layers.iter().map(|_| LayerCache::default()).collect();
        Self { layers, tokens: Vec::new() }
    }

    /// Cached tokens of each sequence, padding included.
    pub fn len(&self) -> usize {
        self.tokens.first().map_or(0, Vec::len)
    }

    /// Whether nothing is cached.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sequences, once there are any.
    pub fn batch(&self) -> Option<usize> {
        (!self.is_empty()).then_some(self.tokens.len())
    }

    /// Memory that the buffers take.
    pub fn bytes(&self) -> usize {
        let buffers = self.layers.iter().flat_map(|layer| [&layer.keys, &layer.values, &layer.index_keys]);
        buffers.map(Buffer::bytes).sum::<usize>()
            + self.tokens.iter().map(|row| row.len() * size_of::<Token>()).sum::<usize>()
    }

    /// Forgets all but the first `len` tokens of each sequence.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.iter_mut().for_each(|row| row.truncate(len));
    }

    /// Sequence `i` becomes a copy of sequence `rows[i]`: beams that go on, repeat or end.
    pub fn select_rows(&mut self, rows: &[usize]) -> Result<()> {
        let batch = self.tokens.len();
        if rows.is_empty() || rows.iter().any(|&row| row >= batch) {
            return Err(Error::Input(format!("cache rows {rows:?} do not exist among {batch} sequences")));
        }
        let len = self.len();
        let index: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        for buffer in self.layers.iter_mut().flat_map(LayerCache::buffers) {
            buffer.select_rows(&index, len)?;
        }
        self.tokens = rows.iter().map(|&row| self.tokens[row].clone()).collect();
        Ok(())
    }

    /// A copy that further passes do not share: several continuations of one prompt.
    pub fn fork(&self) -> Result<Self> {
        self.copy(0..self.len())
    }

    /// A copy of tokens `range` of each sequence alone, of just their size: to be given to [`Cache::append`].
    ///
    /// # Errors
    /// [`Error::Input`] when the range goes beyond the cached tokens.
    pub fn copy(&self, range: Range<usize>) -> Result<Self> {
        if range.start > range.end || range.end > self.len() {
            return Err(Error::Input(format!("tokens {range:?} of a cache of {}", self.len())));
        }
        let layers = self.layers.iter().map(|layer| {
            let [keys, values, index_keys] =
                [&layer.keys, &layer.values, &layer.index_keys].map(|buffer| buffer.copy(range.clone()));
            Ok(LayerCache { keys: keys?, values: values?, index_keys: index_keys? })
        });
        let tokens = self.tokens.iter().map(|row| row[range.clone()].to_vec()).collect();
        Ok(Self { layers: layers.collect::<Result<_>>()?, tokens })
    }

    /// Puts the tokens of `other` behind its own, as if they had been run: right only when they were run behind the
    /// same tokens.
    ///
    /// # Errors
    /// [`Error::Input`] when `other` is of another shape.
    pub fn append(&mut self, other: &Self) -> Result<()> {
        let fits = self.is_empty() || self.batch() == other.batch();
        if self.layers.len() != other.layers.len() || !fits {
            return Err(Error::Input("caches of different shapes cannot be joined".to_owned()));
        }
        let (at, new) = (self.len(), other.len());
        let sources = other.layers.iter().flat_map(|layer| [&layer.keys, &layer.values, &layer.index_keys]);
        for (buffer, source) in self.layers.iter_mut().flat_map(LayerCache::buffers).zip(sources) {
            if let Some(data) = source.data.as_ref().filter(|_| new > 0) {
                buffer.append(&data.narrow(1, 0, new)?, at)?;
            }
        }
        self.extend(other.tokens.clone());
        Ok(())
    }

    pub(crate) fn layer(&mut self, index: usize) -> Option<&mut LayerCache> {
        self.layers.get_mut(index)
    }

    pub(crate) fn num_layers(&self) -> usize {
        self.layers.len()
    }

    pub(crate) fn tokens(&self, row: usize) -> &[Token] {
        self.tokens.get(row).map_or(&[], Vec::as_slice)
    }

    /// Position of the next token of sequence `row`.
    pub(crate) fn next_position(&self, row: usize) -> u32 {
        self.tokens(row).iter().rev().find(|token| token.real).map_or(0, |token| token.position + 1)
    }

    /// Counts the tokens that every layer has appended during a pass.
    pub(crate) fn extend(&mut self, rows: Vec<Vec<Token>>) {
        if self.is_empty() {
            self.tokens = rows;
        } else {
            self.tokens.iter_mut().zip(rows).for_each(|(known, new)| known.extend(new));
        }
    }
}

/// A tensor `(batch, capacity, ..)` that fills up from the front of dimension 1.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    data: Option<Tensor>,
}

impl Buffer {
    /// Writes `rows (batch, new, ..)` behind the first `at` tokens and returns all, `(batch, at + new, ..)`: of one
    /// sequence without a copy, to be dropped before the next call.
    pub(crate) fn append(&mut self, rows: &Tensor, at: usize) -> Result<Tensor> {
        let rows = rows.detach().contiguous()?;
        let needed = at + rows.dim(1)?;
        let old = self.data.take().filter(|_| at > 0);
        let data = match old {
            Some(data) if data.dim(1)? >= needed => data,
            Some(data) => {
                let grown = Self::zeros(&rows, (needed + needed / 2).next_multiple_of(BLOCK))?;
                grown.slice_set(&data.narrow(1, 0, at)?.contiguous()?, 1, 0)?;
                grown
            }
            None => Self::zeros(&rows, (needed + BLOCK).next_multiple_of(BLOCK))?,
        };
        data.slice_set(&rows, 1, at)?;
        let all = data.narrow(1, 0, needed)?.contiguous()?;
        self.data = Some(data);
        Ok(all)
    }

    fn bytes(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.elem_count() * data.dtype().size_in_bytes())
    }

    fn zeros(like: &Tensor, capacity: usize) -> Result<Tensor> {
        let mut dims = like.dims().to_vec();
        dims[1] = capacity;
        Ok(Tensor::zeros(dims, like.dtype(), like.device())?)
    }

    fn select_rows(&mut self, index: &[u32], len: usize) -> Result<()> {
        if let Some(data) = self.data.take() {
            let index = Tensor::new(index, data.device())?;
            let rows = data.narrow(1, 0, len)?.contiguous()?.index_select(&index, 0)?;
            self.append(&rows, 0)?;
        }
        Ok(())
    }

    fn copy(&self, range: Range<usize>) -> Result<Self> {
        let data = self.data.as_ref().filter(|_| !range.is_empty());
        let copy =
            data.map(|data| data.narrow(1, range.start, range.len())?.force_contiguous()).transpose()?;
        Ok(Self { data: copy })
    }
}
