//! Rotary position embedding (Su et al. 2021), applied to both pair layouts in use.
#![allow(clippy::inline_always)]

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor, bail};
use half::bf16;

use super::round::round_to_bf16;
use super::support::{
    Elements, Lanes, Out, cpu_elements, elements, for_chunks, output, rows_per_chunk, tensor, written,
};
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Which elements of a head form a rotated pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeLayout {
    /// `(x_i, x_{i + d/2})`: llama, DeepSeekMoE, the V3.2 indexer.
    HalfSplit,
    /// `(x_2i, x_{2i+1})`: DeepSeek MLA.
    Interleaved,
}

/// Rotates `x (batch, tokens, heads, dim)` by `cos`, `sin` `(batch or 1, tokens, dim / 2)`. Differentiable in all three.
///
/// A view of `x` whose last dimension is dense is read in place.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor, layout: RopeLayout) -> Result<Tensor> {
    check(x, cos, sin)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() && x.dtype() == DType::F32 && !x.track_op() {
        let x = if x.stride()[3] == 1 { x.clone() } else { x.contiguous()? };
        return crate::cuda::launch_rope(&x, cos, sin, layout);
    }
    let x = if x.stride()[3] == 1 { x.clone() } else { x.contiguous()? };
    x.apply_op3(&cos.contiguous()?, &sin.contiguous()?, Rope { layout })
}

