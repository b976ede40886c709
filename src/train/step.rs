//! Loss and gradients of one micro-batch.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{Tensor, Var};
use swinseek_fusion::{EncodedImages, SwinSeek};
use swinseek_kernels::Trace;
use swinseek_kernels::ops::gather::gather_rows;
use swinseek_kernels::ops::loss::{IGNORE, cross_entropy};

use super::batch::Batch;
use super::findings::Targets;
use super::router::{self, Loads};

/// What a micro-batch contributes to a step.
pub struct Contribution {
    /// Mean next-token loss over the answers' tokens, nats.
    pub loss: f64,
    /// Dense findings loss, when the data has boxes and the model the head.
    pub findings_loss: Option<f64>,
    /// Gradients of the weighted sum, by parameter.
    pub gradients: BTreeMap<String, Tensor>,
    /// Tokens by expert.
    pub loads: Loads,
}

/// Forward and backward of `batch`; the findings loss counts `findings_weight` times.
pub fn contribution(
    model: &SwinSeek,
    batch: &Batch,
    vars: &BTreeMap<String, Var>,
    findings_weight: f64,
) -> Result<Contribution> {
    let mut trace = Trace::only(&["router."]);
    let images = model.encode_images(&batch.pixels, &mut trace)?;
    let memory = model.image_memory(&images, &vec![1; batch.ids.dim(0)?])?;
    let hidden = model.hidden_states(&batch.ids, None, Some(&memory), None, &mut trace)?;
    let next_token = answer_loss(model, &hidden, &batch.targets)?;
    let findings = findings_loss(model, &images, batch, findings_weight)?;
    let total = match &findings {
        Some(findings) => (&next_token + (findings * findings_weight)?)?,
        None => next_token.clone(),
    };
    let store = total.backward()?;
    let gradient = |(name, var): (&String, &Var)| Some((name.clone(), store.get(var.as_tensor())?.clone()));
    let gradients = vars.iter().filter_map(gradient).collect();
    let findings_loss = findings.map(|loss| loss.to_scalar::<f32>()).transpose()?.map(f64::from);
    let experts = model.config().language.moe.as_ref().map_or(0, |moe| moe.num_experts);
    Ok(Contribution {
        loss: f64::from(next_token.to_scalar::<f32>()?),
        findings_loss,
        gradients,
        loads: if experts > 0 { router::count(&trace, &batch.real, experts)? } else { Loads::new() },
    })
}

/// The head is applied to the positions that are learnt only: prompts and padding need no logits.
fn answer_loss(model: &SwinSeek, hidden: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let (rows, length, dim) = hidden.dims3()?;
    let learnt = |(index, &target): (usize, &u32)| (target != IGNORE).then_some((index as u32, target));
    let (index, targets): (Vec<u32>, Vec<u32>) = targets.iter().enumerate().filter_map(learnt).unzip();
    let hidden = gather_rows(&hidden.reshape((rows * length, dim))?, &index)?;
    Ok(cross_entropy(&model.logits(&hidden)?, &targets)?)
}

fn findings_loss(
    model: &SwinSeek,
    images: &EncodedImages,
    batch: &Batch,
    weight: f64,
) -> Result<Option<Tensor>> {
    let classes = model.config().fusion.findings_classes.as_deref().filter(|_| weight > 0.0);
    let Some((classes, map)) = classes.zip(images.layout.maps.first()) else {
        return Ok(None);
    };
    let Some(targets) = Targets::new(&batch.regions, classes, map.height, map.width)? else {
        return Ok(None);
    };
    model.grounding_logits(images)?.map(|logits| targets.loss(&logits)).transpose()
}
