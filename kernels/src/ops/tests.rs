//! The fused operations for constant weights, on every path and vector unit of this machine, against their plain
//! references in `f64`, and against themselves with other rows and threads.

use candle_core::{DType, Device, Result, Tensor};

use super::activation::Activation;
use super::attention::{Mask, attention_in, attention_reference};
use super::feed_forward::{FeedForward, feed_forward, feed_forward_reference};
use super::gather::ZERO_ROW;
use super::linear::pack;
use super::projection::{NormParameters, grouped_projection, projection, projection_reference};
use super::rope::{RopeLayout, rope, rope_rounded};
use super::round::round_to_bf16;
use super::window_attention::{WindowWeights, Windows, window_attention, window_attention_reference};
use crate::Precision;
use crate::gemm::{Path, testing::on_each_path};
use crate::simd::testing::on_each_unit;
use crate::testing::{cases, size};

/// A splitmix64 sequence.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    fn within(&mut self, low: usize, high: usize) -> usize {
        let high = size(high).max(low);
        low + (self.next() % (high - low + 1) as u64) as usize
    }

    fn chance(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// Uniform with standard deviation `scale`.
    fn tensor(&mut self, shape: &[usize], scale: f32) -> Result<Tensor> {
        let mut value = || ((self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0) * 1.732 * scale;
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| value()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    }

    /// `(out, in)` that keeps the scale of its input.
    fn weight(&mut self, out: usize, inner: usize) -> Result<Tensor> {
        self.tensor(&[out, inner], (inner as f32).sqrt().recip())
    }

    /// Weight and bias of a norm, the latter by chance where not `both`.
    fn norm(&mut self, dim: usize, both: bool) -> Result<(Tensor, Option<Tensor>)> {
        let bias = if both || self.chance() { Some(self.tensor(&[dim], 0.5)?) } else { None };
        Ok(((self.tensor(&[dim], 0.3)? + 1.0)?, bias))
    }
}

pub(super) fn flat(x: &Tensor) -> Vec<f32> {
    x.flatten_all().and_then(|x| x.to_vec1()).expect("f32 elements")
}

fn parameters((weight, bias): &(Tensor, Option<Tensor>)) -> NormParameters<'_> {
    NormParameters { weight, bias: bias.as_ref(), eps: 1e-5 }
}

fn doubled(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F64).expect("a cast")
}

type NormPair = (Tensor, Option<Tensor>);

fn doubled_norm((weight, bias): &NormPair) -> NormPair {
    (doubled(weight), bias.as_ref().map(doubled))
}

/// The error, root mean square, as a part of the change that the operation makes (a residual would hide it).
pub(super) fn error(found: &Tensor, expected: &Tensor, residual: Option<&Tensor>) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let expected: Vec<f64> = expected.flatten_all().and_then(|x| x.to_vec1()).expect("f64 elements");
    let residual = residual.map_or_else(|| vec![0.0; expected.len()], flat);
    let (mut wrong, mut size) = (0.0, 0.0);
    for ((a, b), r) in flat(found).into_iter().zip(expected).zip(residual) {
        wrong += (f64::from(a) - b).powi(2);
        size += (b - f64::from(r)).powi(2);
    }
    if size == 0.0 { wrong } else { (wrong / size).sqrt() }
}

/// Operands rounded to 8 bits of mantissa have errors of 2⁻⁹/√3 each; up to five of them in a row add up.
const TOLERANCE: f64 = 6e-3;

/// Runs `compute` on every path and unit: each must be close to `expected`. Returns the bits of the best.
fn check(what: &str, expected: &Tensor, residual: Option<&Tensor>, compute: &dyn Fn() -> Result<Tensor>) {
    check_within(TOLERANCE, what, expected, residual, compute);
}

/// [`check`] with another tolerance.
fn check_within(
    tolerance: f64,
    what: &str,
    expected: &Tensor,
    residual: Option<&Tensor>,
    compute: &dyn Fn() -> Result<Tensor>,
) {
    on_each_path(|path| {
        let results = on_each_unit(|unit| (unit, compute()));
        // The narrower units run with the portable products only: that is where they are.
        let wanted = results.len() - if path == Path::Portable { results.len() } else { 1 };
        for (unit, result) in results.into_iter().skip(wanted) {
            let result = result.unwrap_or_else(|e| panic!("{what}, {path:?}, {unit:?}: {e}"));
            let error = error(&result, expected, residual);
            assert!(error < tolerance, "{what}, {path:?}, {unit:?}: error {error:.1e}");
        }
    });
}

