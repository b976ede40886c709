//! What the fused operations share: candle storage as slices, outputs, and work split over threads.
#![allow(clippy::inline_always)]

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, Layout, Result, Shape, Storage, StorageRef, Tensor, bail};
use rayon::prelude::*;

use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Element operations below which starting other threads costs more than it saves.
const PARALLEL_WORK: usize = 1 << 15;

/// Elements of a chunk of an element-wise operation: inputs and outputs stay in the first-level cache.
const MAP_CHUNK: usize = 4096;

/// The elements of a contiguous argument of a custom operation.
pub(crate) fn elements<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("a fused operation was given a tensor that is not contiguous"),
    }
}

/// A tensor's elements, read-locked.
pub(crate) struct Elements<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> Elements<'a> {
    /// Of a contiguous `f32` tensor in main memory.
    pub(crate) fn of(x: &'a Tensor) -> Result<Self> {
        let (storage, layout) = x.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("a fused operation was given a tensor that is not contiguous")
        };
        cpu_elements(&storage)?;
        Ok(Self { storage, range: start..end })
    }
}

impl Deref for Elements<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // `of` has seen that the storage is what it must be.
        cpu_elements(&self.storage).map_or(&[], |all| &all[self.range.clone()])
    }
}

/// All elements that a tensor's storage holds, whatever its layout.
pub(crate) fn cpu_elements(storage: &Storage) -> Result<&[f32]> {
    match storage {
        Storage::Cpu(storage) => storage.as_slice::<f32>(),
        _ => bail!("the fused operations run in main memory only"),
    }
}

/// A tensor from its elements, where `like` is.
pub(crate) fn tensor(elements: Vec<f32>, shape: impl Into<Shape>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(elements, shape.into(), like.device())
}

/// The result of a custom operation.
pub(crate) fn output(elements: Vec<f32>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (CpuStorage::F32(elements), shape.into())
}

/// Memory that tasks write in disjoint parts.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    at: *mut f32,
    len: usize,
}

// SAFETY: `at` is only reached through the unsafe `part`, whose callers vouch that parts in use are disjoint.
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

impl Out {
    /// To write into `memory`, which outlives all use.
    pub(crate) fn new(memory: &mut [f32]) -> Self {
        Self { at: memory.as_mut_ptr(), len: memory.len() }
    }

    /// Its elements.
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// The address of element `at`, to be fetched.
    #[inline(always)]
    pub(crate) fn address(self, at: usize) -> *const f32 {
        self.at.wrapping_add(at)
    }

    /// The address of element `start` of `len` elements that the caller, and nobody else, writes.
    #[inline(always)]
    pub(crate) unsafe fn part(self, start: usize, len: usize) -> *mut f32 {
        assert!(start + len <= self.len, "a kernel writes past its output");
        // SAFETY: inside the allocation, as just checked.
        unsafe { self.at.add(start) }
    }
}

/// `len` elements that `fill` writes, all of them: unwritten memory is not cleared first, which would be one more pass.
pub(crate) unsafe fn written(len: usize, fill: impl FnOnce(Out)) -> Vec<f32> {
    let mut elements = Vec::with_capacity(len);
    fill(Out { at: elements.as_mut_ptr(), len });
    // SAFETY: the capacity is there and the caller vouches that `fill` wrote every element.
    unsafe { elements.set_len(len) };
    elements
}

/// Calls `task` for `0..count`, on the threads of the current pool when all of it is worth it (`work`: element operations).
///
/// What a task computes may not depend on the others, so that the number of threads cannot show in the result.
pub(crate) fn for_each(count: usize, work: usize, task: impl Fn(usize) + Sync + Send) {
    if count > 1 && work >= PARALLEL_WORK && rayon::current_num_threads() > 1 {
        (0..count).into_par_iter().for_each(task);
    } else {
        (0..count).for_each(task);
    }
}

