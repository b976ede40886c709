//! The attention half of a Swin block in one pass over the feature map, for constant weights in `bf16` or 8 bits:
//! `y = x + [post_norm](W_o · attention(windows of [norm](x)) + b)` (Liu et al. 2021 and 2022).
//!
//! Shift, padding and partition are the order in which rows are read and written; no window is ever laid out in memory. A task
//! takes a few windows: their rows are normalised into tiles, each head's queries, keys and values stay in the cache while its
//! windows are attended to (relative position bias, cosine scale and shift mask included), and the output projection
//! adds the residual. A window's result depends on its own rows alone, bit for bit.
//!
//! Plain reference: [`window_attention_reference`]. Error: that of rounding projections, probabilities and weights to `bf16`; with
//! weights in 8 bits also that of rounding to 8 bits what meets them, each row with a scale.
#![allow(clippy::inline_always)]

mod forward;

use candle_core::{Result, Tensor, bail};

use super::attention::{Mask, attention_reference};
use super::gather::{ZERO_ROW, gather_rows_reference};
use super::linear::linear_reference;
use super::norm::l2_normalize_reference;
use super::projection::{LockedNorm, NormParameters};
use super::support::{Elements, tensor, written};
use crate::Precision;
use crate::gemm::PackedWeight;
use crate::quant::Int8Weight;

/// Keys and queries shorter than this are divided by it instead of their length, as `torch.nn.functional.normalize` does.
pub const NORMALIZE_EPS: f64 = 1e-12;

/// How a map is cut into windows, see [`ZERO_ROW`].
#[derive(Debug, Clone, Copy)]
pub struct Windows<'a> {
    /// Row of the map of each window row, window after window; [`ZERO_ROW`] for padding.
    pub index: &'a [u32],
    /// Rows of a window.
    pub area: usize,
    /// Added to the scores, `(windows, area, area)`.
    pub mask: Option<&'a Tensor>,
}

/// A weight and its bias in the tiles of the products.
#[derive(Debug)]
enum Packed {
    Bf16(PackedWeight),
    Int8(Int8Weight, Vec<f32>),
}

impl Packed {
    /// Of `weight (out, in)` and `bias (out)`.
    fn new(weight: &Tensor, bias: Option<&Tensor>, precision: Precision) -> Result<Self> {
        if precision != Precision::Int8 {
            return Ok(Self::Bf16(super::linear::pack(weight, bias)?));
        }
        let (out, inner) = weight.dims2()?;
        let bias = bias.map_or_else(|| Ok(vec![0.0; out]), Tensor::to_vec1)?;
        Ok(Self::Int8(Int8Weight::new(&weight.flatten_all()?.to_vec1::<f32>()?, out, inner), bias))
    }

    /// `(out, in)`
    fn shape(&self) -> (usize, usize) {
        match self {
            Self::Bf16(weight) => (weight.out_features(), weight.in_features()),
            Self::Int8(weight, _) => weight.shape(),
        }
    }

    /// Memory that it takes.
    fn bytes(&self) -> usize {
        match self {
            Self::Bf16(weight) => weight.bytes(),
            Self::Int8(weight, _) => weight.bytes(),
        }
    }
}

/// The projections, packed head by head (see [`WindowWeights::new`]).
#[derive(Debug)]
pub struct WindowWeights {
    /// Query, key and value of the first head, then of the second, and so on.
    projections: Packed,
    output: Packed,
    heads: usize,
    head_dim: usize,
    /// `head_dim` rounded up to whole blocks of 32 columns.
    padded: usize,
    /// Relative position bias, rounded up to whole blocks: see [`forward::padded_bias`].
    bias: Vec<f32>,
    area: usize,
}

/// A weight `(out, in)` and its bias `(out)`.
pub type Matrix<'a> = (&'a Tensor, Option<&'a Tensor>);

