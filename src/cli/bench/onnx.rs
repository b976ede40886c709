//! A rival's row: an encoder from an ONNX file, in ONNX Runtime (feature `onnx`).

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::Case;

/// Flags of the rival.
#[derive(Debug, Args)]
#[command(next_help_heading = "An encoder in ONNX Runtime")]
pub(super) struct OnnxArgs {
    /// Also run the encoder of this file (programs built with `--features onnx`).
    ///
    /// It runs at the size it was exported for; free sizes are one image of 224 pixels. evals/peers/export_onnx.py writes such
    /// files of timm's models.
    #[arg(long, value_name = "FILE")]
    onnx: Option<PathBuf>,
    /// Library of ONNX Runtime 1.17 or newer; without it the system's loader looks for libonnxruntime.
    #[arg(long, value_name = "FILE", env = "ORT_DYLIB_PATH")]
    onnx_library: Option<PathBuf>,
}

/// The row, if one is wanted.
#[cfg(feature = "onnx")]
pub(super) fn case(args: &OnnxArgs) -> Result<Option<Case>> {
    use anyhow::Context;
    use candle_core::{DType, Device, Tensor};
    use swinseek_vision::OnnxEncoder;

    use super::Prepared;

    let Some(path) = &args.onnx else { return Ok(None) };
    let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let library = args.onnx_library.clone();
    let prepare = move || {
        let encoder = OnnxEncoder::new(&bytes, library.as_deref(), rayon::current_num_threads())?;
        let [batch, channels, height, width] = encoder.input_shape();
        let shape = [batch.unwrap_or(1), channels.unwrap_or(3), height.unwrap_or(224), width.unwrap_or(224)];
        let pixels = Tensor::zeros(&shape[..], DType::F32, &Device::Cpu)?;
        Ok(Prepared {
            work: None,
            units: (shape[0] as f64, "images"),
            run: Box::new(move || Ok(encoder.forward(&pixels).map(drop)?)),
        })
    };
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(Some(Case { name: format!("onnx: {file}"), large: false, prepare: Box::new(prepare) }))
}

/// There is no runtime in this program.
#[cfg(not(feature = "onnx"))]
pub(super) fn case(args: &OnnxArgs) -> Result<Option<Case>> {
    anyhow::ensure!(
        args.onnx.is_none(),
        "--onnx: this program was built without ONNX Runtime; build it with `cargo build --release --features onnx`"
    );
    Ok(None)
}
