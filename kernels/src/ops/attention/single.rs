//! One query a sequence, as in decoding: keys and values, in `f32` or `bf16`, are read once and in the order in which they lie,
//! and nothing is laid out. Everything is computed in `f32`.
#![allow(clippy::inline_always)]

use std::ops::Range;

use super::element::Element;
use super::problem::{Heads, Sizes};
use crate::gemm::{self, Scratch, fetch};
use crate::ops::support::{Out, written};
use crate::simd::math::exp;
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Query heads that share keys, up to which reading keys is more work than multiplying them.
pub(super) const MAX_GROUP: usize = 8;

/// Keys that are taken together: those of all heads stay in the first-level cache.
const KEYS: usize = 8;

/// Elements of a row that are loaded together.
const TWO: usize = 2 * LANES;

/// Pairs of vectors of a row of values whose sums are in registers at a time.
const SUMS: usize = 2;

/// One query row, batch row `row` of `q`, that sees all keys.
pub(super) struct Query<'a, T> {
    pub(super) sizes: Sizes,
    pub(super) row: usize,
    pub(super) q: Heads<'a>,
    /// With strides of 0 where all rows share them.
    pub(super) k: Heads<'a, T>,
    pub(super) v: Heads<'a, T>,
    pub(super) scale: f32,
}

/// The results of queries that are equal but for their keys, `(queries, 1, heads, v_dim)`.
pub(super) fn forward<T: Element>(queries: &[Query<T>]) -> Vec<f32> {
    let Some(Sizes { heads, kv_heads, v_dim, .. }) = queries.first().map(|query| query.sizes) else {
        return Vec::new();
    };
    let multiplications =
        queries.iter().map(|query| query.sizes.work()).sum::<usize>() / queries[0].sizes.batch;
    let bytes = multiplications / (heads / kv_heads) * size_of::<T>();
    let threads = gemm::threads_for(0, bytes);
    let parts = threads.div_ceil(queries.len()).min(kv_heads);
    let fill = |out: Out| {
        gemm::run_chunks(threads, queries.len() * parts, |task| {
            let (index, part) = (task / parts, task % parts);
            let kv_heads = gemm::part(kv_heads, parts, part);
            dispatch(Task { query: &queries[index], index, kv_heads, out });
        });
    };
    // SAFETY: the parts cover all heads of all queries.
    unsafe { written(queries.len() * heads * v_dim, fill) }
}

/// Some heads of a query.
struct Task<'a, T> {
    query: &'a Query<'a, T>,
    /// Of the query among all.
    index: usize,
    kv_heads: Range<usize>,
    out: Out,
}

impl<T: Element> Kernel for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Query { sizes, row, q, k, v, scale } = self.query;
        let (row, group) = (*row, sizes.group());
        let Sizes { kv_len, heads, dim, v_dim, .. } = *sizes;
        let first_head = self.kv_heads.start * group;
        let count = self.kv_heads.len() * group;
        let [dim_pad, v_pad] = [dim, v_dim].map(|len| len.next_multiple_of(TWO));
        let kv_pad = kv_len.next_multiple_of(LANES);
        let mut memory = [dim_pad, v_pad, kv_pad].map(|len| Scratch::take(count * len / LANES));
        let [queries, sums, scores] = memory.each_mut().map(|memory| memory.as_mut_ptr().cast::<f32>());
        // SAFETY: the scratch memory is as large as the sizes say and written before it is read; rows have as many elements.
        unsafe {
            for head in 0..count {
                let to = std::slice::from_raw_parts_mut(queries.add(head * dim_pad), dim_pad);
                arrange::<T>(q.row(row, 0, first_head + head, dim), *scale, to);
            }
            for key in (0..kv_len).step_by(KEYS) {
                let keys = key..kv_len.min(key + KEYS);
                for kv_head in self.kv_heads.clone() {
                    fetch_next(k, row, &keys, kv_len, kv_head, dim);
                    for head in kv_head * group - first_head..(kv_head + 1) * group - first_head {
                        let query = queries.add(head * dim_pad).cast_const();
                        let place = (row, kv_head, dim);
                        let scores = scores.add(head * kv_pad + key);
                        if keys.len() == KEYS {
                            score::<S, T, KEYS>(s, k, place, key, query, scores);
                        } else {
                            for (i, key) in keys.clone().enumerate() {
                                score::<S, T, 1>(s, k, place, key, query, scores.add(i));
                            }
                        }
                    }
                }
            }
            for head in 0..count {
                softmax(s, scores.add(head * kv_pad), kv_len);
                for at in (0..v_pad).step_by(LANES) {
                    s.store(sums.add(head * v_pad + at), s.splat(0.0), LANES);
                }
            }
            for key in (0..kv_len).step_by(KEYS) {
                let keys = key..kv_len.min(key + KEYS);
                for kv_head in self.kv_heads.clone() {
                    fetch_next(v, row, &keys, kv_len, kv_head, v_dim);
                    for head in kv_head * group - first_head..(kv_head + 1) * group - first_head {
                        let weights = scores.add(head * kv_pad);
                        for at in (0..v_pad).step_by(SUMS * TWO) {
                            let sums = sums.add(head * v_pad + at);
                            let place = (row, kv_head, at, v_dim);
                            if v_pad - at >= SUMS * TWO {
                                mix::<S, T, SUMS>(s, v, place, &keys, weights, sums);
                            } else {
                                mix::<S, T, 1>(s, v, place, &keys, weights, sums);
                            }
                        }
                    }
                }
            }
            for head in 0..count {
                let to = self.out.part((self.index * heads + first_head + head) * v_dim, v_dim);
                for i in 0..v_dim {
                    to.add(i).write(sums.add(head * v_pad + i / TWO * TWO + T::lane(i % TWO)).read());
                }
            }
        }
    }
}