/// Calls `task` for fixed chunks of `0..items`, see [`for_each`]; also gives the chunk's number.
pub(crate) fn for_chunks(
    items: usize,
    chunk: usize,
    work: usize,
    task: impl Fn(usize, Range<usize>) + Sync + Send,
) {
    for_each(items.div_ceil(chunk), work, |i| {
        task(i, i * chunk..items.min((i + 1) * chunk));
    });
}

/// Rows of `dim` elements that make a chunk worth a task, at least one.
pub(crate) fn rows_per_chunk(dim: usize) -> usize {
    (MAP_CHUNK * 2 / dim.max(1)).max(1)
}

/// An element-wise function of `I` inputs and `O` outputs.
pub(crate) trait Lanes<const I: usize, const O: usize>: Sync {
    /// On sixteen elements of each; implementations are `#[inline(always)]`.
    fn apply<S: Simd>(&self, simd: S, inputs: [S::V; I]) -> [S::V; O];
}

/// Applies `f` to `len` elements at `inputs`, writing to `outputs`.
#[inline(always)]
pub(crate) unsafe fn apply_lanes<S: Simd, F: Lanes<I, O>, const I: usize, const O: usize>(
    s: S,
    f: &F,
    inputs: [*const f32; I],
    outputs: [*mut f32; O],
    len: usize,
) {
    let mut at = 0;
    while at < len {
        let n = len - at;
        let mut x = [s.splat(0.0); I];
        for i in 0..I {
            // SAFETY: `at < len`, and the caller vouches for `len` elements.
            x[i] = unsafe { s.load(inputs[i].add(at), n) };
        }
        let y = f.apply(s, x);
        for i in 0..O {
            // SAFETY: as above.
            unsafe { s.store(outputs[i].add(at), y[i], n) };
        }
        at += LANES;
    }
}

struct Map<'a, F, const I: usize, const O: usize> {
    f: &'a F,
    inputs: [*const f32; I],
    outputs: [*mut f32; O],
    len: usize,
}

impl<F: Lanes<I, O>, const I: usize, const O: usize> Kernel for Map<'_, F, I, O> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: `map_rows` checked that all of these are `len` long.
        unsafe { apply_lanes(s, self.f, self.inputs, self.outputs, self.len) }
    }
}

/// Row-wise places of inputs and outputs of an element-wise function: `(start, stride)` of each, and the row length.
pub(crate) struct Rows<const I: usize, const O: usize> {
    /// How many rows.
    pub(crate) count: usize,
    /// Elements of a row.
    pub(crate) len: usize,
    /// Start and stride in each input.
    pub(crate) inputs: [(usize, usize); I],
    /// Start and stride in each output.
    pub(crate) outputs: [(usize, usize); O],
}

/// Applies `f` to rows inside `inputs`, writing rows inside `outputs` (which must not overlap one another).
pub(crate) fn map_rows<F: Lanes<I, O>, const I: usize, const O: usize>(
    f: &F,
    rows: &Rows<I, O>,
    inputs: [&[f32]; I],
    outputs: [Out; O],
) {
    for_chunks(rows.count, rows_per_chunk(rows.len), rows.count * rows.len * 4, |_, chunk| {
        for row in chunk {
            let at = |i: usize| rows.inputs[i].0 + row * rows.inputs[i].1;
            let to = |i: usize| rows.outputs[i].0 + row * rows.outputs[i].1;
            dispatch(Map {
                f,
                inputs: std::array::from_fn(|i| inputs[i][at(i)..at(i) + rows.len].as_ptr()),
                // SAFETY: a row belongs to one chunk, and rows do not overlap.
                outputs: std::array::from_fn(|i| unsafe { outputs[i].part(to(i), rows.len) }),
                len: rows.len,
            });
        }
    });
}

