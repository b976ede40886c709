//! The rule labeller: mentions, then what the words around them do to them.

use super::cues::{CUES, Effect, OPENERS, VERBS};
use super::observation::{Label, Labels, Observation};
use super::phrases::{MENTIONS, STRUCTURES, Structure};
use super::words::{longest, scan, sentences};

/// One mention of an observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// What is mentioned.
    pub observation: Observation,
    /// What is said of it, never [`Label::Absent`].
    pub label: Label,
    /// The words that mention it, in lower case.
    pub words: String,
}

/// Labels of a report in the manner of CheXpert's labeller (Irvin et al. 2019), with phrases and rules of our own.
///
/// Each sentence is read by itself. A mention is denied or doubted by cues of its clause (NegEx: Chapman et al. 2001);
/// denial goes before doubt. Over the report one positive mention makes the observation positive, else one uncertain
/// one makes it uncertain, else a denial makes it negative. [`Observation::NoFinding`] is positive when no other
/// observation but support devices is positive or uncertain, else absent; an empty report has it too.
pub fn label(report: &str) -> Labels {
    let mut labels = Labels::default();
    for mention in mentions(report) {
        let label = &mut labels[mention.observation];
        *label = match (*label, mention.label) {
            (Label::Positive, _) | (_, Label::Positive) => Label::Positive,
            (Label::Uncertain, _) | (_, Label::Uncertain) => Label::Uncertain,
            _ => Label::Negative,
        };
    }
    let wrong = |label| labels.with(label).any(Observation::is_abnormality);
    if !wrong(Label::Positive) && !wrong(Label::Uncertain) {
        labels[Observation::NoFinding] = Label::Positive;
    }
    labels
}

/// All mentions of a report, sentence by sentence.
pub fn mentions(report: &str) -> Vec<Mention> {
    sentences(report).iter().flat_map(|words| Sentence::new(words).mentions()).collect()
}

/// A mention in a sentence, before the cues are asked.
#[derive(Clone, Copy)]
struct Place {
    observation: Observation,
    start: usize,
    end: usize,
    label: Label,
}

struct Sentence<'a> {
    words: &'a [String],
    cues: Vec<(usize, usize, Effect)>,
    /// The clause of each word.
    clauses: Vec<usize>,
    /// Mentions in order.
    places: Vec<Place>,
}

impl<'a> Sentence<'a> {
    fn new(words: &'a [String]) -> Self {
        let cues = scan(&CUES, words);
        let clauses = clauses(words, &cues);
        let mut places: Vec<Place> = scan(&MENTIONS, words)
            .into_iter()
            .flat_map(|(start, end, observations)| {
                observations.iter().map(move |&observation| Place {
                    observation,
                    start,
                    end,
                    label: Label::Positive,
                })
            })
            .collect();
        places.extend(STRUCTURES.iter().flat_map(|structure| of_structure(structure, words, &clauses)));
        places.sort_by_key(|place| place.start);
        Self { words, cues, clauses, places }
    }

    fn mentions(&self) -> Vec<Mention> {
        let mention = |place: &Place| Mention {
            observation: place.observation,
            label: self.label(*place),
            words: self.words[place.start..place.end].join(" "),
        };
        self.places.iter().map(mention).collect()
    }

    fn label(&self, place: Place) -> Label {
        if place.label == Label::Negative {
            // `not normal` is abnormal; what is denied elsewhere in the clause leaves `normal` as it is.
            let not = |&(start, _, effect): &(usize, usize, Effect)| {
                effect == Effect::DenyAfter
                    && self.words[start] == "not"
                    && start < place.start
                    && place.start - start <= 2
            };
            return if self.cues.iter().any(not) { Label::Positive } else { Label::Negative };
        }
        if self.cues.iter().any(|&cue| self.denies(cue, place)) {
            return Label::Negative;
        }
        let doubted = self.cues.iter().any(|&cue| self.doubts(cue, place)) || self.is_alternative(place);
        if doubted && place.label == Label::Positive { Label::Uncertain } else { place.label }
    }

    fn same_clause(&self, cue: usize, place: Place) -> bool {
        self.clauses[cue] == self.clauses[place.start]
    }

    fn denies(&self, (start, end, effect): (usize, usize, Effect), place: Place) -> bool {
        match effect {
            Effect::DenyAfter => end <= place.start && self.same_clause(start, place),
            Effect::DenyBefore => self.reaches_back(start, place),
            _ => false,
        }
    }

    fn doubts(&self, (start, end, effect): (usize, usize, Effect), place: Place) -> bool {
        let follows = |other: &Place| end <= other.start && self.same_clause(start, *other);
        match effect {
            Effect::DoubtAfter => follows(&place),
            Effect::Doubt if self.places.iter().any(follows) => follows(&place),
            Effect::Doubt | Effect::DoubtBefore => self.reaches_back(start, place),
            _ => false,
        }
    }

