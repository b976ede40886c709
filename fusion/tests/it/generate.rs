//! The generation loop and beam search against stored continuations and against `transformers`.

use std::ops::ControlFlow;

use crate::support::{case, noise, small_model, tensors};
use serde_json::json;
use swinseek_fusion::{
    FinishReason, GenerateParams, Generation, Model, TokenModel, donut::DonutSession, generate, load_model,
    mllama::MllamaSession,
};
use swinseek_kernels::{Precision, Trace};
use swinseek_language::sampler::SamplingParams;

fn language(name: &str) -> Box<swinseek_fusion::load::LanguageModel> {
    match load_model(&case(name), Precision::F32).unwrap().model {
        Model::Language(model) => model,
        other => panic!("{other:?}"),
    }
}

fn stored(name: &str, tensor: &str) -> Vec<u32> {
    let tensor = tensors(&case(name).join("golden.safetensors"))[tensor].flatten_all().unwrap();
    tensor.to_vec1::<i64>().unwrap().into_iter().map(|id| id as u32).collect()
}

fn run<M: TokenModel>(model: &M, prompt: &[u32], params: &GenerateParams) -> Generation {
    generate(model, prompt, params, |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn greedy_is_the_stored_continuation() {
    for name in ["llama_mha", "deepseek_v2", "deepseek_v32"] {
        let expected = stored(name, "greedy.new_ids");
        let params = GenerateParams { max_new_tokens: expected.len(), ..Default::default() };
        let result = run(language(name).as_ref(), &stored(name, "greedy.prompt_ids"), &params);
        assert_eq!(result.ids(), expected, "{name}");
        assert_eq!(result.finish, FinishReason::Length);
    }
}

/// What `transformers` 5.23 answers to `generate(num_beams, length_penalty, early_stopping=False, max_new_tokens,
/// eos_token_id, pad_token_id=0)` on these goldens, the stop id removed: beams, penalty, stop ids, tokens, answer,
/// whether a stop id ended it, score.
type BeamCase = (usize, f64, &'static [u32], usize, &'static [u32], bool, f64);

const LLAMA_BEAMS: [BeamCase; 9] = [
    (3, 1.0, &[2], 10, &[78, 86, 78, 86, 78, 46, 24, 23, 70, 41], false, -2.597_071_6),
    (4, 1.0, &[5, 17, 33, 60, 80], 12, &[78, 86, 78, 86, 78, 46, 24, 23, 70, 41, 2, 78], false, -2.646_235_7),
    (3, 0.0, &[5, 17, 33, 60, 80], 12, &[78, 86, 78, 86, 78, 46, 24, 23, 70, 41, 2, 78], false, -31.754_827),
    (
        3,
        2.0,
        &[5, 17, 33, 60, 80, 41, 42, 43],
        12,
        &[78, 86, 78, 86, 78, 46, 24, 23, 31, 30, 94, 19],
        false,
        -0.223_613_7,
    ),
    (3, 0.0, &[46, 86], 10, &[78], true, -5.492_627_6),
    (3, 1.0, &[46, 23], 12, &[94, 14, 17, 57, 31, 47, 74, 36, 52, 32, 9, 39], false, -2.790_195_5),
    (2, 3.0, &[24, 57], 12, &[78, 86, 78, 86, 78, 46, 63, 46, 63, 46, 63, 46], false, -0.018_517_85),
    (4, -1.0, &[78, 31, 6], 12, &[], true, -2.884_042_7),
    (
        3,
        1.0,
        &[70, 55],
        16,
        &[78, 86, 78, 86, 78, 46, 24, 23, 31, 47, 90, 2, 4, 23, 31, 30],
        false,
        -2.632_199,
    ),
];
const V3_BEAMS: [BeamCase; 3] = [
    (4, -1.0, &[78, 31, 6], 12, &[48], true, -10.231_137),
    (4, 1.0, &[24, 65, 14], 12, &[45, 31, 76, 59, 76, 59, 76, 59, 76, 59, 76, 64], false, -2.341_52),
    (2, 3.0, &[24, 57], 12, &[45, 31, 76, 65, 76, 65, 76, 65, 76, 65, 79, 64], false, -0.017_508_98),
];
const DONUT_BEAMS: [BeamCase; 2] = [
    (3, 1.0, &[2], 10, &[32, 32, 32, 32, 32, 32, 32, 32, 71, 10], false, -0.588_176_55),
    (2, 0.5, &[30, 40, 50, 60], 10, &[71, 71, 71, 71, 71, 34, 38, 42, 66, 10], false, -2.798_126),
];

fn check_beams<M: TokenModel>(model: &M, prompt: &[u32], cases: &[BeamCase]) {
    for &(num_beams, length_penalty, stop_ids, max_new_tokens, answer, stopped, score) in cases {
        let stop_ids = stop_ids.to_vec();
        let params =
            GenerateParams { num_beams, length_penalty, stop_ids, max_new_tokens, ..Default::default() };
        let result = run(model, prompt, &params);
        assert_eq!(result.ids(), answer, "{params:?}");
        assert_eq!(result.finish == FinishReason::Stop, stopped, "{params:?}");
        let logprobs: Vec<f64> =
            result.tokens.iter().map(|t| t.logprob).chain(result.stop_logprob).map(f64::from).collect();
        let found = logprobs.iter().sum::<f64>() / (logprobs.len() as f64).powf(length_penalty);
        // Sums of a dozen log-probabilities, each within 2e-5.
        assert!((found - score).abs() < 3e-4, "{params:?}: {found} instead of {score}");
    }
}

#[test]
fn beam_search_is_that_of_transformers() {
    check_beams(language("llama_mha").as_ref(), &stored("llama_mha", "greedy.prompt_ids"), &LLAMA_BEAMS);
    check_beams(language("deepseek_v3").as_ref(), &stored("deepseek_v3", "greedy.prompt_ids"), &V3_BEAMS);
}

#[test]
fn beam_search_repeats_the_image_for_every_beam() {
    let Model::Donut(model) = load_model(&case("donut"), Precision::F32).unwrap().model else { panic!() };
    let pixels = &tensors(&case("donut").join("golden.safetensors"))["pixel_values"];
    let session = DonutSession { memory: model.memory(pixels, &mut Trace::off()).unwrap(), model: &model };
    check_beams(&session, &stored("donut", "greedy.prompt_ids"), &DONUT_BEAMS);
}

#[test]
fn stop_ids_end_the_answer_and_are_not_part_of_it() {
    let expected = stored("llama_mha", "greedy.new_ids");
    let params = GenerateParams { max_new_tokens: 24, stop_ids: vec![expected[4]], ..Default::default() };
    let result = run(language("llama_mha").as_ref(), &stored("llama_mha", "greedy.prompt_ids"), &params);
    assert_eq!(result.ids(), expected[..4]);
    assert_eq!(result.finish, FinishReason::Stop);
    assert!(result.stop_logprob.unwrap() < 0.0);
}

#[test]
fn the_callback_sees_every_token_and_may_stop() {
    let expected = stored("llama_mha", "greedy.new_ids");
    let model = language("llama_mha");
    let prompt = stored("llama_mha", "greedy.prompt_ids");
    for num_beams in [1, 2] {
        let params = GenerateParams { max_new_tokens: 10, num_beams, ..Default::default() };
        let mut seen = Vec::new();
        let result = generate(model.as_ref(), &prompt, &params, |token| {
            seen.push(token.id);
            if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let result = result.unwrap();
        assert_eq!((result.ids(), result.finish), (seen.clone(), FinishReason::Cancelled));
        assert!(num_beams > 1 || seen == expected[..3]);
    }
}

#[test]
fn the_context_ends_the_answer_and_refuses_a_longer_prompt() {
    let model = small_model(&json!({}));
    let session = model.session(None);
    let params = GenerateParams { max_new_tokens: 1000, ..Default::default() };
    let result = run(&session, &[1; 60], &params);
    // Positions 60 to 63, and the token that the last of them chooses.
    assert_eq!((result.tokens.len(), result.finish), (5, FinishReason::Length));
    assert_eq!(run(&session, &[1; 64], &params).tokens.len(), 1);
    let refused =
        |prompt: &[u32]| generate(&session, prompt, &params, |_| ControlFlow::Continue(())).unwrap_err();
    let error = refused(&[1; 65]).to_string();
    assert!(error.contains("65 tokens") && error.contains("64"), "{error}");
    assert!(refused(&[]).to_string().contains("no tokens"));
    assert!(refused(&[50]).to_string().contains("50"), "an id outside of the vocabulary");
}

#[test]
fn attention_over_the_memory_comes_with_each_token() {
    let Model::MllamaText(model) = load_model(&case("mllama_text"), Precision::F32).unwrap().model else {
        panic!()
    };
    let golden = tensors(&case("mllama_text").join("golden.safetensors"));
    let memory = model.memory(&golden["cross_attention_states"]).unwrap();
    let session = MllamaSession { model: &model, memory: Some(&memory), mask: None };
    for num_beams in [1, 3] {
        let params = GenerateParams { max_new_tokens: 5, attention: true, num_beams, ..Default::default() };
        let result = run(&session, &stored("mllama_text", "greedy.prompt_ids"), &params);
        for token in &result.tokens {
            assert_eq!(token.attention.len(), 9);
            // A mean of softmax rows.
            assert!((token.attention.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_answer_and_another_seed_another() {
    let model = small_model(&json!({}));
    let images = model.encode_images(&noise(&[1, 3, 16, 16], 3), &mut Trace::off()).unwrap();
    let memory = model.image_memory(&images, &[1]).unwrap();
    let session = model.session(Some(&memory));
    let answer = |seed| {
        let sampling = SamplingParams { temperature: 1.0, seed, ..Default::default() };
        run(&session, &[3, 4], &GenerateParams { max_new_tokens: 20, sampling, ..Default::default() }).ids()
    };
    assert_eq!(answer(1), answer(1));
    assert_ne!(answer(1), answer(2));
}
