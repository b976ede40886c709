//! Moving rows: window partition, cyclic shift, padding, patch merging and unfolding are all one gather.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::support::{Elements, Out, elements, for_chunks, output, tensor, written};

/// In an index, stands for a row of zeros (padding).
pub const ZERO_ROW: u32 = u32::MAX;

/// Elements that a task moves, about.
const CHUNK: usize = 1 << 14;

/// Row `m` of the result is row `index[m]` of each batch item, or zeros for [`ZERO_ROW`]:
/// `x (.., rows, dim)` to `(.., index.len(), dim)`. Rows may repeat or be left out. Differentiable in `x`.
pub fn gather_rows(x: &Tensor, index: &[u32]) -> Result<Tensor> {
    gather_sums(x, index, 1)
}

/// Row `m` of the result is the sum of the rows `index[m · count ..][.. count]` of each batch item, added in that order:
/// `x (.., rows, dim)` to `(.., index.len() / count, dim)`. [`ZERO_ROW`] adds nothing. Differentiable in `x`.
pub fn gather_sums(x: &Tensor, index: &[u32], count: usize) -> Result<Tensor> {
    let &[.., rows, _] = x.dims() else { bail!("gather_rows: {:?} has no rows", x.dims()) };
    if let Some(i) = index.iter().find(|&&i| i != ZERO_ROW && i as usize >= rows) {
        bail!("gather_rows: index {i} with {rows} rows");
    }
    if count == 0 || !index.len().is_multiple_of(count) {
        bail!("gather_rows: {} rows cannot be added {count} by {count}", index.len());
    }
    if !x.device().is_cpu() {
        return gather_sums_reference(x, index, count);
    }
    x.contiguous()?.apply_op1(GatherRows { index: index.into(), count })
}

/// The mean of the rows of each batch item: `x (.., rows, dim)` to `(.., dim)`. Differentiable.
///
/// # Errors
/// When there are no rows.
pub fn mean_rows(x: &Tensor) -> Result<Tensor> {
    let &[.., rows, _] = x.dims() else { bail!("mean_rows: {:?} has no rows", x.dims()) };
    let index: Vec<u32> = (0..rows as u32).collect();
    gather_sums(x, &index, rows)?.squeeze(x.rank() - 2)? / rows as f64
}

/// [`mean_rows`] of candle primitives.
pub fn mean_rows_reference(x: &Tensor) -> Result<Tensor> {
    x.mean(x.rank() - 2)
}

/// [`gather_rows`] of candle primitives.
pub fn gather_rows_reference(x: &Tensor, index: &[u32]) -> Result<Tensor> {
    let Some(axis) = x.rank().checked_sub(2) else { bail!("gather_rows: {:?} has no rows", x.dims()) };
    let rows = x.dim(axis)?;
    // Where nothing is padding, no row of zeros is needed.
    let padded = if index.contains(&ZERO_ROW) { x.pad_with_zeros(axis, 0, 1)? } else { x.contiguous()? };
    let index: Vec<u32> = index.iter().map(|&i| if i == ZERO_ROW { rows as u32 } else { i }).collect();
    padded.index_select(&Tensor::new(index, x.device())?, axis)
}

/// [`gather_sums`] of candle primitives.
pub fn gather_sums_reference(x: &Tensor, index: &[u32], count: usize) -> Result<Tensor> {
    let rows = gather_rows_reference(x, index)?;
    if count == 1 {
        return Ok(rows);
    }
    let axis = rows.rank() - 2;
    let mut dims = rows.dims().to_vec();
    dims.splice(axis..=axis, [index.len() / count, count]);
    rows.reshape(dims)?.sum(axis + 1)
}

struct GatherRows {
    index: Arc<[u32]>,
    /// Rows of `index` that are added to one.
    count: usize,
}

