//! `preprocessor_config.json`, the Hugging Face dialect, as a list of steps.

use serde_json::Value;
use swinseek_kernels::{Error, Result};

use super::resize::Filter;
use crate::fields::Fields;

/// Largest side that a configuration may ask for.
const MAX_SIDE: usize = 8192;

/// Target of a resize.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Exactly this, whatever the aspect ratio.
    Exact {
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
    },
    /// The shorter side becomes this, keeping the aspect ratio; the longer at most `longest`.
    ShortestEdge {
        /// Shorter side in pixels.
        shortest: usize,
        /// Bound of the longer side, if any.
        longest: Option<usize>,
    },
    /// The longer side becomes this, keeping the aspect ratio.
    LongestEdge {
        /// Longer side in pixels.
        longest: usize,
    },
}

/// One step on the way from a picture to the model input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Pad with black to a square, the picture in the middle (`do_pad_square`).
    PadSquare,
    /// Turn by 90 degrees clockwise when the long sides differ (`do_align_long_axis`).
    AlignLongAxis {
        /// Height to align with.
        height: usize,
        /// Width to align with.
        width: usize,
    },
    /// Resize (`do_resize`).
    Resize(Size),
    /// Shrink to fit (`do_thumbnail`).
    Thumbnail {
        /// Largest height.
        height: usize,
        /// Largest width.
        width: usize,
    },
    /// Pad with black to a size, the picture in the middle (`do_pad`).
    Pad {
        /// Height to pad to.
        height: usize,
        /// Width to pad to.
        width: usize,
    },
    /// Cut the middle out, padding with black where the picture is smaller (`do_center_crop`).
    CenterCrop {
        /// Height of the cut.
        height: usize,
        /// Width of the cut.
        width: usize,
    },
}

/// What preprocessing does, in order: the steps, then rescale, then normalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct PreprocessConfig {
    /// Steps on pixels.
    pub steps: Vec<Step>,
    /// Filter of every resize (`resample`).
    pub filter: Filter,
    /// Factor on samples between 0 and 255; 1 without `do_rescale`.
    pub rescale_factor: f32,
    /// Subtracted after rescaling, for red, green and blue; 0 without `do_normalize`.
    pub image_mean: [f32; 3],
    /// Divided by after that; 1 without `do_normalize`.
    pub image_std: [f32; 3],
}

impl PreprocessConfig {
    /// Reads a `preprocessor_config.json` value.
    ///
    /// Fields that change pixels and are not known here are errors when they are `true`
    /// (`do_flip_channel_order` and the like); other unknown fields are ignored, as published
    /// files carry many. `do_pad_square` is our own: pad to a square before the resize.
    pub fn from_json(value: &Value) -> Result<Self> {
        let fields = Fields::new(value)?;
        refuse_unknown_steps(&fields)?;
        let donut = class_name(&fields)?.is_some_and(|name| name.contains("Donut"));
        let on = |name, default| Ok::<_, Error>(fields.flag(name)?.unwrap_or(default));
        let mut steps = Vec::new();
        if on("do_pad_square", false)? {
            steps.push(Step::PadSquare);
        }
        let thumbnail = on("do_thumbnail", donut)?;
        if on("do_align_long_axis", false)? {
            let (height, width) = exact(&fields, donut, "do_align_long_axis")?;
            steps.push(Step::AlignLongAxis { height, width });
        }
        if on("do_resize", true)? {
            let size = size(&fields, donut)?
                .ok_or_else(|| fields.error("size", "is missing, do_resize needs it"))?;
            steps.push(Step::Resize(match size {
                // Donut first shrinks to the shorter side of its size, then makes a thumbnail.
                Size::Exact { height, width } if donut || thumbnail => {
                    Size::ShortestEdge { shortest: height.min(width), longest: None }
                }
                other => other,
            }));
        }
        if thumbnail {
            let (height, width) = exact(&fields, donut, "do_thumbnail")?;
            steps.push(Step::Thumbnail { height, width });
        }
        if on("do_pad", donut)? {
            let (height, width) = exact(&fields, donut, "do_pad")?;
            steps.push(Step::Pad { height, width });
        }
        if on("do_center_crop", false)? {
            let (height, width) = crop_size(&fields)?;
            steps.push(Step::CenterCrop { height, width });
        }
        let (image_mean, image_std) = normalization(&fields)?;
        let filter = filter(&fields)?;
        Ok(Self { steps, filter, rescale_factor: rescale(&fields)?, image_mean, image_std })
    }

    /// Height and width of every model input, or `None` when they depend on the picture.
    pub fn output_size(&self) -> Option<(usize, usize)> {
        match self.steps.last()? {
            Step::Resize(Size::Exact { height, width })
            | Step::Pad { height, width }
            | Step::CenterCrop { height, width } => Some((*height, *width)),
            Step::Resize(
                Size::ShortestEdge { shortest: side, longest: None } | Size::LongestEdge { longest: side },
            ) if self.steps.contains(&Step::PadSquare) => Some((*side, *side)),
            _ => None,
        }
    }
}

/// Published files name the class in one of two fields.
fn class_name<'a>(fields: &Fields<'a>) -> Result<Option<&'a str>> {
    Ok(fields.text("image_processor_type")?.or(fields.text("feature_extractor_type")?))
}

