//! Reports on phantom studies that the model never saw.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use rand::RngExt;
use rayon::prelude::*;
use swinseek_evals::bleu::{Bleu, Segment};
use swinseek_evals::detection::{Confusion, Proportion};
use swinseek_evals::floors::{constant_text, random_texts};
use swinseek_evals::resample::Bootstrap;
use swinseek_fusion::GenerateParams;
use swinseek_fusion::pipeline::{Pipeline, REPORT_PROMPT, Request};
use swinseek_phantom::grammar::Report;
use swinseek_phantom::{Description, Kind, Study, StudyOptions, report_variant};

use super::nodules::reports_nodule;
use super::{Options, Table};
use crate::train::data::{phantom, stream};

/// Variant of a report that is neither the study's own nor a reference.
const CEILING_VARIANT: u64 = 5;
/// Smallest nodule that counts, millimetres.
const NODULE_MM: f32 = 10.0;
/// Studies whose reports the floors are taken from, and their seeds.
const FLOOR_STUDIES: u64 = 300;
const FLOOR_SEED: u64 = 1;
const VALIDATION_SEED: u64 = 900_001;

/// What the model wrote for one study.
struct Written {
    description: Description,
    report: String,
    blind: String,
}

pub(super) fn run(
    pipeline: &Pipeline,
    options: &Options,
    progress: &(dyn Fn(&str, usize, usize) + Sync),
    table: &mut Table,
) -> Result<()> {
    let done = AtomicUsize::new(0);
    let written: Vec<Written> = (0..options.studies as u64)
        .into_par_iter()
        .map(|index| {
            let written = write(pipeline, options, index);
            progress("phantom reports", done.fetch_add(1, Ordering::Relaxed) + 1, options.studies);
            written
        })
        .collect::<Result<_>>()?;
    bleu_rows(&written, options, table)?;
    nodule_rows(&written, options, table);
    Ok(())
}

fn write(pipeline: &Pipeline, options: &Options, index: u64) -> Result<Written> {
    let (seed, beams) = (options.seed, options.beams);
    let size = StudyOptions::default().size;
    let (pixels, description) = Study::example(seed, index, &StudyOptions { size });
    let mut rng = stream(seed, "blind", index, 0);
    let noise: Vec<u8> = (0..pixels.len()).map(|_| rng.random()).collect();
    Ok(Written {
        report: report(pipeline, beams, pixels, size)?,
        blind: report(pipeline, beams, noise, size)?,
        description,
    })
}

fn report(pipeline: &Pipeline, beams: usize, pixels: Vec<u8>, size: usize) -> Result<String> {
    let image = phantom::gray(pixels, size)?;
    let request = Request {
        images: &[image],
        prompt: REPORT_PROMPT,
        params: GenerateParams { num_beams: beams, ..GenerateParams::default() },
        stop: Vec::new(),
    };
    Ok(pipeline.answer(&request, |_| ControlFlow::Continue(()))?.text)
}

fn bleu_rows(written: &[Written], options: &Options, table: &mut Table) -> Result<()> {
    let references: Vec<Vec<String>> =
        written.iter().map(|w| w.description.references.iter().map(Report::text).collect()).collect();
    let references: Vec<Vec<&str>> =
        references.iter().map(|list| list.iter().map(String::as_str).collect()).collect();
    let (train, constant) = floors()?;
    let train: Vec<&str> = train.iter().map(String::as_str).collect();
    let ceiling: Vec<String> = written
        .iter()
        .zip(0..)
        .map(|(w, index)| report_variant(&w.description.facts, options.seed, index, CEILING_VARIANT).text())
        .collect();
    let systems: [(&str, Vec<&str>); 5] = [
        ("model", written.iter().map(|w| w.report.as_str()).collect()),
        ("constant report", vec![&constant; written.len()]),
        ("random training report", random_texts(&train, written.len(), options.seed)?),
        ("blind: model on noise", written.iter().map(|w| w.blind.as_str()).collect()),
        ("ceiling: a fifth report", ceiling.iter().map(String::as_str).collect()),
    ];
    let set = set_name(options, written.len());
    let (bleu, bootstrap) = (Bleu::default(), Bootstrap::default());
    for (name, hypotheses) in &systems {
        let segments: Vec<Segment> = hypotheses
            .iter()
            .zip(&references)
            .map(|(hypothesis, references)| Segment { hypothesis, references })
            .collect();
        let stats = bleu.corpus_stats(&segments)?;
        let score = bleu.score(&stats.sum()).score / 100.0;
        let interval = bleu.interval(&stats, bootstrap)?;
        table.push(&set, name, "BLEU-4", score, Some([interval.low / 100.0, interval.high / 100.0]));
        if *name == "model" {
            table.goal(0.78);
        }
    }
    table.notes.push(format!("BLEU: {}", bleu.signature(Some(4), Some(bootstrap))));
    Ok(())
}

/// Which studies were reported on, and how.
fn set_name(options: &Options, count: usize) -> String {
    let search = if options.beams > 1 { format!(", {} beams", options.beams) } else { String::new() };
    format!("phantom, seed {}, n = {count}{search}", options.seed)
}

/// Training reports, and the constant chosen among them on validation studies.
fn floors() -> Result<(Vec<String>, String)> {
    let options = StudyOptions::default();
    let train: Vec<String> =
        (0..FLOOR_STUDIES).map(|index| Study::describe(FLOOR_SEED, index, &options).report.text()).collect();
    let validation: Vec<Vec<String>> = (0..FLOOR_STUDIES)
        .map(|index| {
            Study::describe(VALIDATION_SEED, index, &options).references.iter().map(Report::text).collect()
        })
        .collect();
    let lists: Vec<Vec<&str>> =
        validation.iter().map(|list| list.iter().map(String::as_str).collect()).collect();
    let lists: Vec<&[&str]> = lists.iter().map(Vec::as_slice).collect();
    let texts: Vec<&str> = train.iter().map(String::as_str).collect();
    let constant = constant_text(&Bleu::default(), &texts, &lists, texts.len(), 1)?.to_owned();
    Ok((train, constant))
}

/// Studies with a nodule of 10 mm or more against those without any; smaller ones do not count either way.
fn nodule_rows(written: &[Written], options: &Options, table: &mut Table) {
    let largest = |w: &Written| {
        let nodules = w.description.findings.iter().filter(|finding| finding.kind == Kind::Nodule);
        nodules.filter_map(|finding| finding.size_mm).fold(0.0, f32::max)
    };
    let counted = written.iter().filter(|w| largest(w) == 0.0 || largest(w) >= NODULE_MM);
    let pairs: Vec<(bool, bool)> =
        counted.map(|w| (reports_nodule(&w.report), largest(w) >= NODULE_MM)).collect();
    let set = format!("{}, nodules of 10 mm or more", set_name(options, pairs.len()));
    let confusion = Confusion::from_pairs(pairs);
    push_proportion(table, &set, "nodule sensitivity", confusion.sensitivity(), 0.962);
    push_proportion(table, &set, "nodule specificity", confusion.specificity(), 0.915);
}

/// A share of the model's with its Wilson interval and goal; nothing when there are no cases.
pub(super) fn push_proportion(
    table: &mut Table,
    set: &str,
    measure: &str,
    share: Option<Proportion>,
    goal: f64,
) {
    if let Some(share) = share {
        table.push(set, "model", measure, share.value, Some([share.low, share.high]));
        table.goal(goal);
    }
}
