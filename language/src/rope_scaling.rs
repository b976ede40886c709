//! Frequencies of the rotary embedding: the base form and its context extensions.
//!
//! Computed in `f32` in the order of `transformers/modeling_rope_utils.py`, so that angles at large positions agree.

use std::f64::consts::TAU;

use serde_json::Value;
use swinseek_kernels::{Error, Result};

use crate::config::fields::Fields;

/// How the base frequencies `θ^(−2i/d)` are changed to reach longer contexts.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Unchanged (Su et al. 2021).
    Default,
    /// All frequencies divided by `factor` (position interpolation, Chen et al. 2023).
    Linear {
        /// How much longer the context becomes.
        factor: f64,
    },
    /// The base becomes `θ · factor^(d / (d − 2))`.
    Ntk {
        /// How much longer the context becomes.
        factor: f64,
    },
    /// NTK scaling that follows the length of the sequence; unchanged up to `max_position_embeddings`.
    Dynamic {
        /// How much longer the context becomes.
        factor: f64,
    },
    /// Interpolation by wavelength (YaRN, Peng et al. 2023).
    Yarn(Yarn),
    /// Interpolation by wavelength as in Llama 3.1.
    Llama3 {
        /// How much longer the context becomes.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are interpolated in full.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` stay.
        high_freq_factor: f64,
        /// Context length of the training before the extension.
        original_max_position_embeddings: f64,
    },
}

/// Parameters of YaRN, under the names of `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Yarn {
    /// How much longer the context becomes.
    pub factor: f64,
    /// Context length of the training before the extension.
    pub original_max_position_embeddings: f64,
    /// Frequencies with more rotations than this over the original context stay.
    pub beta_fast: f64,
    /// Frequencies with fewer rotations than this are interpolated in full.
    pub beta_slow: f64,
    /// Scale of cosine and sine, where the file sets it.
    pub attention_factor: Option<f64>,
    /// Weight of the scale of cosine and sine; 0 when absent.
    pub mscale: f64,
    /// Weight of the scale that moves into the softmax of latent attention; 0 when absent.
    pub mscale_all_dim: f64,
    /// Whether the ends of the ramp are rounded to whole dimensions.
    pub truncate: bool,
}

impl Yarn {
    /// `g(m) = 0.1 m ln(factor) + 1`, and 1 when nothing is extended.
    fn mscale(&self, weight: f64) -> f64 {
        if self.factor <= 1.0 { 1.0 } else { 0.1 * weight * self.factor.ln() + 1.0 }
    }
}

/// Rotary embedding of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Base θ.
    pub theta: f64,
    /// Rotated dimensions of a head.
    pub dim: usize,
    /// Context length of the model; [`RopeScaling::Dynamic`] starts to scale beyond it.
    pub max_position_embeddings: usize,
    /// Context extension.
    pub scaling: RopeScaling,
}

impl RopeConfig {
    /// The `dim / 2` frequencies for a sequence of `seq_len` positions (only dynamic scaling depends on it).
    pub fn inverse_frequencies(&self, seq_len: usize) -> Vec<f32> {
        let dim = self.dim as f64;
        let stretch = dim / (dim - 2.0);
        match &self.scaling {
            RopeScaling::Default => self.base_frequencies(self.theta),
            RopeScaling::Linear { factor } => {
                self.base_frequencies(self.theta).into_iter().map(|f| f / *factor as f32).collect()
            }
            RopeScaling::Ntk { factor } => self.base_frequencies(self.theta * factor.powf(stretch)),
            RopeScaling::Dynamic { factor } => {
                let max = self.max_position_embeddings;
                let growth = factor * seq_len.max(max) as f64 / max as f64 - (factor - 1.0);
                self.base_frequencies(self.theta * growth.powf(stretch))
            }
            RopeScaling::Yarn(yarn) => self.yarn_frequencies(yarn),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => {
                let original = *original_max_position_embeddings as f32;
                let (low, high) = (*low_freq_factor as f32, *high_freq_factor as f32);
                let interpolate = |f: f32| {
                    let wavelength = TAU as f32 / f;
                    if wavelength > original / low {
                        f / *factor as f32
                    } else if wavelength < original / high {
                        f
                    } else {
                        let smooth = (original / wavelength - low) / (high - low);
                        (1.0 - smooth) * f / *factor as f32 + smooth * f
                    }
                };
                self.base_frequencies(self.theta).into_iter().map(interpolate).collect()
            }
        }
    }

    /// Whether the frequencies change with the length of the sequence at `seq_len` positions.
    pub fn depends_on_length(&self, seq_len: usize) -> bool {
        matches!(self.scaling, RopeScaling::Dynamic { .. }) && seq_len > self.max_position_embeddings
    }

    /// What cosine and sine are multiplied by.
    pub fn attention_factor(&self) -> f64 {
        let RopeScaling::Yarn(yarn) = &self.scaling else {
            return 1.0;
        };
        yarn.attention_factor.unwrap_or_else(|| {
            if yarn.mscale != 0.0 && yarn.mscale_all_dim != 0.0 {
                yarn.mscale(yarn.mscale) / yarn.mscale(yarn.mscale_all_dim)
            } else {
                yarn.mscale(1.0)
            }
        })
    }

    /// What the softmax scale of multi-head latent attention is multiplied by, `g(mscale_all_dim)²`.
    pub fn softmax_factor(&self) -> f64 {
        match &self.scaling {
            RopeScaling::Yarn(yarn) if yarn.mscale_all_dim != 0.0 => yarn.mscale(yarn.mscale_all_dim).powi(2),
            _ => 1.0,
        }
    }