fn refuse_unknown_steps(fields: &Fields) -> Result<()> {
    const KNOWN: [&str; 9] = [
        "do_pad_square",
        "do_align_long_axis",
        "do_resize",
        "do_thumbnail",
        "do_pad",
        "do_center_crop",
        "do_rescale",
        "do_normalize",
        "do_convert_rgb",
    ];
    for name in fields.names().filter(|name| name.starts_with("do_") && !KNOWN.contains(name)) {
        if fields.flag(name)? == Some(true) {
            return Err(fields.error(name, format!("is not known, expected one of {}", KNOWN.join(", "))));
        }
    }
    // Gray becomes three equal channels and alpha is gone after decoding, asked for or not.
    fields.flag("do_convert_rgb")?;
    Ok(())
}

/// `size`: an object, a number, or a list (height first; width first in old Donut files).
fn size(fields: &Fields, donut: bool) -> Result<Option<Size>> {
    const EXPECTED: &str = "{height, width}, {shortest_edge}, {longest_edge}, a number or a list of \
                            two numbers, all from 1 to 8192";
    let Some(value) = fields.get("size") else {
        return Ok(None);
    };
    let wrong = || fields.error("size", format!("found {value}, expected {EXPECTED}"));
    let side = |value: &Value| {
        let side = value.as_u64().and_then(|side| usize::try_from(side).ok());
        side.filter(|side| (1..=MAX_SIDE).contains(side)).ok_or_else(wrong)
    };
    let size = match value {
        Value::Object(object) => {
            let get = |name: &str| object.get(name).filter(|v| !v.is_null()).map(side).transpose();
            match (get("height")?, get("width")?, get("shortest_edge")?, get("longest_edge")?) {
                (Some(height), Some(width), None, None) => Size::Exact { height, width },
                (None, None, Some(shortest), longest) => Size::ShortestEdge { shortest, longest },
                (None, None, None, Some(longest)) => Size::LongestEdge { longest },
                _ => return Err(wrong()),
            }
        }
        Value::Array(list) => match &list[..] {
            [width, height] if donut => Size::Exact { height: side(height)?, width: side(width)? },
            [height, width] => Size::Exact { height: side(height)?, width: side(width)? },
            _ => return Err(wrong()),
        },
        number => {
            let side = side(number)?;
            // Classes that crop mean the shorter side by a bare number, the others a square.
            if fields.flag("do_center_crop")? == Some(true) {
                Size::ShortestEdge { shortest: side, longest: None }
            } else {
                Size::Exact { height: side, width: side }
            }
        }
    };
    Ok(Some(size))
}

/// Height and width of `size`, which the step `needed_by` cannot do without.
fn exact(fields: &Fields, donut: bool, needed_by: &str) -> Result<(usize, usize)> {
    match size(fields, donut)? {
        Some(Size::Exact { height, width }) => Ok((height, width)),
        _ => Err(fields.error("size", format!("{needed_by} needs a size of height and width"))),
    }
}

fn crop_size(fields: &Fields) -> Result<(usize, usize)> {
    const EXPECTED: &str = "{height, width}, a number or [height, width], from 1 to 8192";
    let side = |value: &Value| {
        let side = value.as_u64().and_then(|side| usize::try_from(side).ok());
        side.filter(|side| (1..=MAX_SIDE).contains(side))
    };
    let value = fields.get("crop_size");
    let value = value.ok_or_else(|| fields.error("crop_size", "is missing, do_center_crop needs it"))?;
    let pair = match value {
        Value::Object(object) => object.get("height").and_then(side).zip(object.get("width").and_then(side)),
        Value::Array(list) if list.len() == 2 => side(&list[0]).zip(side(&list[1])),
        number => side(number).map(|side| (side, side)),
    };
    pair.ok_or_else(|| fields.error("crop_size", format!("found {value}, expected {EXPECTED}")))
}

fn filter(fields: &Fields) -> Result<Filter> {
    const EXPECTED: &str = "0 nearest, 1 lanczos, 2 bilinear, 3 bicubic, 4 box or 5 hamming";
    // 2 is the default of the ViT, Swin and Donut classes.
    let Some(value) = fields.get("resample") else {
        return Ok(Filter::Bilinear);
    };
    let filter = value.as_u64().and_then(Filter::from_pillow);
    filter.ok_or_else(|| fields.error("resample", format!("found {value}, expected {EXPECTED}")))
}

fn rescale(fields: &Fields) -> Result<f32> {
    let factor = fields.positive("rescale_factor")?.unwrap_or(1.0 / 255.0);
    Ok(if fields.flag("do_rescale")?.unwrap_or(true) { factor as f32 } else { 1.0 })
}

fn normalization(fields: &Fields) -> Result<([f32; 3], [f32; 3])> {
    // 0.5 is the default of the ViT and Donut classes; Swin files state the ImageNet values.
    let mean = channels(fields, "image_mean", 0.5, |_| true)?;
    let std = channels(fields, "image_std", 0.5, |v| v > 0.0)?;
    let on = fields.flag("do_normalize")?.unwrap_or(true);
    Ok(if on { (mean, std) } else { ([0.0; 3], [1.0; 3]) })
}

/// One number for all channels, or a list of three.
fn channels(fields: &Fields, name: &str, default: f32, valid: fn(f64) -> bool) -> Result<[f32; 3]> {
    let Some(value) = fields.get(name) else {
        return Ok([default; 3]);
    };
    let number = |value: &Value| value.as_f64().filter(|&v| v.is_finite() && valid(v));
    let numbers = match value {
        Value::Array(list) => list.iter().map(number).collect::<Option<Vec<_>>>(),
        one => number(one).map(|v| vec![v]),
    };
    match numbers.as_deref() {
        Some(&[all]) => Ok([all as f32; 3]),
        Some(&[red, green, blue]) => Ok([red as f32, green as f32, blue as f32]),
        _ => {
            let message = format!("found {value}, expected one or three numbers in range");
            Err(fields.error(name, message))
        }
    }
}