    /// A cue behind its mention reaches back to the last comma that does not join a list.
    fn reaches_back(&self, cue: usize, place: Place) -> bool {
        if place.end > cue || !self.same_clause(cue, place) {
            return false;
        }
        let between = &self.words[place.end..cue];
        let joins = |at: usize| {
            let after = &between[at + 1..];
            after.iter().any(|word| matches!(word.as_str(), "or" | "nor" | "and"))
        };
        let holds_mention = |at: usize| {
            let comma = place.end + at;
            self.places.iter().any(|other| other.start > comma && other.end <= cue)
        };
        !between.iter().enumerate().any(|(at, word)| word == "," && holds_mention(at) && !joins(at))
    }

    /// `atelectasis or pneumonia`: of two different observations joined so, neither is certain.
    fn is_alternative(&self, place: Place) -> bool {
        let alternative = |a: &Place, b: &Place| {
            a.end <= b.start
                && a.observation != b.observation
                && b.start - a.end <= 4
                && !self.places.iter().any(|other| other.start >= a.end && other.end <= b.start)
                && self.same_clause(a.start, *b)
                && self.words[a.end..b.start]
                    .iter()
                    .any(|word| matches!(word.as_str(), "or" | "versus" | "vs"))
        };
        self.places.iter().any(|other| alternative(&place, other) || alternative(other, &place))
    }
}

/// What is said of a part of the body: the nearest telling word after its name in the clause, or right before it.
fn of_structure(structure: &Structure, words: &[String], clauses: &[usize]) -> Vec<Place> {
    let telling = |at: usize| {
        let options = [
            (structure.doubtful, Label::Uncertain),
            (structure.normal, Label::Negative),
            (structure.finding, Label::Positive),
        ];
        let found =
            options.into_iter().filter_map(|(list, label)| Some((longest(list, &words[at..])?, label)));
        let found = found.reduce(|best, next| if next.0 > best.0 { next } else { best });
        found.map(|(length, label)| Place {
            observation: structure.observation,
            start: at,
            end: at + length,
            label,
        })
    };
    let mut found: Vec<Place> = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let Some(length) = longest(structure.names, &words[at..]) else {
            at += 1;
            continue;
        };
        let before = (at.saturating_sub(4)..at).filter(|&other| clauses[other] == clauses[at]);
        let before = before.filter_map(telling).find(|place| place.end == at);
        let after =
            (at + length..words.len()).take_while(|&other| clauses[other] == clauses[at]).find_map(telling);
        let place = before.or(after);
        found.extend(place.filter(|place| found.iter().all(|known| known.start != place.start)));
        at += length;
    }
    found
}

/// Numbers the clauses: for each word the clause it is in.
fn clauses(words: &[String], cues: &[(usize, usize, Effect)]) -> Vec<usize> {
    let mut clauses = Vec::with_capacity(words.len());
    let (mut number, mut start) = (0, 0);
    for at in 0..words.len() {
        let cue = cues.iter().any(|&(begin, _, effect)| begin == at && effect == Effect::Clause);
        if cue || parts(&words[start..at], &words[at], &words[at + 1..]) {
            number += 1;
            start = at;
        }
        clauses.push(number);
    }
    clauses
}

fn has_any(words: &[String], list: &[&str]) -> bool {
    words.iter().any(|word| list.contains(&word.as_str()))
}

/// Whether a comma, `and` or `with` ends a statement rather than goes on with it.
fn parts(left: &[String], word: &str, right: &[String]) -> bool {
    let comma = word == ",";
    if !comma && word != "and" && word != "with" {
        return false;
    }
    let joined = right.first().is_some_and(|word| matches!(word.as_str(), "and" | "or" | "nor" | "but"));
    let rest = if joined { &right[1..] } else { right };
    let Some(first) = rest.first() else { return false };
    if comma && matches!(first.as_str(), "with" | "without") {
        return true;
    }
    // `a, b, and c` is a list; `and` alone may join the parts of what the sentence goes on with.
    let list =
        has_any(rest, &["or", "nor"]) || rest.windows(2).any(|pair| pair[0] == "," && pair[1] == "and");
    if OPENERS.contains(&first.as_str()) && !list {
        return true;
    }
    let (before, after) = (has_any(left, &VERBS), has_any(rest, &VERBS));
    // `the heart is enlarged and no effusion is seen`; `no effusion, heart ...` has its verb only behind the comma.
    word != "with" && after && (before || (comma && !joined)) && !list
}
