//! Rounding to `bf16`, for what is kept and read again many times.
#![allow(clippy::inline_always)]

use candle_core::{DType, Layout, Result, Tensor};
use half::bf16;

use super::support::{cpu_elements, for_each};
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Elements that a task rounds, about.
const CHUNK: usize = 1 << 14;

/// `x` in `bf16`, rounded to nearest even, contiguous. Numbers below 2⁻¹²⁶ may become zero. Not differentiable.
pub fn round_to_bf16(x: &Tensor) -> Result<Tensor> {
    if x.dtype() != DType::F32 || !x.device().is_cpu() {
        return round_to_bf16_reference(x);
    }
    let (storage, layout) = x.storage_and_layout();
    let all = cpu_elements(&storage)?;
    let (starts, len) = blocks(layout);
    let total = layout.shape().elem_count();
    let mut rounded: Vec<bf16> = Vec::with_capacity(total);
    let to = Shared(rounded.as_mut_ptr().cast());
    let at_a_time = (CHUNK / len.max(1)).max(1);
    for_each(starts.len().div_ceil(at_a_time), total, |task| {
        for (block, &start) in starts.iter().enumerate().skip(task * at_a_time).take(at_a_time) {
            let count = len.min(total - block * len);
            // Blocks do not overlap in the result, which has room for all.
            dispatch(Round { from: &all[start..start + count], to: to.at(block * len) });
        }
    });
    // SAFETY: the blocks cover all elements.
    unsafe { rounded.set_len(total) };
    Tensor::from_vec(rounded, x.shape(), x.device())
}

/// Where the blocks of neighbouring elements of a layout begin, in order, and how long they are.
fn blocks(layout: &Layout) -> (Vec<usize>, usize) {
    let (dims, strides) = (layout.dims(), layout.stride());
    let mut len = 1;
    let mut outer = dims.len();
    while outer > 0 && (strides[outer - 1] == len || dims[outer - 1] == 1) {
        outer -= 1;
        len *= dims[outer];
    }
    let mut starts = vec![layout.start_offset()];
    for (&dim, &stride) in dims[..outer].iter().zip(strides) {
        starts = starts.iter().flat_map(|start| (0..dim).map(move |i| start + i * stride)).collect();
    }
    // A large block is shared as well.
    if starts.len() == 1 && len > CHUNK {
        return ((0..len.div_ceil(CHUNK)).map(|chunk| starts[0] + chunk * CHUNK).collect(), CHUNK);
    }
    (starts, len)
}

/// [`round_to_bf16`] of candle primitives.
pub fn round_to_bf16_reference(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::BF16)?.contiguous()
}

#[derive(Clone, Copy)]
struct Shared(*mut u16);

impl Shared {
    fn at(self, element: usize) -> *mut u16 {
        self.0.wrapping_add(element)
    }
}

// SAFETY: tasks write disjoint parts.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

struct Round<'a> {
    from: &'a [f32],
    to: *mut u16,
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (0..self.from.len()).step_by(LANES) {
            let n = self.from.len() - at;
            // SAFETY: as many elements are readable, and writable at `to`.
            unsafe { s.store_bf16(self.to.add(at), s.load(self.from.as_ptr().add(at), n), n.min(LANES)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::simd::testing::on_each_unit;

    #[test]
    fn rounds_views_of_all_kinds() -> Result<()> {
        let values: Vec<f32> =
            (0..3 * 70 * 9 * 33).map(|i| ((i * 7919) % 10007) as f32 * 1.7e-3 - 8.5).collect();
        let x = Tensor::from_vec(values, (3, 70, 9, 33), &Device::Cpu)?;
        let views = [
            x.clone(),
            x.narrow(2, 2, 4)?,
            x.narrow(3, 5, 20)?,
            x.narrow(0, 1, 1)?,
            x.transpose(1, 2)?,
            x.narrow(1, 0, 0)?,
        ];
        for view in views {
            let expected = round_to_bf16_reference(&view)?.flatten_all()?.to_vec1::<bf16>()?;
            for found in on_each_unit(|_| round_to_bf16(&view)) {
                let found = found?;
                assert_eq!(found.dims(), view.dims());
                assert!(found.flatten_all()?.to_vec1::<bf16>()? == expected, "{:?}", view.dims());
            }
        }
        Ok(())
    }
}
