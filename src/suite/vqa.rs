//! easy-VQA: coloured shapes, beside the answers that need no picture.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use rayon::prelude::*;
use swinseek_evals::detection::closed_accuracy;
use swinseek_evals::floors::{answers_by_question, majority_answer};
use swinseek_fusion::GenerateParams;
use swinseek_fusion::pipeline::{Pipeline, Request};
use swinseek_vision::preprocess::{DecodeOptions, decode};

use super::Table;

type Question = (String, String, u64);

pub(super) fn run(
    pipeline: &Pipeline,
    dir: &Path,
    most: usize,
    progress: &(dyn Fn(&str, usize, usize) + Sync),
    table: &mut Table,
) -> Result<()> {
    let (train, mut test) = (questions(dir, "train")?, questions(dir, "test")?);
    if most > 0 && most < test.len() {
        let stride = test.len().div_ceil(most);
        test = test.into_iter().step_by(stride).collect();
    }
    let mut by_image: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (index, question) in test.iter().enumerate() {
        by_image.entry(question.2).or_default().push(index);
    }
    let done = AtomicUsize::new(0);
    let groups: Vec<(u64, Vec<usize>)> = by_image.into_iter().collect();
    let answered: Vec<Vec<(usize, String)>> = groups
        .par_iter()
        .map(|(image, indices)| {
            let path = dir.join("test/images").join(format!("{image}.png"));
            let bytes =
                std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
            let images =
                [decode(&bytes, &DecodeOptions::default()).with_context(|| path.display().to_string())?];
            let params = GenerateParams { max_new_tokens: 8, ..GenerateParams::default() };
            let answers = indices.iter().map(|&index| {
                let request = Request {
                    images: &images,
                    prompt: &test[index].0,
                    params: params.clone(),
                    stop: Vec::new(),
                };
                Ok((index, pipeline.answer(&request, |_| ControlFlow::Continue(()))?.text))
            });
            let answers = answers.collect::<Result<Vec<_>>>()?;
            progress(
                "easy-VQA",
                done.fetch_add(indices.len(), Ordering::Relaxed) + indices.len(),
                test.len(),
            );
            Ok(answers)
        })
        .collect::<Result<_>>()?;
    let mut answers = vec![String::new(); test.len()];
    for (index, answer) in answered.into_iter().flatten() {
        answers[index] = answer;
    }
    rows(&train, &test, &answers, table)
}

fn rows(train: &[Question], test: &[Question], answers: &[String], table: &mut Table) -> Result<()> {
    let pairs: Vec<(&str, &str)> =
        train.iter().map(|(question, answer, _)| (question.as_str(), answer.as_str())).collect();
    let all: Vec<&str> = pairs.iter().map(|&(_, answer)| answer).collect();
    let asked: Vec<&str> = test.iter().map(|(question, _, _)| question.as_str()).collect();
    let majority = vec![majority_answer(&all).unwrap_or_default(); test.len()];
    let systems: [(&str, Vec<&str>); 3] = [
        ("floor: majority answer", majority),
        ("floor: question only", answers_by_question(&pairs, &asked)?),
        ("model", answers.iter().map(String::as_str).collect()),
    ];
    let closed = |answer: &str| matches!(answer, "yes" | "no");
    let parts: [(&str, Vec<usize>); 2] = [
        ("all", (0..test.len()).collect()),
        ("other than yes/no", (0..test.len()).filter(|&index| !closed(&test[index].1)).collect()),
    ];
    for (part, indices) in &parts {
        let expected: Vec<&str> = indices.iter().map(|&index| test[index].1.as_str()).collect();
        for (name, hypotheses) in &systems {
            let hypotheses: Vec<&str> = indices.iter().map(|&index| hypotheses[index]).collect();
            let share = closed_accuracy(&hypotheses, &expected)?;
            let set = format!("easy-VQA, test, {part}, n = {}", indices.len());
            table.push(&set, name, "accuracy", share.value, Some([share.low, share.high]));
            if *name == "model" && *part == "all" {
                table.goal(0.95);
            }
        }
    }
    Ok(())
}

fn questions(dir: &Path, split: &str) -> Result<Vec<Question>> {
    let path = dir.join(split).join("questions.json");
    let bytes = std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{}: expected [[question, answer, image_id], …]", path.display()))
}
