//! Joins the parts of a run.

use std::path::Path;

use super::statistics::{Rows, System};
use super::{BLIND, HYPOTHESES, Line, SHARD, Shard, Statistics, log};
use crate::error::{Error, Result};

/// A run put together again.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// Statistics of all items.
    pub statistics: Statistics,
    /// The answers, in item order.
    pub lines: Vec<Line>,
    /// The answers to noise, where every shard has them.
    pub blind: Option<Vec<Line>>,
}

struct Part<'a> {
    dir: &'a Path,
    statistics: Statistics,
    lines: Vec<Line>,
    blind: Option<Vec<Line>>,
}

impl<'a> Part<'a> {
    fn read(dir: &'a Path) -> Result<Self> {
        let statistics = Statistics::read(dir)?;
        let positions = statistics.run.shard.positions(statistics.run.data.n);
        let lines_of = |name: &str| {
            let lines = log::read(&dir.join(name))?;
            if lines.iter().map(|line| line.index).eq(positions.iter().copied()) {
                return Ok(lines);
            }
            let message = format!("does not hold the items of shard {}", statistics.run.shard);
            Err(Error::Data { origin: dir.join(name).display().to_string(), message })
        };
        let lines = lines_of(HYPOTHESES)?;
        let has_blind = statistics.systems.iter().any(|system| system.name == "blind");
        let blind = has_blind.then(|| lines_of(BLIND)).transpose()?;
        statistics.check_lengths(positions.len(), dir)?;
        Ok(Self { dir, statistics, lines, blind })
    }
}

/// Reads the result directories of all shards of a run and gives what the run would have given undivided.
///
/// # Errors
/// [`Error::Data`] when a file is missing or damaged; [`Error::Input`] when a shard is missing, is there twice, or belongs to
/// another run.
pub fn merge(dirs: &[impl AsRef<Path>]) -> Result<Merged> {
    let mut parts: Vec<Part<'_>> = dirs.iter().map(|dir| Part::read(dir.as_ref())).collect::<Result<_>>()?;
    let Some((first, others)) = parts.split_first() else {
        return Err(Error::Input("there are no shards to merge".into()));
    };
    for part in others {
        let header = first.statistics.run.difference(&part.statistics.run, true);
        let difference = header.or_else(|| settings_difference(&first.statistics, &part.statistics));
        if let Some((field, expected, found)) = difference {
            return Err(Error::Input(format!(
                "{}: `{field}` is {found}, but {expected} in {}: no shards of one run",
                part.dir.display(),
                first.dir.display()
            )));
        }
    }
    complete(&parts, first.statistics.run.shard.count)?;
    parts.sort_by_key(|part| part.statistics.run.shard.index);
    let in_order = |lines: Vec<&[Line]>| interleave(&lines);
    let lines = in_order(parts.iter().map(|part| part.lines.as_slice()).collect());
    let blind = parts.iter().map(|part| part.blind.as_deref()).collect::<Option<Vec<_>>>().map(in_order);
    let statistics: Vec<Statistics> = parts.into_iter().map(|part| part.statistics).collect();
    Ok(Merged { statistics: join(&statistics), lines, blind })
}

/// Every shard is there once.
fn complete(parts: &[Part<'_>], count: usize) -> Result<()> {
    for index in 1..=count {
        let found = parts.iter().filter(|part| part.statistics.run.shard.index == index);
        let found: Vec<String> = found.map(|part| part.dir.display().to_string()).collect();
        match found.as_slice() {
            [_] => {}
            [] => return Err(Error::Input(format!("shard {index}/{count} is missing"))),
            _ => {
                let places = found.join(", ");
                return Err(Error::Input(format!("shard {index}/{count} is there twice: {places}")));
            }
        }
    }
    Ok(())
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

    fn check_lengths(&self, n: usize, dir: &Path) -> Result<()> {
        let by_item = self.systems.iter().flat_map(|system| &system.measures).map(|rows| rows.rows.len());
        let others = [self.groups.as_ref().map(Vec::len), self.verbatim.as_ref().map(Vec::len)];
        match by_item.chain(others.into_iter().flatten()).find(|&found| found != n) {
            Some(found) => {
                let message = format!("{found} rows, expected {n}");
                Err(Error::Data { origin: dir.join(SHARD).display().to_string(), message })
            }
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
            (
                "bootstrap",
                format!("{} with seed {}", statistics.bootstrap.resamples, statistics.bootstrap.seed),
            ),
            ("systems", systems.collect::<Vec<_>>().join(", ")),
        ]
    };
    let mut pairs = settings(first).into_iter().zip(settings(other));
    pairs
        .find(|(first, other)| first != other)
        .map(|((name, first), (_, other))| (name.to_owned(), first, other))
}

/// The statistics of the whole; `parts` are all shards in order, and of the same shape.
fn join(parts: &[Statistics]) -> Statistics {
    let mut whole = parts[0].clone();
    whole.run.shard = Shard::WHOLE;
    whole.groups = interleave_some(parts, |part| part.groups.as_deref());
    whole.verbatim = interleave_some(parts, |part| part.verbatim.as_deref());
    whole.errors = parts.iter().map(|part| part.errors).sum();
    let ranges = parts.iter().filter_map(|part| part.references);
    whole.references = ranges.reduce(|(fewest, most), (few, many)| (fewest.min(few), most.max(many)));
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