/// Whether angles fit what they rotate.
fn check(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<()> {
    let (batch, tokens, _, dim) = x.dims4()?;
    let (angle_batch, angle_tokens, angles) = cos.dims3()?;
    let fits = (angle_batch == batch || angle_batch == 1) && angle_tokens == tokens && angles * 2 == dim;
    if !fits || sin.shape() != cos.shape() {
        bail!("rope: x {:?}, cos {:?}, sin {:?} do not fit together", x.shape(), cos.shape(), sin.shape());
    }
    Ok(())
}

/// `factor ·` [`rope`] rounded to `bf16`, contiguous: what products and caches take. Pairs are `layout`'s. Not differentiable.
pub fn rope_rounded(
    x: &Tensor,
    (cos, sin): (&Tensor, &Tensor),
    layout: RopeLayout,
    factor: f64,
) -> Result<Tensor> {
    if x.track_op() || !x.device().is_cpu() || x.dtype() != DType::F32 {
        return round_to_bf16(&(rope(x, cos, sin, layout)? * factor)?);
    }
    check(x, cos, sin)?;
    let (batch, tokens, heads, dim) = x.dims4()?;
    if x.elem_count() == 0 {
        return x.to_dtype(DType::BF16);
    }
    let x = if x.stride()[3] == 1 { x.clone() } else { x.contiguous()? };
    let (cos, sin) = (cos.contiguous()?, sin.contiguous()?);
    let (storage, x_layout) = x.storage_and_layout();
    let (from, cos, sin) = (cpu_elements(&storage)?, Elements::of(&cos)?, Elements::of(&sin)?);
    let turn = Turn { layout, sign: 1.0, factor: factor as f32 };
    let len = x.elem_count();
    let mut rotated: Vec<bf16> = Vec::with_capacity(len);
    let to = Rounded(rotated.as_mut_ptr().cast());
    for_chunks(batch * tokens, rows_per_chunk(heads * dim), len * 4, |_, tokens| {
        dispatch(Rotate { turn, x: from, layout: x_layout, cos: &cos, sin: &sin, to, tokens });
    });
    // SAFETY: all tokens and heads are all of the result.
    unsafe { rotated.set_len(len) };
    Tensor::from_vec(rotated, x.shape(), x.device())
}

/// Where rounded elements go.
#[derive(Clone, Copy)]
struct Rounded(*mut u16);

// SAFETY: tasks write disjoint tokens.
unsafe impl Send for Rounded {}
// SAFETY: as above.
unsafe impl Sync for Rounded {}

impl Target for Rounded {
    #[inline(always)]
    unsafe fn store<S: Simd>(self, s: S, at: usize, x: S::V, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { s.store_bf16(self.0.wrapping_add(at), x, n.min(LANES)) };
    }
}

/// [`rope`] of candle primitives.
pub fn rope_reference(x: &Tensor, cos: &Tensor, sin: &Tensor, layout: RopeLayout) -> Result<Tensor> {
    let (b, t, h, d) = x.dims4()?;
    let (cos, sin) = (cos.unsqueeze(2)?, sin.unsqueeze(2)?);
    let (first, second) = pairs(x, layout)?;
    let rotated_first = (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?;
    let rotated_second = (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?;
    match layout {
        RopeLayout::HalfSplit => Tensor::cat(&[rotated_first, rotated_second], D::Minus1),
        RopeLayout::Interleaved => {
            Tensor::stack(&[rotated_first, rotated_second], D::Minus1)?.reshape((b, t, h, d))
        }
    }
}

/// The first and the second elements of all pairs, `(batch, tokens, heads, dim / 2)` each.
fn pairs(x: &Tensor, layout: RopeLayout) -> Result<(Tensor, Tensor)> {
    let (b, t, h, d) = x.dims4()?;
    match layout {
        RopeLayout::HalfSplit => Ok((x.narrow(3, 0, d / 2)?, x.narrow(3, d / 2, d / 2)?)),
        RopeLayout::Interleaved => {
            let pairs = x.reshape((b, t, h, d / 2, 2))?;
            Ok((pairs.narrow(4, 0, 1)?.squeeze(4)?, pairs.narrow(4, 1, 1)?.squeeze(4)?))
        }
    }
}

struct Rope {
    layout: RopeLayout,
}

/// `(first, second, cos, sin)` to the rotated pair; `sign` turns the rotation.
struct RotateHalves {
    sign: f32,
}

impl Lanes<4, 2> for RotateHalves {
    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, [first, second, cos, sin]: [S::V; 4]) -> [S::V; 2] {
        let sin = s.mul(sin, s.splat(self.sign));
        let rotated = s.sub(s.mul(first, cos), s.mul(second, sin));
        [rotated, s.fma(second, cos, s.mul(first, sin))]
    }
}

/// `(x, cos, sin)` with pairs side by side: cosines doubled, sines doubled and negative in even places.
struct RotatePairs;

impl Lanes<3, 1> for RotatePairs {
    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, [x, cos, sin]: [S::V; 3]) -> [S::V; 1] {
        [s.add(s.mul(x, cos), s.mul(s.swap_pairs(x), sin))]
    }
}

/// How pairs are turned.
#[derive(Clone, Copy)]
struct Turn {
    layout: RopeLayout,
    /// 1, or −1 for the backward pass.
    sign: f32,
    /// What results are multiplied by.
    factor: f32,
}

/// Where results go.
trait Target: Copy {
    /// The first `min(n, 16)` lanes to the elements from `at` on. `#[inline(always)]`.
    ///
    /// # Safety
    /// They are the caller's.
    unsafe fn store<S: Simd>(self, s: S, at: usize, x: S::V, n: usize);
}

impl Target for Out {
    #[inline(always)]
    unsafe fn store<S: Simd>(self, s: S, at: usize, x: S::V, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { s.store(self.part(at, n.min(LANES)), x, n) };
    }
}

/// Some tokens, all heads.
struct Rotate<'a, T> {
    turn: Turn,
    x: &'a [f32],
    layout: &'a Layout,
    cos: &'a [f32],
    sin: &'a [f32],
    to: T,
    tokens: Range<usize>,
}

