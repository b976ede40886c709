//! One run of a golden file, repeated with this project's model.

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Tensor};
use swinseek_kernels::Trace;
use swinseek_language::Context;

use super::{
    golden::{Run, Stored},
    report::{Real, Report, Row, compare},
};
use crate::{
    Result,
    cross_attention::CrossMask,
    donut::DonutSession,
    generate::{TokenModel, last_position},
    load::Model,
    mllama::MllamaSession,
    model::SwinSeek,
};

const TEXT: [&str; 2] = ["input_ids", "decoder_input_ids"];
const PROMPT: [&str; 1] = ["prompt_ids"];
/// The run in which a model with a memory gets none.
const TEXT_ONLY: &str = "text_only.";

/// Repeats `run` and adds its rows to `report`.
pub(super) fn repeat(model: &Model, run: &Run, report: &mut Report) -> Result<()> {
    let mut trace = Trace::all();
    match model {
        Model::Vision(encoder) => {
            let pixels = run.floats("pixel_values")?.ok_or_else(|| run.missing("pixel_values"))?;
            encoder.forward(&pixels, &mut trace)?;
            compare_outputs(run, &trace.take(), None, report)
        }
        Model::Language(model) => causal(model.as_ref(), run, trace, true, report),
        Model::MllamaText(model) => {
            let memory = run.floats("cross_attention_states")?.filter(|_| run.prefix != TEXT_ONLY);
            let memory = memory.map(|memory| model.memory(&memory)).transpose()?;
            let mask =
                run.own_integers("cross_attention_mask")?.map(|mask| cross_mask(&mask, model.device()));
            let mask = mask.transpose()?;
            let session = MllamaSession { model, memory: memory.as_ref(), mask: mask.as_ref() };
            causal(&session, run, trace, mask.is_none(), report)
        }
        Model::Donut(model) => {
            let pixels = run.floats("pixel_values")?.ok_or_else(|| run.missing("pixel_values"))?;
            let session = DonutSession { memory: model.memory(&pixels, &mut trace)?, model };
            causal(&session, run, trace, true, report)
        }
        Model::SwinSeek(model) => joined(model, run, trace, report),
    }
}

/// One image per sample.
fn joined(model: &SwinSeek, run: &Run, mut trace: Trace, report: &mut Report) -> Result<()> {
    let memory = match run.floats("pixel_values")?.filter(|_| run.prefix != TEXT_ONLY) {
        None => None,
        Some(pixels) => {
            let images = model.encode_images(&pixels, &mut trace)?;
            Some(model.image_memory(&images, &vec![1; pixels.dim(0)?])?)
        }
    };
    causal(&model.session(memory.as_ref()), run, trace, true, report)
}

fn cross_mask(mask: &Tensor, device: &Device) -> Result<CrossMask> {
    let visible: Vec<u32> = mask.flatten_all()?.to_vec1()?;
    let visible: Vec<bool> = visible.into_iter().map(|v| v != 0).collect();
    Ok(CrossMask::new(&visible, mask.dims3()?, device)?)
}

fn causal<M: TokenModel>(
    model: &M,
    run: &Run,
    trace: Trace,
    cached: bool,
    report: &mut Report,
) -> Result<()> {
    if run.is_greedy() { greedy(model, run, report) } else { one_pass(model, run, trace, cached, report) }
}

/// A pass over given ids, and the same again token by token. `trace` already holds what an encoder recorded.
fn one_pass<M: TokenModel>(
    model: &M,
    run: &Run,
    mut trace: Trace,
    cached: bool,
    report: &mut Report,
) -> Result<()> {
    let ids = run.ids(&TEXT)?;
    let padding = Padding::of(run)?;
    let hidden = model.forward(&ids, &padding.context(0, ids.dim(1)?)?, None, &mut trace)?;
    let mut produced = trace.take();
    if run.outputs.contains_key("logits") {
        produced.insert("logits".to_owned(), model.head(&hidden)?);
    }
    produced.entry("last_hidden_state".to_owned()).or_insert_with(|| hidden.clone());
    let real = padding.real()?;
    compare_outputs(run, &produced, real.as_ref(), report)?;
    if cached {
        let found = token_by_token(model, &ids, &padding)?;
        let expected = Stored::Float(hidden);
        let name = format!("cached.{}", run.name("last_hidden_state"));
        report.rows.push(compare(name, Some(&found), &expected, real.as_ref(), report.tolerance)?);
    }
    Ok(())
}

