//! Tensors on a CUDA device, which `kernels/simulated-card.sh` makes of this machine's processor, and which may as well be a real
//! one: candle's operations give what they give on the CPU, and our kernels what their references give there.
#![cfg(feature = "cuda")]

mod layers;

use std::cell::Cell;

use candle_core::{D, DType, Device, Result, Tensor};
use swinseek_kernels::Precision;
use swinseek_kernels::ops::activation::{
    gelu, gelu_reference, silu_mul, silu_mul_reference, softmax, softmax_reference, swiglu, swiglu_reference,
};
use swinseek_kernels::ops::attention::{Mask, attention_in, attention_reference};
use swinseek_kernels::ops::norm::{layer_norm, layer_norm_reference, rms_norm, rms_norm_reference};

type Op = fn(&[Tensor]) -> Result<Tensor>;

/// The card, if there is one. Where one is promised, to have none is a failure.
fn card() -> Option<Device> {
    match swinseek_kernels::device::open("cuda") {
        Ok(device) => Some(device),
        Err(error) => {
            assert!(std::env::var_os("SWINSEEK_EXPECT_GPU").is_none(), "{error}");
            println!("nothing was tested: {}", error.to_string().lines().next().unwrap_or_default());
            None
        }
    }
}

thread_local! {
    static STATE: Cell<u64> = const { Cell::new(1) };
}

