//! Scaled dot-product attention with the masks that the models need (Vaswani et al. 2017).
//!
//! The fused path never holds all probabilities: panels of query rows are scored, normalised and applied to the values in
//! one thread's cache, and the backward pass computes them again (Dao et al. 2022, without the online softmax: a
//! panel keeps its whole rows). A row of the result depends on its own query, keys and values alone, bit for bit.

mod backward;
pub(super) mod blocks;
mod element;
mod forward;
mod problem;
mod rows;
mod scratch;
mod single;
mod tiled;

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, DType, Layout, Result, Shape, Tensor, bail};
use half::bf16;

use self::element::{Element, elements};
use self::problem::{Arguments, Heads, Problem, Sizes};
use super::activation::softmax_reference;
use super::support::{cpu_elements, output, tensor};
use crate::Precision;

/// Which keys a query may see.
#[derive(Debug, Clone, Copy)]
pub enum Mask<'a> {
    /// All of them.
    None,
    /// Key `j` when `j <= i + offset`; `offset` is the number of cached keys.
    Causal {
        /// Keys before the first query.
        offset: usize,
    },
    /// Added to the scores: `(m, q_len, kv_len)`, batch row `b` uses `b % m` (m = windows of an image, batch, or 1).
    Additive(&'a Tensor),
}

/// `softmax(scale · q kᵀ + bias + mask) v`.
///
/// `q (batch, q_len, heads, dim)`, `k (batch, kv_len, kv_heads, dim)`, `v (batch, kv_len, kv_heads, v_dim)`,
/// `bias (heads, q_len, kv_len)`; `kv_heads` divides `heads`. The result is `(batch, q_len, heads, v_dim)`.
/// Differentiable in `q`, `k`, `v` and `bias`. A row that no key is visible to must not occur.
///
/// Views of a fused projection (whose last dimension is dense) are read in place.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: Option<&Tensor>,
    mask: Mask,
    scale: f64,
) -> Result<Tensor> {
    let sizes = Sizes::new(q, k, v, bias, &mask)?;
    if !q.device().is_cpu() {
        return attention_reference(q, k, v, bias, mask, scale);
    }
    let (q, k, v) = (dense_rows(q)?, dense_rows(k)?, dense_rows(v)?);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let mask = OwnedMask::new(mask)?;
    let gradients = Arc::default();
    let no_bias = Tensor::zeros(1, DType::F32, q.device())?;
    let link = KeyLink { gradients: Arc::clone(&gradients) };
    let linked = k.apply_op3(&v, bias.as_ref().unwrap_or(&no_bias), link)?;
    let arguments = Arguments {
        sizes,
        k: k.detach(),
        v: v.detach(),
        bias: bias.map(|bias| bias.detach()),
        mask,
        scale: scale as f32,
    };
    q.apply_op2(&linked, Attention { arguments, gradients })
}

/// [`attention`] without a bias at that precision: in `bf16`, queries, keys, values and probabilities are rounded for their
/// products, unless gradients are wanted. Keys and values may be stored as `bf16`, and queries with them.
///
/// A single query is computed in `f32` always: reading its keys is all the work, and laying them out would double it. Whoever
/// reads a prompt in parts gets the same bits as from the whole when no part is a single token (or the prompt is).
pub fn attention_in(
    precision: Precision,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Mask,
    scale: f64,
) -> Result<Tensor> {
    let (batch, q_len, _, _) = q.dims4()?;
    let tracked = [q, k, v].into_iter().any(Tensor::track_op);
    #[cfg(feature = "cuda")]
    if q.device().is_cuda()
        && precision != Precision::F32
        && !tracked
        && let Some(y) = on_cuda(q, k, v, mask, scale)?
    {
        return Ok(y);
    }
    let sees_all = match mask {
        Mask::None => true,
        Mask::Causal { offset } => offset + 1 >= k.dim(1)?,
        Mask::Additive(_) => false,
    };
    if q_len == 1 && sees_all && !tracked && q.device().is_cpu() && is_single(q, k)? {
        let sizes = Sizes::new(q, k, v, None, &Mask::None)?;
        return match k.dtype() {
            DType::BF16 => single_in::<bf16>(q, &vec![(k, v, sizes); batch], false, scale),
            _ => single_in::<f32>(q, &vec![(k, v, sizes); batch], false, scale),
        };
    }
    if precision == Precision::F32 || q_len == 1 || tracked || !q.device().is_cpu() {
        let [q, k, v] = [q, k, v].map(|x| x.to_dtype(DType::F32));
        return attention(&q?, &k?, &v?, None, mask, scale);
    }
    let sizes = Sizes::new(q, k, v, None, &mask)?;
    let (q, k, v) = (dense_rows(q)?, dense_rows(k)?, dense_rows(v)?);
    let dtypes = (q.dtype(), k.dtype());
    let arguments = Arguments { sizes, k, v, bias: None, mask: OwnedMask::new(mask)?, scale: scale as f32 };
    let result = match dtypes {
        (DType::BF16, DType::BF16) => tiled_in::<bf16, bf16>(&arguments, &q)?,
        (_, DType::BF16) => tiled_in::<f32, bf16>(&arguments, &q)?,
        _ => tiled_in::<f32, f32>(&arguments, &q)?,
    };
    tensor(result, (sizes.batch, sizes.q_len, sizes.heads, sizes.v_dim), &q)
}

