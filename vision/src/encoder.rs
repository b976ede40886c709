//! The whole encoder: stem, stages, final norm, and what published checkpoints put on top.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{D, Device, Tensor};
use swinseek_kernels::layers::{LayerNorm, Linear};
use swinseek_kernels::ops::gather::mean_rows;
use swinseek_kernels::threads::awake;
use swinseek_kernels::{Error, Result, Trace, Weights};

use crate::config::{Dialect, Version, VisionConfig};
use crate::patch_embed::{DEFAULT_EPS, PatchEmbed};
use crate::stage::{Stage, StagePlan};

/// Image sizes whose plans are kept; a service sees one or two, so more means an unusual caller.
const KEPT_PLANS: usize = 8;

/// Prefixes under which an encoder stands in published files, in the order they are tried.
const PREFIXES: [&str; 9] =
    ["", "swin", "swinv2", "donut", "donut_swin", "encoder", "model", "backbone", "timm_model"];

/// How each stage cuts its map.
type Plans = Arc<[StagePlan]>;

/// A map of features, channels last.
#[derive(Debug, Clone)]
pub struct FeatureMap {
    /// `(batch, height · width, dim)`, row by row.
    pub tokens: Tensor,
    /// Rows of the map.
    pub height: usize,
    /// Columns of the map.
    pub width: usize,
}

/// What an encoder makes of a batch of images.
#[derive(Debug, Clone)]
pub struct EncoderOutput {
    /// `(batch, tokens, hidden_size)` after the final norm (before it there is none in Donut's Swin).
    pub last_hidden_state: Tensor,
    /// Mean over the tokens of `last_hidden_state`, `(batch, hidden_size)`.
    pub pooled: Tensor,
    /// Output of each stage before its patch merging, the finest first; the last is `last_hidden_state`.
    pub stages: Vec<FeatureMap>,
    /// `(batch, classes)` when the checkpoint has a classifier.
    pub logits: Option<Tensor>,
    /// The `out_features` of a published backbone (before the final norm, after their own norms if it has any).
    pub feature_maps: Vec<FeatureMap>,
}

/// A Swin encoder of any version and layout.
#[derive(Debug)]
pub struct Encoder {
    config: VisionConfig,
    embed: PatchEmbed,
    stages: Vec<Stage>,
    norm: Option<LayerNorm>,
    /// Norms of a backbone's feature maps, in the order of `out_features`; empty when it has none.
    feature_norms: Vec<LayerNorm>,
    classifier: Option<Linear>,
    /// By the stem's `(rows, columns)`.
    plans: Mutex<HashMap<(usize, usize), Plans>>,
    device: Device,
}

impl Encoder {
    /// Reads all parameters. The encoder's tensors may stand at the top of `weights` or below a usual prefix
    /// (`swin.`, `swinv2.`, `encoder.`, ..); the classifier stands at the top.
    ///
    /// # Errors
    /// A tensor is missing or has another shape than the configuration asks for.
    pub fn new(config: &VisionConfig, weights: &Weights) -> Result<Self> {
        let blocks = root(config, &weights.for_encoders());
        let weights = &weights.unquantized();
        let root = root(config, weights);
        let (layers, norm) = match config.dialect {
            Dialect::HuggingFace => (blocks.pp("encoder.layers"), root.pp("layernorm")),
            Dialect::Timm => (blocks.pp("layers"), root.pp("norm")),
        };
        // A backbone's feature maps come before the final norm, so its files may lack it.
        let has_norm = config.final_norm && (config.out_features.is_none() || norm.contains("weight"));
        let stages = (0..config.stages()).map(|stage| Stage::new(config, stage, &layers));
        Ok(Self {
            embed: PatchEmbed::new(config, &root)?,
            stages: stages.collect::<Result<_>>()?,
            norm: has_norm
                .then(|| LayerNorm::new(config.hidden_size(), config.layer_norm_eps, &norm))
                .transpose()?,
            feature_norms: feature_norms(config, weights)?,
            classifier: classifier(config, weights, &root)?,
            plans: Mutex::default(),
            device: weights.device().clone(),
            config: config.clone(),
        })
    }

