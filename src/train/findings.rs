//! Dense findings loss: each image token learns which findings' boxes it lies in. It tells the encoder where to look
//! long before the reports' words would.

use anyhow::Result;
use candle_core::{Device, Tensor};

use swinseek_vision::preprocess::Geometry;

use super::data::FindingBox;

/// A finding's box in fractions of the model's input.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// Name of the finding's class.
    pub class: String,
    /// Left, top, right, bottom, each 0 to 1.
    pub bbox: [f32; 4],
}

impl Region {
    /// Where `finding` lies in the model's input.
    pub fn new(finding: &FindingBox, geometry: &Geometry) -> Self {
        let (width, height) = geometry.input_size();
        let region = geometry.to_input(finding.region);
        let fraction = |edge: f64, size: usize| (edge / size as f64).clamp(0.0, 1.0) as f32;
        let (left, top) = (fraction(region.left, width), fraction(region.top, height));
        let bbox = [left, top, fraction(region.right, width), fraction(region.bottom, height)];
        Self { class: finding.class.clone(), bbox }
    }
}

/// Targets of one micro-batch, each `(images, tokens, classes)`.
pub struct Targets {
    /// Share of its finding that a cell holds: the cells of a box add up to 1, so that a small nodule counts as much as
    /// a wide effusion.
    positive: Tensor,
    /// 1 where the class is certainly absent; 0 in and at the edge of its boxes, and for images without boxes.
    negative: Tensor,
}

/// A class's strength in a cell lowers the weight of what is already known: `γ` of Lin et al. 2017.
const FOCUS: f64 = 2.0;

impl Targets {
    /// `regions` holds one entry an image; the grid has `rows × columns` tokens. `None` when no image has boxes.
    pub fn new(
        regions: &[Option<Vec<Region>>],
        classes: &[String],
        rows: usize,
        columns: usize,
    ) -> Result<Option<Self>> {
        if regions.iter().all(Option::is_none) {
            return Ok(None);
        }
        let (cells, count) = (rows * columns, classes.len());
        let mut positive = vec![0.0f32; regions.len() * cells * count];
        let mut negative = vec![0.0f32; positive.len()];
        let mut findings = 0.0f32;
        let per_image = positive.chunks_mut(cells * count).zip(negative.chunks_mut(cells * count));
        for (regions, (positive, negative)) in regions.iter().zip(per_image) {
            let Some(regions) = regions else { continue };
            negative.fill(1.0);
            for region in regions {
                let Some(class) = classes.iter().position(|class| *class == region.class) else {
                    continue;
                };
                findings += 1.0;
                for cell in cells_of(region, rows, columns, overlaps) {
                    negative[cell * count + class] = 0.0;
                }
                let inside = cells_of(region, rows, columns, holds_centre);
                for &cell in &inside {
                    positive[cell * count + class] += 1.0 / inside.len() as f32;
                }
            }
        }
        for weight in positive.iter_mut().chain(&mut negative) {
            *weight /= findings.max(1.0);
        }
        let shape = (regions.len(), cells, count);
        let (positive, negative) = (
            Tensor::from_vec(positive, shape, &Device::Cpu)?,
            Tensor::from_vec(negative, shape, &Device::Cpu)?,
        );
        Ok(Some(Self { positive, negative }))
    }

    /// Focal loss (Lin et al. 2017) a finding, a scalar: `−Σ w⁺(1−p)^γ log p + w⁻ p^γ log(1−p)` with `p = σ(logits)`.
    pub fn loss(&self, logits: &Tensor) -> Result<Tensor> {
        // The tanh form and the softplus do not overflow, forward or backward.
        let present = (((logits * 0.5)?.tanh()? + 1.0)? * 0.5)?;
        let absent = present.affine(-1.0, 1.0)?;
        let tail = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
        let missed = (absent.powf(FOCUS)? * (logits.neg()?.relu()? + &tail)?)?;
        let invented = (present.powf(FOCUS)? * (logits.relu()? + tail)?)?;
        Ok(((missed * &self.positive)? + (invented * &self.negative)?)?.sum_all()?)
    }
}

