//! `config.json` of a joined model: the sub-configurations in their published dialects, and the fusion between them.

use serde_json::{Value, json};
use swinseek_kernels::{Error, Result};
use swinseek_language::LanguageConfig;
use swinseek_vision::VisionConfig;

use crate::cross_attention::CrossAttentionConfig;

/// The entry of `architectures` that names our joined model.
pub const ARCHITECTURE: &str = "SwinSeekForConditionalGeneration";

/// How image tokens reach the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FusionMode {
    /// Gated cross-attention layers inside the decoder read them.
    CrossAttention,
    /// They stand before the prompt, as if they were token embeddings.
    Prefix,
}

/// Everything between encoder and decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct FusionConfig {
    /// How image tokens reach the decoder.
    pub mode: FusionMode,
    /// Decoder layers that have a cross layer before them, ascending; empty in prefix mode.
    pub cross_attention_layers: Vec<usize>,
    /// Query heads of the cross layers.
    pub num_attention_heads: usize,
    /// Key and value heads of the cross layers.
    pub num_key_value_heads: usize,
    /// SwiGLU width of the cross layers.
    pub intermediate_size: usize,
    /// Epsilon of the RMS norms in the cross layers.
    pub rms_norm_eps: f64,
    /// What the gates of fresh cross layers start at, before the tanh.
    pub gate_init: f64,
    /// Encoder stages (from 0) whose tokens form the memory, in memory order; the last two by default.
    pub vision_stages: Vec<usize>,
    /// Rows and columns of the learned position tables, per chosen stage; other map sizes are interpolated.
    pub position_grids: Vec<[usize; 2]>,
    /// Classes of the localisation head on the finest chosen stage, if there is one.
    pub findings_classes: Option<Vec<String>>,
}

/// A whole joined model.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The encoder.
    pub vision: VisionConfig,
    /// The decoder.
    pub language: LanguageConfig,
    /// What joins them.
    pub fusion: FusionConfig,
}

impl ModelConfig {
    /// Reads `config.json`; an error names the field with its path (`fusion.mode`).
    pub fn from_json(json: &Value) -> Result<Self> {
        let architecture = json.pointer("/architectures/0").and_then(Value::as_str).unwrap_or("nothing");
        if architecture != ARCHITECTURE {
            return Err(Error::config(
                "architectures",
                format!("names {architecture}, expected {ARCHITECTURE}"),
            ));
        }
        let part = |name: &str| {
            let part = json.get(name).filter(|part| part.is_object());
            part.ok_or_else(|| Error::config(name, "is missing, expected an object"))
        };
        let vision = VisionConfig::from_json(part("vision")?).map_err(|error| below("vision", error))?;
        let language =
            LanguageConfig::from_json(part("language")?).map_err(|error| below("language", error))?;
        let fusion = FusionConfig::from_json(part("fusion")?, &vision, &language)?;
        Ok(Self { vision, language, fusion })
    }

    /// Sizes of the cross layers.
    pub fn cross_attention(&self) -> CrossAttentionConfig {
        CrossAttentionConfig {
            hidden_size: self.language.hidden_size,
            num_heads: self.fusion.num_attention_heads,
            num_kv_heads: self.fusion.num_key_value_heads,
            intermediate_size: self.fusion.intermediate_size,
            rms_norm_eps: self.fusion.rms_norm_eps,
            gate_init: self.fusion.gate_init,
        }
    }
}

/// Puts the name of a sub-configuration before the field that an error names.
pub(crate) fn below(part: &str, error: Error) -> Error {
    match error {
        Error::Config { field, message } => Error::Config { field: format!("{part}.{field}"), message },
        other => other,
    }
}

const FIELDS: [&str; 10] = [
    "mode",
    "cross_attention_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "rms_norm_eps",
    "gate_init",
    "vision_stages",
    "position_grids",
    "findings_head",
];

impl FusionConfig {
    /// Reads the `fusion` object. What it leaves out follows from the encoder and the decoder.
    pub fn from_json(json: &Value, vision: &VisionConfig, language: &LanguageConfig) -> Result<Self> {
        let object = json.as_object().ok_or_else(|| Error::config("fusion", "is not an object"))?;
        if let Some(field) = object.keys().find(|key| !FIELDS.contains(&key.as_str())) {
            return Err(invalid(field, &object[field], &format!("one of the fields {}", FIELDS.join(", "))));
        }
        let mode = match json.get("mode").and_then(Value::as_str) {
            Some("cross_attention") => FusionMode::CrossAttention,
            Some("prefix") => FusionMode::Prefix,
            _ => return Err(invalid("mode", &json["mode"], "cross_attention or prefix")),
        };
        let vision_stages = stages(json, vision.stages())?;
        let heads = count(json, "num_attention_heads", language.attention.num_heads())?;
        let config = Self {
            mode,
            cross_attention_layers: cross_layers(json, mode, language.num_hidden_layers)?,
            num_attention_heads: heads,
            num_key_value_heads: count(json, "num_key_value_heads", heads)?,
            intermediate_size: count(json, "intermediate_size", language.intermediate_size)?,
            rms_norm_eps: number(json, "rms_norm_eps", language.rms_norm_eps)?,
            gate_init: number(json, "gate_init", 0.0)?,
            position_grids: grids(json, &vision_stages, vision)?,
            vision_stages,
            findings_classes: classes(json)?,
        };
        config.check(language.hidden_size)?;
        Ok(config)
    }

