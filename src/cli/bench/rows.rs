//! The rows of `bench`.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Result;
use swinseek_fusion::GenerateParams;
use swinseek_fusion::donut::DonutSession;
use swinseek_fusion::generate::generate;
use swinseek_kernels::{Compute, Precision, Trace};

use super::models::{self, Bench, DECODERS, SWINS, Swin};
use super::{BenchArgs, Case, Prepared, onnx, train};
use crate::cli::{output, report};

/// Tokens of a prompt.
const PROMPT: usize = 512;

pub(super) fn cases(args: &BenchArgs) -> Result<Vec<Case>> {
    let mut cases = report_cases(args);
    cases.extend(onnx::case(&args.onnx)?);
    let compute = args.model.compute()?;
    let with = |precision: Precision| Compute { precision, ..compute.clone() };
    let precisions = if args.all_precisions {
        vec![Precision::Bf16, Precision::Int8, Precision::Int4]
    } else {
        vec![compute.precision]
    };
    let mut of_encoders: Vec<_> = precisions.iter().map(|p| p.of_encoders(&compute.device)).collect();
    of_encoders.dedup();
    for model in SWINS {
        for (batch, &precision) in
            [1, 8].into_iter().flat_map(|batch| of_encoders.iter().map(move |p| (batch, p)))
        {
            let compute = with(precision);
            let prepare = move || Ok(swin(model, batch, &compute)?.on(&compute));
            cases.push(Case {
                name: format!("{} 224 {}, batch {batch}", model.name, precision.name()),
                large: batch > 1,
                prepare: Box::new(prepare),
            });
        }
    }
    for &precision in &precisions {
        for (what, tokens) in [("first token", 1), ("60 tokens", 60)] {
            let compute = with(precision);
            cases.push(Case {
                name: format!("caption, swin-b + mbart {}: {what}", precision.name()),
                large: true,
                prepare: Box::new(move || Ok(caption(&compute, tokens)?.on(&compute))),
            });
        }
    }
    for name in DECODERS {
        for &precision in &precisions {
            let kinds =
                [("prefill 512", 1, true), ("decode at 512", 1, false), ("decode at 512, batch 8", 8, false)];
            for (what, batch, prefill) in kinds {
                let compute = with(precision);
                let prepare = move || Ok(decoder(name, &compute, batch, prefill)?.on(&compute));
                cases.push(Case {
                    name: format!("decoder {name} {}: {what}", precision.name()),
                    large: name == "1.3b" || batch > 1,
                    prepare: Box::new(prepare),
                });
            }
        }
    }
    Ok(cases)
}

/// The image to pixels, the whole of a report and a training step with the default model or the one that was named.
fn report_cases(args: &BenchArgs) -> Vec<Case> {
    let (directory, image) = (args.model.directory(), args.image.clone());
    let model = args.model.clone();
    let image2 = image.clone();
    let pixels = Case {
        name: "image to pixels, default model".to_owned(),
        large: false,
        prepare: Box::new(move || preprocess(&directory?, &image)),
    };
    let report = Case {
        name: "report, default model".to_owned(),
        large: false,
        prepare: Box::new(move || {
            let pipeline = model.open()?;
            let image = image2;
            Ok(Prepared {
                work: None,
                units: (1.0, "reports"),
                run: Box::new(move || report::time_once(&pipeline, &image).map(drop)),
            })
        }),
    };
    let directory = args.model.directory();
    let train =
        Case { name: train::name(), large: true, prepare: Box::new(move || train::step(&directory?)) };
    vec![pixels, report, train]
}

fn preprocess(directory: &Path, image: &Path) -> Result<Prepared> {
    let pipeline = swinseek_fusion::pipeline::Pipeline::open(directory, Precision::F32)?;
    let image = image.to_owned();
    let run = move || {
        let picture = output::read_picture(&image, 0)?;
        pipeline.preprocessor().apply(&picture.image)?;
        Ok(())
    };
    Ok(Prepared { work: None, units: (1.0, "images"), run: Box::new(run) })
}

fn swin(model: Swin, batch: usize, compute: &Compute) -> Result<Prepared> {
    let (encoder, pixels) = (models::swin(model, compute)?, models::pixels(batch)?);
    Ok(Prepared {
        work: Some(model.work(batch, compute.precision)),
        units: (batch as f64, "images"),
        run: Box::new(move || Ok(encoder.forward(&pixels, &mut Trace::off()).map(drop)?)),
    })
}

/// An image of 224 pixels and so many tokens, greedily.
fn caption(compute: &Compute, tokens: usize) -> Result<Prepared> {
    let (model, pixels) = (models::captioner(compute)?, models::pixels(1)?);
    let params = GenerateParams { max_new_tokens: tokens, ..GenerateParams::default() };
    let run = move || {
        let memory = model.memory(&pixels, &mut Trace::off())?;
        let session = DonutSession { model: &model, memory };
        generate(&session, &[0], &params, |_| ControlFlow::Continue(()))?;
        Ok(())
    };
    Ok(Prepared { work: None, units: (1.0, "captions"), run: Box::new(run) })
}

fn decoder(name: &str, compute: &Compute, batch: usize, prefill: bool) -> Result<Prepared> {
    let (bench, precision) = (Bench::new(name, compute)?, compute.precision);
    if prefill {
        return Ok(Prepared {
            work: Some(bench.sizes.prompt(PROMPT, precision)),
            units: (PROMPT as f64, "tokens"),
            run: Box::new(move || bench.prefill(PROMPT, &mut bench.cache())),
        });
    }
    let mut cache = bench.cache();
    bench.prefill(PROMPT, &mut cache)?;
    let mut caches = (0..batch).map(|_| cache.fork()).collect::<swinseek_kernels::Result<Vec<_>>>()?;
    let work = bench.sizes.step(batch, PROMPT, precision);
    let run = move || {
        for cache in &mut caches {
            cache.truncate(PROMPT);
        }
        bench.decode(&mut caches)
    };
    Ok(Prepared { work, units: (batch as f64, "tokens"), run: Box::new(run) })
}
