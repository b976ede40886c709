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

/// Targets of one micro-batch.
pub struct Targets {
    /// 1 where a token's cell touches a box of the class, else 0: `(images, tokens, classes)`.
    labels: Tensor,
    /// Weight of each element; 0 for images without boxes.
    weights: Tensor,
}

/// A positive cell counts this much more than a negative one: findings cover a small part of a picture.
const POSITIVE_WEIGHT: f32 = 4.0;

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
        let mut labels = vec![0.0f32; regions.len() * cells * count];
        let mut weights = vec![0.0f32; labels.len()];
        let per_image = labels.chunks_mut(cells * count).zip(weights.chunks_mut(cells * count));
        for (regions, (labels, weights)) in regions.iter().zip(per_image) {
            let Some(regions) = regions else { continue };
            weights.fill(1.0);
            for region in regions {
                let Some(class) = classes.iter().position(|class| *class == region.class) else {
                    continue;
                };
                for cell in touched(region, rows, columns) {
                    labels[cell * count + class] = 1.0;
                    weights[cell * count + class] = POSITIVE_WEIGHT;
                }
            }
        }
        let total: f32 = weights.iter().sum();
        for weight in &mut weights {
            *weight /= total;
        }
        let shape = (regions.len(), cells, count);
        let (labels, weights) =
            (Tensor::from_vec(labels, shape, &Device::Cpu)?, Tensor::from_vec(weights, shape, &Device::Cpu)?);
        Ok(Some(Self { labels, weights }))
    }

    /// Weighted mean of `max(x, 0) − x·y + log(1 + e^−|x|)` over the elements, a scalar.
    pub fn loss(&self, logits: &Tensor) -> Result<Tensor> {
        let softplus = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
        let elements = ((logits.relu()? - (logits * &self.labels)?)? + softplus)?;
        Ok((elements * &self.weights)?.sum_all()?)
    }
}

/// Cells of a `rows × columns` grid whose centre lies in the box, at least the one under the box's centre.
fn touched(region: &Region, rows: usize, columns: usize) -> Vec<usize> {
    let [x0, y0, x1, y1] = region.bbox;
    let range = |low: f32, high: f32, count: usize| {
        let middle = (low.midpoint(high) * count as f32) as usize;
        let inside = move |i: &usize| {
            let centre = (*i as f32 + 0.5) / count as f32;
            (low <= centre && centre <= high) || *i == middle.min(count - 1)
        };
        (0..count).filter(inside).collect::<Vec<_>>()
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
        assert_eq!(touched(&region("nodule", [0.51, 0.26, 0.53, 0.28]), 4, 4), [4 + 2]);
        assert_eq!(touched(&region("nodule", [0.0, 0.0, 1.0, 0.4]), 2, 2), [0, 1]);
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
}
