//! The sections of a report.

use serde::{Deserialize, Serialize};

/// A section by its heading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// What is seen.
    Findings,
    /// What it means; also headed `CONCLUSION`.
    Impression,
    /// Everything else, such as the indication, and text before the first heading.
    Other,
}

/// Headings that end the section before them.
const HEADINGS: [(&str, Section); 19] = [
    ("findings and impression", Section::Findings),
    ("findings", Section::Findings),
    ("finding", Section::Findings),
    ("impression", Section::Impression),
    ("impressions", Section::Impression),
    ("conclusion", Section::Impression),
    ("conclusions", Section::Impression),
    ("indication", Section::Other),
    ("clinical indication", Section::Other),
    ("history", Section::Other),
    ("clinical history", Section::Other),
    ("comparison", Section::Other),
    ("comparisons", Section::Other),
    ("technique", Section::Other),
    ("examination", Section::Other),
    ("exam", Section::Other),
    ("reason for exam", Section::Other),
    ("recommendation", Section::Other),
    ("recommendations", Section::Other),
];

/// Splits a report at its headings (`FINDINGS:`), in order. A heading stands at the beginning, after the end of a
/// sentence or line, and ends in a colon; its case does not matter. A report without headings is one
/// [`Section::Findings`]; sections are trimmed and may be empty.
pub fn sections(report: &str) -> Vec<(Section, &str)> {
    let mut heads: Vec<(usize, usize, Section)> = Vec::new();
    for (colon, _) in report.match_indices(':') {
        let after_last = heads.last().map_or(0, |head| head.1);
        let start = report[..colon].rfind(['.', '\n', '\r', ':', ';']).map_or(0, |at| at + 1).max(after_last);
        let name = report[start..colon].trim();
        if let Some(&(_, section)) = HEADINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            heads.push((start, colon + 1, section));
        }
    }
    let first = heads.first().map_or(report.len(), |head| head.0);
    let before = report[..first].trim();
    let mut found = Vec::new();
    if heads.is_empty() {
        found.push((Section::Findings, before));
    } else if !before.is_empty() {
        found.push((Section::Other, before));
    }
    for (number, &(_, begin, section)) in heads.iter().enumerate() {
        let end = heads.get(number + 1).map_or(report.len(), |next| next.0);
        found.push((section, report[begin..end].trim()));
    }
    found
}

/// The texts of one section, joined by a space; `None` when the report has no such section.
pub fn section(report: &str, wanted: Section) -> Option<String> {
    let found: Vec<&str> = sections(report)
        .into_iter()
        .filter(|&(section, _)| section == wanted)
        .map(|(_, text)| text)
        .collect();
    (!found.is_empty()).then(|| found.join(" "))
}