/// Writes a query times `scale` in the order in which keys are loaded, padded with zeros.
#[inline(always)]
fn arrange<T: Element>(query: &[f32], scale: f32, to: &mut [f32]) {
    for (to, from) in to.chunks_mut(TWO).zip(query.chunks(TWO)) {
        to.fill(0.0);
        for (i, x) in from.iter().enumerate() {
            to[T::lane(i)] = x * scale;
        }
    }
}

/// Asks for a head's rows of the keys that follow `keys`.
#[inline(always)]
fn fetch_next<T>(
    rows: &Heads<T>,
    row: usize,
    keys: &Range<usize>,
    kv_len: usize,
    kv_head: usize,
    dim: usize,
) {
    for key in keys.end..kv_len.min(keys.end + KEYS) {
        let from = rows.row(row, key, kv_head, dim).as_ptr();
        for at in (0..dim * size_of::<T>()).step_by(64) {
            fetch(from.cast::<u8>().wrapping_add(at));
        }
    }
}

/// Turns scores into probabilities. Lanes are summed in order, then across.
///
/// # Safety
/// The row has `len` scores, and room up to a multiple of sixteen.
#[inline(always)]
unsafe fn softmax<S: Simd>(s: S, row: *mut f32, len: usize) {
    let lowest = s.splat(f32::NEG_INFINITY);
    // SAFETY: the caller's promise.
    unsafe {
        let mut greatest = lowest;
        for at in (0..len).step_by(LANES) {
            greatest = s.max(greatest, s.keep(s.load(row.add(at), len - at), len - at, lowest));
        }
        let greatest = s.splat(s.greatest(greatest));
        let mut total = s.splat(0.0);
        for at in (0..len).step_by(LANES) {
            let power = exp(s, s.sub(s.load(row.add(at), len - at), greatest));
            let power = s.keep(power, len - at, s.splat(0.0));
            total = s.add(total, power);
            s.store(row.add(at), power, LANES);
        }
        let scale = s.splat(1.0 / s.sum(total));
        for at in (0..len).step_by(LANES) {
            s.store(row.add(at), s.mul(s.load(row.add(at), LANES), scale), LANES);
        }
    }
}

/// The scores of `N` keys from `key` on, with a head's query in the order in which keys are loaded.
///
/// # Safety
/// The query is padded to whole pairs of vectors, the rows have `dim` elements, and `N` scores are writable.
#[inline(always)]
unsafe fn score<S: Simd, T: Element, const N: usize>(
    s: S,
    keys: &Heads<T>,
    (row, kv_head, dim): (usize, usize, usize),
    key: usize,
    query: *const f32,
    scores: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut from = [std::ptr::null(); N];
        for (i, from) in from.iter_mut().enumerate() {
            *from = keys.row(row, key + i, kv_head, dim).as_ptr();
        }
        let mut totals = [s.splat(0.0); N];
        for at in (0..dim).step_by(TWO) {
            let query = [s.load(query.add(at), LANES), s.load(query.add(at + LANES), LANES)];
            for (total, from) in totals.iter_mut().zip(from) {
                let lanes = T::load_two(s, from.add(at), dim - at);
                *total = s.fma(query[1], lanes[1], s.fma(query[0], lanes[0], *total));
            }
        }
        if let Some(eight) = totals.first_chunk() {
            scores.cast::<[f32; 8]>().write(s.sums(*eight));
        } else {
            for (i, total) in totals.into_iter().enumerate() {
                scores.add(i).write(s.sum(total));
            }
        }
    }
}

/// Adds the values of `keys`, `N` pairs of vectors from column `at` on, times their weights to `sums`.
///
/// # Safety
/// The rows have `v_dim` elements, `N` pairs of vectors of sums are writable, and every key has a weight.
#[inline(always)]
unsafe fn mix<S: Simd, T: Element, const N: usize>(
    s: S,
    values: &Heads<T>,
    (row, kv_head, at, v_dim): (usize, usize, usize, usize),
    keys: &Range<usize>,
    weights: *const f32,
    sums: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut totals = [[s.splat(0.0); 2]; N];
        for (i, total) in totals.iter_mut().enumerate() {
            *total = [0, LANES].map(|half| s.load(sums.add(i * TWO + half), LANES));
        }
        for key in keys.clone() {
            let (from, weight) = (values.row(row, key, kv_head, v_dim).as_ptr(), s.splat(*weights.add(key)));
            for (i, total) in totals.iter_mut().enumerate() {
                let at = at + i * TWO;
                let lanes = T::load_two(s, from.add(at), v_dim - at);
                *total = [s.fma(weight, lanes[0], total[0]), s.fma(weight, lanes[1], total[1])];
            }
        }
        for (i, total) in totals.into_iter().enumerate() {
            s.store(sums.add(i * TWO), total[0], LANES);
            s.store(sums.add(i * TWO + LANES), total[1], LANES);
        }
    }
}
