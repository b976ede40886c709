//! Stored bytes to `f32`. Quantised tensors find their scales beside them:
//!
//! | stored | scale | value |
//! |---|---|---|
//! | `I8` `(.., out, in)` | `NAME_scale` `F32 (.., out)` | row times its scale |
//! | `F8_E4M3` `(out, in)` | `NAME_scale_inv` `F32 (⌈out/128⌉, ⌈in/128⌉)` | block times its scale (DeepSeek-V3) |

use half::{bf16, f16};
use safetensors::Dtype;
use swinseek_kernels::{Error, Result};

use super::file::View;

/// The values of `view` in order; `find` looks a scale tensor up by its full name.
pub(super) fn to_f32<'a>(
    name: &str,
    view: &View<'a>,
    find: impl Fn(String) -> Option<View<'a>>,
    fp8_block: [usize; 2],
) -> Result<Vec<f32>> {
    Ok(match scales(name, view, find, fp8_block)? {
        Scales::None => plain(name, view)?,
        Scales::Rows(scales) => {
            let row_len = view.shape.last().copied().unwrap_or(1).max(1);
            let rows = view.bytes.chunks_exact(row_len).zip(scales);
            rows.flat_map(|(row, s)| row.iter().map(move |&q| f32::from(q.cast_signed()) * s)).collect()
        }
        Scales::Blocks { scales, columns, blocks } => {
            dequantize_fp8(view.bytes, columns, &scales, blocks, fp8_block)
        }
    })
}

/// Whether [`to_f32`] can read `view`: its type, and its scales.
pub(super) fn check<'a>(
    name: &str,
    view: &View<'a>,
    find: impl Fn(String) -> Option<View<'a>>,
    fp8_block: [usize; 2],
) -> Result<()> {
    scales(name, view, find, fp8_block).map(drop)
}

/// What the stored values are multiplied by.
enum Scales {
    None,
    /// One a row.
    Rows(Vec<f32>),
    /// One a block, so many `blocks` side by side in a matrix of so many `columns`.
    Blocks {
        scales: Vec<f32>,
        columns: usize,
        blocks: usize,
    },
}

fn scales<'a>(
    name: &str,
    view: &View<'a>,
    find: impl Fn(String) -> Option<View<'a>>,
    fp8_block: [usize; 2],
) -> Result<Scales> {
    match view.dtype {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64 => Ok(Scales::None),
        Dtype::I8 => {
            let scale_name = format!("{name}_scale");
            let rows = &view.shape[..view.shape.len().saturating_sub(1)];
            Ok(Scales::Rows(scale(&scale_name, find(scale_name.clone()), rows)?))
        }
        Dtype::F8_E4M3 => {
            let scale_name = format!("{name}_scale_inv");
            let &[rows, columns] = view.shape else {
                return Err(unsupported(name, view.dtype, "FP8 is read for matrices only"));
            };
            let blocks = [rows.div_ceil(fp8_block[0]), columns.div_ceil(fp8_block[1])];
            let scales = scale(&scale_name, find(scale_name.clone()), &blocks)?;
            Ok(Scales::Blocks { scales, columns, blocks: blocks[1] })
        }
        other => Err(unsupported(name, other, "expected F32, F16, BF16, F64, I8 or F8_E4M3")),
    }
}

/// Values of an unquantised tensor.
fn plain(name: &str, view: &View) -> Result<Vec<f32>> {
    let bytes = view.bytes;
    Ok(match view.dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
        other => return Err(unsupported(name, other, "expected a floating-point type")),
    })
}

fn scale(name: &str, view: Option<View>, shape: &[usize]) -> Result<Vec<f32>> {
    let view = view.ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?;
    if view.shape != shape {
        return Err(Error::Shape {
            name: name.to_owned(),
            expected: shape.to_vec(),
            found: view.shape.to_vec(),
        });
    }
    plain(name, &view)
}

fn unsupported(name: &str, dtype: Dtype, expected: &str) -> Error {
    Error::Input(format!("tensor `{name}` is stored as {dtype:?}: {expected}"))
}

fn dequantize_fp8(
    bytes: &[u8],
    columns: usize,
    scale: &[f32],
    scale_columns: usize,
    block: [usize; 2],
) -> Vec<f32> {
    let table: Vec<f32> = (0..=u8::MAX).map(e4m3).collect();
    let mut values = Vec::with_capacity(bytes.len());
    for (row, row_bytes) in bytes.chunks_exact(columns.max(1)).enumerate() {
        let scales = &scale[row / block[0] * scale_columns..][..scale_columns];
        for (part, &s) in row_bytes.chunks(block[1]).zip(scales) {
            values.extend(part.iter().map(|&b| table[usize::from(b)] * s));
        }
    }
    values
}

/// One 8-bit float: sign, 4 exponent bits (bias 7), 3 mantissa bits, no infinities (Micikevicius et al. 2022).
fn e4m3(bits: u8) -> f32 {
    let mantissa = f32::from(bits & 7);
    let exponent = i32::from(bits >> 3 & 15);
    let magnitude = match (exponent, bits & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa / 8.0 * 2f32.powi(-6),
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4m3_matches_the_published_extremes() {
        assert_eq!(e4m3(0x7E), 448.0);
        assert_eq!(e4m3(0xFE), -448.0);
        assert_eq!(e4m3(0x08), 2f32.powi(-6));
        assert_eq!(e4m3(0x01), 2f32.powi(-9));
        assert_eq!(e4m3(0x38), 1.0);
        assert!(e4m3(0x7F).is_nan());
    }

    #[test]
    fn fp8_blocks_take_their_own_scale() {
        // 3 × 5 of ones in blocks of 2 × 2: scale (i, j) of a 2 × 3 grid.
        let values = dequantize_fp8(&[0x38; 15], 5, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, [2, 2]);
        let first = [1.0, 1.0, 2.0, 2.0, 3.0];
        assert_eq!(values, [&first[..], &first, &[4.0, 4.0, 5.0, 5.0, 6.0]].concat());
    }
}