    /// The `fusion` object of a configuration.
    pub fn to_json(&self) -> Value {
        let mode = match self.mode {
            FusionMode::CrossAttention => "cross_attention",
            FusionMode::Prefix => "prefix",
        };
        let mut json = json!({
            "mode": mode,
            "cross_attention_layers": self.cross_attention_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "intermediate_size": self.intermediate_size,
            "rms_norm_eps": self.rms_norm_eps,
            "gate_init": self.gate_init,
            "vision_stages": self.vision_stages,
            "position_grids": self.position_grids,
        });
        if let Some(classes) = &self.findings_classes {
            json["findings_head"] = json!({ "classes": classes });
        }
        json
    }

    fn check(&self, hidden_size: usize) -> Result<()> {
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if !hidden_size.is_multiple_of(heads) {
            let expected = format!("a divisor of the decoder's hidden_size = {hidden_size}");
            return Err(invalid("num_attention_heads", &json!(heads), &expected));
        }
        if !heads.is_multiple_of(kv_heads) {
            return Err(invalid(
                "num_key_value_heads",
                &json!(kv_heads),
                &format!("a divisor of {heads} heads"),
            ));
        }
        Ok(())
    }
}

fn invalid(field: &str, found: &Value, expected: &str) -> Error {
    Error::config(format!("fusion.{field}"), format!("is {found}, expected {expected}"))
}

/// A list of ascending integers below `limit`, or `None` when the field is absent.
fn indices(json: &Value, field: &str, limit: usize) -> Result<Option<Vec<usize>>> {
    let Some(value) = json.get(field).filter(|v| !v.is_null()) else {
        return Ok(None);
    };
    let parse = || -> Option<Vec<usize>> {
        let list: Vec<usize> =
            value.as_array()?.iter().map(|v| Some(v.as_u64()? as usize)).collect::<Option<_>>()?;
        (list.is_sorted_by(|a, b| a < b) && list.last().is_none_or(|&last| last < limit)).then_some(list)
    };
    parse().map(Some).ok_or_else(|| invalid(field, value, &format!("ascending integers below {limit}")))
}

fn stages(json: &Value, depth: usize) -> Result<Vec<usize>> {
    let stages =
        indices(json, "vision_stages", depth)?.unwrap_or_else(|| (depth.saturating_sub(2)..depth).collect());
    if stages.is_empty() {
        return Err(invalid("vision_stages", &json!([]), "at least one stage"));
    }
    Ok(stages)
}

fn cross_layers(json: &Value, mode: FusionMode, layers: usize) -> Result<Vec<usize>> {
    let field = "cross_attention_layers";
    let list = indices(json, field, layers)?.unwrap_or_default();
    match (mode, list.is_empty()) {
        (FusionMode::CrossAttention, true) => {
            Err(invalid(field, &json[field], "at least one layer in mode cross_attention"))
        }
        (FusionMode::Prefix, false) => Err(invalid(field, &json[field], "none in mode prefix")),
        _ => Ok(list),
    }
}

fn count(json: &Value, field: &str, default: usize) -> Result<usize> {
    match json.get(field) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => match value.as_u64() {
            Some(n) if (1..1 << 24).contains(&n) => Ok(n as usize),
            _ => Err(invalid(field, value, "a positive integer")),
        },
    }
}

fn number(json: &Value, field: &str, default: f64) -> Result<f64> {
    match json.get(field) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value.as_f64().ok_or_else(|| invalid(field, value, "a number")),
    }
}

/// Rows and columns of a stage's map for an image of `height` × `width` pixels.
pub(crate) fn stage_map(vision: &VisionConfig, stage: usize, height: usize, width: usize) -> [usize; 2] {
    let (rows, columns) = vision.grid(height, width);
    [rows.div_ceil(1 << stage), columns.div_ceil(1 << stage)]
}

/// The tables' sizes: given, or the maps of an image of the encoder's configured size.
fn grids(json: &Value, stages: &[usize], vision: &VisionConfig) -> Result<Vec<[usize; 2]>> {
    let Some(value) = json.get("position_grids").filter(|v| !v.is_null()) else {
        let (height, width) = vision.image_size;
        return Ok(stages.iter().map(|&stage| stage_map(vision, stage, height, width)).collect());
    };
    let side = |v: &Value| v.as_u64().filter(|n| (1..=4096).contains(n)).map(|n| n as usize);
    let grid = |v: &Value| match v.as_array()?.as_slice() {
        [rows, columns] => Some([side(rows)?, side(columns)?]),
        _ => None,
    };
    let grids: Option<Vec<_>> = value.as_array().and_then(|list| list.iter().map(grid).collect());
    grids.filter(|grids| grids.len() == stages.len()).ok_or_else(|| {
        invalid(
            "position_grids",
            value,
            &format!("{} pairs [rows, columns], one per vision stage", stages.len()),
        )
    })
}

fn classes(json: &Value) -> Result<Option<Vec<String>>> {
    let Some(head) = json.get("findings_head").filter(|v| !v.is_null()) else {
        return Ok(None);
    };
    let names = head.get("classes").and_then(Value::as_array);
    let names: Option<Vec<String>> =
        names.and_then(|list| list.iter().map(|v| v.as_str().map(str::to_owned)).collect());
    match names.filter(|names| !names.is_empty()) {
        Some(names) => Ok(Some(names)),
        None => {
            Err(invalid("findings_head", head, "an object with a non-empty list of class names `classes`"))
        }
    }
}
