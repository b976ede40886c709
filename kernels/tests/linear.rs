//! `linear` and `grouped_linear`: values, gradients, degenerate shapes, and the layers around them.

use candle_core::{DType, Device, Tensor, Var};
use half::bf16;
use swinseek_kernels::Precision::{self, Bf16, F32};
use swinseek_kernels::layers::{GroupedLinear, Linear};
use swinseek_kernels::ops::linear::{grouped_linear, grouped_linear_reference, linear, linear_reference};

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
}

fn var(shape: &[usize]) -> Var {
    Var::from_tensor(&random(shape)).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Rounds to `bf16` and back, as the fast products do with their operands.
fn rounded(tensor: &Tensor) -> Tensor {
    let values: Vec<f32> = flat(tensor).into_iter().map(|v| bf16::from_f32(v).to_f32()).collect();
    Tensor::from_vec(values, tensor.shape(), &Device::Cpu).unwrap()
}

/// The operands as the precision sees them, in `f64`.
fn exact(tensor: &Tensor, precision: Precision) -> Tensor {
    let tensor = if precision == Bf16 { rounded(tensor) } else { tensor.clone() };
    tensor.to_dtype(DType::F64).unwrap()
}

/// Differences stay below `f32` rounding of sums of a few hundred products of unit normals.
fn assert_close(found: &Tensor, expected: &Tensor, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let expected = expected.to_dtype(DType::F32).unwrap();
    for (a, b) in flat(found).into_iter().zip(flat(&expected)) {
        assert!((a - b).abs() <= 2e-5 * (1.0 + b.abs()), "{what}: {a} and {b}");
    }
}

#[test]
fn linear_and_its_gradients_match_f64() {
    for precision in [F32, Bf16] {
        for (batch, inner, out) in [(1, 1, 1), (5, 40, 17), (67, 33, 120), (3, 160, 48)] {
            let (x, w, b) = (var(&[2, batch, inner]), var(&[out, inner]), var(&[out]));
            let y = linear(&x, &w, Some(&b), precision).unwrap();
            let weight = exact(&w, precision);
            let expected = linear_reference(&exact(&x, precision), &weight, Some(&exact(&b, F32))).unwrap();
            assert_close(&y, &expected, "y");
            let dy = random(y.dims());
            let grads = (&y * &dy).unwrap().sum_all().unwrap().backward().unwrap();
            let rows = |t: &Tensor| exact(t, precision).flatten_to(1).unwrap();
            let dx = rows(&dy).matmul(&weight).unwrap().reshape(x.shape()).unwrap();
            assert_close(grads.get(&x).unwrap(), &dx, "dx");
            let dw = rows(&dy).t().unwrap().matmul(&rows(&x)).unwrap();
            assert_close(grads.get(&w).unwrap(), &dw, "dw");
            assert_close(
                grads.get(&b).unwrap(),
                &exact(&dy, F32).flatten_to(1).unwrap().sum(0).unwrap(),
                "db",
            );
        }
    }
}

#[test]
fn gradients_match_finite_differences() {
    // Linear in each argument, so a central difference has no truncation error and a step of 1 costs no digits.
    let (x, w, b) = (var(&[3, 5]), var(&[4, 5]), var(&[4]));
    let dy = random(&[3, 4]);
    let loss = || (linear(&x, &w, Some(&b), F32).unwrap() * &dy).unwrap().sum_all().unwrap();
    let grads = loss().backward().unwrap();
    for variable in [&x, &w, &b] {
        let grad = flat(grads.get(variable).unwrap());
        let start = flat(variable);
        for (index, found) in grad.into_iter().enumerate() {
            let moved = |step: f32| {
                let mut values = start.clone();
                values[index] += step;
                variable.set(&Tensor::from_vec(values, variable.shape(), &Device::Cpu).unwrap()).unwrap();
                loss().to_scalar::<f32>().unwrap()
            };
            let slope = (moved(1.0) - moved(-1.0)) / 2.0;
            assert!((found - slope).abs() < 1e-4, "{found} and {slope}");
        }
        variable.set(&Tensor::from_vec(start, variable.shape(), &Device::Cpu).unwrap()).unwrap();
    }
}

#[test]
fn grouped_linear_and_its_gradients_match_the_reference() {
    // The second and the last group are empty.
    let offsets = [0, 7, 7, 40, 41, 41];
    for precision in [F32, Bf16] {
        let (x, w) = (var(&[41, 40]), var(&[5, 24, 40]));
        let y = grouped_linear(&x, &w, &offsets, precision).unwrap();
        let expected =
            grouped_linear_reference(&exact(&x, precision), &exact(&w, precision), &offsets).unwrap();
        assert_close(&y, &expected, "y");
        let dy = random(y.dims());
        let grads = (&y * &dy).unwrap().sum_all().unwrap().backward().unwrap();
        let (x64, w64) = (
            Var::from_tensor(&exact(&x, precision)).unwrap(),
            Var::from_tensor(&exact(&w, precision)).unwrap(),
        );
        let y64 = grouped_linear_reference(&x64, &w64, &offsets).unwrap();
        let expected = (y64 * exact(&dy, precision)).unwrap().sum_all().unwrap().backward().unwrap();
        assert_close(grads.get(&x).unwrap(), expected.get(&x64).unwrap(), "dx");
        assert_close(grads.get(&w).unwrap(), expected.get(&w64).unwrap(), "dw");
    }
}

#[test]
fn no_rows_give_no_rows_and_zero_gradients() {
    for precision in [F32, Bf16] {
        let (x, w, b) = (var(&[0, 6]), var(&[4, 6]), var(&[4]));
        let y = linear(&x, &w, Some(&b), precision).unwrap();
        assert_eq!(y.dims(), [0, 4]);
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(flat(grads.get(&w).unwrap()), [0.0; 24]);
        assert_eq!(flat(grads.get(&b).unwrap()), [0.0; 4]);
        let experts = var(&[2, 4, 6]);
        let y = grouped_linear(&x, &experts, &[0, 0, 0], precision).unwrap();
        assert_eq!(y.dims(), [0, 4]);
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(flat(grads.get(&experts).unwrap()), [0.0; 48]);
    }
}

#[test]
fn strided_operands_give_the_same_bits() {
    for precision in [F32, Bf16] {
        let (x, w) = (random(&[6, 5, 7]).transpose(0, 1).unwrap(), random(&[7, 3]).t().unwrap());
        let y = linear(&x, &w, None, precision).unwrap();
        let dense = linear(&x.contiguous().unwrap(), &w.contiguous().unwrap(), None, precision).unwrap();
        assert_eq!(flat(&y), flat(&dense));
        let rows = random(&[9, 7]);
        let tail = linear(&rows.narrow(0, 4, 5).unwrap(), &w, None, precision).unwrap();
        assert_eq!(flat(&tail), flat(&linear(&rows, &w, None, precision).unwrap())[4 * 3..]);
    }
}

#[test]
fn packed_weights_give_the_same_bits() {
    let (x, w, b) = (random(&[9, 70]), random(&[50, 70]), random(&[50]));
    let plain = flat(&linear(&x, &w, Some(&b), Bf16).unwrap());
    let layer = Linear::from_parts(w, Some(b), Bf16);
    for _ in 0..2 {
        assert_eq!(flat(&layer.forward(&x).unwrap()), plain);
    }
    let (experts, offsets) = (random(&[3, 50, 70]), [0, 4, 4, 9]);
    let plain = flat(&grouped_linear(&x, &experts, &offsets, Bf16).unwrap());
    let layer = GroupedLinear::from_parts(experts, Bf16).unwrap();
    for _ in 0..2 {
        assert_eq!(flat(&layer.forward(&x, &offsets).unwrap()), plain);
    }
}

#[test]
fn layers_follow_variables() {
    let (x, w) = (random(&[2, 8]), var(&[3, 8]));
    let layer = Linear::from_parts(w.as_tensor().clone(), None, Bf16);
    layer.forward(&x).unwrap();
    w.set(&Tensor::zeros((3, 8), DType::F32, &Device::Cpu).unwrap()).unwrap();
    assert_eq!(flat(&layer.forward(&x).unwrap()), [0.0; 6]);
}

#[test]
fn misfits_are_errors() {
    let (x, w) = (random(&[2, 8]), random(&[3, 7]));
    let message = linear(&x, &w, None, F32).unwrap_err().to_string();
    assert!(message.contains("[2, 8]") && message.contains("[3, 7]"), "{message}");
    assert!(linear(&x, &random(&[3, 8]), Some(&random(&[2])), F32).is_err());
    let experts = random(&[2, 3, 8]);
    for offsets in [&[0, 2][..], &[0, 1, 3], &[1, 1, 2], &[0, 3, 2]] {
        assert!(grouped_linear(&x, &experts, offsets, F32).is_err(), "{offsets:?}");
    }
}
