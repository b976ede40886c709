//! Products with a quantised weight and what surrounds them in one pass, `y = [residual +] activation(norm(x) Wᵀ + b)`, for
//! inference: not differentiable.
//!
//! | weight | activations | sums |
//! |---|---|---|
//! | [`Int8Weight`]: 8 bits, a scale each output | 8 bits, a scale each row | exact integers |
//! | [`Int4Weight`]: 4 bits, a scale each 32 inputs | 8 bits, a scale each row | exact integers of 32, added in `f32` |
//!
//! Rows are normalised and quantised straight into the tiles of the product. A row of the result depends on its own row of
//! `x` alone, bit for bit; without a norm and an activation it is the same on every machine.
//!
//! Plain reference: [`quant_projection_reference`]. Error: that of rounding the normalised rows to 8 bits.
#![allow(clippy::inline_always)]

use std::ops::Range;

use candle_core::{Device, Result, Tensor, bail};

use super::activation::Activation;
use super::projection::{LockedNorm, NormParameters, Schedule, Source, Store, projection_reference};
use super::support::{Elements, Out, tensor, written};
use crate::gemm::quantized::{self, Finish, Path, Place, QuantizedRows, Row, RowSource, Weight};
use crate::gemm::{self, Epilogue};
use crate::quant::{Int4Weight, Int8Weight};
use crate::simd::{LANES, Simd};

/// A weight `(out, in)` in few bits.
#[derive(Debug, Clone, Copy)]
pub enum QuantWeight<'a> {
    /// 8 bits.
    Int8(&'a Int8Weight),
    /// 4 bits.
    Int4(&'a Int4Weight),
}

impl QuantWeight<'_> {
    /// `(out, in)`
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Int8(weight) => weight.shape(),
            Self::Int4(weight) => weight.shape(),
        }
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Int8(weight) => weight.bytes(),
            Self::Int4(weight) => weight.bytes(),
        }
    }

    /// The values `(out, in)`.
    pub fn dequantize(&self) -> Result<Tensor> {
        let values = match self {
            Self::Int8(weight) => weight.dequantize(),
            Self::Int4(weight) => weight.dequantize(),
        };
        Tensor::from_vec(values, self.shape(), &Device::Cpu)
    }

    /// Whether products with it need the sums of groups of activations.
    pub(super) fn needs_sums(&self) -> bool {
        matches!(self, Self::Int4(_))
    }

    /// Blocks of 32 columns.
    pub(super) fn pairs(&self) -> usize {
        self.shape().0.div_ceil(COLUMNS)
    }

    /// The columns of `pairs`, some rows at a time, for `then`, which must not wait for other threads.
    pub(super) fn columns(
        &self,
        x: &QuantizedRows,
        pairs: Range<usize>,
        bias: Option<&[f32]>,
        then: impl Finish,
    ) {
        match self {
            Self::Int8(weight) => weight.columns(Path::best(), x, pairs, bias, then),
            Self::Int4(weight) => weight.columns(Path::best(), x, pairs, bias, then),
        }
    }
}

impl<'a> From<&'a Int8Weight> for QuantWeight<'a> {
    fn from(weight: &'a Int8Weight) -> Self {
        Self::Int8(weight)
    }
}

impl<'a> From<&'a Int4Weight> for QuantWeight<'a> {
    fn from(weight: &'a Int4Weight) -> Self {
        Self::Int4(weight)
    }
}

/// Columns of a block.
pub(super) const COLUMNS: usize = 32;

/// Rows of a source from `first` on.
struct Rows<'a> {
    source: &'a Source<'a>,
    first: usize,
}

impl Source<'_> {
    /// Rows `rows` as activations in 8 bits for products with `weight`, on the threads of the current pool if `split`.
    pub(super) fn quantized(&self, rows: Range<usize>, split: bool, weight: QuantWeight) -> QuantizedRows {
        let source = Rows { source: self, first: rows.start };
        QuantizedRows::build(rows.len(), self.dim, (split, weight.needs_sums()), &source)
    }
}

impl RowSource for Rows<'_> {
    #[inline(always)]
    fn row<'a, S: Simd>(&'a self, s: S, row: usize, to: &'a mut [f32]) -> &'a [f32] {
        let x = self.source.row(self.first + row);
        let Some(norm) = &self.source.norm else { return x };
        norm.write_row(s, x, to);
        to
    }
}

