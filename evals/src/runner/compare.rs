//! Two runs over the same items, side by side.

use std::path::Path;

use serde::Serialize;

use super::{Measure, MetricName, Statistics};
use crate::error::{Error, Result};
use crate::resample::Bootstrap;
use crate::significance::{paired_bootstrap, paired_randomization};

/// One metric of two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The metric.
    pub metric: &'static str,
    /// Score of the first run.
    pub a: f64,
    /// Score of the second run.
    pub b: f64,
    /// `b - a`.
    pub difference: f64,
    /// Of the paired bootstrap (Koehn 2004).
    pub p_bootstrap: f64,
    /// Of the paired approximate randomisation (Riezler and Maxwell 2005).
    pub p_randomization: f64,
}

/// Compares the runs in two result directories in every metric that both have.
///
/// # Errors
/// [`Error::Data`] when a directory has no statistics; [`Error::Input`] when the runs are over different items or have no
/// metric in common.
pub fn compare(a: &Path, b: &Path, bootstrap: Bootstrap, trials: usize) -> Result<Vec<Comparison>> {
    let (first, second) = (Statistics::read(a)?, Statistics::read(b)?);
    same_items(&first, &second, a, b)?;
    let rows = |statistics: &Statistics, metric: MetricName| {
        let model = statistics.systems.first()?;
        model.measures.iter().find(|rows| rows.metric == metric).map(|rows| rows.rows.clone())
    };
    let mut comparisons = Vec::new();
    for metric in MetricName::ALL {
        let (Some(a), Some(b)) = (rows(&first, metric), rows(&second, metric)) else { continue };
        let measure = Measure::new(metric, first.profile)?;
        let groups = first.groups.as_deref();
        let (a, b) = (measure.sample(&a, groups)?, measure.sample(&b, groups)?);
        let (a_score, b_score) = (a.score(), b.score());
        comparisons.push(Comparison {
            metric: metric.name(),
            a: a_score,
            b: b_score,
            difference: b_score - a_score,
            p_bootstrap: paired_bootstrap(&a, &b, bootstrap)?.p_value,
            p_randomization: paired_randomization(&a, &b, trials, bootstrap.seed)?.p_value,
        });
    }
    if comparisons.is_empty() {
        return Err(Error::Input("the two runs have no metric in common".into()));
    }
    Ok(comparisons)
}

fn same_items(first: &Statistics, second: &Statistics, a: &Path, b: &Path) -> Result<()> {
    let facts = |statistics: &Statistics| {
        let (run, data) = (&statistics.run, &statistics.run.data);
        [
            ("data.hash", data.hash.clone()),
            ("data.images", data.images.clone()),
            ("data.split", data.split.clone()),
            ("data.n", data.n.to_string()),
            ("shard", run.shard.to_string()),
            ("profile", statistics.profile.name().to_owned()),
        ]
    };
    for ((field, ours), (_, theirs)) in facts(first).into_iter().zip(facts(second)) {
        if ours != theirs {
            return Err(Error::Input(format!(
                "`{field}` is {ours} in {} and {theirs} in {}: only runs over the same items can be paired",
                a.display(),
                b.display()
            )));
        }
    }
    Ok(())
}
