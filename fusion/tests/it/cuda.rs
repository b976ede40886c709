//! Whole models on a GPU, or on a simulated one (`kernels/simulated-card.sh`); without either there is nothing to test.

use candle_core::Device;
use swinseek_fusion::verify::{Report, Row, verify};
use swinseek_kernels::{Compute, Precision, device};

use crate::support::case;

/// Names of all cases.
fn cases() -> Vec<String> {
    let entries = std::fs::read_dir(case("")).unwrap().map(|entry| entry.unwrap().path());
    let folders = entries.filter(|path| path.is_dir());
    let mut names: Vec<String> =
        folders.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// The GPU, if there is one. Where one is promised, to have none is a failure.
fn gpu() -> Option<Device> {
    match device::open("cuda") {
        Ok(device) => Some(device),
        Err(error) => {
            assert!(std::env::var_os("SWINSEEK_EXPECT_GPU").is_none(), "{error}");
            eprintln!("not tested: {error}");
            None
        }
    }
}

fn report(name: &str, tolerance: f64, compute: Compute) -> Report {
    verify(&case(name), &case(name).join("golden.safetensors"), tolerance, compute).unwrap()
}

#[test]
fn goldens_hold_on_a_gpu() {
    let Some(device) = gpu() else { return };
    let mut failures = Vec::new();
    for name in cases() {
        // As on the processor: f32, another order of sums.
        let compute = Compute { precision: Precision::F32, device: device.clone() };
        let report = report(&name, 2e-5, compute);
        failures.extend(report.failures().map(|row| format!("{name}: {row:?}")));
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Kernels round where those of the processor do, or less, so they are about as far from what they round.
#[test]
fn rounded_models_are_as_far_from_the_goldens_as_on_the_processor() {
    let Some(device) = gpu() else { return };
    // Of what is no choice: a token or an expert that changes says nothing of the size of an error.
    let largest = |name: &str, compute: Compute| {
        let rows = report(name, f64::INFINITY, compute).rows.into_iter();
        let last = |row: &Row| ["logits", "last_hidden_state"].contains(&row.name.as_str());
        rows.filter(last).filter_map(|row| row.max_abs_diff).fold(0.0, f64::max)
    };
    let few_bits = ["deepseek_moe", "deepseek_v3", "llama_gqa"].map(str::to_owned).to_vec();
    let runs = [(Precision::Bf16, cases()), (Precision::Int8, few_bits.clone()), (Precision::Int4, few_bits)];
    let mut failures = Vec::new();
    for (precision, names) in runs {
        for name in names {
            let here = largest(&name, precision.into());
            let there = largest(&name, Compute { precision, device: device.clone() });
            eprintln!("{} {name}: {here:.4} {there:.4}", precision.name());
            if there > 3.0 * here {
                failures.push(format!("{} {name}: {there} on the GPU, {here} here", precision.name()));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
