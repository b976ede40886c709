//! `result.json`.

use serde_json::{Map, Value, json};

use super::statistics::System;
use super::{Line, Measure, MetricName, Statistics};
use crate::diversity::Diversity;
use crate::error::{Error, Result};

/// Where and how fast the run was: the only entries that differ between two runs over the same data by the same model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Environment {
    /// The machine; left out when null.
    pub hardware: Value,
    /// Seconds and images per second; left out when null.
    pub speed: Value,
}

/// The scores of a whole run, beside its floors.
///
/// # Errors
/// [`Error::Input`] when the statistics are those of one shard of several; as [`Measure::entry`].
pub fn result(statistics: &Statistics, lines: &[Line], environment: &Environment) -> Result<Value> {
    let run = &statistics.run;
    if run.shard.count != 1 {
        return Err(Error::Input(format!("shard {}: only the merged shards have a result", run.shard)));
    }
    let Some((model, floors)) = statistics.systems.split_first() else {
        return Err(Error::Input("the statistics hold no system".into()));
    };
    let floors: Map<String, Value> = floors
        .iter()
        .map(|floor| Ok((floor.name.clone(), floor_entry(statistics, floor)?)))
        .collect::<Result<_>>()?;
    let mut result = json!({
        "swinseek": run.swinseek,
        "data": {
            "name": run.data.name, "layout": run.data.layout, "task": run.data.task, "split": run.data.split,
            "n": run.data.n, "skipped": run.data.skipped, "hash": run.data.hash, "images": run.data.images,
        },
        "model": run.model,
        "metric": model.measures.first().map(|rows| rows.metric.name()),
        "profile": statistics.profile.name(),
        "scores": scores(statistics, model)?,
        "floors": floors,
        "errors": statistics.errors,
        "prompt": run.prompt,
        "max_tokens": run.max_tokens,
        "seed": run.seed,
    });
    if let Some(result) = result.as_object_mut() {
        outputs(statistics, model, lines, result);
        let own = [("hardware", &environment.hardware), ("speed", &environment.speed)];
        result.extend(
            own.into_iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.into(), v.clone())),
        );
    }
    Ok(result)
}

fn scores(statistics: &Statistics, system: &System) -> Result<Map<String, Value>> {
    let (groups, bootstrap) = (statistics.groups.as_deref(), statistics.bootstrap);
    let entry = |name: MetricName, rows: &[Vec<f64>]| {
        let measure = Measure::new(name, statistics.profile)?;
        measure.entry(rows, groups, statistics.references_per_item(), bootstrap)
    };
    system
        .measures
        .iter()
        .map(|rows| Ok((rows.metric.name().to_owned(), entry(rows.metric, &rows.rows)?)))
        .collect()
}

/// Score and interval of a floor; the rest of its entry is that of the model.
fn floor_entry(statistics: &Statistics, floor: &System) -> Result<Value> {
    let mut entry: Map<String, Value> = scores(statistics, floor)?
        .into_iter()
        .map(|(name, entry)| {
            let interval = json!({ "low": entry["interval"]["low"], "high": entry["interval"]["high"] });
            (name, json!({ "score": entry["score"], "interval": interval }))
        })
        .collect();
    entry.extend(floor.text.iter().map(|text| ("text".to_owned(), json!(text))));
    entry.extend(floor.unavailable.iter().map(|reason| ("unavailable".to_owned(), json!(reason))));
    Ok(Value::Object(entry))
}

/// What the outputs look like as a set: a model that ignores its pictures writes few different texts, or the train split's.
fn outputs(statistics: &Statistics, model: &System, lines: &[Line], result: &mut Map<String, Value>) {
    let texts: Vec<&str> = lines.iter().map(Line::text).collect();
    let variety = Diversity::of(&texts, 2);
    let share = |count: usize| count as f64 / lines.len().max(1) as f64;
    let verbatim = statistics.verbatim.as_ref();
    let verbatim = verbatim.map(|flags| share(flags.iter().map(|&flag| usize::from(flag)).sum()));
    result.insert("verbatim_share".into(), json!(verbatim));
    result.insert("distinct_outputs".into(), json!(variety.distinct_outputs));
    result.insert("duplicates".into(), json!({ "share": variety.duplicate_rate }));
    result.insert("distinct_1".into(), json!(variety.distinct[0]));
    result.insert("distinct_2".into(), json!(variety.distinct[1]));
    let bleu = model.measures.iter().find(|rows| rows.metric == MetricName::Bleu);
    let length = |column: usize| bleu.map(|b| b.rows.iter().map(|row| row[column]).sum::<f64>());
    let ratio =
        length(0).zip(length(1)).map(|(ours, theirs)| if theirs == 0.0 { 0.0 } else { ours / theirs });
    result.insert("length_ratio".into(), json!(ratio));
}
