//! Header, headline, table and the record of the run.

use serde_json::Value;

use super::Page;
use super::charts;
use super::results::{Floor, Metric, Results, entries, label, percent, rows};
use super::text::{Text, each, short};

/// What the page says about the texts as a whole, in words.
const FACTS: [(&str, &str); 4] = [
    ("verbatim_share", "Hypotheses that stand word for word in the training texts"),
    ("distinct_outputs", "Distinct hypotheses"),
    ("length_ratio", "Tokens written for each token of the references"),
    ("duplicates", "Exact duplicates"),
];
/// Entries of `result.json` that have a place of their own.
const PLACED: [&str; 4] = ["scores", "floors", "data", "model"];

pub(super) fn header(page: &Page<'_>, sections: &[(&str, &str)]) -> String {
    let field = |part: &str, name: &str| page.result.get(part)?.get(name).map(plain);
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: Option<String>| {
        let value = value.filter(|value| !value.is_empty());
        facts.extend(value.map(|value| format!("<div><dt>{name}</dt><dd>{value}</dd></div>")));
    };
    let text = |value: Option<String>| value.map(|value| Text(&value).to_string());
    let code =
        |digest: String| format!("<code title=\"{}\">{}</code>", Text(&digest), Text(&short_digest(&digest)));
    fact("Model", text(field("model", "name")));
    fact("Digest", field("model", "digest").map(code));
    fact("Data", text(field("data", "name")));
    fact("Split", text(field("data", "split")));
    fact("Cases", text(field("data", "n")));
    fact("Data hash", field("data", "hash").map(code));
    let notice =
        page.notice.map(|notice| format!("<p class=\"notice\" role=\"note\">{}</p>\n", Text(notice)));
    format!(
        "<header>\n<p class=\"kicker\">swinseek eval</p>\n<h1>{}</h1>\n<dl class=\"facts\">{}</dl>\n{}{}</header>\n",
        Text(page.title),
        facts.concat(),
        notice.unwrap_or_default(),
        contents(sections),
    )
}

fn contents(sections: &[(&str, &str)]) -> String {
    let links = each(sections, |(id, name)| format!("<li><a href=\"#{id}\">{name}</a></li>"));
    format!("<nav aria-label=\"Contents\"><ul>{links}</ul></nav>\n")
}

/// The score, its floors, and what the two say about each other.
pub(super) fn headline(results: &Results<'_>, result: &Value) -> String {
    let Some((metric, score)) = results.headline().and_then(|metric| Some((metric, metric.score?))) else {
        return "<section id=\"result\"><h2>Result</h2><p>This run has no score.</p></section>\n".into();
    };
    let interval = metric.interval.map(|(low, high)| {
        format!(
            "<p class=\"interval\">95\u{202f}% interval {} to {}</p>\n",
            metric.show(low),
            metric.show(high)
        )
    });
    let signature = metric.signature.map(|signature| {
        format!(
            "<p class=\"signature\"><span>Signature</span> <code class=\"copy\">{}</code></p>\n",
            Text(signature)
        )
    });
    let floors = floors_of(results, metric);
    let notes = each(notes(&floors, metric, score, result), |note| format!("<li>{note}</li>"));
    let constant = each(&floors, |(floor, value)| {
        floor.text.map_or_else(String::new, |text| {
            let value = metric.show(*value);
            let text = Text(text);
            format!(
                "<p class=\"constant\">A constant text, the same for every picture, scores {value}: \
                 <q dir=\"auto\">{text}</q></p>\n"
            )
        })
    });
    let caption = if floors.is_empty() {
        "The run, with its 95\u{202f}% interval."
    } else {
        "Dot: this run, with its 95\u{202f}% interval. Upright marks: floors, which a system must beat to show that it \
         uses the picture."
    };
    format!(
        "<section id=\"result\" class=\"headline card\" aria-labelledby=\"result-title\">\n<div>\n\
         <h2 id=\"result-title\">Result</h2>\n\
         <p class=\"score\"><span class=\"number\">{}</span> <span class=\"unit\">{}</span></p>\n{}\
         <ul class=\"notes\">{notes}</ul>\n</div>\n<figure>\n{}<figcaption>{caption}</figcaption>\n</figure>\n\
         {constant}{}</section>\n",
        metric.show(score),
        Text(&metric.name),
        interval.unwrap_or_default(),
        charts::floors(&floors, metric, score),
        signature.unwrap_or_default(),
    )
}

