//! The formats of quantised numbers, defined once: what is stored, how it is chosen, what it means.
//!
//! | format | values | scales | a value is |
//! |---|---|---|---|
//! | [`Int8Rows`] | −127 to 127 | one `f32` a row | `q · scale[row]` |
//! | [`Int4Groups`] | −8 to 7 | one `f16` for each [`GROUP`] neighbours of a row | `q · scale[row][group]` |
//!
//! [`Int8Weight`] and [`Int4Weight`] are the same numbers laid out for the products in `gemm`.

mod int4;
mod int8;

pub use crate::gemm::{Int4Weight, Int8Weight};
pub use int4::{GROUP, Int4Groups};
pub(crate) use int8::quantize_into;
pub use int8::{Int8Rows, quantize_row};

/// Rows of a matrix for one task: quantising is slow enough for small ones.
const ROWS_PER_TASK: usize = 16;