/// The same bits on one thread and on three.
pub(super) fn same_on_threads(what: &str, compute: &(dyn Fn() -> Result<Tensor> + Sync)) {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        flat(&pool.install(compute).expect("a result"))
    };
    assert!(on(1) == on(3), "{what}");
}

#[test]
fn projections_match_f64() -> Result<()> {
    let mut rng = Rng(1);
    for case in 0..cases(120) as usize {
        let (rows, dim, out) = (rng.within(0, 70), rng.within(1, 150), rng.within(1, 100));
        let x = rng.tensor(&[rows, dim], 1.0)?;
        let (weight, bias) = (rng.weight(out, dim)?, rng.tensor(&[out], 0.3)?);
        let norm = if dim > 4 && rng.chance() { Some(rng.norm(dim, false)?) } else { None };
        let residual = if rng.chance() { Some(rng.tensor(&[rows, out], 1.0)?) } else { None };
        let activation = [None, Some(Activation::Gelu), Some(Activation::Silu)][case % 3];
        let packed = pack(&weight, Some(&bias))?;
        let twice = norm.as_ref().map(doubled_norm);
        let expected = projection_reference(
            &doubled(&x),
            twice.as_ref().map(parameters),
            (&doubled(&weight), Some(&doubled(&bias))),
            activation,
            residual.as_ref().map(doubled).as_ref(),
        )?;
        let compute =
            || projection(&x, norm.as_ref().map(parameters), &packed, activation, residual.as_ref());
        check(&format!("projection {rows} x {dim} x {out}"), &expected, residual.as_ref(), &compute);
    }
    Ok(())
}

#[test]
fn a_row_of_a_projection_depends_on_itself_alone() -> Result<()> {
    let mut rng = Rng(2);
    // The last one is streamed, its parts are not.
    let shapes = [(1, 64, 33), (17, 70, 96), (300, 96, 200), (700, 200, 64), (90, 1300, 70), (700, 40, 800)];
    for (rows, dim, out) in shapes {
        let (x, weight) = (rng.tensor(&[rows, dim], 1.0)?, rng.weight(out, dim)?);
        let (norm, packed) = (rng.norm(dim, true)?, pack(&weight, None)?);
        let run = |x: &Tensor| projection(x, Some(parameters(&norm)), &packed, Some(Activation::Gelu), None);
        let all = run(&x)?;
        for (first, count) in [(0, 1), (rows / 2, rows - rows / 2), (rows - 1, 1)] {
            let part = run(&x.narrow(0, first, count)?)?;
            assert!(flat(&part) == flat(&all.narrow(0, first, count)?), "{rows} rows from {first}");
        }
        same_on_threads("projection", &|| run(&x));
    }
    Ok(())
}

#[test]
fn grouped_projections_are_projections_of_each_group() -> Result<()> {
    let mut rng = Rng(3);
    let (dim, out) = (48, 70);
    let packed = (0..5).map(|_| pack(&rng.weight(out, dim)?, None)).collect::<Result<Vec<_>>>()?;
    for offsets in [[0, 4, 4, 40, 40, 41], [0, 0, 0, 0, 0, 0], [0, 0, 9, 9, 9, 9]] {
        let x = rng.tensor(&[offsets[5], dim], 1.0)?;
        let found = grouped_projection(&x, &offsets, out, |group| &packed[group])?;
        for group in 0..5 {
            let (first, count) = (offsets[group], offsets[group + 1] - offsets[group]);
            let alone = projection(&x.narrow(0, first, count)?, None, &packed[group], None, None)?;
            assert!(flat(&alone) == flat(&found.narrow(0, first, count)?), "group {group}");
        }
    }
    assert!(grouped_projection(&rng.tensor(&[3, dim], 1.0)?, &[0, 2, 1, 3], out, |g| &packed[g]).is_err());
    Ok(())
}

const ACTIVATIONS: [Activation; 5] =
    [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu, Activation::Relu, Activation::Silu];

