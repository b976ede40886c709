//! `report.html`: one self-contained page with the scores of a run, the floors beside them, and cases to look at.
//!
//! The page is plain HTML and CSS: no script, no request to anywhere (its own content security policy forbids both),
//! light and dark, from phone to print. The same input gives the same bytes. Marks are drawn by the small SVG builder
//! in `svg`, not by `plotters`: x is a percentage and y a pixel there, so that a plot follows the width of the page
//! while its text keeps its size, and colours are classes of the style sheet, so that they follow light and dark.

mod charts;
mod gallery;
mod matches;
mod results;
mod select;
mod summary;
mod svg;
mod text;

use serde_json::Value;

use crate::bleu::Bleu;
use results::Results;
pub use select::{Selection, choose};
use text::Text;

const STYLE: &str = include_str!("report.css");

/// Everything that the page shows.
#[derive(Debug)]
pub struct Page<'a> {
    /// Heading of the page.
    pub title: &'a str,
    /// A sentence that has to stand beside the numbers, such as that the texts are drafts of a demonstration model.
    pub notice: Option<&'a str>,
    /// `result.json` as it is. Known entries get their place, unknown ones generic rows; missing ones are left out.
    pub result: &'a Value,
    /// The settings that sentence scores and n-gram matches are computed with.
    pub bleu: &'a Bleu,
    /// Sentence scores of all cases of the run, 0 to 100.
    pub scores: &'a [f64],
    /// Tokens of the hypothesis and of the reference nearest in length, of all cases of the run.
    pub lengths: &'a [(u64, u64)],
    /// The cases to look at, in the order of the page within each group.
    pub cases: Vec<Case<'a>>,
}

/// Why a case is on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// It has one of the highest sentence scores.
    Best,
    /// It has one of the lowest sentence scores.
    Worst,
    /// It was drawn.
    Random,
}

impl Group {
    /// All groups in the order of the page.
    pub const ALL: [Self; 3] = [Self::Best, Self::Worst, Self::Random];
}

/// One picture with what should have been written and what was.
#[derive(Debug)]
pub struct Case<'a> {
    /// Where it is shown.
    pub group: Group,
    /// Its name in the data set.
    pub id: &'a str,
    /// The question, where the data set asks one.
    pub question: Option<&'a str>,
    /// What should have been written, in one or more versions.
    pub references: &'a [String],
    /// What the system wrote.
    pub hypothesis: &'a str,
    /// Sentence score, 0 to 100.
    pub score: f64,
    /// A picture of moderate size; it is embedded as it is.
    pub image: Option<ImageData>,
}

/// An encoded picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageData {
    /// Its type, such as `image/png`.
    pub mime: String,
    /// The encoded file.
    pub bytes: Vec<u8>,
}

/// The page as one HTML document.
pub fn html(page: &Page<'_>) -> String {
    let results = Results::read(page.result);
    let sections = [
        ("result", "Result", summary::headline(&results, page.result)),
        ("scores", "Scores", summary::table(&results, page.result)),
        ("distributions", "Behind the number", charts::distributions(page, &results)),
        ("cases", "Cases", gallery::section(page)),
        ("run", "How it was run", summary::run(page.result)),
    ];
    let sections = sections.iter().filter(|(_, _, body)| !body.is_empty());
    let links: Vec<(&str, &str)> = sections.clone().map(|(id, name, _)| (*id, *name)).collect();
    let main: String = sections.map(|(_, _, body)| body.as_str()).collect();
    // No script runs and nothing is fetched, whatever a hypothesis holds.
    let policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{header}<main>\n{main}</main>\n{footer}\
         </body>\n</html>\n",
        title = Text(page.title),
        header = summary::header(page, &links),
        footer = summary::footer(),
    )
}
