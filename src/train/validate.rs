//! Reports on phantom studies outside the training stream, scored during a run.

use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::Result;
use rayon::prelude::*;
use swinseek_evals::bleu::{Bleu, Segment};
use swinseek_fusion::checkpoint::MapSource;
use swinseek_fusion::pipeline::{Pipeline, REPORT_PROMPT, Request};
use swinseek_fusion::{GenerateParams, SwinSeek};
use swinseek_kernels::{Precision, Weights};

use swinseek_phantom::grammar::Report;
use swinseek_phantom::{Study, StudyOptions};

use super::data::phantom;
use super::export::Parts;
use super::recipe::ValidationTable;
use super::variables::Variables;

/// A pipeline of the weights as they are now, packed for inference.
pub fn snapshot(parts: &Parts, variables: &Variables) -> Result<Pipeline> {
    let weights = Weights::new(Arc::new(MapSource(variables.weights()?)), Precision::Bf16);
    let model = SwinSeek::new(&parts.config, &weights)?;
    Ok(Pipeline::from_parts(model, parts.prompts.clone(), parts.preprocessor.clone(), String::new()))
}

/// Corpus BLEU-4 (sacreBLEU's 13a) of greedy reports against the studies' references, 0 to 100.
pub fn bleu(parts: &Parts, variables: &Variables, table: &ValidationTable) -> Result<f64> {
    let pipeline = snapshot(parts, variables)?;
    let pairs: Vec<(String, Vec<String>)> = (0..table.studies as u64)
        .into_par_iter()
        .map(|index| {
            let options = StudyOptions::default();
            let (pixels, description) = Study::example(table.seed, index, &options);
            let image = phantom::gray(pixels, options.size)?;
            let references = description.references.iter().map(Report::text).collect();
            let request = Request {
                images: &[image],
                prompt: REPORT_PROMPT,
                params: GenerateParams { max_new_tokens: 200, ..GenerateParams::default() },
                stop: Vec::new(),
            };
            Ok((pipeline.answer(&request, |_| ControlFlow::Continue(()))?.text, references))
        })
        .collect::<Result<_>>()?;
    let references: Vec<Vec<&str>> =
        pairs.iter().map(|(_, texts)| texts.iter().map(String::as_str).collect()).collect();
    let segments: Vec<Segment> = pairs
        .iter()
        .zip(&references)
        .map(|((hypothesis, _), references)| Segment { hypothesis, references })
        .collect();
    Ok(Bleu::default().corpus(&segments)?.score)
}
