//! transformers' configuration: one flat object, named by `model_type`.

use serde_json::Value;
use swinseek_kernels::Result;

use crate::config::{Dialect, Stem, Version, VisionConfig, activation, even_heads, pretrained_windows};
use crate::fields::Fields;
use crate::stem::Convolution;

/// Reads a transformers `config.json`.
pub(crate) fn read(fields: &Fields) -> Result<VisionConfig> {
    let (version, final_norm) = match fields.text("model_type")? {
        Some("swin") => (Version::V1, true),
        Some("donut-swin") => (Version::V1, false),
        Some("swinv2") => (Version::V2, true),
        found => {
            let found = found.map_or("nothing".to_owned(), |name| format!("`{name}`"));
            let message =
                format!("found {found}, expected `swin`, `swinv2`, `donut-swin` or a timm `architecture`");
            return Err(fields.error("model_type", message));
        }
    };
    let depths = fields.sizes("depths")?.unwrap_or_else(|| vec![2, 2, 6, 2]);
    let stages = depths.len();
    let num_heads = fields.sizes("num_heads")?.unwrap_or_else(|| vec![3, 6, 12, 24]);
    let embed_dim = fields.size("embed_dim")?.unwrap_or(96);
    let window = fields.size("window_size")?.unwrap_or(7);
    let architectures = fields.texts("architectures")?.unwrap_or_default();
    let is = |suffix: &str| architectures.iter().any(|name| name.ends_with(suffix));
    let backbone = is("Backbone");
    let absolute_positions = fields.flag("use_absolute_embeddings")?.unwrap_or(false);
    if absolute_positions && (version == Version::V2 || !final_norm) {
        // Their classes store one position more than there are tokens, so the reference cannot add them.
        return Err(
            fields.error("use_absolute_embeddings", "found true, which works for model_type `swin` only")
        );
    }
    Ok(VisionConfig {
        version,
        dialect: Dialect::HuggingFace,
        final_norm,
        image_size: fields.pair("image_size")?.unwrap_or((224, 224)),
        patch_size: fields.pair("patch_size")?.unwrap_or((4, 4)),
        num_channels: fields.size("num_channels")?.unwrap_or(3),
        embed_dim,
        head_dims: even_heads(embed_dim, &num_heads)?,
        num_heads,
        window_sizes: vec![(window, window); stages],
        pretrained_window_sizes: pretrained_windows(fields, stages)?,
        mlp_ratios: vec![fields.positive("mlp_ratio")?.unwrap_or(4.0); stages],
        qkv_bias: fields.flag("qkv_bias")?.unwrap_or(true),
        hidden_act: activation(fields, "hidden_act")?,
        layer_norm_eps: fields.positive("layer_norm_eps")?.unwrap_or(1e-5),
        absolute_positions,
        // Only the v1 classes know the argument; a v2 model fixes its windows when it is built.
        always_partition: version == Version::V1 && fields.flag("always_partition")?.unwrap_or(backbone),
        out_features: if backbone { Some(out_features(fields, stages)?) } else { None },
        num_labels: if is("ForImageClassification") { Some(labels(fields)?) } else { None },
        stem: stem(fields)?,
        depths,
    })
}

/// Classes of a classifier, by their names or their number.
fn labels(fields: &Fields) -> Result<usize> {
    if let Some(Value::Object(names)) = fields.get("id2label") {
        return Ok(names.len());
    }
    Ok(fields.size("num_labels")?.unwrap_or(2))
}

/// Feature maps of a backbone, by `out_features` names, `out_indices`, or the last stage; finest first.
fn out_features(fields: &Fields, stages: usize) -> Result<Vec<usize>> {
    let mut maps = if let Some(names) = fields.texts("out_features")? {
        let position = |name: &&str| {
            let known = |feature: &usize| match feature {
                0 => *name == "stem",
                stage => *name == format!("stage{stage}"),
            };
            (0..=stages).find(known).ok_or_else(|| {
                let expected = format!("`stem` or `stage1` to `stage{stages}`");
                fields.error("out_features", format!("found `{name}`, expected {expected}"))
            })
        };
        names.iter().map(position).collect::<Result<Vec<_>>>()?
    } else if let Some(list) = fields.get("out_indices") {
        let index = |item: &Value| {
            let found = item.as_i64()?;
            let index = if found < 0 { found.checked_add(stages as i64 + 1)? } else { found };
            usize::try_from(index).ok().filter(|index| *index <= stages)
        };
        let indices = list.as_array().and_then(|items| items.iter().map(index).collect());
        indices.ok_or_else(|| {
            let expected = format!("a list of numbers from 0 to {stages}");
            fields.error("out_indices", format!("found {list}, expected {expected}"))
        })?
    } else {
        vec![stages]
    };
    maps.sort_unstable();
    maps.dedup();
    Ok(maps)
}

/// Most convolutions of a stem.
const MAX_STEM_LAYERS: usize = 16;

/// Our extension: `{"type": "conv", "channels": [N, ...], "strides": [1 or 2, ...]}`.
fn stem(fields: &Fields) -> Result<Stem> {
    let Some(stem) = fields.child("stem")? else {
        return Ok(Stem::Patch);
    };
    match stem.text("type")? {
        Some("patch") => Ok(Stem::Patch),
        Some("conv") => {
            let list = |name: &str| {
                let list = stem.sizes(name)?.filter(|list| (1..=MAX_STEM_LAYERS).contains(&list.len()));
                list.ok_or_else(|| {
                    stem.error(name, format!("expected 1 to {MAX_STEM_LAYERS} numbers, one per convolution"))
                })
            };
            let (channels, strides) = (list("channels")?, list("strides")?);
            if strides.len() != channels.len() || strides.iter().any(|&stride| stride > 2) {
                let message = format!("found {strides:?}, expected {} times 1 or 2", channels.len());
                return Err(stem.error("strides", message));
            }
            let layers = channels.into_iter().zip(strides);
            Ok(Stem::Conv(layers.map(|(channels, stride)| Convolution { channels, stride }).collect()))
        }
        found => {
            let message = format!("found `{}`, expected `patch` or `conv`", found.unwrap_or("nothing"));
            Err(stem.error("type", message))
        }
    }
}