/// Rows go where a [`Store`] says.
impl Finish for Store<'_> {
    #[inline(always)]
    fn expect(&self, place: Place, lines: Range<usize>) {
        Epilogue::expect(self, place.row, lines, place.column);
    }

    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S, place: Place, rows: &mut [Row]) {
        for (i, values) in rows.iter().enumerate() {
            // SAFETY: a row of a block has 32 elements; who stores gives each block of columns to one task.
            unsafe {
                let values = values.as_ptr();
                let values = [s.load(values, LANES), s.load(values.add(LANES), LANES)];
                self.row(s, place.row + i, place.column, values);
            }
        }
    }
}

/// `[residual +] activation(norm(x) Wᵀ + bias)` of `x (.., in)`, `W (out, in)`, `bias (out)`: `(.., out)`.
///
/// The residual, where there is one, has the shape of the result. Not differentiable.
pub fn quant_projection(
    x: &Tensor,
    norm: Option<NormParameters>,
    weight: QuantWeight,
    bias: Option<&Tensor>,
    activation: Option<Activation>,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    let (columns, dim) = weight.shape();
    let mut dims = x.dims().to_vec();
    if dims.pop() != Some(dim) || bias.is_some_and(|bias| bias.dims() != [columns]) {
        let bias = bias.map(Tensor::dims);
        bail!("quant_projection: x {:?} and bias {bias:?} do not fit a weight ({columns}, {dim})", x.dims());
    }
    let rows: usize = dims.iter().product();
    dims.push(columns);
    if residual.is_some_and(|residual| residual.dims() != dims) {
        bail!("quant_projection: a residual {:?} for a result {dims:?}", residual.map(Tensor::dims));
    }
    let (x, residual) = (x.contiguous()?, residual.map(Tensor::contiguous).transpose()?);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let norm = norm.as_ref().map(|norm| LockedNorm::of(norm, dim)).transpose()?;
    let (elements, residual) = (Elements::of(&x)?, residual.as_ref().map(Elements::of).transpose()?);
    let bias = bias.as_ref().map(Elements::of).transpose()?;
    let source = Source { norm: norm.as_ref().map(LockedNorm::rows), x: &elements, dim, map: None };
    let fill = |out: Out| {
        let threads = quantized::threads_for(Path::best(), rows * dim * columns, weight.bytes());
        Schedule::new(threads, rows, dim).run(|rows, threads| {
            let quantized = source.quantized(rows.clone(), threads > 1, weight);
            let residual = residual.as_deref();
            let store = Store { first_row: rows.start, activation, residual, ..Store::new(out, columns) };
            gemm::run(threads, |thread| {
                let pairs = gemm::part(weight.pairs(), threads, thread);
                weight.columns(&quantized, pairs, bias.as_deref(), store);
            });
        });
    };
    // SAFETY: all rows and columns are computed.
    let y = unsafe { written(rows * columns, fill) };
    tensor(y, dims, &x)
}

/// [`quant_projection`] but for the rounding of activations, from candle's primitives.
pub fn quant_projection_reference(
    x: &Tensor,
    norm: Option<NormParameters>,
    weight: QuantWeight,
    bias: Option<&Tensor>,
    activation: Option<Activation>,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    let dequantized = weight.dequantize()?.to_dtype(x.dtype())?;
    projection_reference(x, norm, (&dequantized, bias), activation, residual)
}

#[cfg(test)]
pub(super) mod tests {
    use candle_core::DType;

    use super::*;
    use crate::ops::tests::{error, same_on_threads};

    /// Of all sizes and signs, without a pattern.
    pub(crate) fn random(shape: &[usize], seed: usize) -> Result<Tensor> {
        let value =
            |i: usize| (((i + seed * 977) * (i + seed) * 7919 + i * 131) % 10007) as f32 / 5003.5 - 1.0;
        let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    }

