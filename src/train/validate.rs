//! Reports on phantom studies outside the training stream, scored during a run.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::Result;
use candle_core::{Tensor, Var};
use rayon::prelude::*;
use swinseek_fusion::checkpoint::MapSource;
use swinseek_fusion::pipeline::{Pipeline, REPORT_PROMPT, Request};
use swinseek_fusion::{GenerateParams, SwinSeek};
use swinseek_kernels::{Precision, Weights};

use super::data::phantom;
use super::export::Parts;
use super::recipe::ValidationTable;

/// A pipeline of the weights as they are now, packed for inference.
pub fn snapshot(parts: &Parts, vars: &BTreeMap<String, Var>) -> Result<Pipeline> {
    let tensors: HashMap<String, Tensor> =
        vars.iter().map(|(name, var)| Ok((name.clone(), var.as_tensor().copy()?.detach()))).collect::<Result<_>>()?;
    let weights = Weights::new(Arc::new(MapSource(tensors)), Precision::Bf16);
    let model = SwinSeek::new(&parts.config, &weights)?;
    Ok(Pipeline::from_parts(model, parts.prompts.clone(), parts.preprocessor.clone(), String::new()))
}

/// Corpus BLEU-4 (sacreBLEU's 13a) of greedy reports against the studies' references, 0 to 100.
pub fn bleu(parts: &Parts, vars: &BTreeMap<String, Var>, table: &ValidationTable) -> Result<f64> {
    let pipeline = snapshot(parts, vars)?;
    let pairs: Vec<(String, Vec<String>)> = (0..table.studies as u64)
        .into_par_iter()
        .map(|index| {
            let (image, references) = phantom::validation_study(table.seed, index)?;
            let request = Request {
                images: &[image],
                prompt: REPORT_PROMPT,
                params: GenerateParams { max_new_tokens: 200, ..GenerateParams::default() },
                stop: Vec::new(),
            };
            Ok((pipeline.answer(&request, |_| ControlFlow::Continue(()))?.text, references))
        })
        .collect::<Result<_>>()?;
    Ok(swinseek_evals::bleu::corpus(&pairs).score)
}