/// Applies `f` to slices of one length.
pub(crate) fn map<F: Lanes<I, O>, const I: usize, const O: usize>(
    f: &F,
    inputs: [&[f32]; I],
) -> [Vec<f32>; O] {
    let len = inputs[0].len();
    assert!(inputs.iter().all(|x| x.len() == len), "element-wise inputs differ in length");
    let mut results: [Vec<f32>; O] = std::array::from_fn(|_| Vec::with_capacity(len));
    let outputs: [Out; O] = std::array::from_fn(|i| Out { at: results[i].as_mut_ptr(), len });
    for_chunks(len, MAP_CHUNK, len * 4, |_, chunk| {
        dispatch(Map {
            f,
            inputs: std::array::from_fn(|i| inputs[i][chunk.clone()].as_ptr()),
            // SAFETY: chunks are disjoint.
            outputs: std::array::from_fn(|i| unsafe { outputs[i].part(chunk.start, chunk.len()) }),
            len: chunk.len(),
        });
    });
    for result in &mut results {
        // SAFETY: the chunks cover all of `0..len`.
        unsafe { result.set_len(len) };
    }
    results
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::super::attention::{Mask, attention};
    use super::super::{activation, loss, norm, rope};
    use super::*;
    use crate::simd::{Unit, testing::on_each_unit};

    type Operation = fn(&[Tensor]) -> Result<Tensor>;

    const OPERATIONS: [Operation; 8] = [
        |x| norm::layer_norm(&x[0], &x[1], &x[1], 1e-5),
        |x| norm::rms_norm(&x[0], &x[1], 1e-5),
        |x| norm::l2_normalize(&x[0], 1e-5),
        |x| activation::gelu(&x[0]),
        |x| activation::swiglu(&x[0]),
        |x| activation::softmax(&x[0]),
        |x| loss::cross_entropy(&x[0].flatten(0, 2)?, &[3; 40]),
        |x| {
            let angles = x[2].narrow(0, 0, 1)?.narrow(2, 0, 1)?.squeeze(2)?;
            let angles = angles.narrow(2, 0, 17)?;
            let q = rope::rope(&x[0], &angles, &angles, rope::RopeLayout::Interleaved)?;
            let q = rope::rope(&q, &angles, &angles, rope::RopeLayout::HalfSplit)?;
            attention(&q, &x[0], &x[2], None, Mask::Causal { offset: 0 }, 0.2)
        },
    ];

    /// The result and the gradients of an operation, one after the other.
    fn all_of(operation: Operation) -> Result<Vec<f32>> {
        let value = |i: usize| ((i * 7919 % 1009) as f32 / 504.5 - 1.0) * 2.0;
        let tensor = |dims: &[usize]| {
            let values = (0..dims.iter().product()).map(value).collect::<Vec<f32>>();
            Var::from_vec(values, dims, &Device::Cpu)
        };
        let vars = [tensor(&[2, 10, 2, 34])?, tensor(&[34])?, tensor(&[2, 10, 2, 34])?];
        let inputs = vars.each_ref().map(|var| var.as_tensor().clone());
        let y = operation(&inputs)?;
        let grads = y.sqr()?.sum_all()?.backward()?;
        let mut all = y.flatten_all()?.to_vec1::<f32>()?;
        for grad in vars.iter().filter_map(|var| grads.get(var)) {
            all.extend(grad.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(all)
    }

    #[test]
    fn vector_units_agree() -> Result<()> {
        for (i, operation) in OPERATIONS.into_iter().enumerate() {
            let results = on_each_unit(|unit| all_of(operation).map(|result| (unit, result)));
            let results = results.into_iter().collect::<Result<Vec<_>>>()?;
            let (_, widest) = &results[results.len() - 1];
            for (unit, result) in &results {
                // Without a fused multiply-add each step rounds once more; values and gradients are of O(10).
                let tolerance = if *unit == Unit::Portable { 1e-4 } else { 0.0 };
                let far = result.iter().zip(widest).find(|(a, b)| (*a - *b).abs() > tolerance);
                assert!(far.is_none() && result.len() == widest.len(), "operation {i}, {unit:?}: {far:?}");
            }
        }
        Ok(())
    }
}