#[test]
fn feed_forwards_match_f64() -> Result<()> {
    let mut rng = Rng(4);
    for case in 0..cases(80) as usize {
        let (rows, dim, hidden) = (rng.within(0, 70), rng.within(8, 130), rng.within(1, 150));
        let x = rng.tensor(&[2, rows, dim], 1.0)?;
        let gated = rng.chance();
        let (gate, up) = (rng.weight(hidden, dim)?, rng.weight(hidden, dim)?);
        let (down, bias) = (rng.weight(dim, hidden)?, rng.tensor(&[hidden], 0.3)?);
        let (norm, post_norm) = (rng.norm(dim, false)?, rng.norm(dim, false)?);
        let (pre, post, residual) = (rng.chance(), rng.chance(), rng.chance());
        let activation = ACTIVATIONS[case % 5];
        let (packed_gate, packed_up) = (pack(&gate, None)?, pack(&up, Some(&bias))?);
        let packed_down = pack(&down, None)?;
        let weights = FeedForward {
            norm: pre.then(|| parameters(&norm)),
            gate: gated.then_some(&packed_gate),
            up: &packed_up,
            activation,
            down: &packed_down,
            post_norm: post.then(|| parameters(&post_norm)),
            residual,
        };
        let (norm2, post2) = (doubled_norm(&norm), doubled_norm(&post_norm));
        let (gate2, up2, down2) = (doubled(&gate), doubled(&up), doubled(&down));
        let bias2 = doubled(&bias);
        let expected = feed_forward_reference(
            &doubled(&x),
            (pre.then(|| parameters(&norm2)), post.then(|| parameters(&post2))),
            (gated.then_some((&gate2, None)), (&up2, Some(&bias2)), (&down2, None)),
            activation,
            residual,
        )?;
        let what = format!("feed_forward {rows} x {dim} x {hidden}, {activation:?}, gate {gated}");
        // A lone hidden column may cancel what its one product's error is measured against.
        if hidden > 4 {
            check(&what, &expected, residual.then_some(&x), &|| feed_forward(&x, &weights));
        }
    }
    Ok(())
}

#[test]
fn a_row_of_a_feed_forward_depends_on_itself_alone() -> Result<()> {
    let mut rng = Rng(5);
    // The second is deeper than one pass over its depth, and its hidden activations come in parts.
    for (dim, hidden, all_rows) in [(96, 200, &[1, 40, 600][..]), (650, 2100, &[300])] {
        let (gate, up) = (rng.weight(hidden, dim)?, rng.weight(hidden, dim)?);
        let (down, norm) = (rng.weight(dim, hidden)?, rng.norm(dim, false)?);
        let packed = [pack(&gate, None)?, pack(&up, None)?, pack(&down, None)?];
        let weights = FeedForward {
            norm: Some(parameters(&norm)),
            gate: Some(&packed[0]),
            up: &packed[1],
            activation: Activation::Silu,
            down: &packed[2],
            post_norm: None,
            residual: true,
        };
        for &rows in all_rows {
            let x = rng.tensor(&[rows, dim], 1.0)?;
            let all = feed_forward(&x, &weights)?;
            let (gate, up, down, norm) = (doubled(&gate), doubled(&up), doubled(&down), doubled_norm(&norm));
            let expected = feed_forward_reference(
                &doubled(&x),
                (Some(parameters(&norm)), None),
                (Some((&gate, None)), (&up, None), (&down, None)),
                Activation::Silu,
                true,
            )?;
            let error = error(&all, &expected, Some(&x));
            assert!(error < TOLERANCE, "{rows} x {dim} x {hidden}: error {error:.1e}");
            for (first, count) in [(0, 1), (rows / 3, rows - rows / 3), (rows - 1, 1)] {
                let part = feed_forward(&x.narrow(0, first, count)?, &weights)?;
                assert!(flat(&part) == flat(&all.narrow(0, first, count)?), "{rows} rows from {first}");
            }
            same_on_threads("feed_forward", &|| feed_forward(&x, &weights));
        }
    }
    Ok(())
}