/// Whether the cell from `start` to `end` has its centre between `low` and `high`.
fn holds_centre(low: f32, high: f32, start: f32, end: f32) -> bool {
    (low..=high).contains(&start.midpoint(end))
}

/// Whether the cell from `start` to `end` has any part between `low` and `high`.
fn overlaps(low: f32, high: f32, start: f32, end: f32) -> bool {
    low < end && start < high
}

/// Cells of a `rows × columns` grid that lie in the box by the rule `inside` along each axis, and the one under the box's
/// centre.
fn cells_of(
    region: &Region,
    rows: usize,
    columns: usize,
    inside: fn(f32, f32, f32, f32) -> bool,
) -> Vec<usize> {
    let [x0, y0, x1, y1] = region.bbox;
    let range = |low: f32, high: f32, count: usize| {
        let edge = |i: usize| i as f32 / count as f32;
        let middle = ((low.midpoint(high) * count as f32) as usize).min(count - 1);
        (0..count).filter(|&i| i == middle || inside(low, high, edge(i), edge(i + 1))).collect::<Vec<_>>()
    };
    let (xs, ys) = (range(x0, x1, columns), range(y0, y1, rows));
    ys.iter().flat_map(|y| xs.iter().map(move |x| y * columns + x)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(class: &str, bbox: [f32; 4]) -> Region {
        Region { class: class.to_owned(), bbox }
    }

    #[test]
    fn a_small_box_marks_the_cell_it_lies_in() {
        let cells = |bbox, side| cells_of(&region("nodule", bbox), side, side, holds_centre);
        assert_eq!(cells([0.51, 0.26, 0.53, 0.28], 4), [4 + 2]);
        assert_eq!(cells([0.0, 0.0, 1.0, 0.4], 2), [0, 1]);
        let touched = cells_of(&region("nodule", [0.2, 0.3, 0.3, 0.4]), 4, 4, overlaps);
        assert_eq!(touched, [4, 5], "the edge between two columns");
    }

    #[test]
    fn the_loss_is_small_only_for_the_right_cells() -> Result<()> {
        let classes = ["nodule".to_owned()];
        let regions = [Some(vec![region("nodule", [0.0, 0.0, 0.4, 0.4])]), None];
        let targets = Targets::new(&regions, &classes, 2, 2)?.expect("one image has boxes");
        let logits = |first: f32| {
            Tensor::new(&[[[first], [-9.0], [-9.0], [-9.0]], [[9.0], [9.0], [9.0], [9.0f32]]], &Device::Cpu)
        };
        assert!(
            targets.loss(&logits(9.0)?)?.to_scalar::<f32>()? < 1e-3,
            "the image without boxes does not count"
        );
        assert!(targets.loss(&logits(-9.0)?)?.to_scalar::<f32>()? > 4.0);
        assert!(Targets::new(&[None, None], &classes, 2, 2)?.is_none());
        Ok(())
    }

    #[test]
    fn a_finding_counts_once_whatever_its_size() -> Result<()> {
        let classes = ["nodule".to_owned(), "effusion".to_owned()];
        let regions =
            [Some(vec![region("nodule", [0.0, 0.0, 0.1, 0.1]), region("effusion", [0.0, 0.5, 1.0, 1.0])])];
        let targets = Targets::new(&regions, &classes, 4, 4)?.expect("boxes");
        let shares = targets.positive.sum((0, 1))?.to_vec1::<f32>()?;
        assert!(shares.iter().all(|share| (share - 0.5).abs() < 1e-6), "{shares:?}");
        Ok(())
    }

    #[test]
    fn extreme_logits_keep_finite_gradients() -> Result<()> {
        let classes = ["nodule".to_owned()];
        let targets = Targets::new(&[Some(vec![region("nodule", [0.0, 0.0, 0.4, 0.4])])], &classes, 2, 2)?
            .expect("boxes");
        let logits = candle_core::Var::new(&[[[-200.0f32], [200.0], [0.0], [90.0]]], &Device::Cpu)?;
        let store = targets.loss(&logits)?.backward()?;
        let gradient = store.get(&logits).expect("a gradient").flatten_all()?.to_vec1::<f32>()?;
        assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
        Ok(())
    }
}
