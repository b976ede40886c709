//! With the feature `cuda`: the kernels that candle's operations launch, as PTX in `OUT_DIR`. Else nothing.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Sources in `cuda/` that `src/cuda` loads.
const SOURCES: [&str; 9] = [
    "activation",
    "attention_combine",
    "causal_attention",
    "mla_decode",
    "moe",
    "norms",
    "quant_linear",
    "rope",
    "window_attention",
];

fn main() {
    for path in ["build.rs", "cuda"] {
        println!("cargo::rerun-if-changed={path}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    for variable in ["NVCC", "CUDA_HOME", "CUDA_COMPUTE_CAP"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // The driver makes machine code of PTX for the card at hand, which may be newer than this.
    let capability = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| "80".to_owned());
    for source in SOURCES {
        let mut nvcc = Command::new(nvcc());
        nvcc.args(["-ptx", "-O3", "-std=c++17"]).arg(format!("-arch=compute_{capability}"));
        nvcc.arg(Path::new("cuda").join(source).with_extension("cu")).arg("-o");
        nvcc.arg(out.join(source).with_extension("ptx"));
        match nvcc.status() {
            Ok(status) if status.success() => {}
            Ok(status) => panic!("{nvcc:?} failed: {status}"),
            Err(error) => panic!("{nvcc:?}: {error}; see kernels/cuda/README.md"),
        }
    }
}

/// `$NVCC`, or that of the toolkit in `$CUDA_HOME`, or whatever the path has.
fn nvcc() -> PathBuf {
    let of_home = || env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("bin/nvcc"));
    env::var_os("NVCC").map(PathBuf::from).or_else(of_home).unwrap_or_else(|| "nvcc".into())
}