    /// The configuration that the encoder was built from.
    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// Encodes normalised `pixels (batch, channels, height, width)` of any size; records `embeddings`, `block.S.B`,
    /// `stage.S`, `last_hidden_state`, `pooler_output`, `logits` and `feature_maps.N` in the shapes of the reference.
    ///
    /// # Errors
    /// The pixels have another number of channels than the model, or no extent.
    pub fn forward(&self, pixels: &Tensor, trace: &mut Trace) -> Result<EncoderOutput> {
        self.check_pixels(pixels)?;
        let _awake = awake();
        let pixels = &pixels.to_device(&self.device)?;
        let (mut x, grid) = self.embed.forward(pixels)?;
        self.record(trace, "embeddings", &x, grid)?;
        let plans = self.plans(grid, pixels.device())?;
        let mut features = vec![feature_map(&x, grid)];
        let last = self.stages.len() - 1;
        for (s, (stage, plan)) in self.stages.iter().zip(plans.iter()).enumerate() {
            for (b, block) in stage.blocks.iter().enumerate() {
                x = block.forward(&x, plan.partition(b))?;
                self.record(trace, &format!("block.{s}.{b}"), &x, plan.map)?;
            }
            features.push(feature_map(&x, plan.map));
            let before = x.clone();
            let mut map = plan.map;
            if let Some(merging) = &stage.merging {
                x = merging.forward(&x, &plan.merge)?;
                map = plans[last.min(s + 1)].map;
            }
            // The reference's stage ends after its merging; timm's merges at its start.
            match self.config.dialect {
                Dialect::HuggingFace => self.record(trace, &format!("stage.{s}"), &x, map)?,
                Dialect::Timm => self.record(trace, &format!("stage.{s}"), &before, plan.map)?,
            }
        }
        self.finish(&x, features, trace)
    }

    /// Final norm, pooling and heads; `features` are the stem and the stages before the norm.
    fn finish(&self, x: &Tensor, mut features: Vec<FeatureMap>, trace: &mut Trace) -> Result<EncoderOutput> {
        let feature_maps = self.feature_maps(&features, trace)?;
        let last_hidden_state = match &self.norm {
            Some(norm) => norm.forward(x)?,
            None => x.clone(),
        };
        let mut stages = features.split_off(1);
        if let Some(last) = stages.last_mut() {
            last.tokens = last_hidden_state.clone();
            self.record(trace, "last_hidden_state", &last.tokens, (last.height, last.width))?;
        }
        let pooled = mean_rows(&last_hidden_state)?;
        trace.record("pooler_output", &pooled);
        let logits = self.classifier.as_ref().map(|classifier| classifier.forward(&pooled)).transpose()?;
        if let Some(logits) = &logits {
            trace.record("logits", logits);
        }
        Ok(EncoderOutput { last_hidden_state, pooled, stages, logits, feature_maps })
    }

    /// The maps that `out_features` names.
    fn feature_maps(&self, features: &[FeatureMap], trace: &mut Trace) -> Result<Vec<FeatureMap>> {
        let mut maps = Vec::new();
        for (n, &index) in self.config.out_features.iter().flatten().enumerate() {
            let mut map = features[index].clone();
            if let Some(norm) = self.feature_norms.get(n) {
                map.tokens = norm.forward(&map.tokens)?;
            }
            let name = format!("feature_maps.{n}");
            if trace.wants(&name) {
                let (batch, _, dim) = map.tokens.dims3()?;
                let channels_first = map.tokens.transpose(1, 2)?.contiguous()?;
                trace.record(name, &channels_first.reshape((batch, dim, map.height, map.width))?);
            }
            maps.push(map);
        }
        Ok(maps)
    }

