//! Cutting a map of tokens into windows: every partition, shift, padding and merge is one gather.

use candle_core::{Device, Tensor};
use swinseek_kernels::Result;
use swinseek_kernels::ops::gather::ZERO_ROW;
use swinseek_kernels::ops::window_attention::MapWindows;

/// What the reference adds to the score of two tokens that only the cyclic shift brought together.
const HIDDEN: f32 = -100.0;

/// Which comes first when a shifted map is not a multiple of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// `transformers`: the roll moves padding too.
    PadThenRoll,
    /// `timm`: the roll moves real tokens only.
    RollThenPad,
}

/// How a map is cut; all pairs are `(rows, columns)` in tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiling {
    pub(crate) map: (usize, usize),
    pub(crate) window: (usize, usize),
    pub(crate) shift: (usize, usize),
    pub(crate) order: Order,
    /// How often the shift mask is added: transformers' Swin v2 adds it twice, which shows at high `logit_scale`.
    pub(crate) mask_count: u8,
}

impl Tiling {
    /// The map rounded up to whole windows.
    fn padded(&self) -> (usize, usize) {
        let round = |size: usize, window: usize| size.div_ceil(window) * window;
        (round(self.map.0, self.window.0), round(self.map.1, self.window.1))
    }

    /// What the shift mask adds to the scores that it hides.
    fn hidden(&self) -> f32 {
        HIDDEN * f32::from(self.mask_count)
    }

    /// Token of the map that stands at `row`, `column` of the rolled and padded map, if it is not padding.
    fn source(&self, row: usize, column: usize) -> Option<usize> {
        let (map, padded) = (self.map, self.padded());
        let (row, column) = match self.order {
            Order::PadThenRoll => ((row + self.shift.0) % padded.0, (column + self.shift.1) % padded.1),
            Order::RollThenPad if row < map.0 && column < map.1 => {
                ((row + self.shift.0) % map.0, (column + self.shift.1) % map.1)
            }
            Order::RollThenPad => return None,
        };
        (row < map.0 && column < map.1).then_some(row * map.1 + column)
    }

    /// Which of the 3×3 parts of the padded map a position of the rolled map is from.
    fn region(&self, row: usize, column: usize) -> u8 {
        let part = |at: usize, size: usize, window: usize, shift: usize| {
            u8::from(at >= size - window) + u8::from(at >= size - shift)
        };
        let padded = self.padded();
        part(row, padded.0, self.window.0, self.shift.0) * 3
            + part(column, padded.1, self.window.1, self.shift.1)
    }

    /// Positions `(row, column)` of the padded map, window by window.
    fn positions(&self) -> impl Iterator<Item = (usize, usize)> {
        let (padded, window) = (self.padded(), self.window);
        let corners = (0..padded.0)
            .step_by(window.0)
            .flat_map(move |top| (0..padded.1).step_by(window.1).map(move |left| (top, left)));
        corners.flat_map(move |(top, left)| {
            (top..top + window.0)
                .flat_map(move |row| (left..left + window.1).map(move |column| (row, column)))
        })
    }
}

/// A tiling made ready to run: gather rows by `index` to get windows, by `inverse` to get the map back.
#[derive(Debug)]
pub(crate) struct Partition {
    /// Map token of each window token, window after window; `ZERO_ROW` for padding.
    pub(crate) index: Vec<u32>,
    /// Window token of each map token: undoes the roll and crops.
    pub(crate) inverse: Vec<u32>,
    /// Additive mask `(windows, area, area)` of a shifted map.
    pub(crate) mask: Option<Tensor>,
    /// Windows of one image.
    pub(crate) windows: usize,
    /// Tokens of a window.
    pub(crate) area: usize,
    tiling: Tiling,
}

impl Partition {
    pub(crate) fn new(tiling: &Tiling, device: &Device) -> Result<Self> {
        let source = |(row, column)| tiling.source(row, column).map_or(ZERO_ROW, |token| token as u32);
        let index: Vec<u32> = tiling.positions().map(source).collect();
        let mut inverse = vec![ZERO_ROW; tiling.map.0 * tiling.map.1];
        for (position, &token) in index.iter().enumerate() {
            if token != ZERO_ROW {
                inverse[token as usize] = position as u32;
            }
        }
        let area = tiling.window.0 * tiling.window.1;
        let windows = index.len() / area;
        let mask = if tiling.shift == (0, 0) { None } else { Some(shift_mask(tiling, device)?) };
        Ok(Self { index, inverse, mask, windows, area, tiling: *tiling })
    }

    /// The same for an operation that finds the rows of a window itself.
    pub(crate) fn on_map(&self) -> MapWindows {
        let Tiling { map, window, shift, order, .. } = self.tiling;
        let roll_first = order == Order::RollThenPad;
        MapWindows { map, window, shift, roll_first, hidden: self.tiling.hidden() }
    }
}

