//! The joined model: images in, several images, none; padding, caches, gradients.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use candle_core::{Device, Tensor, Var};
use serde_json::{Value, json};
use swinseek_fusion::{ImageMemory, ModelConfig, SwinSeek};
use swinseek_kernels::{Init, Precision, Result, TensorSource, Trace, Weights};
use swinseek_language::Cache;

use crate::support::{ids, max_abs_diff, noise, random_parameters, small_config, small_model};

/// f32, values of order 1, three layers: another batch or chunk changes summation orders only.
const CLOSE: f32 = 2e-5;

const SAMPLES: [&[u32]; 3] = [&[1, 7, 9, 30], &[2, 8, 8, 4], &[3, 11, 40, 22]];

fn images(model: &SwinSeek, count: usize) -> swinseek_fusion::EncodedImages {
    model.encode_images(&noise(&[count, 3, 16, 16], 11), &mut Trace::off()).unwrap()
}

/// Image `from..to` of a batch.
fn some(all: &swinseek_fusion::EncodedImages, from: usize, to: usize) -> swinseek_fusion::EncodedImages {
    let tokens = all.tokens.narrow(0, from, to - from).unwrap().contiguous().unwrap();
    swinseek_fusion::EncodedImages { tokens, layout: all.layout.clone() }
}

fn hidden(model: &SwinSeek, rows: &[&[u32]], memory: Option<&ImageMemory>) -> Tensor {
    model.hidden_states(&ids(rows), None, memory, None, &mut Trace::off()).unwrap()
}

fn modes() -> [Value; 2] {
    [json!({}), json!({"mode": "prefix", "cross_attention_layers": []})]
}

#[test]
fn a_batch_of_one_two_and_no_images_is_each_sample_alone() {
    for fusion in modes() {
        let model = small_model(&fusion);
        let all = images(&model, 3);
        let together = model.image_memory(&all, &[1, 2, 0]).unwrap();
        let batch = hidden(&model, &SAMPLES, Some(&together));
        for (row, range) in [(0, 0..1), (1, 1..3), (2, 3..3)] {
            let memory = (!range.is_empty())
                .then(|| model.image_memory(&some(&all, range.start, range.end), &[range.len()]).unwrap());
            let alone = hidden(&model, &SAMPLES[row..=row], memory.as_ref());
            let found = batch.narrow(0, row, 1).unwrap();
            assert!(max_abs_diff(&found, &alone) < CLOSE, "{fusion} row {row}");
        }
        let text = hidden(&model, &SAMPLES, None);
        assert!(
            max_abs_diff(&batch.narrow(0, 0, 2).unwrap(), &text.narrow(0, 0, 2).unwrap()) > 1e-2,
            "images matter"
        );
    }
}

#[test]
fn images_must_be_as_many_as_the_samples_have() {
    let model = small_model(&json!({}));
    let error = model.image_memory(&images(&model, 2), &[1, 2]).unwrap_err().to_string();
    assert!(error.contains("2 images for samples that have 3"), "{error}");
}

#[test]
fn cached_steps_equal_one_pass() {
    for fusion in modes() {
        let model = small_model(&fusion);
        let memory = model.image_memory(&images(&model, 2), &[1, 1]).unwrap();
        let rows = &SAMPLES[..2];
        let whole = hidden(&model, rows, Some(&memory));
        let mut cache = Cache::new(&model.config().language);
        let mut parts = Vec::new();
        for (start, len) in [(0, 2), (2, 1), (3, 1)] {
            let part: Vec<&[u32]> = rows.iter().map(|row| &row[start..start + len]).collect();
            let step =
                model.hidden_states(&ids(&part), None, Some(&memory), Some(&mut cache), &mut Trace::off());
            parts.push(step.unwrap());
        }
        assert!(max_abs_diff(&Tensor::cat(&parts, 1).unwrap(), &whole) < CLOSE, "{fusion}");
    }
}

