//! `result.json` as the page needs it: known entries by name, everything else as rows of label and text.

use serde_json::{Map, Value};

use super::text::{fixed, short};

/// One metric of the run.
pub(super) struct Metric<'a> {
    /// Its key in `scores`.
    pub(super) key: &'a str,
    /// The field's name for it.
    pub(super) name: String,
    pub(super) score: Option<f64>,
    /// 95 %.
    pub(super) interval: Option<(f64, f64)>,
    pub(super) signature: Option<&'a str>,
    /// N-gram precisions, 0 to 100, order 1 first.
    pub(super) precisions: Vec<f64>,
    /// Whatever else is stored with it.
    pub(super) details: Vec<(String, String)>,
    /// One value per floor of [`Results::floors`].
    pub(super) floors: Vec<Option<f64>>,
}

impl Metric<'_> {
    /// Of edit rates less is better.
    pub(super) fn lower_is_better(&self) -> bool {
        matches!(self.key, "ter" | "wer" | "cer")
    }

    /// A value of this metric: two decimals on a scale to 100, four on a scale to 1.
    pub(super) fn show(&self, value: f64) -> String {
        let values = self.floors.iter().copied().flatten().chain(self.score);
        let most = values.fold(0.0, |most: f64, value| most.max(value.abs()));
        if most > 1.5 { format!("{value:.2}") } else { format!("{value:.4}") }
    }

    /// The largest value to be drawn.
    pub(super) fn most(&self) -> f64 {
        let values = self.floors.iter().copied().flatten().chain(self.score);
        values.chain(self.interval.map(|(_, high)| high)).fold(0.0, f64::max)
    }
}

/// What a system must beat.
pub(super) struct Floor<'a> {
    /// What it is, in a few words.
    pub(super) name: String,
    /// The text that answers everything, for the constant floor.
    pub(super) text: Option<&'a str>,
}

/// The scores of a run.
pub(super) struct Results<'a> {
    pub(super) metrics: Vec<Metric<'a>>,
    pub(super) floors: Vec<Floor<'a>>,
    headline: Option<usize>,
}

impl<'a> Results<'a> {
    pub(super) fn read(result: &'a Value) -> Self {
        let floors: Vec<(&String, &Value)> = entries(result, "floors").collect();
        let metrics: Vec<Metric<'_>> = entries(result, "scores")
            .map(|(key, value)| metric(key, value, floors.iter().map(|(_, floor)| floor_value(floor, key))))
            .collect();
        let by_key =
            |key: &str| metrics.iter().position(|metric| metric.key == key && metric.score.is_some());
        let headline = result
            .get("metric")
            .and_then(Value::as_str)
            .and_then(by_key)
            .or_else(|| by_key("bleu"))
            .or_else(|| metrics.iter().position(|metric| metric.score.is_some()));
        let floors = floors
            .into_iter()
            .map(|(key, value)| Floor {
                name: floor_name(key),
                text: value.get("text").and_then(Value::as_str),
            })
            .collect();
        Self { metrics, floors, headline }
    }

    /// The metric that the run is named by: the one under `metric`, else BLEU, else the first with a score.
    pub(super) fn headline(&self) -> Option<&Metric<'a>> {
        self.headline.map(|index| &self.metrics[index])
    }

    pub(super) fn precisions(&self) -> Option<&Metric<'a>> {
        self.metrics.iter().find(|metric| !metric.precisions.is_empty())
    }
}

/// The entries of an object below `result`; none when it is missing or something else.
pub(super) fn entries<'a>(result: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    result.get(key).and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

fn metric<'a>(key: &'a str, value: &'a Value, floors: impl Iterator<Item = Option<f64>>) -> Metric<'a> {
    let score = value.as_f64().or_else(|| value.get("score").and_then(Value::as_f64));
    let precisions = value.get("precisions").and_then(Value::as_array);
    let precisions = precisions.into_iter().flatten().filter_map(Value::as_f64).collect();
    let mut details = Vec::new();
    for (name, entry) in value.as_object().into_iter().flat_map(Map::iter) {
        if !matches!(name.as_str(), "score" | "interval" | "signature" | "precisions") {
            rows(&label(name), entry, &mut details);
        }
    }
    if score.is_none() && !value.is_object() {
        rows("value", value, &mut details);
    }
    Metric {
        key,
        name: metric_name(key),
        score,
        interval: interval(value.get("interval")),
        signature: value.get("signature").and_then(Value::as_str),
        precisions,
        details,
        floors: floors.collect(),
    }
}

/// `{"low": …, "high": …}` or `[low, high]`.
fn interval(value: Option<&Value>) -> Option<(f64, f64)> {
    let value = value?;
    let bound = |name: &str, index: usize| value.get(name).or_else(|| value.get(index))?.as_f64();
    Some((bound("low", 0)?, bound("high", 1)?))
}

fn floor_value(floor: &Value, key: &str) -> Option<f64> {
    let value = floor.get(key)?;
    value.as_f64().or_else(|| value.get("score")?.as_f64())
}

fn metric_name(key: &str) -> String {
    let known = [
        ("bleu", "BLEU"),
        ("chrf", "chrF"),
        ("chrf2", "chrF2"),
        ("chrfpp", "chrF++"),
        ("chrf++", "chrF++"),
        ("ter", "TER"),
        ("rouge_l", "ROUGE-L"),
        ("cider", "CIDEr"),
        ("cider_d", "CIDEr-D"),
        ("meteor", "METEOR"),
        ("auc", "AUC"),
        ("f1", "F1"),
    ];
    known.iter().find(|(known, _)| *known == key).map_or_else(|| label(key), |(_, name)| (*name).into())
}

fn floor_name(key: &str) -> String {
    let known = [
        ("constant", "Constant: one text for every picture"),
        ("random", "Random: any training text"),
        ("blind", "Blind: the model without the picture"),
        ("majority", "Majority: the commonest answer"),
        ("question_only", "Question only: its commonest answer"),
    ];
    known.iter().find(|(known, _)| *known == key).map_or_else(|| label(key), |(_, name)| (*name).into())
}

/// A key as words: `images_per_second` is "Images per second", `rouge_1` is "Rouge 1".
pub(super) fn label(key: &str) -> String {
    let words = key.replace('_', " ");
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Flattens any entry to rows of label and text; `null` and empty entries give none.
pub(super) fn rows(name: &str, value: &Value, out: &mut Vec<(String, String)>) {
    match value {
        Value::Object(entries) => {
            for (key, entry) in entries {
                rows(&format!("{name}: {}", key.replace('_', " ")), entry, out);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_array() || item.is_object()) => {
            out.push((name.into(), value.to_string()));
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().filter_map(scalar).collect();
            if !items.is_empty() {
                out.push((name.into(), items.join(", ")));
            }
        }
        _ => out.extend(scalar(value).map(|text| (name.to_owned(), text))),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Bool(true) => Some("yes".into()),
        Value::Bool(false) => Some("no".into()),
        Value::Number(number) if number.is_f64() => number.as_f64().map(short),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A share from 0 to 1 as a percentage.
pub(super) fn percent(share: f64) -> String {
    format!("{}\u{202f}%", fixed(100.0 * share, 1))
}