/// `(windows, area, area)`: 0 where two tokens of a window were neighbours before the roll, strongly negative elsewhere.
fn shift_mask(tiling: &Tiling, device: &Device) -> Result<Tensor> {
    let regions: Vec<u8> = tiling.positions().map(|(row, column)| tiling.region(row, column)).collect();
    let area = tiling.window.0 * tiling.window.1;
    let hidden = tiling.hidden();
    let mut mask = Vec::with_capacity(regions.len() * area);
    for window in regions.chunks(area) {
        for query in window {
            mask.extend(window.iter().map(|key| if key == query { 0.0 } else { hidden }));
        }
    }
    Ok(Tensor::from_vec(mask, (regions.len() / area, area, area), device)?)
}

/// Rows of a map of `rows` × `columns` tokens in the order of patch merging: four neighbours of each merged token,
/// `[x00, x10, x01, x11]` (the row offset varies first), zero rows beyond an odd edge.
pub(crate) fn merge_index((rows, columns): (usize, usize)) -> Vec<u32> {
    let token = |row: usize, column: usize| {
        if row < rows && column < columns { (row * columns + column) as u32 } else { ZERO_ROW }
    };
    let corners =
        (0..rows).step_by(2).flat_map(|row| (0..columns).step_by(2).map(move |column| (row, column)));
    corners.flat_map(|(r, c)| [token(r, c), token(r + 1, c), token(r, c + 1), token(r + 1, c + 1)]).collect()
}

/// Row of the position-bias table for each (query, key) pair of a window, `area · area` entries.
pub(crate) fn relative_index(window: (usize, usize)) -> Vec<u32> {
    let (rows, columns) = window;
    let cells = || (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)));
    let entry = |query: (usize, usize), key: (usize, usize)| {
        let (down, right) = (query.0 + rows - 1 - key.0, query.1 + columns - 1 - key.1);
        (down * (2 * columns - 1) + right) as u32
    };
    cells().flat_map(|query| cells().map(move |key| entry(query, key))).collect()
}

/// Log-spaced relative coordinates of Swin v2, `(2·rows − 1)(2·columns − 1)` pairs `(vertical, horizontal)`:
/// `sign(u) log₂(1 + |u|) / log₂ 8` with `u = 8 Δ / (reference − 1)`; the reference is the pre-training window, or
/// this one if `pretrained` is 0.
pub(crate) fn relative_coordinates(window: (usize, usize), pretrained: (usize, usize)) -> Vec<f32> {
    let reference = if pretrained.0 > 0 { pretrained } else { window };
    let axis = |size: usize, reference: usize| -> Vec<f32> {
        // A window of one token has only the offset 0.
        let span = reference.saturating_sub(1).max(1) as f32;
        let spaced = |offset: isize| {
            let u = offset as f32 / span * 8.0;
            u.signum() * (u.abs() + 1.0).log2() / 3.0
        };
        let last = size as isize - 1;
        (-last..=last).map(spaced).collect()
    };
    let (vertical, horizontal) = (axis(window.0, reference.0), axis(window.1, reference.1));
    vertical.iter().flat_map(|y| horizontal.iter().flat_map(move |x| [*y, *x])).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tilings() -> impl Strategy<Value = Tiling> {
        let orders = prop_oneof![Just(Order::PadThenRoll), Just(Order::RollThenPad)];
        ((1usize..14, 1usize..14), (1usize..7, 1usize..7), orders, any::<(bool, bool)>()).prop_map(
            |(map, window, order, (down, right))| {
                let shift = (if down { window.0 / 2 } else { 0 }, if right { window.1 / 2 } else { 0 });
                Tiling { map, window, shift, order, mask_count: 1 }
            },
        )
    }

    proptest! {
        #[test]
        fn every_token_is_in_one_window_and_comes_back(tiling in tilings()) {
            let partition = Partition::new(&tiling, &Device::Cpu).unwrap();
            let tokens = tiling.map.0 * tiling.map.1;
            prop_assert_eq!(partition.index.len(), partition.windows * partition.area);
            let mut seen: Vec<u32> = partition.index.iter().copied().filter(|i| *i != ZERO_ROW).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..tokens as u32).collect::<Vec<_>>());
            for token in 0..tokens {
                prop_assert_eq!(partition.index[partition.inverse[token] as usize], token as u32);
            }
        }

        #[test]
        fn no_token_is_hidden_from_itself(tiling in tilings()) {
            let partition = Partition::new(&tiling, &Device::Cpu).unwrap();
            let Some(mask) = partition.mask else { return Ok(()) };
            for window in mask.to_vec3::<f32>().unwrap() {
                for (i, row) in window.iter().enumerate() {
                    prop_assert_eq!(row[i], 0.0);
                    prop_assert!(row.iter().enumerate().all(|(j, x)| *x == window[j][i]));
                }
            }
        }
    }

    #[test]
    fn merging_pads_an_odd_map() {
        assert_eq!(merge_index((1, 3)), [0, ZERO_ROW, 1, ZERO_ROW, 2, ZERO_ROW, ZERO_ROW, ZERO_ROW]);
    }

    #[test]
    fn coordinates_of_the_window_edge_are_log_nine_over_three() {
        // u = ±8 at the edge whatever the window, and log2(9) / 3 = 1.0566.
        let edge = 9f32.log2() / 3.0;
        assert_eq!(relative_coordinates((2, 1), (0, 0)), [-edge, 0.0, 0.0, 0.0, edge, 0.0]);
    }
}