/// [`attention_in`] by a kernel, if there is one.
#[cfg(feature = "cuda")]
fn on_cuda(q: &Tensor, k: &Tensor, v: &Tensor, mask: Mask, scale: f64) -> Result<Option<Tensor>> {
    Sizes::new(q, k, v, None, &mask)?;
    let offset = match mask {
        Mask::None => None,
        Mask::Causal { offset } => Some(offset),
        Mask::Additive(_) => return Ok(None),
    };
    crate::cuda::launch_attention(q, k, v, offset, scale as f32)
}

/// [`attention_in`] of absorbed latent attention (DeepSeek-V2): `q (batch, q_len, heads, rank + rope)` to one key
/// `joined (batch, kv_len, 1, rank + rope)` a token, whose first `rank` elements are its value too:
/// `(batch, q_len, heads, rank)`.
pub fn latent_attention(
    precision: Precision,
    q: &Tensor,
    joined: &Tensor,
    rank: usize,
    mask: Mask,
    scale: f64,
) -> Result<Tensor> {
    let values = joined.narrow(D::Minus1, 0, rank)?;
    #[cfg(feature = "cuda")]
    if q.device().is_cuda() && precision != Precision::F32 && matches!(mask, Mask::None) && q.dim(1)? == 1 {
        Sizes::new(q, joined, &values, None, &mask)?;
        if crate::cuda::latent_fits(rank, q.dim(D::Minus1)? - rank) {
            let [q, joined] = [q, joined].map(|x| x.to_dtype(DType::BF16));
            return crate::cuda::latent_decode(&q?, &joined?, rank, scale as f32);
        }
    }
    attention_in(precision, q, joined, &values, mask, scale)
}

fn tiled_in<Q: Element, K: Element>(arguments: &Arguments, q: &Tensor) -> Result<Vec<f32>> {
    let (storage, layout) = q.storage_and_layout();
    arguments.with(elements::<Q>(&storage)?, layout, tiled::forward::<Q, K>)
}

