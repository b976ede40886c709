//! One resolution of the pyramid: its blocks, and the patch merging that leads to the next.

use candle_core::{Device, Tensor};
use swinseek_kernels::layers::{LayerNorm, Linear, Norm};
use swinseek_kernels::ops::gather;
use swinseek_kernels::{Result, Weights};

use crate::block::Block;
use crate::config::{Dialect, Version, VisionConfig};
use crate::patch_embed::DEFAULT_EPS;
use crate::window::{Order, Partition, Tiling, merge_index};

/// Blocks of one stage and the merging after them.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) blocks: Vec<Block>,
    /// Absent in the last stage.
    pub(crate) merging: Option<PatchMerging>,
}

impl Stage {
    /// Reads stage `stage` below `layers`. timm stores the merging that follows it at the start of the next stage,
    /// except in files of the original repository.
    pub(crate) fn new(config: &VisionConfig, stage: usize, layers: &Weights) -> Result<Self> {
        let w = layers.pp(stage);
        let blocks =
            (0..config.depths[stage]).map(|block| Block::new(config, stage, &w.pp("blocks").pp(block)));
        let moved = config.dialect == Dialect::Timm && !layers.contains("0.downsample.reduction.weight");
        let merging = if stage + 1 < config.stages() {
            let w = layers.pp(if moved { stage + 1 } else { stage }).pp("downsample");
            Some(PatchMerging::new(config, stage, &w)?)
        } else {
            None
        };
        Ok(Self { blocks: blocks.collect::<Result<_>>()?, merging })
    }
}

/// Four neighbours become one token of twice the width.
#[derive(Debug)]
pub(crate) struct PatchMerging {
    version: Version,
    norm: Norm,
    reduction: Linear,
}

impl PatchMerging {
    fn new(config: &VisionConfig, stage: usize, w: &Weights) -> Result<Self> {
        let dim = config.dim(stage);
        let normed = match config.version {
            Version::V1 => 4 * dim,
            Version::V2 => 2 * dim,
        };
        Ok(Self {
            version: config.version,
            norm: LayerNorm::new(normed, DEFAULT_EPS, &w.pp("norm"))?.into(),
            reduction: Linear::no_bias(4 * dim, 2 * dim, &w.pp("reduction"))?,
        })
    }

    /// `(batch, tokens, dim)` to `(batch, merged tokens, 2 · dim)`; `index` is that of [`merge_index`].
    pub(crate) fn forward(&self, x: &Tensor, index: &[u32]) -> Result<Tensor> {
        let (batch, _, dim) = x.dims3()?;
        let x = gather::gather_rows(x, index)?.reshape((batch, index.len() / 4, 4 * dim))?;
        match self.version {
            Version::V1 => self.reduction.forward_with(&x, Some(&self.norm), None, None),
            Version::V2 => self.norm.forward(&self.reduction.forward(&x)?),
        }
    }
}

/// What a stage needs to know about its map, and nothing about its weights: made once per image size.
#[derive(Debug)]
pub(crate) struct StagePlan {
    /// Tokens, `(rows, columns)`.
    pub(crate) map: (usize, usize),
    /// Partition of blocks 0, 2, ..
    plain: Partition,
    /// Partition of blocks 1, 3, .. where it differs.
    shifted: Option<Partition>,
    /// Rows in merging order.
    pub(crate) merge: Vec<u32>,
}

impl StagePlan {
    /// Plan of stage `stage` for a stem of `grid` tokens.
    pub(crate) fn new(
        config: &VisionConfig,
        stage: usize,
        grid: (usize, usize),
        device: &Device,
    ) -> Result<Self> {
        let map = VisionConfig::map(grid, stage);
        let (order, mask_count) = match (config.dialect, config.version) {
            (Dialect::HuggingFace, Version::V1) => (Order::PadThenRoll, 1),
            (Dialect::HuggingFace, Version::V2) => (Order::PadThenRoll, 2),
            (Dialect::Timm, _) => (Order::RollThenPad, 1),
        };
        let cut = |shift: (usize, usize)| {
            Partition::new(&Tiling { map, window: config.window(stage), shift, order, mask_count }, device)
        };
        let shift = config.shift(stage, map, config.partitions(grid));
        let differs = shift != (0, 0) && config.depths[stage] > 1;
        Ok(Self {
            map,
            plain: cut((0, 0))?,
            shifted: if differs { Some(cut(shift)?) } else { None },
            merge: merge_index(map),
        })
    }

    /// How block `block` cuts the map.
    pub(crate) fn partition(&self, block: usize) -> &Partition {
        match &self.shifted {
            Some(shifted) if block % 2 == 1 => shifted,
            _ => &self.plain,
        }
    }
}
