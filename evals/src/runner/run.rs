//! Asks the candidate.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use super::{Candidate, CandidateError, Line, Log, Sight};
use crate::dataset::Item;
use crate::error::Result;

/// What is to be asked.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The data folder: pictures in it are named relative to it.
    pub root: &'a Path,
    /// All items of the split.
    pub items: &'a [Item],
    /// Positions of those that are wanted, in order.
    pub positions: &'a [usize],
    /// Who answers.
    pub candidate: &'a dyn Candidate,
    /// What it is shown.
    pub sight: Sight,
    /// How many items are worked on at a time.
    pub threads: usize,
}

/// How a run went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Items that were asked for, because they were not in the log.
    pub asked: usize,
    /// Those without an answer: name and reason, in the order of the data.
    pub failed: Vec<(String, String)>,
    /// Why the run ended before its end; what was written stays.
    pub gone: Option<String>,
}

/// Asks for all items that are not in `log`, from [`Job::threads`] threads, and logs each answer as it comes.
/// `progress` sees every line on the calling thread, first those that were there.
///
/// # Errors
/// [`crate::Error::Data`] when the log cannot be written.
pub fn answer_all(log: &mut Log, job: &Job<'_>, progress: &mut dyn FnMut(&Line, bool)) -> Result<Outcome> {
    let mut pending = Vec::new();
    for &position in job.positions {
        match log.get(position) {
            Some(line) => progress(line, false),
            None => pending.push(position),
        }
    }
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (sender, answers) = mpsc::channel();
    let work = |sender: mpsc::Sender<_>| {
        while !stop.load(Ordering::Relaxed) {
            let Some(&position) = pending.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            let answer = job.candidate.answer(&job.items[position], job.sight);
            if sender.send((position, answer)).is_err() {
                return;
            }
        }
    };
    let mut outcome = Outcome::default();
    let mut failed = Vec::new();
    let written = std::thread::scope(|scope| {
        for _ in 0..job.threads.clamp(1, pending.len().max(1)) {
            let sender = sender.clone();
            scope.spawn(|| work(sender));
        }
        drop(sender);
        for (position, answer) in answers {
            let (hypothesis, error) = match answer {
                Ok(text) => (Some(text), None),
                Err(CandidateError::Item(message)) => (None, Some(message)),
                Err(CandidateError::Gone(message)) => {
                    stop.store(true, Ordering::Relaxed);
                    outcome.gone.get_or_insert(message);
                    continue;
                }
            };
            outcome.asked += 1;
            let line = line(job, position, hypothesis, error);
            progress(&line, true);
            failed.extend(line.error.clone().map(|error| (position, line.id.clone(), error)));
            if let Err(error) = log.push(line) {
                stop.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    });
    written?;
    failed.sort_unstable();
    outcome.failed = failed.into_iter().map(|(_, id, error)| (id, error)).collect();
    Ok(outcome)
}

fn line(job: &Job<'_>, index: usize, hypothesis: Option<String>, error: Option<String>) -> Line {
    let item = &job.items[index];
    let images = item.images.iter().map(|path| path.strip_prefix(job.root).unwrap_or(path).to_owned());
    Line {
        index,
        id: item.id.clone(),
        question: item.question.clone(),
        hypothesis,
        error,
        references: item.references.clone(),
        images: images.collect(),
    }
}
