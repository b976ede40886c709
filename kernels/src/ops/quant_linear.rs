//! Matrix products with a quantised weight, for inference: `y = x Wᵀ + b`, without a gradient.
//!
//! | op | weight | activations | sums |
//! |---|---|---|---|
//! | [`linear_int8`] | 8 bits, a scale each output | 8 bits, a scale each row | exact integers |
//! | [`linear_int4`] | 4 bits, a scale each 32 inputs | `bf16` | `f32` |

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, bail};

use super::linear::linear_reference;
use super::support::{elements, output};
use crate::quant::{Int4Weight, Int8Weight};

/// `x (.., in)` times an 8-bit weight `(out, in)` plus `bias (out)`: `(.., out)`.
///
/// The same bits on every machine, batch size and number of threads.
pub fn linear_int8(x: &Tensor, weight: &Arc<Int8Weight>, bias: Option<&Tensor>) -> Result<Tensor> {
    apply(x, Weight::Int8(Arc::clone(weight)), bias)
}

/// `x (.., in)` times a 4-bit weight `(out, in)` plus `bias (out)`: `(.., out)`.
///
/// A row of the result depends on its row of `x` alone, bit for bit: batch size and thread count do not matter.
pub fn linear_int4(x: &Tensor, weight: &Arc<Int4Weight>, bias: Option<&Tensor>) -> Result<Tensor> {
    apply(x, Weight::Int4(Arc::clone(weight)), bias)
}

/// What [`linear_int8`] computes but for the rounding of activations, from candle's primitives.
pub fn linear_int8_reference(x: &Tensor, weight: &Int8Weight, bias: Option<&Tensor>) -> Result<Tensor> {
    linear_reference(x, &Tensor::from_vec(weight.dequantize(), weight.shape(), &Device::Cpu)?, bias)
}

/// What [`linear_int4`] computes but for the rounding to `bf16`, from candle's primitives.
pub fn linear_int4_reference(x: &Tensor, weight: &Int4Weight, bias: Option<&Tensor>) -> Result<Tensor> {
    linear_reference(x, &Tensor::from_vec(weight.dequantize(), weight.shape(), &Device::Cpu)?, bias)
}

#[derive(Debug)]
enum Weight {
    Int8(Arc<Int8Weight>),
    Int4(Arc<Int4Weight>),
}

impl Weight {
    fn shape(&self) -> (usize, usize) {
        match self {
            Self::Int8(weight) => weight.shape(),
            Self::Int4(weight) => weight.shape(),
        }
    }
}

struct QuantLinear {
    weight: Weight,
    bias: Option<Vec<f32>>,
}

fn apply(x: &Tensor, weight: Weight, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out, inner) = weight.shape();
    if x.rank() == 0 || x.dim(x.rank() - 1)? != inner || bias.is_some_and(|bias| bias.dims() != [out]) {
        let bias = bias.map(Tensor::dims);
        bail!("quantised linear: x {:?} and bias {bias:?} do not fit weight {out} x {inner}", x.dims());
    }
    let bias = bias.map(Tensor::to_vec1).transpose()?;
    x.contiguous()?.apply_op1_no_bwd(&QuantLinear { weight, bias })
}

impl CustomOp1 for QuantLinear {
    fn name(&self) -> &'static str {
        "quant_linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = elements(x, layout)?;
        let mut dims = layout.dims().to_vec();
        let (out, _) = self.weight.shape();
        dims.pop();
        let rows = dims.iter().product();
        dims.push(out);
        let mut y = vec![0.0; rows * out];
        match &self.weight {
            Weight::Int8(weight) => weight.product(x, rows, self.bias.as_deref(), &mut y),
            Weight::Int4(weight) => weight.product(x, rows, self.bias.as_deref(), &mut y),
        }
        Ok(output(y, dims))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relative_error(found: &Tensor, expected: &Tensor) -> Result<f32> {
        let square = |t: &Tensor| t.sqr()?.sum_all()?.to_scalar::<f32>();
        Ok((square(&(found - expected)?)? / square(expected)?).sqrt())
    }

    #[test]
    fn products_are_near_their_references() -> Result<()> {
        // Of all sizes and signs, without a pattern.
        let value = |i: usize| ((i * i * 7919 + i * 131) % 10007) as f32 / 5003.5 - 1.0;
        let random = |shape: &[usize]| {
            let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
            Tensor::from_vec(values, shape, &Device::Cpu)
        };
        for (lead, out, inner) in
            [(vec![], 7, 33), (vec![2, 5], 70, 130), (vec![67], 33, 64), (vec![1, 0], 9, 40)]
        {
            let x = random(&[&lead[..], &[inner]].concat())?;
            let (w, bias) = (random(&[out, inner])?, random(&[out])?);
            let w = w.flatten_all()?.to_vec1::<f32>()?;
            let int8 = Arc::new(Int8Weight::new(&w, out, inner));
            let int4 = Arc::new(Int4Weight::new(&w, out, inner));
            for bias in [None, Some(&bias)] {
                let results = [
                    (linear_int8(&x, &int8, bias)?, linear_int8_reference(&x, &int8, bias)?),
                    (linear_int4(&x, &int4, bias)?, linear_int4_reference(&x, &int4, bias)?),
                ];
                for (found, expected) in results {
                    assert_eq!(found.dims(), expected.dims());
                    // A step of 8 bits is 1/127 of the greatest activation, and its rounding errs by 0.3 of that: about
                    // 0.5 % of the others. bf16 errs by 0.3 %. A few results scatter more, and may cancel.
                    if found.elem_count() > 0 {
                        let error = relative_error(&found, &expected)?;
                        assert!(error < 0.025, "{lead:?} {out} x {inner}: {error}");
                    }
                }
            }
            // A view that is not contiguous.
            if let [a, b] = lead[..]
                && a * b > 0
            {
                let turned = linear_int8(&x.transpose(0, 1)?, &int8, None)?;
                let expected = linear_int8(&x, &int8, None)?.transpose(0, 1)?;
                assert_eq!(turned.to_vec3::<f32>()?, expected.contiguous()?.to_vec3::<f32>()?);
            }
        }
        Ok(())
    }

    #[test]
    fn shapes_are_checked() -> Result<()> {
        let weight = Arc::new(Int8Weight::new(&[0.0; 6], 2, 3));
        let zeros = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu);
        assert!(linear_int8(&zeros(&[4, 2])?, &weight, None).is_err());
        assert!(linear_int8(&zeros(&[4, 3])?, &weight, Some(&zeros(&[3])?)).is_err());
        assert!(linear_int8(&zeros(&[4, 3])?, &weight, Some(&zeros(&[2])?)).is_ok());
        Ok(())
    }
}
