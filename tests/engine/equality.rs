//! The promise of the engine on the default model: whatever else runs, a job gets the bits it gets alone.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;

use swinseek::engine::{Engine, EngineConfig, Event, Frontend, Job, JoinedModel};
use swinseek_fusion::evidence::Sentence;
use swinseek_fusion::pipeline::{Pipeline, Request};
use swinseek_fusion::{FinishReason, GenerateParams};
use swinseek_kernels::Precision;
use swinseek_language::sampler::SamplingParams;
use swinseek_vision::preprocess::{Channels, Image, Samples};

/// A gray picture of something; the same for the same seed.
fn picture(seed: u64) -> Vec<u8> {
    let bright = |i: u64| {
        let (x, y) = (i % 48, i / 48);
        ((x * (3 + seed % 5) + y * y * (1 + seed % 3) + seed * 37) % 251) as u8
    };
    (0..48 * 40).map(bright).collect()
}

fn image(pixels: &[u8]) -> Image {
    Image::new(48, 40, Channels::Luma, Samples::U8(pixels.to_vec())).unwrap()
}

fn pipeline(precision: Precision) -> Pipeline {
    Pipeline::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/model"), precision).unwrap()
}

fn engine(precision: Precision, config: EngineConfig) -> (Engine, Frontend) {
    let model = JoinedModel::new(pipeline(precision), "default");
    let frontend = model.frontend();
    (Engine::start(model, config).unwrap(), frontend)
}

/// One request in all its parts.
struct Case {
    pictures: Vec<Vec<u8>>,
    question: String,
    params: GenerateParams,
    stop: Vec<String>,
}

/// Id and log-probability of a token, and those of its rivals.
type TokenBits = (u32, u32, Vec<(u32, u32)>);

/// What a request gave, floats as bits.
#[derive(Debug, PartialEq)]
struct Outcome {
    tokens: Vec<TokenBits>,
    text: String,
    sentences: Vec<Sentence>,
    reason: FinishReason,
}

type Logprobs = Vec<(u32, f32)>;

fn token((id, logprob, top): (u32, f32, &Logprobs)) -> TokenBits {
    (id, logprob.to_bits(), top.iter().map(|(id, logprob)| (*id, logprob.to_bits())).collect())
}

fn cases() -> Vec<Case> {
    let long = "Compare with the prior report, which said: no pneumothorax, heart normal in size. ".repeat(6);
    let questions = ["Write the report.", "Is there a nodule?", &long, "Describe the image in one sentence."];
    let mut one_pixel = picture(1);
    one_pixel[700] ^= 1;
    let sets = [vec![], vec![picture(1)], vec![picture(2)], vec![one_pixel], vec![picture(1), picture(2)]];
    let case = |i: usize| Case {
        pictures: sets[i % 5].clone(),
        // One of the long ones ends differently: it shares the beginning alone.
        question: format!("{}{}", questions[i / 2 % 4], if i % 8 == 5 { " Is it larger?" } else { "" }),
        params: GenerateParams {
            max_new_tokens: 3 + i % 11,
            attention: i.is_multiple_of(3),
            sampling: SamplingParams {
                temperature: [0.0, 0.7, 1.3][i % 3],
                top_k: [0, 20][i % 2],
                top_p: [1.0, 0.9][i / 3 % 2],
                repetition_penalty: [1.0, 1.2][i / 5 % 2],
                logit_bias: if i.is_multiple_of(7) { vec![(300, 2.5)] } else { Vec::new() },
                seed: i as u64,
                top_logprobs: i % 4,
                ..SamplingParams::default()
            },
            ..GenerateParams::default()
        },
        stop: if i % 6 == 1 { vec!["e".to_owned()] } else { Vec::new() },
    };
    (0..64).map(case).collect()
}

/// What the plain loop says.
fn alone(pipeline: &Pipeline, case: &Case) -> Outcome {
    let images: Vec<Image> = case.pictures.iter().map(|pixels| image(pixels)).collect();
    let (params, stop) = (case.params.clone(), case.stop.clone());
    let request = Request { images: &images, prompt: &case.question, params, stop };
    let answer = pipeline.answer(&request, |_| ControlFlow::Continue(())).unwrap();
    Outcome {
        tokens: answer.tokens.iter().map(|t| token((t.id, t.logprob, &t.top_logprobs))).collect(),
        text: answer.text,
        sentences: answer.sentences,
        reason: answer.finish,
    }
}

fn job(frontend: &Frontend, case: &Case) -> Job {
    let images = case.pictures.iter().map(|pixels| frontend.prepare(pixels, &image(pixels)).unwrap());
    Job {
        prompt: frontend.prompts().encode(&case.question, case.pictures.len()).unwrap(),
        images: images.collect(),
        sampling: case.params.sampling.clone(),
        max_new_tokens: case.params.max_new_tokens,
        stop: case.stop.clone(),
        constraint: None,
        evidence: case.params.attention,
        deadline: None,
    }
}

