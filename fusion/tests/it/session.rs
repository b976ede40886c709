//! Sequences that decode together against the plain loop, and prompts in chunks.

use std::ops::ControlFlow;

use serde_json::json;
use swinseek_fusion::session::{DecodeRow, Prediction, predict, read};
use swinseek_fusion::{GenerateParams, ImageMemory, SwinSeek, TokenModel, generate};
use swinseek_kernels::Trace;
use swinseek_language::Cache;
use swinseek_language::sampler::Sampler;

use crate::support::{noise, small_model};

const CHUNK: usize = 4;
const STEPS: usize = 7;

/// Memory of images `seeds`: all at once, or each alone and then joined.
fn memory(model: &SwinSeek, seeds: &[u64], joined: bool) -> Option<ImageMemory> {
    let one = |seed: &u64| noise(&[1, 3, 16, 16], *seed);
    let encode = |pixels| model.encode_images(&pixels, &mut Trace::off()).unwrap();
    let images: Vec<_> = seeds.iter().map(one).collect();
    if seeds.is_empty() {
        return None;
    }
    if joined {
        let parts = images.into_iter().map(|image| model.image_memory(&encode(image), &[1]).unwrap());
        let parts: Vec<ImageMemory> = parts.collect();
        return Some(ImageMemory::join(&parts.iter().collect::<Vec<_>>()).unwrap());
    }
    let all = encode(candle_core::Tensor::cat(&images, 0).unwrap());
    Some(model.image_memory(&all, &[seeds.len()]).unwrap())
}

type Chosen = Vec<(u32, u32, Vec<u32>)>;

fn chosen(id: u32, logprob: f32, attention: &[f32]) -> (u32, u32, Vec<u32>) {
    (id, logprob.to_bits(), attention.iter().map(|a| a.to_bits()).collect())
}

fn alone(model: &SwinSeek, prompt: &[u32], seeds: &[u64], params: &GenerateParams) -> Chosen {
    let memory = memory(model, seeds, false);
    let session = model.session(memory.as_ref());
    let result = generate(&session, prompt, params, |_| ControlFlow::Continue(())).unwrap();
    result.tokens.iter().map(|t| chosen(t.id, t.logprob, &t.attention)).collect()
}

/// A sequence in the hands of the test.
struct Running<'a> {
    memory: Option<&'a ImageMemory>,
    cache: Cache,
    sampler: Sampler,
    history: Vec<u32>,
    chosen: Chosen,
}

impl Running<'_> {
    fn take(&mut self, prediction: &Prediction) {
        let sampled = self.sampler.sample(&prediction.logits, &self.history).unwrap();
        self.history.push(sampled.id);
        self.chosen.push(chosen(sampled.id, sampled.logprob, &prediction.attention));
    }
}

#[test]
fn rows_with_images_of_their_own_are_as_each_alone() {
    for mode in ["cross_attention", "prefix"] {
        let layers = if mode == "prefix" { json!([]) } else { json!([0, 2]) };
        let model = small_model(&json!({"mode": mode, "cross_attention_layers": layers}));
        let images: [&[u64]; 6] = [&[1], &[], &[2, 3], &[1], &[3, 2], &[]];
        let prompts: Vec<Vec<u32>> = [2usize, 9, 4, 5, 1, 13]
            .iter()
            .map(|&n| (0..n as u32).map(|i| 3 + (i * 7 + n as u32) % 40).collect())
            .collect();
        let params = |row: usize| GenerateParams {
            max_new_tokens: STEPS,
            attention: row.is_multiple_of(2),
            prefill_chunk: CHUNK,
            sampling: swinseek_language::sampler::SamplingParams {
                temperature: row as f64 * 0.4,
                seed: row as u64,
                ..Default::default()
            },
            ..Default::default()
        };
        let memories: Vec<_> = images.iter().map(|seeds| memory(&model, seeds, true)).collect();
        let mut running = Vec::new();
        for (row, prompt) in prompts.iter().enumerate() {
            let session = model.session(memories[row].as_ref());
            let mut one = Running {
                memory: memories[row].as_ref(),
                cache: session.new_cache(),
                sampler: Sampler::new(params(row).sampling).unwrap().with_prompt_len(prompt.len()),
                history: prompt.clone(),
                chosen: Vec::new(),
            };
            let last = (prompt.len() - 1) / CHUNK * CHUNK;
            prompt[..last].chunks(CHUNK).for_each(|chunk| read(&session, chunk, &mut one.cache).unwrap());
            let first = predict(&session, &prompt[last..], &mut one.cache, params(row).attention).unwrap();
            one.take(&first);
            running.push(one);
        }
        for _ in 1..STEPS {
            let row = |(row, one): (usize, &mut Running)| (row, one.history.last().copied().unwrap());
            let tokens: Vec<_> = running.iter_mut().enumerate().map(row).collect();
            let mut rows: Vec<DecodeRow> = running
                .iter_mut()
                .zip(&tokens)
                .map(|(one, &(row, token))| DecodeRow {
                    token,
                    memory: one.memory,
                    cache: &mut one.cache,
                    attention: params(row).attention,
                })
                .collect();
            let predictions = model.decode(&mut rows).unwrap();
            running.iter_mut().zip(&predictions).for_each(|(one, prediction)| one.take(prediction));
        }
        for (row, one) in running.iter().enumerate() {
            let expected = alone(&model, &prompts[row], images[row], &params(row));
            assert_eq!(one.chosen, expected, "{mode}, row {row}");
            let seen = mode == "cross_attention" && row % 2 == 0 && !images[row].is_empty();
            assert_eq!(!expected[STEPS - 1].2.is_empty(), seen, "{mode}, row {row}");
        }
    }
}

#[test]
fn a_prompt_may_be_taken_apart_and_put_together() {
    let model = small_model(&json!({}));
    let memory = memory(&model, &[5], false);
    let session = model.session(memory.as_ref());
    let prompt: Vec<u32> = (3..14).collect();
    let mut whole = session.new_cache();
    prompt[..8].chunks(4).for_each(|chunk| read(&session, chunk, &mut whole).unwrap());
    let mut rebuilt = session.new_cache();
    for range in [0..4, 4..8] {
        rebuilt.append(&whole.copy(range).unwrap()).unwrap();
    }
    assert!(whole.copy(5..9).is_err());
    assert_eq!(rebuilt.len(), 8);
    let expected = predict(&session, &prompt[8..], &mut whole, true).unwrap();
    assert_eq!(predict(&session, &prompt[8..], &mut rebuilt, true).unwrap(), expected);
}

#[test]
fn chunks_change_a_prompts_result_by_rounding_only() {
    let model = small_model(&json!({}));
    let prompt: Vec<u32> = (0..20).map(|i| 3 + i * 11 % 40).collect();
    let logprobs = |prefill_chunk| {
        let params = GenerateParams { max_new_tokens: 1, prefill_chunk, ..Default::default() };
        alone(&model, &prompt, &[1], &params)
    };
    let (whole, parts) = (logprobs(64), logprobs(3));
    assert_eq!(whole[0].0, parts[0].0);
    assert!((f32::from_bits(whole[0].1) - f32::from_bits(parts[0].1)).abs() < 1e-5);
    let params = GenerateParams { prefill_chunk: 0, ..Default::default() };
    assert!(generate(&model.session(None), &prompt, &params, |_| ControlFlow::Continue(())).is_err());
}
