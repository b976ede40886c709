//! The grayscale pipeline: modality transform, contrast, inversion (PS3.3 C.11, PS3.4 N.2).

use dicom_dictionary_std::tags;

use super::super::error::DecodeError;
use super::attributes::padding;
use super::facts::{Contrast, Grayscale, WindowFunction};
use super::lut::Lut;
use super::stored::Stored;
use super::values::{self, DataSet, Item, find_group, number, text};

/// Stored values to modality units, such as Hounsfield units.
enum Modality {
    Lut(Lut),
    Linear { slope: f64, intercept: f64 },
}

impl Modality {
    fn read(set: &DataSet, groups: &[&Item], signed: bool) -> Result<Self, DecodeError> {
        if let Some(item) = values::items(set.root(), tags::MODALITY_LUT_SEQUENCE).first() {
            let lut = Lut::read(item, tags::LUT_DESCRIPTOR, tags::LUT_DATA, signed)?;
            return Ok(Self::Lut(lut));
        }
        let group = find_group(groups, tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE);
        let item = group.unwrap_or(set.root());
        let slope = number(item, tags::RESCALE_SLOPE)?.unwrap_or(1.0);
        let intercept = number(item, tags::RESCALE_INTERCEPT)?.unwrap_or(0.0);
        Ok(Self::Linear { slope, intercept })
    }

    fn apply(&self, value: f64) -> f64 {
        match self {
            Self::Lut(lut) => f64::from(lut.map(value)),
            Self::Linear { slope, intercept } => value * slope + intercept,
        }
    }
}

/// Modality units to gray between 0 and 1.
enum Voi {
    Lut(Lut),
    Window { center: f64, width: f64, function: WindowFunction },
    Range { low: f64, high: f64 },
}

impl Voi {
    /// VOI LUT, else the first window, else `None`.
    fn read(set: &DataSet, groups: &[&Item], signed: bool) -> Result<Option<Self>, DecodeError> {
        if let Some(item) = values::items(set.root(), tags::VOILUT_SEQUENCE).first() {
            let lut = Lut::read(item, tags::LUT_DESCRIPTOR, tags::LUT_DATA, signed)?;
            return Ok(Some(Self::Lut(lut)));
        }
        let item = find_group(groups, tags::FRAME_VOILUT_SEQUENCE).unwrap_or(set.root());
        let center = number(item, tags::WINDOW_CENTER)?;
        let width = number(item, tags::WINDOW_WIDTH)?;
        let function = match text(item, tags::VOILUT_FUNCTION).as_deref() {
            Some("SIGMOID") => WindowFunction::Sigmoid,
            Some("LINEAR_EXACT") => WindowFunction::LinearExact,
            _ => WindowFunction::Linear,
        };
        // A width that the standard forbids is no window: the range of the frame is shown.
        let narrowest = if function == WindowFunction::Linear { 1.0 } else { f64::MIN_POSITIVE };
        Ok(match (center, width) {
            (Some(center), Some(width)) if width >= narrowest => {
                Some(Self::Window { center, width, function })
            }
            _ => None,
        })
    }

    fn apply(&self, x: f64) -> f64 {
        match self {
            Self::Lut(lut) => f64::from(lut.map(x)) / f64::from((1u32 << lut.bits) - 1),
            Self::Window { center: c, width: w, function } => match function {
                WindowFunction::Linear if x <= c - 0.5 - (w - 1.0) / 2.0 => 0.0,
                WindowFunction::Linear if x > c - 0.5 + (w - 1.0) / 2.0 => 1.0,
                WindowFunction::Linear => (x - (c - 0.5)) / (w - 1.0) + 0.5,
                WindowFunction::LinearExact => (x - c) / w + 0.5,
                WindowFunction::Sigmoid => 1.0 / (1.0 + (-4.0 * (x - c) / w).exp()),
            },
            Self::Range { low, high } if high > low => (x - low) / (high - low),
            Self::Range { .. } => 0.0,
        }
    }

    fn fact(&self) -> Contrast {
        match *self {
            Self::Lut(_) => Contrast::Lut,
            Self::Window { center, width, function } => Contrast::Window { center, width, function },
            Self::Range { low, high } => Contrast::Range { low, high },
        }
    }
}

/// Gray values of a frame between 0 (black) and 1 (white), and how they were made.
pub(super) fn render(
    stored: &Stored,
    set: &DataSet,
    groups: &[&Item],
    white_is_zero: bool,
) -> Result<(Vec<f32>, Grayscale), DecodeError> {
    let modality = Modality::read(set, groups, stored.signed())?;
    // After a rescale with a negative intercept the inputs of a VOI LUT are signed as well.
    let signed = stored.signed() || modality.apply(0.0) < 0.0;
    let voi = match Voi::read(set, groups, signed)? {
        Some(voi) => voi,
        None => range(stored, &modality, padding(set)?),
    };
    let inverse = text(set.root(), tags::PRESENTATION_LUT_SHAPE).as_deref() == Some("INVERSE");
    let inverted = white_is_zero || inverse;
    let show = |value: f64| {
        let value = voi.apply(modality.apply(value));
        // Not a number (float pixel data) is shown black.
        let value = if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) };
        (if inverted { 1.0 - value } else { value }) as f32
    };
    let samples = 0..stored.count();
    let gray = match stored.codes() {
        // Fewer codes than samples: each is transformed once.
        Some(codes) if codes < samples.len() => {
            let table: Vec<f32> = (0..codes).map(|code| show(stored.value_of_code(code))).collect();
            samples.map(|index| table[stored.code(index)]).collect()
        }
        _ => samples.map(|index| show(stored.value(index))).collect(),
    };
    let modality_lut = matches!(modality, Modality::Lut(_));
    Ok((gray, Grayscale { modality_lut, contrast: voi.fact(), inverted }))
}

/// Lowest and highest modality value of the frame, without padding.
fn range(stored: &Stored, modality: &Modality, padding: Option<(f64, f64)>) -> Voi {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for index in 0..stored.count() {
        let value = stored.value(index);
        if padding.is_some_and(|(from, to)| (from..=to).contains(&value)) || !value.is_finite() {
            continue;
        }
        let value = modality.apply(value);
        low = low.min(value);
        high = high.max(value);
    }
    if low > high { Voi::Range { low: 0.0, high: 0.0 } } else { Voi::Range { low, high } }
}