/// The hidden states of all positions: the first half in one pass, the rest one by one, with a cache.
fn token_by_token<M: TokenModel>(model: &M, ids: &Tensor, padding: &Padding) -> Result<Tensor> {
    let tokens = ids.dim(1)?;
    let mut cache = model.new_cache();
    let mut parts = Vec::new();
    let mut start = 0;
    while start < tokens {
        let len = if start == 0 { tokens.div_ceil(2) } else { 1 };
        let part = ids.narrow(1, start, len)?.contiguous()?;
        let context = padding.context(start, len)?;
        parts.push(model.forward(&part, &context, Some(&mut cache), &mut Trace::off())?);
        start += len;
    }
    Ok(Tensor::cat(&parts, 1)?)
}

/// The stored continuation, with a cache, and the logits of the same tokens in one pass without.
fn greedy<M: TokenModel>(model: &M, run: &Run, report: &mut Report) -> Result<()> {
    let prompt = run.ids(&PROMPT)?;
    let stored = run.outputs.get("new_ids").map(|ids| ids.shape());
    let steps = match (stored, run.outputs.get("step_logits")) {
        (Some(shape), _) => shape.last().copied().unwrap_or(0),
        (None, Some(logits)) => logits.shape()[0],
        (None, None) => 0,
    };
    let mut cache = model.new_cache();
    let (mut next, mut ids, mut logits) = (prompt.clone(), vec![prompt.clone()], Vec::new());
    for _ in 0..steps {
        let hidden = model.forward(&next, &Context::causal(), Some(&mut cache), &mut Trace::off())?;
        let step = model.head(&last_position(&hidden)?)?;
        next = step.argmax_keepdim(D::Minus1)?.to_device(&Device::Cpu)?;
        ids.push(next.clone());
        logits.push(step);
    }
    if logits.is_empty() {
        return compare_outputs(run, &BTreeMap::new(), None, report);
    }
    let produced = BTreeMap::from([
        ("new_ids".to_owned(), Tensor::cat(&ids[1..], 1)?),
        ("step_logits".to_owned(), Tensor::cat(&logits, 0)?),
    ]);
    compare_outputs(run, &produced, None, report)?;
    let all = Tensor::cat(&ids[..steps], 1)?;
    let hidden = model.forward(&all, &Context::causal(), None, &mut Trace::off())?;
    let hidden = hidden.narrow(1, prompt.dim(1)? - 1, steps)?.contiguous()?;
    let logits = model.head(&hidden)?;
    let uncached = [("new_ids", logits.argmax(D::Minus1)?), ("step_logits", logits.squeeze(0)?)];
    for (name, found) in uncached {
        if let Some(expected) = run.outputs.get(name) {
            let name = format!("uncached.{}", run.name(name));
            report.rows.push(compare(name, Some(&found), expected, None, report.tolerance)?);
        }
    }
    Ok(())
}

fn compare_outputs(
    run: &Run,
    produced: &BTreeMap<String, Tensor>,
    real: Option<&Real>,
    report: &mut Report,
) -> Result<()> {
    for (name, expected) in &run.outputs {
        let row: Row = compare(run.name(name), produced.get(name), expected, real, report.tolerance)?;
        report.rows.push(row);
    }
    Ok(())
}

/// The mask and positions of a padded batch, `(batch, tokens)` each.
struct Padding {
    mask: Option<Tensor>,
    positions: Option<Tensor>,
}

impl Padding {
    fn of(run: &Run) -> Result<Self> {
        let mask = match run.own_integers("attention_mask")? {
            Some(mask) => Some(mask),
            None => run.own_integers("decoder_attention_mask")?,
        };
        Ok(Self { mask, positions: run.own_integers("position_ids")? })
    }

    /// For the tokens `start..start + len`.
    fn context(&self, start: usize, len: usize) -> Result<Context> {
        let part = |tensor: &Tensor| tensor.narrow(1, start, len)?.contiguous();
        let context = match &self.mask {
            Some(mask) => Context::masked(&part(mask)?)?,
            None => Context::causal(),
        };
        Ok(match &self.positions {
            Some(positions) => context.with_positions(&part(positions)?)?,
            None => context,
        })
    }

    fn real(&self) -> Result<Option<Real>> {
        let Some(mask) = &self.mask else {
            return Ok(None);
        };
        let (batch, tokens) = mask.dims2()?;
        let mask: Vec<u32> = mask.to_dtype(DType::U32)?.flatten_all()?.to_vec1()?;
        Ok(Some(Real { batch, tokens, mask: mask.into_iter().map(|v| v != 0).collect() }))
    }
}