/// A random partition: every token once, padding in between.
fn partition(rng: &mut Rng, tokens: usize, area: usize) -> Vec<u32> {
    let places = (tokens + rng.within(0, area)).next_multiple_of(area);
    let mut index: Vec<u32> = (0..places).map(|i| if i < tokens { i as u32 } else { ZERO_ROW }).collect();
    for i in (1..places).rev() {
        index.swap(i, rng.within(0, i));
    }
    index
}

#[test]
fn window_attentions_match_f64() -> Result<()> {
    let mut rng = Rng(6);
    for case in 0..cases(60) as usize {
        let (batch, area, heads) = (rng.within(1, 2), rng.within(1, 60), rng.within(1, 3));
        let head_dim = [32, 16, 24, 40, 5][case % 5];
        let (dim, width) = (rng.within(8, 80), heads * head_dim);
        let tokens = rng.within(1, 2 * area);
        let index = partition(&mut rng, tokens, area);
        let windows = index.len() / area;
        let x = rng.tensor(&[batch, tokens, dim], 1.0)?;
        let mut linear = |out: usize, inner: usize| -> Result<NormPair> {
            Ok((rng.weight(out, inner)?, Some(rng.tensor(&[out], 0.3)?)))
        };
        let linears = [linear(width, dim)?, linear(width, dim)?, linear(width, dim)?, linear(dim, width)?];
        let bias = rng.tensor(&[heads, area, area], 1.0)?;
        let mask = if rng.chance() {
            Some((rng.tensor(&[windows, area, area], 1.0)?.relu()? * -50.0)?)
        } else {
            None
        };
        let (norm, cosine) = (rng.norm(dim, true)?, rng.chance().then(|| vec![7.0; heads]));
        let [query, key, value, output] = linears.each_ref().map(|(w, b)| (w, b.as_ref()));
        let projections = ([query, key, value], output);
        let plan = Windows { index: &index, area, mask: mask.as_ref() };
        let cosine = cosine.as_deref();
        let norms = |norm| if cosine.is_some() { (None, Some(norm)) } else { (Some(norm), None) };
        let doubles = linears.each_ref().map(doubled_norm);
        let [query, key, value, output] = doubles.each_ref().map(|(w, b)| (w, b.as_ref()));
        let (mask2, bias2, norm2) = (mask.as_ref().map(doubled), doubled(&bias), doubled_norm(&norm));
        let expected = window_attention_reference(
            &doubled(&x),
            norms(parameters(&norm2)),
            ([query, key, value], output, &bias2),
            Windows { mask: mask2.as_ref(), ..plan },
            cosine,
        )?;
        // Bytes err by half a step of the greatest element of a row, twice: before the projections and after the mixing.
        for (precision, tolerance) in [(Precision::Bf16, TOLERANCE), (Precision::Int8, 0.04)] {
            let (three, output) = projections;
            let weights = WindowWeights::new(three, output, &bias, precision)?;
            let run = |x: &Tensor| window_attention(x, norms(parameters(&norm)), &weights, plan, cosine);
            let what = format!("{precision:?}, {windows} windows of {area}, {heads} heads of {head_dim}");
            check_within(tolerance, &what, &expected, Some(&x), &|| run(&x));
            let last = run(&x.narrow(0, batch - 1, 1)?)?;
            assert!(flat(&last) == flat(&run(&x)?.narrow(0, batch - 1, 1)?), "{what}: an image alone");
            same_on_threads("window_attention", &|| run(&x));
        }
    }
    Ok(())
}

#[test]
fn windows_that_leave_out_a_row_are_refused() -> Result<()> {
    let mut rng = Rng(7);
    let x = rng.tensor(&[1, 4, 32], 1.0)?;
    let (w, bias) = (rng.weight(32, 32)?, rng.tensor(&[1, 2, 2], 1.0)?);
    let weights = WindowWeights::new([(&w, None); 3], (&w, None), &bias, Precision::Bf16)?;
    let run = |index: &[u32]| {
        let windows = Windows { index, area: 2, mask: None };
        window_attention(&x, (None, None), &weights, windows, None)
    };
    assert!(run(&[3, 2, 1, 0]).is_ok());
    for index in [&[0, 1, 2, ZERO_ROW][..], &[0, 1, 2], &[0, 1, 2, 4]] {
        assert!(run(index).is_err(), "{index:?}");
    }
    Ok(())
}