#[test]
fn padding_on_the_right_changes_no_real_position() {
    for fusion in modes() {
        let model = small_model(&fusion);
        let memory = model.image_memory(&images(&model, 2), &[1, 1]).unwrap();
        let padded = ids(&[&[1, 7, 9, 30], &[2, 8, 0, 0]]);
        let mask = ids(&[&[1, 1, 1, 1], &[1, 1, 0, 0]]);
        let batch =
            model.hidden_states(&padded, Some(&mask), Some(&memory), None, &mut Trace::off()).unwrap();
        let memory = model.image_memory(&some(&images(&model, 2), 1, 2), &[1]).unwrap();
        let alone = hidden(&model, &[&[2, 8]], Some(&memory));
        let found = batch.narrow(0, 1, 1).unwrap().narrow(1, 0, 2).unwrap();
        assert!(max_abs_diff(&found, &alone) < CLOSE, "{fusion}");
    }
}

#[test]
fn attention_maps_have_a_place_in_the_image() {
    let model = small_model(&json!({}));
    let mut trace = Trace::only(&["cross."]);
    let all = model.encode_images(&noise(&[2, 3, 20, 12], 1), &mut trace).unwrap();
    let memory = model.image_memory(&all, &[2]).unwrap();
    model.hidden_states(&ids(&SAMPLES[..1]), None, Some(&memory), None, &mut trace).unwrap();
    // Patches of 2 give 10 × 6, then 5 × 3 and 3 × 2 (odd maps round up); two images.
    assert_eq!(all.layout, model.memory_layout(20, 12));
    assert_eq!(all.layout.len(), 15 + 6);
    let names: Vec<_> = trace.tensors().keys().cloned().collect();
    assert_eq!(names, ["cross.0.weights", "cross.1.weights"]);
    for weights in trace.tensors().values() {
        assert_eq!(weights.dims(), [1, 4, 4, 2 * 21]);
        let sums = weights.sum(3).unwrap();
        assert!(max_abs_diff(&sums, &sums.ones_like().unwrap()) < 1e-5);
    }
    let token = all.layout.token(21 + 15 + 3).unwrap();
    assert_eq!((token.image, token.map.stage, token.row, token.column), (1, 2, 1, 1));
    let grounding = model.grounding_logits(&all).unwrap().unwrap();
    assert_eq!(grounding.dims(), [2, 15, 2]);
}

/// Parameters as variables, created on first use.
struct Variables {
    values: std::collections::HashMap<String, Tensor>,
    vars: Mutex<BTreeMap<String, Var>>,
}

impl TensorSource for Variables {
    fn tensor(&self, name: &str, _shape: &[usize], _init: Init) -> Result<Tensor> {
        let mut vars = self.vars.lock().unwrap();
        let var =
            vars.entry(name.to_owned()).or_insert_with(|| Var::from_tensor(&self.values[name]).unwrap());
        Ok(var.as_tensor().clone())
    }

    fn shape(&self, _name: &str) -> Option<Vec<usize>> {
        None
    }
}

fn trainable(fusion: &Value) -> (SwinSeek, Arc<Variables>) {
    let config = small_config(fusion);
    let source = Arc::new(Variables { values: random_parameters(&config, 7), vars: Mutex::default() });
    let weights = Weights::new(source.clone() as Arc<dyn TensorSource>, Precision::F32);
    (SwinSeek::new(&ModelConfig::from_json(&config).unwrap(), &weights).unwrap(), source)
}

/// A loss that every parameter has a part in: mean square of text and localisation logits against noise.
fn loss(model: &SwinSeek) -> Tensor {
    // Another size than configured: the position tables are interpolated.
    let all = model.encode_images(&noise(&[3, 3, 20, 12], 1), &mut Trace::off()).unwrap();
    let memory = model.image_memory(&all, &[1, 2, 0]).unwrap();
    let logits = model.logits(&hidden(model, &SAMPLES, Some(&memory))).unwrap();
    let grounding = model.grounding_logits(&all).unwrap().unwrap();
    let square = |x: &Tensor, seed| (x - noise(x.dims(), seed)).unwrap().sqr().unwrap().mean_all().unwrap();
    (square(&logits, 5) + square(&grounding, 6)).unwrap()
}

