//! Throughput of the engine on the default model: requests one at a time against many at once.
//!
//! `cargo bench --bench engine [-- REQUESTS TOKENS]`

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use swinseek::engine::{Engine, EngineConfig, Event, Frontend, Job, JoinedModel, Stream};
use swinseek_fusion::pipeline::REPORT_PROMPT;
use swinseek_kernels::Precision;
use swinseek_language::sampler::SamplingParams;
use swinseek_vision::preprocess::{Channels, Image, Samples};

fn main() -> anyhow::Result<()> {
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let requests = numbers.first().copied().unwrap_or(64);
    let tokens = numbers.get(1).copied().unwrap_or(64);
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/model");
    let mut base = None;
    for (evidence, images) in [(false, false), (false, true), (true, true)] {
        for batch in [1, 8, 32] {
            let model = JoinedModel::open(&model, Precision::Bf16)?;
            let frontend = model.frontend();
            let engine = Engine::start(
                model,
                EngineConfig { max_batch: batch, max_queue: 1000, ..EngineConfig::default() },
            )?;
            let jobs = (0..requests).map(|i| job(&frontend, i, tokens, evidence, images));
            let jobs = jobs.collect::<anyhow::Result<Vec<_>>>()?;
            let start = Instant::now();
            let streams: Vec<Stream> =
                jobs.into_iter().map(|job| engine.submit(job)).collect::<Result<_, _>>()?;
            let generated: usize = streams.into_iter().map(count).sum();
            let rate = generated as f64 / start.elapsed().as_secs_f64();
            if batch == 1 {
                base = Some(rate);
            }
            let gain = rate / base.unwrap_or(rate);
            writeln!(
                std::io::stdout(),
                "images {images:5}  evidence {evidence:5}  batch {batch:2}: {rate:7.0} tokens/s, {gain:.2} times one at a time"
            )?;
        }
    }
    Ok(())
}

/// A sampled report, which would go on for long.
fn job(frontend: &Frontend, i: usize, tokens: usize, evidence: bool, images: bool) -> anyhow::Result<Job> {
    let pixels: Vec<u8> = (0..192 * 192).map(|p| ((p * (7 + i) + p / 192 * 31) % 251) as u8).collect();
    let image = Image::new(192, 192, Channels::Luma, Samples::U8(pixels.clone()))?;
    let images = if images { vec![frontend.prepare(&pixels, &image)?] } else { Vec::new() };
    Ok(Job {
        prompt: frontend.prompts().encode(REPORT_PROMPT, images.len())?,
        images,
        sampling: SamplingParams {
            seed: i as u64,
            temperature: 1.0,
            logit_bias: vec![(2, -100.0)],
            ..SamplingParams::default()
        },
        max_new_tokens: tokens,
        stop: Vec::new(),
        constraint: None,
        evidence,
        deadline: None,
    })
}

/// Tokens of an answer.
fn count(mut stream: Stream) -> usize {
    let mut tokens = 0;
    while let Some(event) = stream.blocking_next() {
        tokens += usize::from(matches!(event, Event::Token { .. }));
    }
    tokens
}