    #[test]
    fn products_are_near_their_references() -> Result<()> {
        for (lead, out, inner) in [
            (vec![], 7, 33),
            (vec![2, 5], 70, 130),
            (vec![67], 33, 64),
            (vec![1, 0], 9, 40),
            (vec![300], 40, 70),
        ] {
            let x = random(&[&lead[..], &[inner]].concat(), 1)?;
            let residual = random(&[&lead[..], &[out]].concat(), 2)?;
            let (w, bias) = (random(&[out, inner], 3)?, random(&[out], 4)?);
            let w = w.flatten_all()?.to_vec1::<f32>()?;
            let (int8, int4) = (Int8Weight::new(&w, out, inner), Int4Weight::new(&w, out, inner));
            let (weight, shift) = ((random(&[inner], 5)? + 1.0)?, random(&[inner], 6)?);
            let [x2, weight2, shift2] = [&x, &weight, &shift].map(|x| x.to_dtype(DType::F64));
            let (x2, weight2, shift2) = (x2?, weight2?, shift2?);
            let (residual2, bias2) = (residual.to_dtype(DType::F64)?, bias.to_dtype(DType::F64)?);
            for options in 0..32 {
                let [four, biased, normed, added, activated] = [1, 2, 4, 8, 16].map(|bit| options & bit != 0);
                let packed: QuantWeight = if four { (&int4).into() } else { (&int8).into() };
                let norm = |weight, shift| {
                    normed.then_some(NormParameters { weight, bias: biased.then_some(shift), eps: 1e-5 })
                };
                let activation = activated.then_some(Activation::Silu);
                let found = quant_projection(
                    &x,
                    norm(&weight, &shift),
                    packed,
                    biased.then_some(&bias),
                    activation,
                    added.then_some(&residual),
                )?;
                let expected = quant_projection_reference(
                    &x2,
                    norm(&weight2, &shift2),
                    packed,
                    biased.then_some(&bias2),
                    activation,
                    added.then_some(&residual2),
                )?;
                // A step of 8 bits is 1/127 of the greatest activation, and its rounding errs by 0.3 of that: about 0.5 %
                // of the others, 1 % where a norm has made one large. A few results scatter more, and may cancel.
                let error = error(&found, &expected, added.then_some(&residual));
                assert!(error < 0.025, "{lead:?} {out} x {inner}, options {options}: {error}");
            }
            // A view that is not contiguous.
            if let [a, b] = lead[..]
                && a * b > 0
            {
                let run = |x: &Tensor| quant_projection(x, None, (&int8).into(), None, None, None);
                let turned = run(&x.transpose(0, 1)?)?;
                let expected = run(&x)?.transpose(0, 1)?;
                assert_eq!(turned.to_vec3::<f32>()?, expected.contiguous()?.to_vec3::<f32>()?);
            }
        }
        Ok(())
    }

    #[test]
    fn a_row_depends_on_itself_alone() -> Result<()> {
        for (rows, out, inner) in [(1, 33, 64), (19, 96, 70), (300, 200, 96), (700, 64, 200)] {
            let (x, w) = (random(&[rows, inner], 1)?, random(&[out, inner], 2)?);
            let (weight, residual) = ((random(&[inner], 3)? + 1.0)?, random(&[rows, out], 4)?);
            let w = w.flatten_all()?.to_vec1::<f32>()?;
            let (int8, int4) = (Int8Weight::new(&w, out, inner), Int4Weight::new(&w, out, inner));
            for packed in [QuantWeight::from(&int8), (&int4).into()] {
                let run = |first: usize, count: usize| {
                    let (x, residual) = (x.narrow(0, first, count)?, residual.narrow(0, first, count)?);
                    let norm = NormParameters { weight: &weight, bias: None, eps: 1e-5 };
                    quant_projection(&x, Some(norm), packed, None, Some(Activation::Gelu), Some(&residual))
                };
                let all = run(0, rows)?.to_vec2::<f32>()?;
                for (first, count) in [(0, 1), (rows / 2, rows - rows / 2), (rows - 1, 1)] {
                    assert!(
                        run(first, count)?.to_vec2::<f32>()? == all[first..first + count],
                        "{count} rows from {first}"
                    );
                }
                same_on_threads("quant_projection", &|| run(0, rows));
            }
        }
        Ok(())
    }

    #[test]
    fn shapes_are_checked() {
        let weight = Int8Weight::new(&[0.0; 6], 2, 3);
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
        let run = |x: &[usize], bias: Option<&[usize]>, residual: Option<&[usize]>| {
            let (bias, residual) = (bias.map(zeros).transpose()?, residual.map(zeros).transpose()?);
            quant_projection(&zeros(x)?, None, (&weight).into(), bias.as_ref(), None, residual.as_ref())
        };
        assert!(run(&[4, 2], None, None).is_err());
        assert!(run(&[4, 3], Some(&[3]), None).is_err());
        assert!(run(&[4, 3], None, Some(&[4, 3])).is_err());
        assert!(run(&[4, 3], Some(&[2]), Some(&[4, 2])).is_ok());
    }
}