/// Numbers between -4 and 4, most of them near 0, the same in each run of a test.
fn random(shape: &[usize]) -> Tensor {
    let mut state = STATE.get();
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let values = (0..shape.iter().product()).map(|_| 2.0 * (next() + next() - next() - next())).collect();
    STATE.set(state);
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// `count` numbers below `bound`.
fn indices(count: usize, bound: usize) -> Tensor {
    let scattered = (0..count).map(|i| ((i * 7 + 3) % bound) as u32).collect::<Vec<_>>();
    Tensor::from_vec(scattered, count, &Device::Cpu).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_device(&Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Differences stay below `tolerance` of the largest value.
fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f32, what: &str) {
    assert_eq!((found.dims(), found.dtype()), (expected.dims(), expected.dtype()), "{what}");
    let (found, expected) = (flat(found), flat(expected));
    let largest = expected.iter().filter(|x| x.is_finite()).fold(0f32, |a, x| a.max(x.abs()));
    for (i, (a, b)) in found.into_iter().zip(expected).enumerate() {
        assert!(a == b || (a - b).abs() <= tolerance * largest, "{what}: {a} and {b} at {i}");
    }
}

fn is_half(tensor: &Tensor) -> bool {
    matches!(tensor.dtype(), DType::BF16 | DType::F16)
}

/// `op` of the arguments on the card and `reference` of them here, where 16-bit floats are widened: here their sums would be
/// rounded more often.
fn compare(card: &Device, what: &str, arguments: &[Tensor], tolerance: f32, op: Op, reference: Op) {
    let moved = arguments.iter().map(|x| x.to_device(card).unwrap()).collect::<Vec<_>>();
    let what = format!("{what} of {:?}", arguments.iter().map(Tensor::dims).collect::<Vec<_>>());
    let found = op(&moved).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(found.device().is_cuda(), "{what}");
    let widened = arguments.iter().map(|x| if is_half(x) { x.to_dtype(DType::F32) } else { Ok(x.clone()) });
    let mut expected = reference(&widened.collect::<Result<Vec<_>>>().unwrap()).unwrap();
    if arguments.iter().any(is_half) && expected.dtype() == DType::F32 {
        expected = expected.to_dtype(arguments[0].dtype()).unwrap();
    }
    assert_close(&found, &expected, tolerance, &what);
}

const EXACT: f32 = 0.0;
const F32: f32 = 2e-6;
const BF16: f32 = 8e-3;

/// Of two tensors `(a, b, c)` alike.
const ELEMENTWISE: [(&str, f32, Op); 22] = [
    ("add", EXACT, |x| &x[0] + &x[1]),
    ("sub", EXACT, |x| &x[0] - &x[1]),
    ("mul", EXACT, |x| &x[0] * &x[1]),
    ("div", F32, |x| &x[0] / (x[1].abs()? + 1.0)?),
    ("maximum", EXACT, |x| x[0].maximum(&x[1])),
    ("minimum", EXACT, |x| x[0].minimum(&x[1])),
    ("add broadcast", EXACT, |x| x[0].broadcast_add(&x[1].narrow(1, 0, 1)?)),
    ("mul broadcast", EXACT, |x| x[0].narrow(0, 0, 1)?.broadcast_mul(&x[1].narrow(2, 0, 1)?)),
    ("affine", F32, |x| x[0].affine(1.5, -0.25)),
    ("exp", F32, |x| x[0].exp()),
    ("log", F32, |x| (x[0].abs()? + 0.5)?.log()),
    ("square root", F32, |x| x[0].sqr()?.sqrt()),
    ("reciprocal", F32, |x| (x[0].abs()? + 1.0)?.recip()),
    ("sine and cosine", F32, |x| x[0].sin()? + x[1].cos()?),
    ("tanh", F32, |x| x[0].tanh()),
    ("silu", F32, |x| x[0].silu()),
    ("gelu", F32, |x| x[0].gelu_erf()),
    ("power", 1e-5, |x| x[0].abs()?.powf(1.5)),
    ("negated transpose", EXACT, |x| x[0].transpose(0, 2)?.neg()),
    ("clamp", EXACT, |x| x[0].clamp(-0.5, 0.5)),
    ("less", EXACT, |x| x[0].lt(&x[1])),
    ("where", EXACT, |x| x[0].ge(&x[1])?.where_cond(&x[0], &x[1].affine(0.0, 7.0)?)),
];

/// Of a tensor `(a, b, c)`.
const SHAPED: [(&str, f32, Op); 18] = [
    ("cat", EXACT, |x| Tensor::cat(&[&x[0], &x[1].narrow(1, 0, 1)?], 1)),
    ("cat of the first dimension", EXACT, |x| Tensor::cat(x, 0)),
    ("stack", EXACT, |x| Tensor::stack(x, 3)),
    ("narrow", EXACT, |x| x[0].narrow(2, 1, x[0].dim(2)? - 1)?.contiguous()),
    ("transpose", EXACT, |x| x[0].transpose(0, 1)?.contiguous()),
    ("permute", EXACT, |x| x[0].permute((2, 0, 1))?.contiguous()),
    ("pad", EXACT, |x| x[0].pad_with_zeros(1, 2, 1)),
    ("flip by index", EXACT, |x| {
        let last = x[0].dim(1)? as u32;
        x[0].index_select(&Tensor::from_vec((0..last).rev().collect(), last as usize, x[0].device())?, 1)
    }),
    ("sum of the last", F32, |x| x[0].sum(D::Minus1)),
    ("sum of two", 5e-5, |x| x[0].sum((0, 2))),
    ("mean of all", F32, |x| x[0].abs()?.mean_all()),
    ("max", EXACT, |x| x[0].max(D::Minus1)),
    ("min of the first", EXACT, |x| x[0].min_keepdim(0)),
    ("argmax", EXACT, |x| x[0].argmax(D::Minus1)),
    ("argmin", EXACT, |x| x[0].argmin(D::Minus1)),
    ("sort", EXACT, |x| Ok(x[0].contiguous()?.sort_last_dim(false)?.0)),
    ("order", EXACT, |x| x[0].contiguous()?.arg_sort_last_dim(true)),
    ("softmax", F32, |x| softmax_reference(&x[0])),
];

const SHAPES: [[usize; 3]; 4] = [[1, 1, 2], [3, 5, 7], [2, 33, 40], [4, 3, 1300]];

#[test]
fn candle_computes_what_it_computes_here() {
    let Some(card) = card() else { return };
    for shape in SHAPES {
        let arguments = [random(&shape), random(&shape)];
        for (what, tolerance, op) in ELEMENTWISE.iter().chain(&SHAPED) {
            compare(&card, what, &arguments, *tolerance, *op, *op);
        }
        let rounded = arguments.map(|x| x.to_dtype(DType::BF16).unwrap());
        // Of equal numbers, of which there are many, any may be first.
        let decided = |what: &str| !["argmax", "argmin", "order"].contains(&what);
        for (what, _, op) in ELEMENTWISE.iter().chain(&SHAPED).filter(|(what, ..)| decided(what)) {
            compare(&card, &format!("bf16 {what}"), &rounded, BF16, *op, *op);
        }
    }
}

#[test]
fn numbers_move_and_change_type() {
    let Some(card) = card() else { return };
    let values = [0.0f32, 1.0, 2.5, 3.49, 100.0, 255.0, 1e-3, 77.77];
    let here = Tensor::new(&values, &Device::Cpu).unwrap();
    let there = Tensor::new(&values, &card).unwrap();
    assert_eq!(there.to_vec1::<f32>().unwrap(), values);
    let halves = [DType::BF16, DType::F16];
    let types = [DType::U8, DType::U32, DType::I64, DType::BF16, DType::F16, DType::F32, DType::F64];
    for from in types {
        for to in types {
            // candle has no kernel for these.
            if [(from, to), (to, from)].iter().any(|&(a, b)| a == DType::I64 && halves.contains(&b)) {
                continue;
            }
            let cast = |x: &Tensor| x.to_dtype(from).unwrap().to_dtype(to).unwrap();
            let through = |x: &Tensor| cast(x).to_dtype(DType::F32).unwrap();
            assert_close(&through(&there), &through(&here), EXACT, &format!("{from:?} to {to:?}"));
        }
    }
    for dtype in types {
        let ones = Tensor::ones((3, 5), dtype, &card).unwrap();
        let zeros = Tensor::zeros((3, 5), dtype, &card).unwrap();
        let sum = ((ones.clone() + ones).unwrap() + zeros).unwrap();
        assert_eq!(flat(&sum), [2.0; 15], "{dtype:?}");
    }
    let empty = Tensor::zeros((0, 4), DType::F32, &card).unwrap();
    assert!(flat(&empty).is_empty());
}

#[test]
fn candle_multiplies_matrices() {
    let Some(card) = card() else { return };
    let products: [(&str, Op); 6] = [
        ("plain", |x| x[0].matmul(&x[1])),
        ("right transposed", |x| x[0].matmul(&x[1].transpose(1, 2)?.contiguous()?.transpose(1, 2)?)),
        ("left transposed", |x| x[0].transpose(1, 2)?.contiguous()?.transpose(1, 2)?.matmul(&x[1])),
        ("one of the batch", |x| x[0].get(0)?.matmul(&x[1].get(x[1].dim(0)? - 1)?)),
        ("broadcast", |x| x[0].broadcast_matmul(&x[1].narrow(0, 0, 1)?)),
        ("four dimensions", |x| x[0].unsqueeze(0)?.matmul(&x[1].unsqueeze(0)?)),
    ];
    for [batch, m, k, n] in [[1, 1, 1, 1], [2, 5, 7, 3], [3, 1, 64, 33], [1, 70, 129, 50], [4, 16, 8, 16]] {
        for (dtype, tolerance) in
            [(DType::F32, 3e-6), (DType::F64, 1e-6), (DType::BF16, BF16), (DType::F16, 1e-3)]
        {
            let arguments = [random(&[batch, m, k]), random(&[batch, k, n])];
            let arguments = arguments.map(|x| x.to_dtype(dtype).unwrap());
            for (what, op) in products {
                compare(&card, &format!("{dtype:?} {what}"), &arguments, tolerance, op, op);
            }
        }
    }
}

#[test]
fn candle_finds_and_places_rows() {
    let Some(card) = card() else { return };
    for [rows, dim, count] in [[1, 1, 1], [5, 3, 9], [33, 40, 17]] {
        let (x, ids) = (random(&[rows, dim]), indices(count, rows));
        let many = ids.reshape((count, 1)).unwrap().broadcast_as((count, dim)).unwrap().contiguous().unwrap();
        let arguments = [x, ids, many, random(&[count, dim])];
        let ops: [(&str, f32, Op); 6] = [
            ("index_select", EXACT, |x| x[0].index_select(&x[1], 0)),
            ("index_select of columns", EXACT, |x| x[0].t()?.contiguous()?.index_select(&x[1], 1)),
            ("index_select by i64", EXACT, |x| x[0].index_select(&x[1].to_dtype(DType::I64)?, 0)),
            ("gather", EXACT, |x| x[0].gather(&x[2], 0)),
            ("index_add", F32, |x| x[0].index_add(&x[1], &x[3], 0)),
            ("scatter_add", F32, |x| x[0].scatter_add(&x[2], &x[3], 0)),
        ];
        for (what, tolerance, op) in ops {
            compare(&card, what, &arguments, tolerance, op, op);
        }
    }
}

#[test]
fn norms_and_activations_match_their_references() {
    let Some(card) = card() else { return };
    let ops: [(&str, Op, Op); 6] = [
        (
            "layer_norm",
            |x| layer_norm(&x[0], &x[2], &x[3], 1e-5),
            |x| layer_norm_reference(&x[0], &x[2], &x[3], 1e-5),
        ),
        ("rms_norm", |x| rms_norm(&x[0], &x[2], 1e-6), |x| rms_norm_reference(&x[0], &x[2], 1e-6)),
        ("gelu", |x| gelu(&x[0]), |x| gelu_reference(&x[0])),
        ("silu_mul", |x| silu_mul(&x[0], &x[1]), |x| silu_mul_reference(&x[0], &x[1])),
        ("swiglu", |x| swiglu(&x[0]), |x| swiglu_reference(&x[0])),
        ("softmax", |x| softmax(&x[0]), |x| softmax_reference(&x[0])),
    ];
    for [batch, rows, dim] in [[1, 1, 2], [2, 3, 34], [1, 5, 768], [3, 2, 1026], [1, 1, 5000], [2, 70, 8]] {
        let [x, other] = [0, 1].map(|_| random(&[batch, rows, dim]));
        let arguments = [x, other, random(&[dim]), random(&[dim])];
        for (what, op, reference) in ops {
            compare(&card, what, &arguments, 3e-6, op, reference);
        }
        // The same of every second row, which is not contiguous.
        let halved = arguments[0].transpose(0, 1).unwrap();
        let arguments = [halved.clone(), halved, arguments[2].clone(), arguments[3].clone()];
        for (what, op, reference) in ops {
            compare(&card, &format!("transposed {what}"), &arguments, 3e-6, op, reference);
        }
    }
}

#[test]
fn attention_matches_its_reference() {
    let Some(card) = card() else { return };
    // Batch, queries, keys, heads, heads of keys, dimension and that of values.
    let sizes = [
        [1, 1, 1, 1, 1, 2, 2],
        [2, 5, 9, 4, 2, 64, 64],
        [1, 70, 70, 2, 2, 32, 32],
        [1, 1, 600, 8, 2, 64, 64],
        [2, 3, 130, 3, 1, 96, 80],
        [1, 9, 33, 2, 1, 192, 128],
    ];
    for [batch, queries, keys, heads, kv_heads, dim, v_dim] in sizes {
        let q = random(&[batch, queries, heads, dim]);
        let (k, v) = (random(&[batch, keys, kv_heads, dim]), random(&[batch, keys, kv_heads, v_dim]));
        let scale = 1.0 / (dim as f64).sqrt();
        for mask in [Mask::None, Mask::Causal { offset: keys - queries }] {
            let expected = attention_reference(&q, &k, &v, None, mask, scale).unwrap();
            let what = format!("attention of {:?}, {:?} and {:?}", q.dims(), k.dims(), v.dims());
            for (precision, tolerance) in [(Precision::F32, 3e-6), (Precision::Bf16, 1e-2)] {
                let [q, k, v] = [&q, &k, &v].map(|x| x.to_device(&card).unwrap());
                let found = attention_in(precision, &q, &k, &v, mask, scale).unwrap();
                assert_close(&found, &expected, tolerance, &format!("{precision:?} {what}"));
            }
            // Keys and values as a cache of bf16 holds them, and as parts of one tensor.
            let joined =
                Tensor::cat(&[&k, &v], 3).unwrap().to_dtype(DType::BF16).unwrap().to_device(&card).unwrap();
            let (k, v) = (joined.narrow(3, 0, dim).unwrap(), joined.narrow(3, dim, v_dim).unwrap());
            let q = q.to_device(&card).unwrap();
            let found = attention_in(Precision::Bf16, &q, &k, &v, mask, scale).unwrap();
            assert_close(&found, &expected, 1e-2, &format!("cached {what}"));
        }
    }
}

#[test]
fn a_missing_kernel_is_named() {
    let Some(card) = card() else { return };
    let error = Tensor::new(&[1.0f32], &card).unwrap().to_dtype(DType::BF16).unwrap().to_dtype(DType::I64);
    let error = error.expect_err("candle has no such kernel").to_string();
    assert!(error.contains("NOT_FOUND"), "{error}");
}