/// One query for each of many key sets, as when sequences of different lengths decode together.
///
/// `q (rows, 1, heads, dim)`; row `i` sees all of `keys[i] = (k, v)`, `k (1, kv_len, kv_heads, dim)`,
/// `v (1, kv_len, kv_heads, v_dim)`, all in `f32` or all in `bf16`. Row `i` of the result `(rows, 1, heads, v_dim)` is
/// [`attention_in`] of that row alone, bit for bit. Not differentiable.
pub fn attention_each(q: &Tensor, keys: &[(Tensor, Tensor)], scale: f64) -> Result<Tensor> {
    let (rows, q_len, heads, _) = q.dims4()?;
    if rows != keys.len() || q_len != 1 {
        bail!("attention_each: q {:?} for {} key sets", q.shape(), keys.len());
    }
    let sizes = |row: usize| Sizes::new(&q.narrow(0, row, 1)?, &keys[row].0, &keys[row].1, None, &Mask::None);
    let sizes = (0..rows).map(sizes).collect::<Result<Vec<_>>>()?;
    let unlike = |s: &Sizes| (s.kv_heads, s.v_dim) != (sizes[0].kv_heads, sizes[0].v_dim);
    if sizes.iter().any(unlike) || keys.iter().any(|(k, _)| k.dtype() != keys[0].0.dtype()) {
        bail!("attention_each: the key sets differ in more than their length");
    }
    let Some((first, _)) = keys.first() else {
        return Tensor::zeros((0, 1, heads, 0), DType::F32, q.device());
    };
    if !q.device().is_cpu() {
        // What is kept in `bf16` belongs to a model that rounds.
        let precision = if first.dtype() == DType::BF16 { Precision::Bf16 } else { Precision::F32 };
        let row = |(row, (k, v)): (usize, &(Tensor, Tensor))| {
            attention_in(precision, &q.narrow(0, row, 1)?, k, v, Mask::None, scale)
        };
        return Tensor::cat(&keys.iter().enumerate().map(row).collect::<Result<Vec<_>>>()?, 0);
    }
    if is_single(q, first)? {
        let keys: Vec<_> = keys.iter().zip(sizes).map(|((k, v), sizes)| (k, v, sizes)).collect();
        return match first.dtype() {
            DType::BF16 => single_in::<bf16>(q, &keys, true, scale),
            _ => single_in::<f32>(q, &keys, true, scale),
        };
    }
    let q = dense_rows(q)?;
    let dense = |x: &Tensor| dense_rows(&x.to_dtype(DType::F32)?);
    let keys = keys.iter().map(|(k, v)| Ok((dense(k)?, dense(v)?))).collect::<Result<Vec<_>>>()?;
    let (q_storage, q_layout) = q.storage_and_layout();
    let locked: Vec<_> = keys.iter().map(|(k, v)| (k.storage_and_layout(), v.storage_and_layout())).collect();
    let mut problems: Vec<Problem> = Vec::with_capacity(rows);
    for (((k, k_layout), (v, v_layout)), sizes) in locked.iter().zip(sizes) {
        let operands = [
            Heads::new(cpu_elements(&q_storage)?, q_layout)?,
            Heads::new(cpu_elements(k)?, k_layout)?.repeated(),
            Heads::new(cpu_elements(v)?, v_layout)?.repeated(),
        ];
        problems.push(Problem::unmasked(sizes, operands, scale as f32));
    }
    let v_dim = problems.first().map_or(0, |problem| problem.sizes.v_dim);
    tensor(forward::forward_each(&problems), (rows, 1, heads, v_dim), &q)
}

/// Whether single queries are best read as [`single`] does.
fn is_single(q: &Tensor, k: &Tensor) -> Result<bool> {
    Ok(q.dim(2)? <= single::MAX_GROUP * k.dim(2)?)
}

/// Row `i` of `q (rows, 1, heads, dim)` sees all of `keys[i]`, the row `i` of them or, where they are its `own`, the only one.
fn single_in<T: Element>(
    q: &Tensor,
    keys: &[(&Tensor, &Tensor, Sizes)],
    own: bool,
    scale: f64,
) -> Result<Tensor> {
    let (rows, _, heads, _) = q.dims4()?;
    let q = dense_rows(q)?;
    let dense = |&(k, v, sizes): &(&Tensor, &Tensor, Sizes)| Ok((dense_rows(k)?, dense_rows(v)?, sizes));
    let keys = keys.iter().map(dense).collect::<Result<Vec<_>>>()?;
    let (q_storage, q_layout) = q.storage_and_layout();
    let locked: Vec<_> =
        keys.iter().map(|(k, v, sizes)| (k.storage_and_layout(), v.storage_and_layout(), *sizes)).collect();
    let mut queries = Vec::with_capacity(rows);
    for (row, ((k, k_layout), (v, v_layout), sizes)) in locked.iter().enumerate() {
        let k = Heads::new(elements::<T>(k)?, k_layout)?;
        let v = Heads::new(elements::<T>(v)?, v_layout)?;
        let (k, v) = if own { (k.repeated(), v.repeated()) } else { (k, v) };
        let q = Heads::new(cpu_elements(&q_storage)?, q_layout)?;
        queries.push(single::Query { sizes: *sizes, row, q, k, v, scale: scale as f32 });
    }
    let v_dim = locked.first().map_or(0, |(_, _, sizes)| sizes.v_dim);
    tensor(single::forward(&queries), (rows, 1, heads, v_dim), &q)
}

/// [`attention_each`] of candle primitives.
pub fn attention_each_reference(q: &Tensor, keys: &[(Tensor, Tensor)], scale: f64) -> Result<Tensor> {
    let row = |(row, (k, v)): (usize, &(Tensor, Tensor))| {
        attention_reference(&q.narrow(0, row, 1)?, k, v, None, Mask::None, scale)
    };
    let rows = keys.iter().enumerate().map(row).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&rows, 0)
}

/// [`attention`] of candle primitives.
pub fn attention_reference(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: Option<&Tensor>,
    mask: Mask,
    scale: f64,
) -> Result<Tensor> {
    let probabilities = attention_probabilities(q, k, bias, mask, scale)?;
    let v = repeat_heads(v, q.dim(2)?)?.transpose(1, 2)?.contiguous()?;
    probabilities.matmul(&v)?.transpose(1, 2)?.contiguous()
}