#[test]
fn tiled_attention_matches_f64() -> Result<()> {
    let mut rng = Rng(8);
    for case in 0..cases(80) as usize {
        let (batch, kv_heads, group) = (rng.within(1, 2), rng.within(1, 3), rng.within(1, 3));
        let (q_len, past) = (rng.within(2, 70), rng.within(0, 70));
        let (dim, v_dim) = (rng.within(1, 80), rng.within(1, 80));
        let causal = case % 2 == 0;
        let kv_len = if causal { q_len + past } else { rng.within(1, 140) };
        let q = rng.tensor(&[batch, q_len, kv_heads * group, dim], 1.0)?;
        let k = rng.tensor(&[batch, kv_len, kv_heads, dim], 1.0)?;
        let v = rng.tensor(&[batch, kv_len, kv_heads, v_dim], 1.0)?;
        let additive = rng.tensor(&[batch, q_len, kv_len], 1.0)?;
        let mask = match case % 3 {
            _ if causal => Mask::Causal { offset: past },
            0 => Mask::None,
            _ => Mask::Additive(&additive),
        };
        let scale = (dim as f64).powf(-0.5);
        let expected = attention_reference(&doubled(&q), &doubled(&k), &doubled(&v), None, mask, scale)?;
        let compute = || attention_in(Precision::Bf16, &q, &k, &v, mask, scale);
        check(&format!("{q_len} queries, {kv_len} keys, {dim}, {v_dim}"), &expected, None, &compute);
        same_on_threads("attention", &compute);
        let all = compute()?;
        // What is rounded before gives the same bits.
        let (rounded_k, rounded_v) = (round_to_bf16(&k)?, round_to_bf16(&v)?);
        let scaled = round_to_bf16(&(&q * scale)?)?;
        for (q, scale) in [(&q, scale), (&scaled, 1.0)] {
            let found = attention_in(Precision::Bf16, q, &rounded_k, &rounded_v, mask, scale)?;
            assert!(flat(&found) == flat(&all), "{:?} queries, bf16 keys", q.dtype());
        }
        if causal && q_len > 4 {
            // The first part of a prompt, and the rest behind it.
            let part = |first: usize, count: usize| {
                let keys = past + first + count;
                let (k, v) = (k.narrow(1, 0, keys)?, v.narrow(1, 0, keys)?);
                let mask = Mask::Causal { offset: past + first };
                attention_in(Precision::Bf16, &q.narrow(1, first, count)?, &k, &v, mask, scale)
            };
            for (first, count) in [(0, q_len / 2), (q_len / 2, q_len - q_len / 2)] {
                assert!(
                    flat(&part(first, count)?) == flat(&all.narrow(1, first, count)?),
                    "a part of a prompt"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn rounded_rotations_are_rotations_rounded() -> Result<()> {
    let mut rng = Rng(9);
    for _ in 0..cases(60) {
        let (batch, tokens, heads) = (rng.within(1, 3), rng.within(1, 40), rng.within(1, 5));
        let half = rng.within(1, 40);
        let angles = [if rng.within(0, 1) == 0 { 1 } else { batch }, tokens, half];
        let (cos, sin) = (rng.tensor(&angles, 1.0)?, rng.tensor(&angles, 1.0)?);
        // A view of a joined projection.
        let x = rng.tensor(&[batch, tokens, heads + 2, 2 * half], 1.0)?.narrow(2, 1, heads)?;
        for (layout, factor) in
            [(RopeLayout::HalfSplit, 1.0), (RopeLayout::HalfSplit, 0.3), (RopeLayout::Interleaved, 0.3)]
        {
            let results = on_each_unit(|_| -> Result<_> {
                let expected = round_to_bf16(&(rope(&x, &cos, &sin, layout)? * factor)?)?;
                Ok((expected, rope_rounded(&x, (&cos, &sin), layout, factor)?))
            });
            for result in results {
                let (expected, found) = result?;
                assert_eq!((found.dims(), found.dtype()), (x.dims(), DType::BF16));
                let [expected, found] = [expected, found].map(|x| x.to_dtype(DType::F32));
                assert!(flat(&expected?) == flat(&found?), "{layout:?} {factor} {:?}", x.dims());
            }
        }
    }
    Ok(())
}