/// All events of a job, which must come in their order.
fn outcome(mut stream: swinseek::engine::Stream) -> Outcome {
    let Some(Event::Started { .. }) = stream.blocking_next() else { panic!("the job did not start") };
    let (mut tokens, mut streamed) = (Vec::new(), String::new());
    loop {
        match stream.blocking_next() {
            Some(Event::Token { id, text, logprob, top_logprobs }) => {
                tokens.push(token((id, logprob, &top_logprobs)));
                streamed += &text;
            }
            Some(Event::Finished { reason, rest, text, sentences }) => {
                assert_eq!(streamed + &rest, text, "the pieces make the whole");
                assert!(stream.blocking_next().is_none());
                return Outcome { tokens, text, sentences, reason };
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A permutation that depends on `seed` alone.
fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&i| {
        (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ seed.wrapping_mul(0x00d1_b54a_32d1_92ed))
    });
    order
}

/// Runs all cases, `clients` at a time, each with up to four requests open.
fn together(engine: &Engine, frontend: &Frontend, cases: &[Case], clients: usize, seed: u64) -> Vec<Outcome> {
    let order = shuffled(cases.len(), seed);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for client in 0..clients {
            let mine: Vec<usize> = order.iter().copied().skip(client).step_by(clients).collect();
            let results = &results;
            scope.spawn(move || {
                for group in mine.chunks(1 + client % 4) {
                    let streams: Vec<_> = group
                        .iter()
                        .map(|&i| (i, engine.submit(job(frontend, &cases[i])).unwrap()))
                        .collect();
                    for (i, stream) in streams {
                        results.lock().unwrap().push((i, outcome(stream)));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, outcome)| outcome).collect()
}

#[test]
fn sixty_four_jobs_at_once_are_as_each_alone() {
    let cases = cases();
    let pipeline = pipeline(Precision::Bf16);
    let expected: Vec<Outcome> = cases.iter().map(|case| alone(&pipeline, case)).collect();
    let lengths: Vec<usize> = expected.iter().map(|outcome| outcome.tokens.len()).collect();
    let stopped = expected.iter().filter(|outcome| outcome.reason == FinishReason::Stop).count();
    assert!(stopped > 3 && lengths.iter().sum::<usize>() > 200, "{stopped} stopped, {lengths:?}");
    let check = |what: &str, found: Vec<Outcome>| {
        assert_eq!(found.len(), cases.len());
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found, expected, "{what}, job {i}");
        }
    };
    // One by one, without and with caches, then many at once, of which some wait.
    let roomy = EngineConfig { max_queue: 256, ..EngineConfig::default() };
    let off = EngineConfig { prefix_cache_bytes: 0, feature_cache_bytes: 0, ..roomy.clone() };
    let (single, frontend) = engine(Precision::Bf16, EngineConfig { max_batch: 1, ..off });
    check("one at a time", together(&single, &frontend, &cases, 1, 1));
    let (many, frontend) = engine(Precision::Bf16, EngineConfig { max_batch: 24, ..roomy });
    check("eight clients", together(&many, &frontend, &cases, 8, 2));
    check("sixty-four clients, warm caches", together(&many, &frontend, &cases, 64, 3));
    let stats = many.stats();
    assert_eq!((stats.finished, stats.failed, stats.image_misses), (128, 0, 3), "{stats:?}");
    assert!(stats.cached_tokens > 0 && stats.steps < 128 * 13 / 2, "{stats:?}");
}

#[test]
fn full_precision_rows_do_not_depend_on_the_batch_either() {
    let cases: Vec<Case> = cases().into_iter().step_by(5).collect();
    let pipeline = pipeline(Precision::F32);
    let expected: Vec<Outcome> = cases.iter().map(|case| alone(&pipeline, case)).collect();
    let (engine, frontend) = engine(Precision::F32, EngineConfig::default());
    assert_eq!(together(&engine, &frontend, &cases, cases.len(), 4), expected);
}

#[test]
fn images_that_differ_in_one_pixel_share_nothing() {
    let (engine, frontend) = engine(Precision::Bf16, EngineConfig::default());
    let mut other = picture(1);
    other[1000] ^= 1;
    let digest = |file: &[u8], pixels: &[u8]| frontend.prepare(file, &image(pixels)).unwrap().digest;
    assert_ne!(digest(&picture(1), &picture(1)), digest(&other, &other));
    assert_ne!(digest(b"same file", &picture(1)), digest(b"same file", &other), "another frame of a file");
    assert_ne!(digest(b"a", &picture(1)), digest(b"b", &picture(1)), "another file of the same pixels");
    let case = |pixels: Vec<u8>| Case {
        pictures: vec![pixels],
        question: "Write the report.".to_owned(),
        params: GenerateParams { max_new_tokens: 3, ..GenerateParams::default() },
        stop: Vec::new(),
    };
    for pixels in [picture(1), other.clone(), picture(1), other] {
        outcome(engine.submit(job(&frontend, &case(pixels))).unwrap());
    }
    let stats = engine.stats();
    assert_eq!((stats.image_misses, stats.image_hits), (2, 2), "{stats:?}");
    assert_eq!((stats.prefix_misses, stats.prefix_hits), (2, 2), "{stats:?}");
}
