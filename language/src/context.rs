//! What a forward pass knows beside the hidden states: positions, padding, and how many keys are cached.

use candle_core::{DType, Device, Tensor};
use swinseek_kernels::{Error, Result, ops::attention::Mask};

use crate::{
    cache::{Cache, Token},
    rope_table::{Positions, RopeTable, Rotation},
};

/// Added to the score of a key that must not be seen. Finite, so that a row of nothing else is no NaN.
pub(crate) const MASKED: f32 = -1e30;

/// So many tokens are computed about as fast as one, and by the products that any prompt has: with the same bits.
const FEW: usize = 32;

/// Padding and positions of the new tokens of a pass; the default is neither, plain causal decoding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    attention_mask: Option<Vec<Vec<bool>>>,
    positions: Option<Vec<Vec<u32>>>,
    last_only: bool,
}

impl Context {
    /// No padding; positions continue after the cached tokens.
    pub fn causal() -> Self {
        Self::default()
    }

    /// `attention_mask (batch, tokens)` of the *new* tokens: 1 for a real token, 0 for padding on either side.
    /// The cache remembers the mask of earlier ones. A real token's position is the number of real tokens before it.
    pub fn masked(attention_mask: &Tensor) -> Result<Self> {
        let rows = host_rows(attention_mask)?;
        let rows = rows.iter().map(|row| row.iter().map(|&bit| bit != 0).collect()).collect();
        Ok(Self { attention_mask: Some(rows), ..Self::default() })
    }

    /// States the positions `(batch, tokens)` of the new tokens.
    pub fn with_positions(self, positions: &Tensor) -> Result<Self> {
        Ok(Self { positions: Some(host_rows(positions)?), ..self })
    }

    /// Only the last token's hidden states are wanted. What a pass returns ends with them, and may begin later than its tokens:
    /// the last layer computes keys and values for all of them, and queries and what follows for a few.
    #[must_use]
    pub fn last_only(self) -> Self {
        Self { last_only: true, ..self }
    }
}

fn host_rows(tensor: &Tensor) -> Result<Vec<Vec<u32>>> {
    Ok(tensor.to_dtype(DType::U32)?.to_vec2()?)
}

/// A [`Context`] resolved for one forward pass.
pub(crate) struct Pass {
    /// Cached tokens before the new ones.
    pub(crate) past: usize,
    pub(crate) batch: usize,
    /// New tokens per sequence.
    pub(crate) q_len: usize,
    /// Of the last layer's queries.
    pub(crate) last_queries: usize,
    pub(crate) rotation: Rotation,
    /// The new tokens, row by row, for the cache to remember.
    pub(crate) tokens: Vec<Vec<Token>>,
    padding: Option<Padding>,
}

/// Needed only where a key that is padding stands before a real query.
struct Padding {
    /// Per sequence, whether each of the `past + q_len` keys is real.
    real: Vec<Vec<bool>>,
    /// `(batch, q_len, kv_len)`
    additive: Tensor,
}

impl Pass {
    pub(crate) fn new(
        context: &Context,
        (batch, q_len): (usize, usize),
        cache: Option<&Cache>,
        rope: &RopeTable,
        device: &Device,
    ) -> Result<Self> {
        if batch == 0 || q_len == 0 {
            return Err(Error::Input(format!("a batch of {batch} sequences of {q_len} tokens is empty")));
        }
        check_rows(context.attention_mask.as_ref(), "attention mask", batch, q_len)?;
        check_rows(context.positions.as_ref(), "positions", batch, q_len)?;
        let past = cache.map_or(0, Cache::len);
        if let Some(cached) = cache.and_then(Cache::batch).filter(|&cached| cached != batch) {
            return Err(Error::Input(format!("the cache holds {cached} sequences, the batch has {batch}")));
        }
        let tokens: Vec<_> = (0..batch).map(|row| new_tokens(context, row, q_len, cache)).collect();
        let rotation = rope.rotation(&positions(&tokens), device)?;
        let mut pass = Self { past, batch, q_len, last_queries: q_len, rotation, tokens, padding: None };
        let real: Vec<Vec<bool>> = (0..batch).map(|row| pass.real_keys(row, cache)).collect();
        if real.iter().any(|row| padding_before_a_real_query(row, past)) {
            let additive = additive_mask(&real, past, q_len, device)?;
            pass.padding = Some(Padding { real, additive });
        } else if context.last_only {
            pass.last_queries = q_len.min(FEW);
        }
        Ok(pass)
    }

