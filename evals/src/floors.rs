//! What every system must beat without looking at the image.

use std::collections::HashMap;

use crate::bleu::{Bleu, Segment};
use crate::error::{Error, Result};
use crate::resample::{below, generator};

/// The constant floor: the one training text with the best corpus BLEU on the validation set when it is the answer to
/// everything. At most `tries` distinct texts, drawn by `seed`, are tried.
///
/// # Errors
/// As [`Bleu::corpus_stats`]; [`Error::Input`] without training texts or validation segments.
pub fn constant_text<'a>(
    bleu: &Bleu,
    train: &[&'a str],
    validation: &[&[&str]],
    tries: usize,
    seed: u64,
) -> Result<&'a str> {
    if train.is_empty() || validation.is_empty() {
        return Err(Error::Input("the constant floor needs training texts and validation references".into()));
    }
    let mut distinct: Vec<&str> = train.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let mut rng = generator(seed, 0);
    let mut best = ("", f64::NEG_INFINITY);
    for chosen in 0..tries.clamp(1, distinct.len()) {
        // The beginning of a Fisher-Yates shuffle.
        let other = chosen + below(&mut rng, distinct.len() - chosen);
        distinct.swap(chosen, other);
        let hypothesis = distinct[chosen];
        let segments: Vec<Segment<'_>> =
            validation.iter().map(|references| Segment { hypothesis, references }).collect();
        let score = bleu.corpus(&segments)?.score;
        if score > best.1 {
            best = (hypothesis, score);
        }
    }
    Ok(best.0)
}

/// The random floor: `count` training texts drawn with replacement.
///
/// # Errors
/// [`Error::Input`] without training texts.
pub fn random_texts<'a>(train: &[&'a str], count: usize, seed: u64) -> Result<Vec<&'a str>> {
    if train.is_empty() {
        return Err(Error::Input("the random floor needs training texts".into()));
    }
    let mut rng = generator(seed, 0);
    Ok((0..count).map(|_| train[below(&mut rng, train.len())]).collect())
}

/// The majority floor: the most frequent answer; of equally frequent ones the first that was given. `None` without
/// answers.
pub fn majority_answer<'a>(train: &[&'a str]) -> Option<&'a str> {
    // Count, and how far from the end the answer was first seen.
    let mut counts: HashMap<&str, (usize, usize)> = HashMap::new();
    for (place, &answer) in train.iter().enumerate() {
        counts.entry(answer).or_insert((0, train.len() - place)).0 += 1;
    }
    counts.into_iter().max_by_key(|&(_, count)| count).map(|(answer, _)| answer)
}

/// The question-only floor: for each question the most frequent training answer to the same question, else the
/// majority answer.
///
/// # Errors
/// [`Error::Input`] without training answers.
pub fn answers_by_question<'a>(train: &[(&str, &'a str)], questions: &[&str]) -> Result<Vec<&'a str>> {
    let all: Vec<&str> = train.iter().map(|&(_, answer)| answer).collect();
    let majority = majority_answer(&all)
        .ok_or_else(|| Error::Input("the question-only floor needs training answers".into()))?;
    let mut by_question: HashMap<&str, Vec<&'a str>> = HashMap::new();
    for &(question, answer) in train {
        by_question.entry(question).or_default().push(answer);
    }
    let best: HashMap<&str, &'a str> = by_question
        .iter()
        .filter_map(|(&question, answers)| Some((question, majority_answer(answers)?)))
        .collect();
    Ok(questions.iter().map(|question| best.get(question).copied().unwrap_or(majority)).collect())
}

/// Share of `texts` that stand word for word in `train`, 0 to 1; 0 without texts.
pub fn verbatim_share(texts: &[&str], train: &[&str]) -> f64 {
    let known: std::collections::HashSet<&str> = train.iter().copied().collect();
    let copies = texts.iter().filter(|text| known.contains(*text)).count();
    if texts.is_empty() { 0.0 } else { copies as f64 / texts.len() as f64 }
}
