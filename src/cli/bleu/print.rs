//! Results of `bleu` in sacreBLEU's forms.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Result;
use serde_json::{Map, Value, json};
use swinseek_evals::metric::Signature;
use swinseek_evals::resample::Interval;

use super::args::Format;
use super::table;
use super::{BleuArgs, Column, Outcome};

/// Prints every score: one system as lines or JSON objects, several as a table or a JSON list.
pub(super) fn results(args: &BleuArgs, names: &[String], columns: &[Column]) -> Result<()> {
    let format = args.format()?;
    let text = match (names, format) {
        ([_], Format::Json) => single_json(args, columns)?,
        ([_], _) => single_text(args, columns),
        (_, Format::Json) => several_json(args, names, columns)?,
        _ => several_text(args, names, columns, format),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// Prints one line for each segment.
pub(super) fn sentences(
    args: &BleuArgs,
    name: &str,
    signature: &Signature,
    outcomes: impl Iterator<Item = Outcome>,
) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for outcome in outcomes {
        writeln!(out, "{}", line(args, name, signature, &outcome))?;
    }
    Ok(out.flush()?)
}

/// `26.9 (μ = 26.6 ± 5.0)`.
fn number(args: &BleuArgs, outcome: &Outcome) -> String {
    let width = args.width;
    let interval = outcome.interval.map(|interval| format!(" ({})", confidence(width, &interval)));
    format!("{:.width$}{}", outcome.score, interval.unwrap_or_default())
}

fn confidence(width: usize, interval: &Interval) -> String {
    format!("μ = {:.width$} ± {:.width$}", interval.mean, interval.half_width())
}

/// `BLEU|nrefs:1|... = 26.9 59.8/33.0/20.8/12.8 (BP = ...)`, or the bare number.
fn line(args: &BleuArgs, name: &str, signature: &Signature, outcome: &Outcome) -> String {
    let number = number(args, outcome);
    if args.score_only {
        return number;
    }
    let detail = outcome.detail.as_ref().map(|detail| format!(" {detail}"));
    format!("{name}|{} = {number}{}", shown(args, signature), detail.unwrap_or_default())
}

fn shown(args: &BleuArgs, signature: &Signature) -> String {
    if args.short { signature.short() } else { signature.to_string() }
}

/// Lines with their `=` below each other.
fn single_text(args: &BleuArgs, columns: &[Column]) -> String {
    let lines: Vec<String> =
        columns.iter().map(|c| line(args, &c.name, &c.signature, &c.outcomes[0])).collect();
    let place = |line: &str| line.find(" = ").map_or(0, |at| line[..at].chars().count());
    let widest = if args.score_only { 0 } else { lines.iter().map(|line| place(line)).max().unwrap_or(0) };
    let mut text = String::new();
    for line in lines {
        let blanks = widest.saturating_sub(place(&line));
        let _ = writeln!(text, "{}{line}", " ".repeat(blanks));
    }
    text
}

fn single_json(args: &BleuArgs, columns: &[Column]) -> Result<String> {
    let mut objects = Vec::new();
    for column in columns {
        objects.push(if args.score_only {
            number(args, &column.outcomes[0])
        } else {
            pretty(&Value::Object(single_object(args, column)), b" ")?
        });
    }
    let text = objects.join(",\n");
    Ok(if columns.len() > 1 { format!("[\n{text}\n]\n") } else { format!("{text}\n") })
}

fn single_object(args: &BleuArgs, column: &Column) -> Map<String, Value> {
    let outcome = &column.outcomes[0];
    let mut object = Map::new();
    let mut set = |key: &str, value: Value| object.insert(key.to_owned(), value);
    set("name", json!(column.name));
    set("score", rounded(args.width, outcome.score));
    set("signature", json!(column.signature.to_string()));
    if let Some(interval) = &outcome.interval {
        set("confidence_mean", rounded(args.width, interval.mean));
        set("confidence_var", rounded(args.width, interval.half_width()));
        set("confidence", json!(confidence(args.width, interval)));
    }
    if let Some(detail) = &outcome.detail {
        set("verbose_score", json!(detail));
    }
    for (key, value) in column.signature.entries() {
        set(key, json!(value));
    }
    object
}

/// The number with as many digits as are shown.
fn rounded(width: usize, number: f64) -> Value {
    json!(format!("{number:.width$}").parse::<f64>().unwrap_or(number))
}

fn pretty(value: &Value, indent: &[u8]) -> Result<String> {
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
    let mut bytes = Vec::new();
    serde::Serialize::serialize(value, &mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(String::from_utf8(bytes)?)
}

/// A list of systems. sacreBLEU leaves the signatures out; a score without one says little, so they are added.
fn several_json(args: &BleuArgs, names: &[String], columns: &[Column]) -> Result<String> {
    let system = |(index, name): (usize, &String)| {
        let mut object = Map::new();
        object.insert("system".to_owned(), json!(name));
        let mut signatures = Map::new();
        for column in columns {
            let outcome = &column.outcomes[index];
            let value = if args.paired() || outcome.interval.is_some() {
                json!({
                    "score": outcome.score,
                    "p_value": outcome.p_value,
                    "mean": outcome.interval.map(|interval| interval.mean),
                    "ci": outcome.interval.map(|interval| interval.half_width()),
                })
            } else {
                json!(number(args, outcome))
            };
            object.insert(column.name.clone(), value);
            signatures.insert(column.name.clone(), json!(column.signature.to_string()));
        }
        object.insert("signatures".to_owned(), Value::Object(signatures));
        Value::Object(object)
    };
    let list: Vec<Value> = names.iter().enumerate().map(system).collect();
    Ok(pretty(&Value::Array(list), b"    ")? + "\n")
}

fn several_text(args: &BleuArgs, names: &[String], columns: &[Column], format: Format) -> String {
    let width = args.width;
    let between = if format == Format::Latex { " " } else { "\n" };
    let cell = |outcome: &Outcome| {
        let mut cell = format!("{:.width$}", outcome.score);
        if let Some(interval) = outcome.interval {
            let _ = write!(cell, " ({:.width$} ± {:.width$})", interval.mean, interval.half_width());
        }
        if let Some(p_value) = outcome.p_value {
            let star = if p_value > 0.05 { "" } else { "*" };
            let _ = write!(cell, "{between}(p = {p_value:.4}){star}");
        }
        cell
    };
    let mut cells = vec![table::Column { title: "System".to_owned(), cells: names.to_vec() }];
    for column in columns {
        let interval = if column.outcomes[0].interval.is_some() { " (μ ± 95% CI)" } else { "" };
        let title = format!("{}{interval}", column.name);
        cells.push(table::Column { title, cells: column.outcomes.iter().map(cell).collect() });
    }
    let mut text = if format == Format::Latex { table::latex(&cells) } else { table::framed(&cells) };
    text.push('\n');
    if args.paired() {
        text += &explanation(args, &names[0]);
    }
    text += &heading("Metric signatures");
    for column in columns {
        // Writing to a string does not fail.
        let _ = writeln!(text, " - {:<10} {}", column.name, shown(args, &column.signature));
    }
    text
}

fn heading(title: &str) -> String {
    let rule = "-".repeat(title.chars().count());
    format!("{rule}\n{title}\n{rule}\n")
}

fn explanation(args: &BleuArgs, baseline: &str) -> String {
    let (title, cells) = match args.bootstrap() {
        Some(bootstrap) if args.paired_bs => (
            format!("Paired bootstrap resampling test with {} resampling trials", bootstrap.resamples),
            "score (mean ± 95 % interval of the resamples)",
        ),
        _ => (format!("Paired approximate randomization test with {} trials", args.paired_ar_n), "score"),
    };
    format!(
        "{} - Each system is compared with {baseline}; a cell shows {cells} and the p-value.
 - p is the chance of a difference at least this large if both systems came from the same process; * marks p <= 0.05.
 - A small p says that the systems differ on other texts like these too, not that one is good.\n\n",
        heading(&title)
    )
}