    pub(crate) fn kv_len(&self) -> usize {
        self.past + self.q_len
    }

    /// The mask of plain attention of the last `queries` tokens; those of padding are all.
    pub(crate) fn mask(&self, queries: usize) -> Mask<'_> {
        match &self.padding {
            Some(padding) => Mask::Additive(&padding.additive),
            None if self.q_len == 1 => Mask::None,
            None => Mask::Causal { offset: self.kv_len() - queries },
        }
    }

    /// Whether a real query stands behind padding.
    pub(crate) fn has_padding(&self) -> bool {
        self.padding.is_some()
    }

    /// Whether query `i` of sequence `row` may see key `j`.
    pub(crate) fn sees(&self, row: usize, i: usize, j: usize) -> bool {
        match &self.padding {
            Some(padding) => visible(&padding.real[row], self.past + i, j),
            None => j <= self.past + i,
        }
    }

    fn real_keys(&self, row: usize, cache: Option<&Cache>) -> Vec<bool> {
        let cached = cache.map_or(&[][..], |cache| cache.tokens(row));
        cached.iter().chain(&self.tokens[row]).map(|token| token.real).collect()
    }
}

fn check_rows<T>(rows: Option<&Vec<Vec<T>>>, what: &str, batch: usize, tokens: usize) -> Result<()> {
    match rows {
        Some(rows) if rows.len() != batch || rows.iter().any(|row| row.len() != tokens) => {
            let width = rows.first().map_or(0, Vec::len);
            Err(Error::Input(format!("{what} of shape {}x{width}, expected {batch}x{tokens}", rows.len())))
        }
        _ => Ok(()),
    }
}

/// Position and mask of the new tokens of one sequence.
fn new_tokens(context: &Context, row: usize, q_len: usize, cache: Option<&Cache>) -> Vec<Token> {
    let mut next = cache.map_or(0, |cache| cache.next_position(row));
    let token = |t: usize| {
        let real = context.attention_mask.as_ref().is_none_or(|mask| mask[row][t]);
        next += u32::from(real);
        let position = context.positions.as_ref().map_or(next.saturating_sub(1), |rows| rows[row][t]);
        Token { position, real }
    };
    (0..q_len).map(token).collect()
}

/// Shared positions spare a table per sequence. What stands at a padded token does not matter.
fn positions(tokens: &[Vec<Token>]) -> Positions {
    let first = |row: &Vec<Token>| {
        row.iter().position(|t| t.real).and_then(|i| row[i].position.checked_sub(i as u32))
    };
    let start = tokens.iter().find_map(first).unwrap_or(0);
    let fits = |(i, token): (usize, &Token)| !token.real || token.position == start + i as u32;
    if tokens.iter().all(|row| row.iter().enumerate().all(fits)) {
        return Positions::Shared { start: start as usize, len: tokens[0].len() };
    }
    Positions::PerRow(tokens.iter().map(|row| row.iter().map(|t| t.position).collect()).collect())
}

fn padding_before_a_real_query(real: &[bool], past: usize) -> bool {
    let last_query = real[past..].iter().rposition(|&r| r).map(|i| past + i);
    let first_gap = real.iter().position(|&r| !r);
    matches!((first_gap, last_query), (Some(gap), Some(query)) if gap < query)
}

/// Causal, real keys only; a query without any real key before it is itself padding and sees itself.
fn visible(real: &[bool], query: usize, key: usize) -> bool {
    key <= query && (real[key] || (key == query && !real[..query].contains(&true)))
}

fn additive_mask(real: &[Vec<bool>], past: usize, q_len: usize, device: &Device) -> Result<Tensor> {
    let kv_len = past + q_len;
    let mut mask = Vec::with_capacity(real.len() * q_len * kv_len);
    for row in real {
        for query in past..kv_len {
            mask.extend((0..kv_len).map(|key| if visible(row, query, key) { 0.0 } else { MASKED }));
        }
    }
    Ok(Tensor::from_vec(mask, (real.len(), q_len, kv_len), device)?)
}