    /// Records tokens as the reference holds them: a map `(batch, rows, columns, dim)` in timm, a list elsewhere.
    fn record(&self, trace: &mut Trace, name: &str, tokens: &Tensor, map: (usize, usize)) -> Result<()> {
        if self.config.dialect == Dialect::Timm && trace.wants(name) {
            let (batch, dim) = (tokens.dim(0)?, tokens.dim(D::Minus1)?);
            trace.record(name, &tokens.reshape((batch, map.0, map.1, dim))?);
        } else {
            trace.record(name, tokens);
        }
        Ok(())
    }

    fn check_pixels(&self, pixels: &Tensor) -> Result<()> {
        let expected = self.config.num_channels;
        match *pixels.dims() {
            [_, channels, height, width] if channels == expected && height > 0 && width > 0 => Ok(()),
            _ => Err(Error::Input(format!(
                "pixel values have shape {:?}, expected (batch, {expected}, height, width)",
                pixels.dims()
            ))),
        }
    }

    /// Window partitions of every stage for a stem of `grid` tokens.
    fn plans(&self, grid: (usize, usize), device: &Device) -> Result<Plans> {
        let mut kept = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plans) = kept.get(&grid) {
            return Ok(plans.clone());
        }
        let stages = 0..self.stages.len();
        let plans = stages
            .map(|stage| StagePlan::new(&self.config, stage, grid, device))
            .collect::<Result<Vec<_>>>()?;
        let plans = Plans::from(plans);
        if kept.len() >= KEPT_PLANS {
            kept.clear();
        }
        kept.insert(grid, plans.clone());
        Ok(plans)
    }
}

fn feature_map(tokens: &Tensor, (height, width): (usize, usize)) -> FeatureMap {
    FeatureMap { tokens: tokens.clone(), height, width }
}

/// Where the encoder's own tensors start; the top when nothing is there yet (training from scratch).
fn root(config: &VisionConfig, weights: &Weights) -> Weights {
    let probe = match config.dialect {
        Dialect::HuggingFace => "embeddings.norm.weight",
        Dialect::Timm => "patch_embed.norm.weight",
    };
    let below = |prefix: &str| {
        if prefix.is_empty() { weights.clone() } else { weights.pp(prefix) }
    };
    let mut places = PREFIXES.into_iter().map(below);
    places.find(|w| w.contains(probe)).unwrap_or_else(|| weights.clone())
}

/// The norms of `SwinBackbone` (the v2 class has none).
fn feature_norms(config: &VisionConfig, weights: &Weights) -> Result<Vec<LayerNorm>> {
    let norms = weights.pp("hidden_states_norms");
    let norm = |feature: &usize| {
        let (name, dim) = match feature.checked_sub(1) {
            None => ("stem".to_owned(), config.dim(0)),
            Some(stage) => (format!("stage{feature}"), config.dim(stage)),
        };
        LayerNorm::new(dim, DEFAULT_EPS, &norms.pp(name))
    };
    match (&config.out_features, config.version) {
        (Some(features), Version::V1) => features.iter().map(norm).collect(),
        _ => Ok(Vec::new()),
    }
}

/// The classifier that the configuration promises or the checkpoint holds.
fn classifier(config: &VisionConfig, weights: &Weights, root: &Weights) -> Result<Option<Linear>> {
    let head = match config.dialect {
        Dialect::HuggingFace => weights.pp("classifier"),
        // Files of the original repository have `head` itself.
        Dialect::Timm if root.contains("head.weight") => root.pp("head"),
        Dialect::Timm => root.pp("head.fc"),
    };
    let on_disk = || head.shape("weight").and_then(|shape| shape.first().copied());
    let Some(classes) = config.num_labels.or_else(on_disk) else {
        return Ok(None);
    };
    Linear::new(config.hidden_size(), classes, &head).map(Some)
}