impl<T: Target> Kernel for Rotate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (&[_, tokens, heads, dim], &[to_batch, to_token, to_head, _]) =
            (self.layout.dims(), self.layout.stride())
        else {
            return;
        };
        let half = dim / 2;
        let Turn { layout, sign, factor } = self.turn;
        let factor = s.splat(factor);
        let mut doubled = vec![0.0; 2 * dim];
        for token in self.tokens.clone() {
            // One row of angles serves all batch rows when it is the only one.
            let angle = token * half % self.cos.len();
            let (cos, sin) = (&self.cos[angle..angle + half], &self.sin[angle..angle + half]);
            for i in (0..half).filter(|_| layout == RopeLayout::Interleaved) {
                (doubled[2 * i], doubled[2 * i + 1]) = (cos[i], cos[i]);
                (doubled[dim + 2 * i], doubled[dim + 2 * i + 1]) = (-sign * sin[i], sign * sin[i]);
            }
            let first = self.layout.start_offset() + token / tokens * to_batch + token % tokens * to_token;
            for head in 0..heads {
                let x = self.x[first + head * to_head..][..dim].as_ptr();
                let y = (token * heads + head) * dim;
                // SAFETY: a token belongs to one task; rows of x and y have `dim` elements, those of angles `half`.
                unsafe {
                    match layout {
                        RopeLayout::HalfSplit => {
                            let inputs = [x, x.add(half), cos.as_ptr(), sin.as_ptr()];
                            for at in (0..half).step_by(LANES) {
                                let lanes = load_all(s, inputs, at, half - at);
                                let [low, high] = RotateHalves { sign }.apply(s, lanes);
                                self.to.store(s, y + at, s.mul(low, factor), half - at);
                                self.to.store(s, y + half + at, s.mul(high, factor), half - at);
                            }
                        }
                        RopeLayout::Interleaved => {
                            let inputs = [x, doubled.as_ptr(), doubled.as_ptr().add(dim)];
                            for at in (0..dim).step_by(LANES) {
                                let [turned] = RotatePairs.apply(s, load_all(s, inputs, at, dim - at));
                                self.to.store(s, y + at, s.mul(turned, factor), dim - at);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Up to sixteen elements of each row from `at` on.
///
/// # Safety
/// As [`Simd::load`] says.
#[inline(always)]
unsafe fn load_all<S: Simd, const N: usize>(s: S, rows: [*const f32; N], at: usize, n: usize) -> [S::V; N] {
    let mut lanes = [s.splat(0.0); N];
    for (lanes, row) in lanes.iter_mut().zip(rows) {
        // SAFETY: the caller's promise.
        *lanes = unsafe { s.load(row.add(at), n) };
    }
    lanes
}

impl Rope {
    fn rotate(&self, x: &[f32], layout: &Layout, cos: &[f32], sin: &[f32], sign: f32) -> Result<Vec<f32>> {
        let (batch, tokens, heads, dim) = layout.shape().dims4()?;
        let len = layout.shape().elem_count();
        if len == 0 {
            return Ok(Vec::new());
        }
        let turn = Turn { layout: self.layout, sign, factor: 1.0 };
        let fill = |y: Out| {
            for_chunks(batch * tokens, rows_per_chunk(heads * dim), len * 4, |_, tokens| {
                dispatch(Rotate { turn, x, layout, cos, sin, to: y, tokens });
            });
        };
        // SAFETY: all tokens and heads are all of the output.
        Ok(unsafe { written(len, fill) })
    }

    /// Gradients of `cos` and `sin`, for angles that are learnt: `Σ (g₁ x₁ + g₂ x₂)` and `Σ (g₂ x₁ − g₁ x₂)`.
    fn angle_gradients(&self, x: &Tensor, grad: &Tensor, shared: bool) -> Result<(Tensor, Tensor)> {
        let ((x1, x2), (g1, g2)) = (pairs(x, self.layout)?, pairs(grad, self.layout)?);
        let total = |terms: Tensor| {
            let per_token = terms.sum(2)?;
            if shared { per_token.sum_keepdim(0) } else { Ok(per_token) }
        };
        Ok((total(((&g1 * &x1)? + (&g2 * &x2)?)?)?, total(((&g2 * &x1)? - (&g1 * &x2)?)?)?))
    }
}

impl CustomOp3 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        cos: &CpuStorage,
        l_cos: &Layout,
        sin: &CpuStorage,
        l_sin: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = self.rotate(x.as_slice()?, layout, elements(cos, l_cos)?, elements(sin, l_sin)?, 1.0)?;
        Ok(output(y, layout.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        cos: &Tensor,
        sin: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (storage, layout) = grad.storage_and_layout();
        let dx =
            self.rotate(cpu_elements(&storage)?, layout, &Elements::of(cos)?, &Elements::of(sin)?, -1.0)?;
        drop(storage);
        let dx = tensor(dx, x.shape(), x)?;
        if !cos.track_op() && !sin.track_op() {
            return Ok((Some(dx), None, None));
        }
        let (d_cos, d_sin) = self.angle_gradients(&x.detach(), &grad, cos.dim(0)? != x.dim(0)?)?;
        Ok((Some(dx), Some(d_cos), Some(d_sin)))
    }
}