    /// `θ^(2i/d)`.
    fn wavelengths(&self, theta: f64) -> Vec<f32> {
        // torch takes the power in f32; a power in f64 of the same f32 operands rounds to the same or next value.
        let exponent = |i: usize| f64::from((2 * i) as f32 / self.dim as f32);
        (0..self.dim / 2).map(|i| f64::from(theta as f32).powf(exponent(i)) as f32).collect()
    }

    fn base_frequencies(&self, theta: f64) -> Vec<f32> {
        self.wavelengths(theta).into_iter().map(|w| 1.0 / w).collect()
    }

    fn yarn_frequencies(&self, yarn: &Yarn) -> Vec<f32> {
        let dim = self.dim as f64;
        let turns_at = |rotations: f64| {
            dim * (yarn.original_max_position_embeddings / (rotations * TAU)).ln() / (2.0 * self.theta.ln())
        };
        let (mut low, mut high) = (turns_at(yarn.beta_fast), turns_at(yarn.beta_slow));
        if yarn.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            high += 0.001;
        }
        let blend = |(i, wavelength): (usize, f32)| {
            let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
            let keep = 1.0 - ramp;
            1.0 / (yarn.factor as f32 * wavelength) * (1.0 - keep) + 1.0 / wavelength * keep
        };
        self.wavelengths(self.theta).into_iter().enumerate().map(blend).collect()
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Default,
    Linear,
    Ntk,
    Dynamic,
    Yarn,
    Llama3,
}

const KINDS: [(&str, Kind); 6] = [
    ("default", Kind::Default),
    ("linear", Kind::Linear),
    ("ntk", Kind::Ntk),
    ("dynamic", Kind::Dynamic),
    ("yarn", Kind::Yarn),
    ("llama3", Kind::Llama3),
];

impl RopeConfig {
    /// Reads either dialect: `rope_theta` + `rope_scaling`, or `rope_parameters`. `dim` is the rotated part of a head.
    pub(crate) fn read(config: &Fields, dim: usize, default_theta: f64) -> Result<Self> {
        if !dim.is_multiple_of(2) || dim < 2 {
            return Err(Error::config(
                "head_dim",
                format!("rotary embedding of {dim} dimensions, expected an even size"),
            ));
        }
        let max_position_embeddings = config.size_or("max_position_embeddings", 2048)?;
        let mut theta = config.positive_or("rope_theta", default_theta)?;
        // As transformers: a non-empty rope_scaling wins over rope_parameters.
        let name = ["rope_scaling", "rope_parameters"]
            .into_iter()
            .find(|name| config.get(name).is_some_and(|v| v.as_object().is_none_or(|o| !o.is_empty())));
        let mut scaling = RopeScaling::Default;
        if let Some((name, value)) = name.and_then(|name| Some((name, config.get(name)?))) {
            let rope = Fields::new(value, &config.path(name))?;
            if value.as_object().is_some_and(|object| object.values().any(Value::is_object)) {
                return Err(config.error(name, "one set of parameters for all layers"));
            }
            scaling = Self::read_scaling(config, &rope, &mut theta, max_position_embeddings)?;
        }
        if theta <= 1.0 {
            return Err(config.error("rope_theta", "a number above 1"));
        }
        Ok(Self { theta, dim, max_position_embeddings, scaling })
    }

    fn read_scaling(
        config: &Fields,
        rope: &Fields,
        theta: &mut f64,
        max_positions: usize,
    ) -> Result<RopeScaling> {
        *theta = rope.positive_or("rope_theta", *theta)?;
        if rope.number("partial_rotary_factor")?.is_some_and(|part| part != 1.0) {
            return Err(rope.error("partial_rotary_factor", "1.0"));
        }
        let kind = match rope.choice("rope_type", &KINDS)? {
            Some(kind) => Some(kind),
            None => rope.choice("type", &KINDS)?,
        };
        let kind = kind.unwrap_or(Kind::Default);
        let required = |name: &str| match rope.number(name)? {
            Some(number) if number > 0.0 => Ok(number),
            _ => Err(rope.error(name, "a number above 0")),
        };
        let original = || -> Result<f64> {
            let stated = rope.positive_or("original_max_position_embeddings", max_positions as f64)?;
            config.positive_or("original_max_position_embeddings", stated)
        };
        Ok(match kind {
            Kind::Default => RopeScaling::Default,
            Kind::Linear => RopeScaling::Linear { factor: required("factor")? },
            Kind::Ntk => RopeScaling::Ntk { factor: required("factor")? },
            Kind::Dynamic => RopeScaling::Dynamic { factor: required("factor")? },
            Kind::Yarn => RopeScaling::Yarn(Self::read_yarn(rope, original()?, max_positions)?),
            Kind::Llama3 => RopeScaling::Llama3 {
                factor: required("factor")?,
                low_freq_factor: required("low_freq_factor")?,
                high_freq_factor: required("high_freq_factor")?,
                original_max_position_embeddings: original()?,
            },
        })
    }

    fn read_yarn(rope: &Fields, original: f64, max_positions: usize) -> Result<Yarn> {
        // transformers takes a 0 here as absent.
        let rotations = |name: &str, default: f64| -> Result<f64> {
            Ok(rope.number(name)?.filter(|&beta| beta != 0.0).unwrap_or(default))
        };
        Ok(Yarn {
            factor: rope.positive_or("factor", max_positions as f64 / original)?,
            original_max_position_embeddings: original,
            beta_fast: rotations("beta_fast", 32.0)?,
            beta_slow: rotations("beta_slow", 1.0)?,
            attention_factor: rope.number("attention_factor")?,
            mscale: rope.number("mscale")?.unwrap_or(0.0),
            mscale_all_dim: rope.number("mscale_all_dim")?.unwrap_or(0.0),
            truncate: rope.flag_or("truncate", true)?,
        })
    }
}
