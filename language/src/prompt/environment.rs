//! Jinja as Hugging Face sets it up: block trimming, loop controls, Python's methods, and its few functions.

use std::fmt::Write;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value as Jinja};
use minijinja::{Environment, ErrorKind, State};
use serde::Serialize;
use serde_json::{Map, Value};
use swinseek_kernels::{Error, Result};

const NAME: &str = "chat_template";
/// Variable that carries the time to `strftime_now`; not a name that a template can write.
const NOW: &str = "now in seconds";

/// An environment that holds one compiled template.
pub(super) fn with_template(source: &str) -> Result<Environment<'static>> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|error| readable(&error))?);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function(
        "raise_exception",
        |message: String| -> std::result::Result<Jinja, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        },
    );
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
    environment.add_template_owned(NAME, source.to_owned()).map_err(|error| readable(&error))?;
    Ok(environment)
}

/// Renders the template of [`with_template`].
pub(super) fn render(
    environment: &Environment<'_>,
    mut variables: Map<String, Value>,
    now: Option<i64>,
) -> Result<String> {
    variables.insert(NOW.into(), now.into());
    let render = || environment.get_template(NAME)?.render(Serde(&variables));
    render().map_err(|error| readable(&error))
}

/// The line of the template and what is wrong there, without the nested reports of the engine.
fn readable(error: &minijinja::Error) -> Error {
    let line = error.line().map_or(String::new(), |line| format!("line {line}: "));
    let detail = error.detail().map_or(String::new(), |detail| format!(": {detail}"));
    Error::config(NAME, format!("{line}{}{detail}", error.kind()))
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=..)`; the engine's own filter writes for HTML.
#[expect(clippy::needless_pass_by_value, reason = "the engine hands arguments over")]
fn tojson(value: Serde<Value>, options: Kwargs) -> std::result::Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    if ensure_ascii == Some(true) {
        let message = "`tojson` with ensure_ascii=true is not supported";
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, message));
    }
    let mut out = Vec::new();
    let written = match indent {
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            value.0.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
        }
        None => value.0.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)),
    };
    written.map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// `", "` and `": "` between items, as Python writes JSON.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// `strftime_now(format)`: the time of the request, in UTC.
fn strftime_now(state: &State<'_, '_>, format: &str) -> std::result::Result<String, minijinja::Error> {
    let fail = |message: String| minijinja::Error::new(ErrorKind::InvalidOperation, message);
    let now = state.lookup(NOW).and_then(|now| i64::try_from(now).ok());
    let now = now.ok_or_else(|| fail("the template asks for the date, but none was given".into()))?;
    strftime(now, format).ok_or_else(|| {
        fail(format!("date format {format:?}: expected %Y %m %d %y %B %b %A %a %H %M %S %j %%"))
    })
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// The usual letters of `strftime`; `None` for others.
fn strftime(seconds: i64, format: &str) -> Option<String> {
    let (days, second) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    let (year, month, day) = civil(days);
    let weekday = DAYS[days.rem_euclid(7) as usize];
    let name = MONTHS[month as usize - 1];
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let written = match chars.next()? {
            'Y' => write!(out, "{year}"),
            'y' => write!(out, "{:02}", year.rem_euclid(100)),
            'm' => write!(out, "{month:02}"),
            'd' => write!(out, "{day:02}"),
            'B' => write!(out, "{name}"),
            'b' => write!(out, "{}", &name[..3]),
            'A' => write!(out, "{weekday}"),
            'a' => write!(out, "{}", &weekday[..3]),
            'H' => write!(out, "{:02}", second / 3600),
            'M' => write!(out, "{:02}", second / 60 % 60),
            'S' => write!(out, "{:02}", second % 60),
            'j' => write!(out, "{:03}", days - days_before(year) + 1),
            '%' => write!(out, "%"),
            _ => return None,
        };
        written.ok()?;
    }
    Some(out)
}

/// Days from 1970-01-01 to the first of January.
fn days_before(year: i64) -> i64 {
    let before = year - 1;
    365 * (year - 1970) + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) - 477
}

/// Year, month and day of a day count since 1970-01-01 in the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // A guess from the mean length of a year is at most one off.
    let mut year = 1970 + (days as f64 / 365.2425).floor() as i64;
    while days_before(year + 1) <= days {
        year += 1;
    }
    while days_before(year) > days {
        year -= 1;
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut left = days - days_before(year);
    let lengths = [31, 28 + i64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while left >= lengths[month] {
        left -= lengths[month];
        month += 1;
    }
    (year, month as i64 + 1, left + 1)
}