/// The softmax itself, `(batch, heads, q_len, kv_len)`, for evidence and for tests. Differentiable.
pub fn attention_probabilities(
    q: &Tensor,
    k: &Tensor,
    bias: Option<&Tensor>,
    mask: Mask,
    scale: f64,
) -> Result<Tensor> {
    let k = repeat_heads(k, q.dim(2)?)?.transpose(1, 2)?.contiguous()?;
    let q = (q.transpose(1, 2)?.contiguous()? * scale)?;
    let mut scores = q.matmul(&k.transpose(D::Minus1, D::Minus2)?.contiguous()?)?;
    if let Some(bias) = bias {
        scores = scores.broadcast_add(&bias.unsqueeze(0)?)?;
    }
    let (batch, heads, q_len, kv_len) = scores.dims4()?;
    match mask {
        Mask::None => {}
        Mask::Causal { offset } => {
            let hidden =
                |i: usize| (0..kv_len).map(move |j| if j > i + offset { f32::NEG_INFINITY } else { 0.0 });
            let mask: Vec<f32> = (0..q_len).flat_map(hidden).collect();
            let mask = Tensor::from_vec(mask, (q_len, kv_len), q.device())?.to_dtype(scores.dtype())?;
            scores = scores.broadcast_add(&mask)?;
        }
        Mask::Additive(mask) => {
            let rows = mask.dim(0)?;
            let mask = mask.to_dtype(scores.dtype())?.reshape((1, rows, 1, q_len, kv_len))?;
            scores = scores.reshape((batch / rows, rows, heads, q_len, kv_len))?.broadcast_add(&mask)?;
            scores = scores.reshape((batch, heads, q_len, kv_len))?;
        }
    }
    softmax_reference(&scores)
}

fn repeat_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, t, kv_heads, d) = x.dims4()?;
    if kv_heads == heads {
        return Ok(x.clone());
    }
    x.unsqueeze(3)?.expand((b, t, kv_heads, heads / kv_heads, d))?.reshape((b, t, heads, d))
}

/// `x` itself when its last dimension is dense, else a copy.
fn dense_rows(x: &Tensor) -> Result<Tensor> {
    if x.dim(D::Minus1)? == 1 || x.stride().last() == Some(&1) { Ok(x.clone()) } else { x.contiguous() }
}

/// [`Mask`], kept for the backward pass.
enum OwnedMask {
    None,
    Causal { offset: usize },
    Additive(Tensor),
}

impl OwnedMask {
    fn new(mask: Mask) -> Result<Self> {
        Ok(match mask {
            Mask::None => Self::None,
            Mask::Causal { offset } => Self::Causal { offset },
            Mask::Additive(mask) => Self::Additive(mask.detach().to_dtype(DType::F32)?.contiguous()?),
        })
    }
}

/// Gradients of `k`, `v` and the bias on their way from [`Attention`] to [`KeyLink`].
type Handover = Arc<Mutex<Option<(Tensor, Tensor, Option<Tensor>)>>>;

/// The operation proper. Candle's operations take three arguments at most and this one has four, so `k`, `v` and the
/// bias are arguments of a [`KeyLink`], whose (empty) result is the second argument here: the graph then visits the link
/// after this operation, and the link returns the gradients that this operation left in `gradients`.
struct Attention {
    arguments: Arguments,
    gradients: Handover,
}

impl CustomOp2 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let Sizes { batch, q_len, heads, v_dim, .. } = self.arguments.sizes;
        let result = self.arguments.with(q.as_slice()?, layout, forward::forward)?;
        Ok(output(result, (batch, q_len, heads, v_dim)))
    }

    fn bwd(
        &self,
        q: &Tensor,
        link: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dq, dk, dv, bias] = self.arguments.gradients(q, grad)?;
        if link.track_op() {
            let bias = self.arguments.bias.is_some().then_some(bias);
            *self.gradients.lock().unwrap_or_else(PoisonError::into_inner) = Some((dk, dv, bias));
        }
        Ok((Some(dq), Some(link.zeros_like()?)))
    }
}

/// See [`Attention`].
struct KeyLink {
    gradients: Handover,
}

impl CustomOp3 for KeyLink {
    fn name(&self) -> &'static str {
        "attention keys"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(output(vec![0.0], 1))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some((dk, dv, bias)) = self.gradients.lock().unwrap_or_else(PoisonError::into_inner).take()
        else {
            bail!("attention: two backward passes of one graph at the same time")
        };
        Ok((Some(dk), Some(dv), bias))
    }
}