#[test]
fn every_parameter_gets_a_gradient() {
    for fusion in modes() {
        let (model, source) = trainable(&fusion);
        let gradients = loss(&model).backward().unwrap();
        for (name, var) in source.vars.lock().unwrap().iter() {
            // The selection bias is balanced, not trained.
            if name.ends_with("e_score_correction_bias") {
                continue;
            }
            let gradient = gradients.get(var).unwrap_or_else(|| panic!("{fusion}: {name} has no gradient"));
            let size = gradient.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(size.is_finite() && size > 0.0, "{fusion}: {name} has gradient {size}");
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let (model, source) = trainable(&json!({}));
    let gradients = loss(&model).backward().unwrap();
    let names = [
        "fusion.cross_layers.0.cross_attn_attn_gate",
        "fusion.cross_layers.1.cross_attn_mlp_gate",
        "fusion.cross_layers.0.cross_attn.k_norm.weight",
        "fusion.cross_layers.1.cross_attn.v_proj.weight",
        "fusion.projector.stages.0.row_position",
        "fusion.projector.stages.1.column_position",
        "fusion.projector.stages.0.linear.weight",
        "fusion.findings_head.weight",
    ];
    for name in names {
        let var = source.vars.lock().unwrap()[name].clone();
        let gradient = gradients.get(&var).unwrap().clone();
        // Along the gradient itself: the change is its norm, far above the rounding of an f32 loss.
        let norm = gradient.sqr().unwrap().sum_all().unwrap().sqrt().unwrap().to_scalar::<f32>().unwrap();
        let direction = (&gradient / f64::from(norm)).unwrap();
        let start = var.as_tensor().copy().unwrap();
        let step = 5e-3;
        let at = |h: f64| {
            var.set(&(&start + (&direction * h).unwrap()).unwrap()).unwrap();
            loss(&model).to_scalar::<f32>().unwrap()
        };
        let numeric = (at(step) - at(-step)) / (2.0 * step as f32);
        at(0.0);
        // f32: the loss is of order 10 and rounds at 1e-6, divided by the step; the curvature adds step².
        assert!((numeric - norm).abs() < 2e-2 * norm + 2e-4, "{name}: {numeric} against {norm}");
    }
}

#[test]
fn prefix_tokens_stand_where_embeddings_would() {
    let model = small_model(&json!({"mode": "prefix", "cross_attention_layers": []}));
    let all = images(&model, 1);
    let memory = model.image_memory(&all, &[1]).unwrap();
    let found = hidden(&model, &SAMPLES[..1], Some(&memory));
    let text = model.decoder().embed(&ids(&SAMPLES[..1])).unwrap();
    let joined = Tensor::cat(&[&all.tokens, &text], 1).unwrap();
    let context = swinseek_language::Context::causal();
    let hook = swinseek_language::NoHook;
    let expected = model.decoder().forward(&joined, &context, None, &hook, &mut Trace::off()).unwrap();
    let expected = expected.narrow(1, all.layout.len(), 4).unwrap();
    assert!(max_abs_diff(&found, &expected) < CLOSE);
}

#[test]
fn pixels_of_another_kind_are_refused() {
    let model = small_model(&json!({}));
    let gray = Tensor::zeros((1, 1, 16, 16), candle_core::DType::F32, &Device::Cpu).unwrap();
    let error = model.encode_images(&gray, &mut Trace::off()).unwrap_err().to_string();
    assert!(error.contains("[1, 1, 16, 16]") && error.contains('3'), "{error}");
}
