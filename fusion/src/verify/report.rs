//! What a verification found, tensor by tensor.

use candle_core::{DType, Tensor};
use serde::Serialize;

use super::golden::Stored;
use crate::Result;

/// One compared tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Name in the golden file; `cached.` and `uncached.` mark the same output computed the other way.
    pub name: String,
    /// Largest absolute difference; `None` when the tensor was not produced or has another shape.
    pub max_abs_diff: Option<f64>,
    /// Whether it agrees: floats within the tolerance, integers exactly.
    pub ok: bool,
    /// Why there is no difference to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The comparison of a whole checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Architecture as the configuration names it.
    pub architecture: String,
    /// Largest allowed difference of floats.
    pub tolerance: f64,
    /// Every stored output, and the cached and uncached doubles.
    pub rows: Vec<Row>,
}

impl Report {
    /// Whether everything agrees.
    pub fn ok(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.ok)
    }

    /// Largest difference of all.
    pub fn max_abs_diff(&self) -> f64 {
        self.rows.iter().filter_map(|row| row.max_abs_diff).fold(0.0, f64::max)
    }

    /// Rows that do not agree.
    pub fn failures(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.ok)
    }
}

/// Which positions of a padded batch are real, `(batch, tokens)` row by row.
#[derive(Debug, Clone)]
pub(super) struct Real {
    pub(super) batch: usize,
    pub(super) tokens: usize,
    pub(super) mask: Vec<bool>,
}

impl Real {
    /// Whether element `index` of a tensor of that shape belongs to real positions. Tensors without a
    /// `(batch, tokens)` or `(batch · tokens)` front are compared whole.
    fn counts(&self, shape: &[usize], index: usize) -> bool {
        let total: usize = shape.iter().product();
        let positions = self.batch * self.tokens;
        let flat = shape.first() == Some(&positions);
        let paired = shape.len() >= 2 && shape[0] == self.batch && shape[1] == self.tokens;
        if !flat && !paired {
            return true;
        }
        let inner = total / positions;
        let position = index / inner;
        // Scores between positions: the key must be real, too.
        let key_counts = || self.mask[position / self.tokens * self.tokens + index % inner];
        self.mask[position] && (!(paired && shape.len() == 3 && inner == self.tokens) || key_counts())
    }
}

/// Compares `found` with `expected` under `name`.
pub(super) fn compare(
    name: String,
    found: Option<&Tensor>,
    expected: &Stored,
    real: Option<&Real>,
    tolerance: f64,
) -> Result<Row> {
    let failed = |name: String, note: String| Row { name, max_abs_diff: None, ok: false, note: Some(note) };
    let Some(found) = found else {
        return Ok(failed(name, "not produced by this model".to_owned()));
    };
    if !same_shape(found.dims(), expected.shape()) {
        return Ok(failed(name, format!("shape {:?}, expected {:?}", found.dims(), expected.shape())));
    }
    let found: Vec<f64> = found.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
    let counts = |i: usize| real.is_none_or(|real| real.counts(expected.shape(), i));
    let pairs = found.iter().zip(expected.values()?).enumerate().filter(|(i, _)| counts(*i));
    // A NaN must not vanish in a maximum.
    let max = pairs
        .map(|(_, (a, b))| (a - b).abs())
        .fold(0.0, |max: f64, d| if d.is_nan() { f64::INFINITY } else { max.max(d) });
    let limit = if matches!(expected, Stored::Int { .. }) { 0.0 } else { tolerance };
    Ok(Row { name, max_abs_diff: Some(max), ok: max <= limit, note: None })
}

/// Equal, or the same map as `(batch, height, width, dim)` on one side and `(batch, tokens, dim)` on the other.
fn same_shape(a: &[usize], b: &[usize]) -> bool {
    let map_as_tokens = |map: &[usize], tokens: &[usize]| {
        map.len() == 4 && tokens.len() == 3 && [map[0], map[1] * map[2], map[3]] == tokens
    };
    a == b || map_as_tokens(a, b) || map_as_tokens(b, a)
}
