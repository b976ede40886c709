//! The text of a report while it is written, without its headings: `FINDINGS: .. IMPRESSION: ..`

use crate::formats::Section;

const FIRST: &str = "FINDINGS:";
const SECOND: &str = "IMPRESSION:";

/// Tells the sections apart; holds back what may be a heading in the making, and the space around headings.
#[derive(Debug, Default)]
pub(super) struct Sections {
    held: String,
    /// The second heading was seen.
    second: bool,
    /// Something of the current section was shown.
    begun: bool,
    first_heading_over: bool,
}

impl Sections {
    /// Takes a piece of text; gives what is certain, section by section.
    pub(super) fn push(&mut self, piece: &str) -> Vec<(Section, String)> {
        self.held.push_str(piece);
        let mut shown = Vec::new();
        if !self.first_heading_over {
            let text = self.held.trim_start();
            if FIRST.starts_with(text) && text.len() < FIRST.len() {
                return shown;
            }
            self.held = text.strip_prefix(FIRST).unwrap_or(text).to_owned();
            self.first_heading_over = true;
        }
        if !self.second {
            if let Some(at) = self.held.find(SECOND) {
                let findings = self.held[..at].trim_end().to_owned();
                self.held.drain(..at + SECOND.len());
                self.show(findings, &mut shown);
                (self.second, self.begun) = (true, false);
            } else {
                let sure = self.held.len() - self.uncertain();
                let text = self.held.drain(..sure).collect();
                self.show(text, &mut shown);
                return shown;
            }
        }
        let text = std::mem::take(&mut self.held);
        self.show(text, &mut shown);
        shown
    }

    /// The answer is over: what was held back is text.
    pub(super) fn finish(&mut self) -> Vec<(Section, String)> {
        let mut shown = Vec::new();
        let text = std::mem::take(&mut self.held).trim_end().to_owned();
        self.show(text, &mut shown);
        shown
    }

    /// Bytes at the end that may belong to the second heading.
    fn uncertain(&self) -> usize {
        let heading = (1..SECOND.len()).rev().find(|&n| self.held.ends_with(&SECOND[..n])).unwrap_or(0);
        let before = &self.held[..self.held.len() - heading];
        heading + before.len() - before.trim_end().len()
    }

    fn show(&mut self, text: String, shown: &mut Vec<(Section, String)>) {
        let text = if self.begun { text } else { text.trim_start().to_owned() };
        if !text.is_empty() {
            self.begun = true;
            shown.push((if self.second { Section::Impression } else { Section::Findings }, text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str, size: usize) -> (String, String) {
        let mut sections = Sections::default();
        let pieces: Vec<char> = text.chars().collect();
        let mut all: Vec<(Section, String)> =
            pieces.chunks(size).flat_map(|piece| sections.push(&piece.iter().collect::<String>())).collect();
        all.extend(sections.finish());
        let of = |wanted| all.iter().filter(|(s, _)| *s == wanted).map(|(_, text)| text.as_str()).collect();
        (of(Section::Findings), of(Section::Impression))
    }

    #[test]
    fn pieces_of_any_size_give_the_same_sections() {
        for (text, findings, impression) in [
            ("FINDINGS: Clear lungs. No I. IMPRESSION: Normal. IMP", "Clear lungs. No I.", "Normal. IMP"),
            ("Clear lungs.", "Clear lungs.", ""),
            (" FINDINGS:  IMPRESSION:  Normal.", "", "Normal."),
            ("FIND nothing. IMPRESS", "FIND nothing. IMPRESS", ""),
            ("FIN", "FIN", ""),
            ("é IMPRESSION: ü", "é", "ü"),
        ] {
            for size in 1..=text.chars().count() {
                assert_eq!(
                    split(text, size),
                    (findings.to_owned(), impression.to_owned()),
                    "{text} by {size}"
                );
            }
        }
    }
}
