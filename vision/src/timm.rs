//! timm's configuration: a named architecture, changed by `model_args`.

use serde_json::{Map, Value};
use swinseek_kernels::Result;

use crate::config::{Dialect, Stem, Version, VisionConfig, activation, even_heads, pretrained_windows};
use crate::fields::{Fields, count, pair};

/// Arguments of timm's classes that change the result or the shapes.
const KNOWN: [&str; 14] = [
    "img_size",
    "patch_size",
    "in_chans",
    "num_classes",
    "global_pool",
    "embed_dim",
    "depths",
    "num_heads",
    "window_size",
    "always_partition",
    "strict_img_size",
    "dynamic_img_size",
    "mlp_ratio",
    "qkv_bias",
];
/// Arguments that matter in training only.
const IGNORED: [&str; 5] = ["drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate", "weight_init"];

/// What an architecture's name stands for.
struct Preset {
    version: Version,
    image: usize,
    embed_dim: usize,
    heads: usize,
    depth: usize,
    windows: [usize; 4],
    pretrained: [usize; 4],
}

/// Reads a timm `config.json` whose `architecture` is `name` (a tag behind a dot is ignored).
pub(crate) fn read(fields: &Fields, name: &str) -> Result<VisionConfig> {
    let preset = preset(name.split('.').next().unwrap_or(name)).ok_or_else(|| {
        let expected = "a timm Swin such as `swin_tiny_patch4_window7_224` or `swinv2_base_window8_256`";
        fields.error("architecture", format!("found `{name}`, expected {expected}"))
    })?;
    let none = Value::Object(Map::new());
    let args = match fields.child("model_args")? {
        Some(args) => args,
        None => Fields::new(&none)?,
    };
    check_names(&preset, &args)?;
    apply(&preset, fields, &args)
}

fn apply(preset: &Preset, fields: &Fields, args: &Fields) -> Result<VisionConfig> {
    let depths = args.sizes("depths")?.unwrap_or_else(|| vec![2, 2, preset.depth, 2]);
    let stages = depths.len();
    let embed_dim = args.size("embed_dim")?.unwrap_or(preset.embed_dim);
    let num_heads = args.sizes("num_heads")?.unwrap_or_else(|| (0..4).map(|s| preset.heads << s).collect());
    let input = input_size(fields)?;
    let square = |side: usize| (side, side);
    let pretrained_window_sizes = if args.get("pretrained_window_sizes").is_none() && stages <= 4 {
        preset.pretrained[..stages].iter().copied().map(square).collect()
    } else {
        pretrained_windows(args, stages)?
    };
    let pool = args.text("global_pool")?.or(fields.text("global_pool")?).unwrap_or("avg");
    if pool != "avg" {
        return Err(args.error("global_pool", format!("found `{pool}`, expected `avg`")));
    }
    Ok(VisionConfig {
        version: preset.version,
        dialect: Dialect::Timm,
        final_norm: true,
        image_size: args.pair("img_size")?.or(input.map(|i| i.1)).unwrap_or(square(preset.image)),
        patch_size: args.pair("patch_size")?.unwrap_or((4, 4)),
        num_channels: args.size("in_chans")?.or(input.map(|i| i.0)).unwrap_or(3),
        embed_dim,
        head_dims: head_dims(args, embed_dim, &num_heads)?,
        num_heads,
        window_sizes: windows(preset, args, stages)?,
        pretrained_window_sizes,
        mlp_ratios: mlp_ratios(args, stages)?,
        qkv_bias: args.flag("qkv_bias")?.unwrap_or(true),
        hidden_act: activation(args, "act_layer")?,
        layer_norm_eps: 1e-5,
        absolute_positions: false,
        always_partition: args.flag("always_partition")?.unwrap_or(false),
        out_features: None,
        num_labels: args.count("num_classes")?.or(fields.count("num_classes")?).filter(|n| *n > 0),
        stem: Stem::Patch,
        depths,
    })
}

/// timm refuses unknown arguments, and an argument that is silently dropped would change the result.
fn check_names(preset: &Preset, args: &Fields) -> Result<()> {
    for name in args.names() {
        let known = match name {
            "head_dim" => preset.version == Version::V1,
            "act_layer" | "pretrained_window_sizes" => preset.version == Version::V2,
            _ => KNOWN.contains(&name) || IGNORED.contains(&name),
        };
        if !known {
            return Err(args.error(name, "is not an argument of this architecture that is supported here"));
        }
    }
    Ok(())
}

/// `pretrained_cfg.input_size`, `[channels, height, width]`.
fn input_size(fields: &Fields) -> Result<Option<(usize, (usize, usize))>> {
    let Some(pretrained) = fields.child("pretrained_cfg")? else {
        return Ok(None);
    };
    match pretrained.sizes("input_size")?.as_deref() {
        None => Ok(None),
        Some(&[channels, height, width]) => Ok(Some((channels, (height, width)))),
        Some(found) => {
            let message = format!("found {found:?}, expected [channels, height, width]");
            Err(pretrained.error("input_size", message))
        }
    }
}

