//! How and where a model computes.

use candle_core::Device;

use crate::{Error, Precision, Result, gemm};

/// How and where a model computes. A precision alone means: on the processor.
#[derive(Debug, Clone)]
pub struct Compute {
    /// How matrices are multiplied.
    pub precision: Precision,
    /// Where.
    pub device: Device,
}

impl From<Precision> for Compute {
    fn from(precision: Precision) -> Self {
        Self { precision, device: Device::Cpu }
    }
}

/// The device of that name: `cpu`, `cuda` (the first GPU) or `cuda:N`.
///
/// # Errors
/// [`Error::Input`] for another name, a build without CUDA, or a GPU that cannot be used.
pub fn open(name: &str) -> Result<Device> {
    let ordinal = match name.split_once(':') {
        None if name == "cpu" => return Ok(Device::Cpu),
        None if name == "cuda" => 0,
        Some(("cuda", ordinal)) if ordinal.bytes().all(|byte| byte.is_ascii_digit()) => {
            ordinal.parse().map_err(|_| unknown(name))?
        }
        _ => return Err(unknown(name)),
    };
    if !cfg!(feature = "cuda") {
        let hint = "this build has no CUDA; build it with `cargo build --release --features cuda`";
        return Err(Error::Input(format!("device {name}: {hint}")));
    }
    // One stream for all threads: a stream for each would let them overtake one another.
    Device::new_cuda_with_stream(ordinal).map_err(|error| Error::Input(format!("device {name}: {error}")))
}

/// What multiplies matrices on `device`, in `bf16` and in few bits: `cuda`, or the paths that the processor takes.
pub fn path_names(device: &Device) -> [&'static str; 2] {
    if device.is_cpu() { [gemm::path_name(), gemm::int8_path_name()] } else { ["cuda"; 2] }
}

fn unknown(name: &str) -> Error {
    Error::Input(format!("device {name:?}, expected cpu, cuda or cuda:N"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_understood_or_refused() {
        assert!(open("cpu").is_ok_and(|device| device.is_cpu()));
        for name in ["gpu", "cuda:", "cuda:-1", "cuda:one", "CPU", "", "cuda:99999999999999999999"] {
            let error = open(name).expect_err(name).to_string();
            assert!(error.contains("expected cpu, cuda or cuda:N"), "{error}");
        }
        assert_eq!(path_names(&Device::Cpu), [gemm::path_name(), gemm::int8_path_name()]);
        if !cfg!(feature = "cuda") {
            let error = open("cuda:1").expect_err("no CUDA").to_string();
            assert!(error.contains("--features cuda"), "{error}");
        }
    }
}
