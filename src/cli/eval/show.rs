//! A result for people.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// One line for the model and each floor, a column for each metric with its interval.
pub(super) fn table(result: &Value) -> String {
    let data = &result["data"];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut out = format!("{}, {}, n = {}", text(&data["name"]), text(&data["split"]), data["n"]);
    for (count, what) in
        [(&data["skipped"], "bad records left out"), (&result["errors"], "without an answer")]
    {
        if count.as_u64().is_some_and(|count| count > 0) {
            let _ = write!(out, ", {count} {what}");
        }
    }
    let empty = Map::new();
    let scores = result["scores"].as_object().unwrap_or(&empty);
    let floors = result["floors"].as_object().unwrap_or(&empty);
    let metrics: Vec<&String> = scores.keys().collect();
    let _ = write!(out, "\n\n{:<16}", "");
    for metric in &metrics {
        let _ = write!(out, " {metric:>8} {:<18}", "95 % interval");
    }
    out.push('\n');
    let model = std::iter::once(("model", &result["scores"]));
    for (name, entry) in model.chain(floors.iter().map(|(name, entry)| (name.as_str(), entry))) {
        let _ = write!(out, "{:<16}", name.replace('_', " "));
        match entry.get("unavailable").and_then(Value::as_str) {
            Some(reason) => {
                let _ = write!(out, " not available: {reason}");
            }
            None => metrics.iter().for_each(|metric| out.push_str(&cells(&entry[metric.as_str()]))),
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out.push('\n');
    for metric in &metrics {
        if let Some(signature) = scores[metric.as_str()]["signature"].as_str() {
            let _ = writeln!(out, "{metric}: {signature}");
        }
    }
    out
}

fn cells(entry: &Value) -> String {
    let number = |value: &Value| value.as_f64().map_or("-".to_owned(), |value| format!("{value:.3}"));
    let interval = &entry["interval"];
    let interval = format!("{} - {}", number(&interval["low"]), number(&interval["high"]));
    format!(" {:>8} {interval:<18}", number(&entry["score"]))
}