/// A number for all stages, `(height, width)` for all stages (a list of two numbers), or one entry per stage.
fn windows(preset: &Preset, args: &Fields, stages: usize) -> Result<Vec<(usize, usize)>> {
    let wrong = |found: &Value| {
        let expected = format!("a number, [height, width], or one entry for each of {stages} stages");
        args.error("window_size", format!("found {found}, expected {expected}"))
    };
    let Some(value) = args.get("window_size") else {
        let same = preset.windows.iter().all(|w| *w == preset.windows[0]);
        return match (0..stages)
            .map(|s| preset.windows.get(if same { 0 } else { s }))
            .collect::<Option<Vec<_>>>()
        {
            Some(windows) => Ok(windows.into_iter().map(|w| (*w, *w)).collect()),
            None => Err(args.error("window_size", format!("is needed for {stages} stages"))),
        };
    };
    let one_for_all = value.as_array().is_none_or(|list| list.len() == 2 && !list[0].is_array());
    if one_for_all {
        return pair(value, 1).map(|window| vec![window; stages]).ok_or_else(|| wrong(value));
    }
    let list: Option<Vec<_>> =
        value.as_array().and_then(|list| list.iter().map(|item| pair(item, 1)).collect());
    list.filter(|list| list.len() == stages).ok_or_else(|| wrong(value))
}

/// A number for all stages or a list with one per stage.
fn mlp_ratios(args: &Fields, stages: usize) -> Result<Vec<f64>> {
    let Some(Value::Array(list)) = args.get("mlp_ratio") else {
        return Ok(vec![args.positive("mlp_ratio")?.unwrap_or(4.0); stages]);
    };
    let ratios: Option<Vec<f64>> =
        list.iter().map(|v| v.as_f64().filter(|x| x.is_finite() && *x > 0.0)).collect();
    ratios.filter(|ratios| ratios.len() == stages).ok_or_else(|| {
        args.error("mlp_ratio", format!("expected numbers above 0, one for each of {stages} stages"))
    })
}

/// `head_dim` as one number or one (or null) per stage; otherwise heads split the width.
fn head_dims(args: &Fields, embed_dim: usize, num_heads: &[usize]) -> Result<Vec<usize>> {
    let wrong = || args.error("head_dim", "expected a number from 1 on, or one for each stage");
    match args.get("head_dim") {
        None => even_heads(embed_dim, num_heads),
        Some(Value::Array(list)) if list.len() != num_heads.len() => Err(wrong()),
        Some(Value::Array(list)) if list.iter().any(Value::is_null) => {
            let even = even_heads(embed_dim, num_heads)?;
            let pick = |(item, even): (&Value, usize)| {
                if item.is_null() { Some(even) } else { count(item, 1) }
            };
            list.iter().zip(even).map(pick).collect::<Option<_>>().ok_or_else(wrong)
        }
        Some(Value::Array(list)) => {
            list.iter().map(|item| count(item, 1)).collect::<Option<_>>().ok_or_else(wrong)
        }
        Some(value) => count(value, 1).map(|dim| vec![dim; num_heads.len()]).ok_or_else(wrong),
    }
}

/// Sizes of the architectures that timm registers.
fn preset(name: &str) -> Option<Preset> {
    let (version, rest) = match name.strip_prefix("swinv2_") {
        Some(rest) => (Version::V2, rest),
        None => (Version::V1, name.strip_prefix("swin_")?),
    };
    if let Some(searched) = rest.strip_prefix("s3_").filter(|_| version == Version::V1) {
        return preset_s3(searched);
    }
    let (size, rest) = rest.split_once('_')?;
    let (embed_dim, heads, depth) = match size {
        "tiny" => (96, 3, 6),
        "small" => (96, 3, 18),
        "base" => (128, 4, 18),
        "large" => (192, 6, 18),
        _ => return None,
    };
    let (window, image, pretrained) = match (version, rest) {
        (Version::V1, "patch4_window7_224") => (7, 224, 0),
        (Version::V1, "patch4_window12_384") => (12, 384, 0),
        (Version::V2, "window8_256") => (8, 256, 0),
        (Version::V2, "window16_256") => (16, 256, 0),
        (Version::V2, "window12_192") => (12, 192, 0),
        (Version::V2, "window12to16_192to256") => (16, 256, 12),
        (Version::V2, "window12to24_192to384") => (24, 384, 12),
        _ => return None,
    };
    let pretrained = [pretrained, pretrained, pretrained, pretrained / 2];
    Some(Preset { version, image, embed_dim, heads, depth, windows: [window; 4], pretrained })
}

/// The Swin-S3 family (arXiv 2111.14725): searched windows.
fn preset_s3(name: &str) -> Option<Preset> {
    let (depth, first) = match name {
        "tiny_224" => (6, 7),
        "small_224" => (18, 14),
        "base_224" => (30, 7),
        _ => return None,
    };
    let windows = [first, first, 14, 7];
    Some(Preset {
        version: Version::V1,
        image: 224,
        embed_dim: 96,
        heads: 3,
        depth,
        windows,
        pretrained: [0; 4],
    })
}
