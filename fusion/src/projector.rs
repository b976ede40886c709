//! From encoder features to memory tokens: per chosen stage a norm, a linear map to the decoder's width, learned
//! row and column positions and a stage embedding; the tokens of all stages stand behind each other.

use candle_core::Tensor;
use swinseek_kernels::{
    Error, Init, Result, Weights,
    layers::{LayerNorm, Linear},
};
use swinseek_vision::FeatureMap;

use crate::config::{FusionConfig, ModelConfig, stage_map};

const LAYER_NORM_EPS: f64 = 1e-5;

/// Where the tokens of one image's memory come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLayout {
    /// The maps in memory order.
    pub maps: Vec<MapLayout>,
}

/// One map of a [`MemoryLayout`]; its tokens are row-major.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapLayout {
    /// Encoder stage.
    pub stage: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// The place of one memory token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryToken {
    /// Which image of the sample, from 0.
    pub image: usize,
    /// The map the token belongs to.
    pub map: MapLayout,
    /// Row in the map.
    pub row: usize,
    /// Column in the map.
    pub column: usize,
}

impl MemoryToken {
    /// The token's cell in fractions of the input image: `[left, top, right, bottom]`.
    pub fn region(&self) -> [f32; 4] {
        let (width, height) = (self.map.width as f32, self.map.height as f32);
        let (x, y) = (self.column as f32, self.row as f32);
        [x / width, y / height, (x + 1.0) / width, (y + 1.0) / height]
    }
}

impl MemoryLayout {
    /// The layout for images of `height` × `width` pixels.
    pub fn new(config: &ModelConfig, height: usize, width: usize) -> Self {
        let map = |&stage: &usize| {
            let [height, width] = stage_map(&config.vision, stage, height, width);
            MapLayout { stage, height, width }
        };
        Self { maps: config.fusion.vision_stages.iter().map(map).collect() }
    }

    /// Memory tokens of one image.
    pub fn len(&self) -> usize {
        self.maps.iter().map(|map| map.height * map.width).sum()
    }

    /// Whether an image has no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The place of memory token `index`; images of one size follow each other.
    pub fn token(&self, index: usize) -> Option<MemoryToken> {
        let image = index.checked_div(self.len())?;
        let mut rest = index - image * self.len();
        for &map in &self.maps {
            let size = map.height * map.width;
            if rest < size {
                return Some(MemoryToken { image, map, row: rest / map.width, column: rest % map.width });
            }
            rest -= size;
        }
        None
    }
}

#[derive(Debug)]
struct StageProjector {
    stage: usize,
    norm: LayerNorm,
    linear: Linear,
    rows: Tensor,
    columns: Tensor,
    stage_embedding: Tensor,
}

/// All chosen stages.
#[derive(Debug)]
pub struct Projector {
    stages: Vec<StageProjector>,
    hidden_size: usize,
}

impl Projector {
    /// Reads `stages.I.{norm,linear}.*`, `stages.I.{row,column}_position` `(rows or columns, hidden)` and
    /// `stages.I.stage_embedding` `(hidden)`, `I` counting chosen stages. `widths` are the channels of all encoder stages.
    pub fn new(config: &FusionConfig, widths: &[usize], hidden_size: usize, w: &Weights) -> Result<Self> {
        let stages = config.vision_stages.iter().zip(&config.position_grids).enumerate();
        let stages = stages.map(|(i, (&stage, &[rows, columns]))| {
            let w = w.pp("stages").pp(i);
            let embedding = |shape: &[usize], name: &str| w.get_init(shape, name, Init::Normal { std: 0.1 });
            let bias = w.pp("linear").get_init(&[hidden_size], "bias", Init::Const(0.0))?;
            Ok(StageProjector {
                stage,
                norm: LayerNorm::new(widths[stage], LAYER_NORM_EPS, &w.pp("norm"))?,
                linear: Linear::unit_gain(widths[stage], hidden_size, &w.pp("linear"))?.with_bias(bias),
                rows: embedding(&[rows, hidden_size], "row_position")?,
                columns: embedding(&[columns, hidden_size], "column_position")?,
                stage_embedding: embedding(&[hidden_size], "stage_embedding")?,
            })
        });
        Ok(Self { stages: stages.collect::<Result<_>>()?, hidden_size })
    }

    /// All stages' features of a batch of images to memory `(images, tokens, hidden)`.
    pub fn forward(&self, features: &[FeatureMap]) -> Result<(Tensor, MemoryLayout)> {
        let mut tokens = Vec::with_capacity(self.stages.len());
        let mut maps = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            let map = features.get(stage.stage).ok_or_else(|| {
                Error::Input(format!(
                    "the encoder gave {} feature maps, stage {} is asked for",
                    features.len(),
                    stage.stage
                ))
            })?;
            tokens.push(stage.forward(map, self.hidden_size)?);
            maps.push(MapLayout { stage: stage.stage, height: map.height, width: map.width });
        }
        Ok((Tensor::cat(&tokens, 1)?, MemoryLayout { maps }))
    }
}

impl StageProjector {
    fn forward(&self, map: &FeatureMap, hidden_size: usize) -> Result<Tensor> {
        let (height, width) = (map.height, map.width);
        let rows = resample(&self.rows, height)?.reshape((height, 1, hidden_size))?;
        let columns = resample(&self.columns, width)?.reshape((1, width, hidden_size))?;
        let positions = rows.broadcast_add(&columns)?.reshape((height * width, hidden_size))?;
        let positions = positions.broadcast_add(&self.stage_embedding)?;
        let projected = self.linear.forward(&self.norm.forward(&map.tokens)?)?;
        Ok(projected.broadcast_add(&positions)?)
    }
}

/// A table `(n, dim)` linearly interpolated to `(target, dim)` with pixel centres aligned, as an image would be.
/// Row and column tables are summed, so this is the bilinear interpolation of the position map.
fn resample(table: &Tensor, target: usize) -> Result<Tensor> {
    let n = table.dim(0)?;
    if n == target {
        return Ok(table.clone());
    }
    let mut weights = vec![0f32; target * n];
    for (i, row) in weights.chunks_exact_mut(n).enumerate() {
        let at = ((i as f32 + 0.5) * n as f32 / target as f32 - 0.5).clamp(0.0, (n - 1) as f32);
        let low = at.floor() as usize;
        row[low] += 1.0 - at.fract();
        row[(low + 1).min(n - 1)] += at.fract();
    }
    Ok(Tensor::from_vec(weights, (target, n), table.device())?.matmul(table)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_table_of_the_same_line_stays_on_it() {
        let table = Tensor::from_vec(vec![0f32, 1.0, 2.0, 3.0], (4, 1), &Device::Cpu).unwrap();
        let double: Vec<f32> = resample(&table, 8).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(double, [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]);
        let half: Vec<f32> = resample(&table, 2).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(half, [0.5, 2.5]);
    }

    #[test]
    fn every_memory_token_has_its_place() {
        let layout = MemoryLayout {
            maps: vec![
                MapLayout { stage: 2, height: 2, width: 3 },
                MapLayout { stage: 3, height: 1, width: 2 },
            ],
        };
        assert_eq!(layout.len(), 8);
        let token = layout.token(8 + 4).unwrap();
        assert_eq!((token.image, token.map.stage, token.row, token.column), (1, 2, 1, 1));
        let token = layout.token(7).unwrap();
        assert_eq!((token.image, token.map.stage, token.row, token.column), (0, 3, 0, 1));
        assert_eq!(token.region(), [0.5, 0.0, 1.0, 1.0]);
    }
}