impl WindowWeights {
    /// From `query`, `key`, `value` `(heads · head_dim, dim)`, `output` `(dim, heads · head_dim)` and the relative position bias
    /// `(heads, area, area)`. Heads are padded with zeros to whole blocks of columns. The weights are kept in 8 bits if `precision`
    /// is [`Precision::Int8`], otherwise in `bf16`.
    pub fn new(
        [query, key, value]: [Matrix; 3],
        output: Matrix,
        bias: &Tensor,
        precision: Precision,
    ) -> Result<Self> {
        let ((heads, area, _), (width, _)) = (bias.dims3()?, query.0.dims2()?);
        if heads == 0 || width % heads != 0 || bias.dims() != [heads, area, area] {
            bail!("window_attention: {width} columns for {heads} heads");
        }
        let head_dim = width / heads;
        let padded = head_dim.next_multiple_of(32);
        let pad = padded - head_dim;
        let (_, dim) = query.0.dims2()?;
        let weights = [query, key, value]
            .map(|(weight, _)| weight.reshape((heads, head_dim, dim))?.pad_with_zeros(1, 0, pad));
        let biases = [query, key, value].map(|(_, bias)| match bias {
            Some(bias) => bias.reshape((heads, head_dim))?.pad_with_zeros(1, 0, pad),
            None => Tensor::zeros((heads, padded), query.0.dtype(), query.0.device()),
        });
        let joined =
            |parts: [Result<Tensor>; 3]| Tensor::cat(&parts.into_iter().collect::<Result<Vec<_>>>()?, 1);
        let weight = joined(weights)?.reshape((heads * 3 * padded, dim))?;
        let projections = Packed::new(&weight, Some(&joined(biases)?.flatten_all()?), precision)?;
        let (dim, _) = output.0.dims2()?;
        let columns = output.0.reshape((dim, heads, head_dim))?.pad_with_zeros(2, 0, pad)?;
        let columns = columns.reshape((dim, heads * padded))?;
        Ok(Self {
            projections,
            output: Packed::new(&columns, output.1, precision)?,
            heads,
            head_dim,
            padded,
            bias: forward::padded_bias(&Elements::of(&bias.contiguous()?)?, heads, area),
            area,
        })
    }
}

/// `x (batch, tokens, dim)` to the same shape. Not differentiable.
///
/// Swin v2: with a `cosine_scale`, one a head, cosines are multiplied by it; otherwise dot products by `1 / √head_dim`.
pub fn window_attention(
    x: &Tensor,
    (norm, post_norm): (Option<NormParameters>, Option<NormParameters>),
    weights: &WindowWeights,
    windows: Windows,
    cosine_scale: Option<&[f32]>,
) -> Result<Tensor> {
    let (batch, tokens, dim) = x.dims3()?;
    let (area, heads) = (windows.area, weights.heads);
    let count = windows.index.len() / area.max(1);
    let mask_dims = windows.mask.map(Tensor::dims);
    if dim != weights.projections.shape().1
        || windows.index.len() != count * area
        || windows.index.iter().any(|&i| i != ZERO_ROW && i as usize >= tokens)
        || weights.area != area
        || cosine_scale.is_some_and(|scale| scale.len() != heads)
        || mask_dims.is_some_and(|mask| mask != [count, area, area])
    {
        bail!(
            "window_attention: x {:?}, {count} windows of {area} and mask {mask_dims:?} do not fit {heads} heads on windows of {}",
            x.dims(),
            weights.area,
        );
    }
    let x = x.contiguous()?;
    let mask = windows.mask.map(Tensor::contiguous).transpose()?;
    let norm = norm.as_ref().map(|norm| LockedNorm::of(norm, dim)).transpose()?;
    let post_norm = post_norm.as_ref().map(|norm| LockedNorm::of(norm, dim)).transpose()?;
    let elements = Elements::of(&x)?;
    let mask = mask.as_ref().map(Elements::of).transpose()?;
    // Rows that no window holds would stay unwritten.
    let mut held = vec![false; tokens];
    windows.index.iter().filter(|&&i| i != ZERO_ROW).for_each(|&i| held[i as usize] = true);
    if held.contains(&false) {
        bail!("window_attention: the windows leave out some of {tokens} rows");
    }
    let problem = forward::Problem {
        x: &elements,
        batch,
        tokens,
        dim,
        norm: norm.as_ref().map(LockedNorm::rows),
        post_norm: post_norm.as_ref().map(LockedNorm::rows),
        weights,
        index: windows.index,
        area,
        mask: mask.as_deref(),
        cosine_scale,
    };
    // SAFETY: the windows hold every row, as was checked.
    let y = unsafe { written(batch * tokens * dim, |out| problem.run(out)) };
    tensor(y, x.shape(), &x)
}