/// The floors that have a value of this metric, the hardest first.
fn floors_of<'a, 'b>(results: &'b Results<'a>, metric: &Metric<'_>) -> Vec<(&'b Floor<'a>, f64)> {
    let floors =
        results.floors.iter().zip(&metric.floors).filter_map(|(floor, value)| Some((floor, (*value)?)));
    let mut floors: Vec<(&Floor<'_>, f64)> = floors.collect();
    floors.sort_by(|a, b| if metric.lower_is_better() { a.1.total_cmp(&b.1) } else { b.1.total_cmp(&a.1) });
    floors
}

/// Sentences that an honest reader would ask for, as HTML.
fn notes(floors: &[(&Floor<'_>, f64)], metric: &Metric<'_>, score: f64, result: &Value) -> Vec<String> {
    let mut notes = vec![verdict(floors, metric, score)];
    if metric.lower_is_better() {
        notes.insert(0, "Lower is better.".into());
    }
    let skipped = result.pointer("/data/skipped").and_then(Value::as_u64).filter(|skipped| *skipped > 0);
    notes.extend(skipped.map(|skipped| match skipped {
        1 => "1 record was skipped.".into(),
        _ => format!("{skipped} records were skipped."),
    }));
    let copied = result.get("verbatim_share").and_then(Value::as_f64);
    notes.extend(copied.map(|share| {
        format!("{} of the hypotheses stand word for word in the training texts.", percent(share))
    }));
    notes
}

/// What the floors say about the score: a mean above a floor is nothing yet when its interval reaches down to it.
fn verdict(floors: &[(&Floor<'_>, f64)], metric: &Metric<'_>, score: f64) -> String {
    let sign = if metric.lower_is_better() { -1.0 } else { 1.0 };
    let (low, high) = metric.interval.unwrap_or((score, score));
    let weak_end = if metric.lower_is_better() { high } else { low };
    let reached = |end: f64| -> String {
        let names: Vec<String> = floors
            .iter()
            .filter(|(_, value)| sign * value >= sign * end)
            .map(|(floor, _)| Text(&short_name(floor)).to_string())
            .collect();
        names.join(" and the ")
    };
    let (missed, doubtful) = (reached(score), reached(weak_end));
    if floors.is_empty() {
        "No floor was computed: this number alone does not show that the picture was used.".into()
    } else if !missed.is_empty() {
        format!("<strong>Not better than the {missed} floor.</strong>")
    } else if !doubtful.is_empty() {
        format!("<strong>Better than every floor, but the interval reaches the {doubtful} floor.</strong>")
    } else if metric.interval.is_some() {
        "Better than every floor over the whole interval.".into()
    } else {
        "Better than every floor.".into()
    }
}

/// The floor's word before its explanation, in lower case.
fn short_name(floor: &Floor<'_>) -> String {
    floor.name.split(':').next().unwrap_or_default().to_lowercase()
}

/// All metrics with all floors.
pub(super) fn table(results: &Results<'_>, result: &Value) -> String {
    let table = if results.metrics.is_empty() { String::new() } else { metric_table(results) };
    let mut facts = Vec::new();
    for (key, name) in FACTS {
        match result.get(key) {
            Some(Value::Number(share)) if key == "verbatim_share" => {
                facts.push((name.into(), percent(share.as_f64().unwrap_or_default())));
            }
            Some(value) => rows(name, value, &mut facts),
            None => {}
        }
    }
    if table.is_empty() && facts.is_empty() {
        return String::new();
    }
    format!(
        "<section id=\"scores\" class=\"card\" aria-labelledby=\"scores-title\">\n\
         <h2 id=\"scores-title\">Scores and floors</h2>\n{table}{}</section>\n",
        list(&facts, "texts-facts")
    )
}

fn metric_table(results: &Results<'_>) -> String {
    let column = |floor: &Floor<'_>| format!("<th scope=\"col\">{}</th>", Text(&label(&short_name(floor))));
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"Table of scores\" tabindex=\"0\">\n<table>\n\
         <thead><tr><th scope=\"col\">Metric</th><th scope=\"col\">This run</th>\
         <th scope=\"col\">95\u{202f}% interval</th>{}</tr></thead>\n<tbody>\n{}</tbody>\n</table>\n</div>\n",
        each(&results.floors, column),
        each(&results.metrics, metric_row),
    )
}

fn metric_row(metric: &Metric<'_>) -> String {
    let cell = |value: Option<f64>| {
        value.map_or_else(
            || "<td class=\"none\">\u{2013}</td>".into(),
            |value| format!("<td>{}</td>", metric.show(value)),
        )
    };
    let interval = metric.interval.map_or_else(
        || "<td class=\"none\">\u{2013}</td>".into(),
        |(low, high)| format!("<td>{} to {}</td>", metric.show(low), metric.show(high)),
    );
    let mut details: Vec<String> = metric
        .details
        .iter()
        .map(|(name, value)| format!("{} {}", Text(&name.to_lowercase()), Text(value)))
        .collect();
    if metric.lower_is_better() {
        details.insert(0, "lower is better".into());
    }
    let details =
        if details.is_empty() { String::new() } else { format!("<small>{}</small>", details.join("; ")) };
    let floors = each(&metric.floors, |value| cell(*value));
    format!(
        "<tr><th scope=\"row\">{}{details}</th>{}{interval}{floors}</tr>\n",
        Text(&metric.name),
        cell(metric.score)
    )
}

/// The record: everything that has no place above, then the whole of `result.json`.
pub(super) fn run(result: &Value) -> String {
    let mut facts = Vec::new();
    for part in ["model", "data"] {
        if let Some(value) = result.get(part) {
            rows(&label(part), value, &mut facts);
        }
    }
    for (key, floor) in entries(result, "floors") {
        // Scores and the constant text stand above.
        let known = |name: &str| {
            name == "text" || result.pointer("/scores").is_some_and(|scores| scores.get(name).is_some())
        };
        for (name, value) in floor.as_object().into_iter().flatten().filter(|(name, _)| !known(name)) {
            rows(&format!("Floor {key}: {}", name.replace('_', " ")), value, &mut facts);
        }
    }
    for (key, value) in result.as_object().into_iter().flatten() {
        let placed = PLACED.contains(&key.as_str()) || FACTS.iter().any(|(fact, _)| fact == key);
        if !placed {
            rows(&label(key), value, &mut facts);
        }
    }
    let json = serde_json::to_string_pretty(result).unwrap_or_default();
    format!(
        "<section id=\"run\" class=\"card\" aria-labelledby=\"run-title\">\n<h2 id=\"run-title\">How it was run</h2>\n{}\
         <details><summary>result.json</summary><pre tabindex=\"0\">{}</pre></details>\n</section>\n",
        list(&facts, "record"),
        Text(&json)
    )
}

fn list(facts: &[(String, String)], class: &str) -> String {
    if facts.is_empty() {
        return String::new();
    }
    let rows = each(facts, |(name, value)| {
        // Digests and signatures.
        let code = value.len() > 24 && !value.contains(' ');
        let (open, close) = if code { ("<code>", "</code>") } else { ("", "") };
        format!("<div><dt>{}</dt><dd class=\"copy\">{open}{}{close}</dd></div>\n", Text(name), Text(value))
    });
    format!("<dl class=\"{class}\">\n{rows}</dl>\n")
}

pub(super) fn footer() -> String {
    format!(
        "<footer>\n<p>BLEU: Papineni et al. 2002, with the arithmetic of sacreBLEU (Post 2018). Intervals: bootstrap \
         over cases (Koehn 2004).</p>\n<p>Written by swinseek {}. This page is one file; it runs no script and asks \
         nothing of any server.</p>\n</footer>\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// Its kind and the first twelve digits.
fn short_digest(digest: &str) -> String {
    let (kind, digits) = digest.split_once(':').map_or(("", digest), |(kind, digits)| (kind, digits));
    let digits: String = digits.chars().take(12).collect();
    if kind.is_empty() { digits } else { format!("{kind}:{digits}") }
}

/// A string without its quotes, anything else as it is.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => number.as_f64().map_or_else(String::new, short),
        Value::Null => String::new(),
        _ => value.to_string(),
    }
}