impl GatherRows {
    /// Copies places `places` of the result (of one batch item) from `x` to `to`, joining neighbours into one copy.
    fn copy(&self, x: &[f32], dim: usize, places: Range<usize>, to: *mut f32) {
        let first = places.start;
        let mut at = first;
        while at < places.end {
            let source = self.index[at];
            let mut end = at + 1;
            // SAFETY: `to` has room for all of `places`, and the caller's check keeps `source` inside `x`.
            unsafe {
                let to = to.add((at - first) * dim);
                if source == ZERO_ROW {
                    std::ptr::write_bytes(to, 0, dim);
                } else {
                    while end < places.end && self.index[end] == source.wrapping_add((end - at) as u32) {
                        end += 1;
                    }
                    let from = &x[source as usize * dim..(source as usize + end - at) * dim];
                    std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len());
                }
            }
            at = end;
        }
    }

    /// Adds up the rows of places `places` of the result (of one batch item) from `x` to `to`.
    fn add(&self, x: &[f32], dim: usize, places: Range<usize>, to: *mut f32) {
        for (i, place) in places.enumerate() {
            let index = &self.index[place * self.count..][..self.count];
            let rows = index.iter().filter(|&&i| i != ZERO_ROW).map(|&i| &x[i as usize * dim..][..dim]);
            // SAFETY: `to` has room for all of `places`.
            unsafe { sum_rows(to.add(i * dim), dim, rows) };
        }
    }

    /// For each of `rows` source rows, the places of the result that it went to, in order: `(starts, places)`.
    fn inverse(&self, rows: usize) -> (Vec<u32>, Vec<u32>) {
        let mut starts = vec![0u32; rows + 1];
        for &source in self.index.iter().filter(|&&i| i != ZERO_ROW) {
            starts[source as usize + 1] += 1;
        }
        for row in 0..rows {
            starts[row + 1] += starts[row];
        }
        let mut next = starts.clone();
        let mut places = vec![0; starts[rows] as usize];
        for (place, &source) in self.index.iter().enumerate().filter(|&(_, &i)| i != ZERO_ROW) {
            let slot = &mut next[source as usize];
            places[*slot as usize] = (place / self.count) as u32;
            *slot += 1;
        }
        (starts, places)
    }
}

/// `(.., rows, dim)` as `(batch, rows, dim)`.
fn items(dims: &[usize]) -> (usize, usize, usize) {
    match dims {
        [batch @ .., rows, dim] => (batch.iter().product(), *rows, *dim),
        _ => (0, 0, 0),
    }
}

/// Calls `task` (item, places, address) for all of an output of `batch` items of `places` rows.
fn for_places(
    (batch, places, dim): (usize, usize, usize),
    out: Out,
    task: impl Fn(usize, Range<usize>, *mut f32) + Sync + Send,
) {
    let chunk = (CHUNK / dim.max(1)).clamp(1, places.max(1));
    let chunks = places.div_ceil(chunk);
    for_chunks(batch * chunks, 1, batch * places * dim, |i, _| {
        let (item, start) = (i / chunks, i % chunks * chunk);
        let range = start..places.min(start + chunk);
        // SAFETY: chunks are disjoint.
        let to = unsafe { out.part((item * places + start) * dim, range.len() * dim) };
        task(item, range, to);
    });
}

impl CustomOp1 for GatherRows {
    fn name(&self) -> &'static str {
        "gather_rows"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = elements(x, layout)?;
        let (batch, rows, dim) = items(layout.dims());
        let places = self.index.len() / self.count;
        let mut shape = layout.dims().to_vec();
        let rank = shape.len();
        shape[rank - 2] = places;
        let fill = |y: Out| {
            for_places((batch, places, dim), y, |item, places, to| {
                let x = &x[item * rows * dim..(item + 1) * rows * dim];
                if self.count == 1 { self.copy(x, dim, places, to) } else { self.add(x, dim, places, to) }
            });
        };
        // SAFETY: the places cover the output.
        Ok(output(unsafe { written(batch * places * dim, fill) }, shape))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (batch, rows, dim) = items(x.dims());
        let grad = grad.contiguous()?;
        let grad = Elements::of(&grad)?;
        let grad: &[f32] = &grad;
        let (starts, places) = self.inverse(rows);
        let results = self.index.len() / self.count;
        let fill = |dx: Out| {
            for_places((batch, rows, dim), dx, |item, range, to| {
                let row = |place: u32| &grad[(item * results + place as usize) * dim..][..dim];
                for (i, source) in range.enumerate() {
                    let places = &places[starts[source] as usize..starts[source + 1] as usize];
                    // SAFETY: `to` has room for the range's rows; each is written before it is seen as a slice.
                    unsafe {
                        sum_rows(to.add(i * dim), dim, places.iter().map(|&place| row(place)));
                    };
                }
            });
        };
        // SAFETY: the rows cover the gradient.
        tensor(unsafe { written(batch * rows * dim, fill) }, x.shape(), x).map(Some)
    }
}

/// Writes the sum of `rows`, in order, to `to`; zeros when there is none.
unsafe fn sum_rows<'a>(to: *mut f32, dim: usize, mut rows: impl Iterator<Item = &'a [f32]>) {
    // SAFETY: the caller vouches for `dim` elements at `to`.
    let sum = unsafe {
        match rows.next() {
            Some(row) => std::ptr::copy_nonoverlapping(row.as_ptr(), to, dim),
            None => std::ptr::write_bytes(to, 0, dim),
        }
        std::slice::from_raw_parts_mut(to, dim)
    };
    for row in rows {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
}