/// How a feature map of tokens is cut; all pairs are `(rows, columns)`.
#[derive(Debug, Clone, Copy)]
pub struct MapWindows {
    /// Of the map.
    pub map: (usize, usize),
    /// Of a window.
    pub window: (usize, usize),
    /// Of the cyclic shift.
    pub shift: (usize, usize),
    /// Whether real tokens are rolled before the map is padded to whole windows (timm), or padding with them (transformers).
    pub roll_first: bool,
    /// Added to the score of tokens that only the shift brought together.
    pub hidden: f32,
}

/// Attention inside the windows of a map whose tokens are already projected, where a GPU has a kernel for it; else `None`.
///
/// `qkv (batch, tokens, 3, heads, head_dim)`; `pad (3 · heads · head_dim)`, what padding is projected to;
/// `table ((2 rows − 1)(2 columns − 1), heads)`, the relative position bias; `cosine_scale (heads)` as in [`window_attention`].
/// The result is `(batch, tokens, heads · head_dim)`; products are those of operands rounded to `bf16`.
pub fn map_attention(
    qkv: &Tensor,
    pad: &Tensor,
    table: &Tensor,
    cosine_scale: Option<&Tensor>,
    windows: &MapWindows,
) -> Result<Option<Tensor>> {
    #[cfg(feature = "cuda")]
    if qkv.device().is_cuda() && qkv.dim(4)? <= 64 && qkv.dim(4)?.is_multiple_of(2) {
        let pair = |(rows, columns): (usize, usize)| [rows as i32, columns as i32];
        let map = crate::cuda::Map {
            size: pair(windows.map),
            window: pair(windows.window),
            shift: pair(windows.shift),
            roll_first: i32::from(windows.roll_first),
            hidden: windows.hidden,
        };
        return crate::cuda::window_attention(qkv, pad, table, cosine_scale, map).map(Some);
    }
    let _ = (qkv, pad, table, cosine_scale, windows);
    Ok(None)
}

/// [`window_attention`] of candle primitives in `f32`, with the projections as they are stored.
pub fn window_attention_reference(
    x: &Tensor,
    (norm, post_norm): (Option<NormParameters>, Option<NormParameters>),
    ([query, key, value], output, bias): ([Matrix; 3], Matrix, &Tensor),
    windows: Windows,
    cosine_scale: Option<&[f32]>,
) -> Result<Tensor> {
    let ((batch, tokens, dim), heads) = (x.dims3()?, bias.dim(0)?);
    let count = windows.index.len() / windows.area;
    let width = query.0.dim(0)?;
    let normed = norm.map_or_else(|| Ok(x.clone()), |norm| norm.reference(x))?;
    let rows = gather_rows_reference(&normed, windows.index)?.reshape((batch * count, windows.area, dim))?;
    let split = |(weight, bias): Matrix| {
        linear_reference(&rows, weight, bias)?.reshape((batch * count, windows.area, heads, width / heads))
    };
    let (mut q, mut k, v) = (split(query)?, split(key)?, split(value)?);
    let mut scale = ((width / heads) as f64).powf(-0.5);
    if let Some(cosine) = cosine_scale {
        let cosine = Tensor::from_slice(cosine, (heads, 1), x.device())?.to_dtype(x.dtype())?;
        q = l2_normalize_reference(&q, NORMALIZE_EPS)?.broadcast_mul(&cosine)?;
        k = l2_normalize_reference(&k, NORMALIZE_EPS)?;
        scale = 1.0;
    }
    let mask = windows.mask.map_or(Mask::None, Mask::Additive);
    let mixed = attention_reference(&q, &k, &v, Some(bias), mask, scale)?;
    let mixed = mixed.reshape((batch, count * windows.area, width))?;
    let mut inverse = vec![ZERO_ROW; tokens];
    for (place, &token) in windows.index.iter().enumerate().filter(|&(_, &token)| token != ZERO_ROW) {
        inverse[token as usize] = place as u32;
    }
    let y = linear_reference(&gather_rows_reference(&mixed, &inverse)?, output.0, output.1)?;
    x + post_norm.map_or_else(|| Ok(y.clone()), |norm| norm.reference(&y))?
}
