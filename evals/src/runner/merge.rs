//! Joins the parts of a run.

use std::path::Path;

use super::statistics::{Rows, System};
use super::{HYPOTHESES, Line, SHARD, Shard, Statistics, log};
use crate::error::{Error, Result};

/// Reads the result directories of all shards of a run and gives the statistics and lines that the run would have given
/// undivided.
///
/// # Errors
/// [`Error::Data`] when a file is missing or damaged; [`Error::Input`] when a shard is missing, is there twice, or belongs to
/// another run.
pub fn merge(dirs: &[impl AsRef<Path>]) -> Result<(Statistics, Vec<Line>)> {
    let mut parts = Vec::new();
    for dir in dirs {
        let dir = dir.as_ref();
        parts.push((dir, Statistics::read(dir)?, log::read(&dir.join(HYPOTHESES))?));
    }
    let Some((first_dir, first, _)) = parts.first() else {
        return Err(Error::Input("there are no shards to merge".into()));
    };
    for (dir, part, lines) in &parts {
        let place = dir.display();
        let difference = first.run.difference(&part.run, true).or_else(|| settings_difference(first, part));
        if let Some((field, expected, found)) = difference {
            let first = first_dir.display();
            return Err(Error::Input(format!(
                "{place}: `{field}` is {found}, but {expected} in {first}: no shards of one run"
            )));
        }
        let positions = part.run.shard.positions(part.run.data.n);
        if !lines.iter().map(|line| line.index).eq(positions.iter().copied()) {
            return Err(Error::Input(format!("{place}: {HYPOTHESES} is not that of shard {}", part.run.shard)));
        }
        part.check_lengths(positions.len()).map_err(|error| Error::Input(format!("{place}: {error}")))?;
    }
    parts.sort_by_key(|(_, part, _)| part.run.shard.index);
    let count = first_count(&parts);
    for index in 1..=count {
        let found: Vec<String> = parts
            .iter()
            .filter(|(_, part, _)| part.run.shard.index == index)
            .map(|(dir, _, _)| dir.display().to_string())
            .collect();
        match found.as_slice() {
            [_] => {}
            [] => return Err(Error::Input(format!("shard {index}/{count} is missing"))),
            _ => {
                return Err(Error::Input(format!("shard {index}/{count} is there twice: {}", found.join(", "))));
            }
        }
    }
    let mut lines: Vec<Line> = parts.iter().flat_map(|(_, _, lines)| lines.iter().cloned()).collect();
    lines.sort_unstable_by_key(|line| line.index);
    let statistics: Vec<Statistics> = parts.into_iter().map(|(_, part, _)| part).collect();
    Ok((join(&statistics), lines))
}

fn first_count(parts: &[(&Path, Statistics, Vec<Line>)]) -> usize {
    parts.first().map_or(0, |(_, part, _)| part.run.shard.count)
}

impl Statistics {
    /// Reads the statistics in a result directory.
    ///
    /// # Errors
    /// [`Error::Data`] when they are missing or damaged.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(SHARD);
        let fail = |message: String| Error::Data { origin: path.display().to_string(), message };
        let bytes = std::fs::read(&path).map_err(|error| fail(format!("cannot be read: {error}")))?;
        serde_json::from_slice(&bytes).map_err(|error| fail(error.to_string()))
    }

    fn check_lengths(&self, n: usize) -> Result<()> {
        let by_item = self.systems.iter().flat_map(|system| &system.measures).map(|rows| rows.rows.len());
        let others = [self.groups.as_ref().map(Vec::len), self.verbatim.as_ref().map(Vec::len)];
        match by_item.chain(others.into_iter().flatten()).find(|&found| found != n) {
            Some(found) => Err(Error::Input(format!("{SHARD} has {found} rows, expected {n}"))),
            None => Ok(()),
        }
    }
}

/// Everything but the rows must be the same in all shards.
fn settings_difference(first: &Statistics, other: &Statistics) -> Option<(String, String, String)> {
    let settings = |statistics: &Statistics| {
        let systems = statistics.systems.iter().map(|system| {
            let metrics: Vec<&str> = system.measures.iter().map(|rows| rows.metric.name()).collect();
            format!("{} ({})", system.name, metrics.join(", "))
        });
        [
            ("shard", statistics.run.shard.count.to_string()),
            ("profile", statistics.profile.name().to_owned()),
            ("bootstrap", format!("{} with seed {}", statistics.bootstrap.resamples, statistics.bootstrap.seed)),
            ("systems", systems.collect::<Vec<_>>().join(", ")),
        ]
    };
    let mut pairs = settings(first).into_iter().zip(settings(other));
    pairs.find(|(first, other)| first != other).map(|((name, first), (_, other))| (name.to_owned(), first, other))
}

/// The statistics of the whole; `parts` are all shards in order, and of the same shape.
fn join(parts: &[Statistics]) -> Statistics {
    let mut whole = parts[0].clone();
    whole.run.shard = Shard::WHOLE;
    whole.groups = interleave_some(parts, |part| part.groups.as_deref());
    whole.verbatim = interleave_some(parts, |part| part.verbatim.as_deref());
    whole.errors = parts.iter().map(|part| part.errors).sum();
    let ranges = parts.iter().filter_map(|part| part.references);
    whole.references =
        ranges.reduce(|(fewest, most), (few, many)| (fewest.min(few), most.max(many)));
    for (system, System { measures, .. }) in whole.systems.iter_mut().enumerate() {
        for (measure, Rows { rows, .. }) in measures.iter_mut().enumerate() {
            let columns: Vec<&[Vec<f64>]> =
                parts.iter().map(|part| part.systems[system].measures[measure].rows.as_slice()).collect();
            *rows = interleave(&columns);
        }
    }
    whole
}

/// Puts items `i`, `i + n`, … of shard `i` of `n` back in their places.
fn interleave<T: Clone>(shards: &[&[T]]) -> Vec<T> {
    let n = shards.iter().map(|shard| shard.len()).sum();
    (0..n).map(|place| shards[place % shards.len()][place / shards.len()].clone()).collect()
}

fn interleave_some<'a, T: Clone + 'a>(
    parts: &'a [Statistics],
    of: impl Fn(&'a Statistics) -> Option<&'a [T]>,
) -> Option<Vec<T>> {
    parts.iter().map(of).collect::<Option<Vec<&[T]>>>().map(|shards| interleave(&shards))
}
