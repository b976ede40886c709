//! Answers to questions about pictures: closed accuracy, open recall and F1 of words, beside what needs no picture.

use std::collections::HashMap;
use std::iter::Sum;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::dataset::Item;
use crate::detection::Proportion;
use crate::error::{Error, Result};
use crate::floors::{answers_by_question, majority_answer};
use crate::resample::{Bootstrap, Interval};

/// An answer as it is compared, after the evaluation of VQA (Agrawal et al. 2015): lower case, punctuation as blanks (but
/// for the point of a number; apostrophes and commas within numbers vanish), `zero` to `ten` as digits, no `a`, `an`,
/// `the`, single blanks. An answer of articles alone stays as it is. Unlike there, contractions are not spelt out.
pub fn normalize(answer: &str) -> String {
    let lower: Vec<char> = answer.to_lowercase().chars().collect();
    let mut text = String::with_capacity(answer.len());
    for (at, &c) in lower.iter().enumerate() {
        let digit = |other: Option<&char>| other.is_some_and(char::is_ascii_digit);
        let inside =
            digit(at.checked_sub(1).and_then(|before| lower.get(before))) && digit(lower.get(at + 1));
        match c {
            '.' if inside => text.push(c),
            '\'' | '\u{2019}' => {}
            ',' if inside => {}
            c if c.is_alphanumeric() || !(c.is_ascii_punctuation() || c.is_whitespace()) => text.push(c),
            _ => text.push(' '),
        }
    }
    let words: Vec<&str> = text.split_whitespace().map(digits).collect();
    let kept: Vec<&str> = words.iter().copied().filter(|word| !matches!(*word, "a" | "an" | "the")).collect();
    if kept.is_empty() { words.join(" ") } else { kept.join(" ") }
}

fn digits(word: &str) -> &str {
    const NAMES: [(&str, &str); 11] = [
        ("zero", "0"),
        ("one", "1"),
        ("two", "2"),
        ("three", "3"),
        ("four", "4"),
        ("five", "5"),
        ("six", "6"),
        ("seven", "7"),
        ("eight", "8"),
        ("nine", "9"),
        ("ten", "10"),
    ];
    NAMES.iter().find(|(name, _)| *name == word).map_or(word, |(_, digits)| digits)
}

/// One in the fixed point of [`VqaStats`].
const ONE: u64 = 1 << 32;

/// What answers count; sums of counts are the counts of all, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VqaStats {
    /// Questions.
    pub questions: u64,
    /// Answers equal to a reference after [`normalize`].
    pub right: u64,
    /// Closed questions.
    pub closed: u64,
    /// Right answers to them.
    pub closed_right: u64,
    /// Sum over the open questions of the share of the reference's words that the answer has, times 2^32.
    pub open_recall: u64,
    /// Sum over the open questions of the F1 of words, times 2^32.
    pub open_f1: u64,
}

impl VqaStats {
    /// The counts of one answer. Recall and F1 are over words with repetition (Rajpurkar et al. 2016), the best over the
    /// references.
    pub fn new(answer: &str, references: &[impl AsRef<str>], closed: bool) -> Self {
        let answer = normalize(answer);
        let (mut right, mut recall, mut f1) = (false, 0.0_f64, 0.0_f64);
        for reference in references {
            let reference = normalize(reference.as_ref());
            right |= answer == reference;
            let (this_recall, this_f1) = overlap(&answer, &reference);
            recall = recall.max(this_recall);
            f1 = f1.max(this_f1);
        }
        let fixed = |share: f64| if closed { 0 } else { (share * ONE as f64).round() as u64 };
        Self {
            questions: 1,
            right: u64::from(right),
            closed: u64::from(closed),
            closed_right: u64::from(closed && right),
            open_recall: fixed(recall),
            open_f1: fixed(f1),
        }
    }

    fn open(&self) -> u64 {
        self.questions - self.closed
    }

    fn accuracy(&self) -> Option<f64> {
        Proportion::new(self.right, self.questions).map(|share| share.value)
    }

    fn mean(&self, sum: u64) -> Option<f64> {
        (self.open() > 0).then(|| sum as f64 / ONE as f64 / self.open() as f64)
    }
}

/// Recall and F1 of words.
fn overlap(answer: &str, reference: &str) -> (f64, f64) {
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in answer.split(' ').filter(|word| !word.is_empty()) {
        *left.entry(word).or_default() += 1;
    }
    let said: usize = left.values().sum();
    let expected: Vec<&str> = reference.split(' ').filter(|word| !word.is_empty()).collect();
    let shared = expected
        .iter()
        .filter(|word| left.get_mut(**word).filter(|count| **count > 0).map(|count| *count -= 1).is_some())
        .count();
    if expected.is_empty() || said == 0 {
        let both = f64::from(u8::from(expected.is_empty() && said == 0));
        return (both, both);
    }
    (shared as f64 / expected.len() as f64, 2.0 * shared as f64 / (said + expected.len()) as f64)
}

impl AddAssign for VqaStats {
    fn add_assign(&mut self, other: Self) {
        self.questions += other.questions;
        self.right += other.right;
        self.closed += other.closed;
        self.closed_right += other.closed_right;
        self.open_recall += other.open_recall;
        self.open_f1 += other.open_f1;
    }
}

impl Sum for VqaStats {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |mut sum, stats| {
            sum += stats;
            sum
        })
    }
}

/// A mean, 0 to 1, with its 95 % bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Its interval.
    pub interval: Interval,
}

/// The scores of one system. Shares have Wilson intervals, which take questions as independent; the intervals of
/// [`Mean`]s draw groups (patients or pictures) as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct VqaScore {
    /// The counts.
    pub stats: VqaStats,
    /// Right answers.
    pub all: Proportion,
    /// The same, its interval over groups.
    pub accuracy: Mean,
    /// Right answers to closed questions; `None` without any.
    pub closed: Option<Proportion>,
    /// Right answers to open questions.
    pub open: Option<Proportion>,
    /// Recall of words over the open questions.
    pub open_recall: Option<Mean>,
    /// F1 of words over the open questions.
    pub open_f1: Option<Mean>,
}

impl VqaScore {
    /// Scores the counts of units that are drawn as a whole: questions, or groups of them.
    ///
    /// # Errors
    /// [`Error::Input`] without questions; as [`Bootstrap::interval`].
    pub fn new(units: &[VqaStats], bootstrap: Bootstrap) -> Result<Self> {
        let sum: VqaStats = units.iter().copied().sum();
        let mean = |of: &(dyn Fn(&VqaStats) -> Option<f64> + Sync)| -> Result<Option<Mean>> {
            let Some(value) = of(&sum) else { return Ok(None) };
            let interval =
                bootstrap.interval(units.len(), |drawn| of(&drawn.iter().map(|&unit| units[unit]).sum()))?;
            Ok(Some(Mean { value, interval }))
        };
        let nothing = || Error::Input("there are no questions".into());
        Ok(Self {
            all: Proportion::new(sum.right, sum.questions).ok_or_else(nothing)?,
            accuracy: mean(&VqaStats::accuracy)?.ok_or_else(nothing)?,
            closed: Proportion::new(sum.closed_right, sum.closed),
            open: Proportion::new(sum.right - sum.closed_right, sum.open()),
            open_recall: mean(&|stats| stats.mean(stats.open_recall))?,
            open_f1: mean(&|stats| stats.mean(stats.open_f1))?,
            stats: sum,
        })
    }
}

/// A system beside the answers that need no picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VqaReport {
    /// The system.
    pub system: VqaScore,
    /// The floors by name, from the training questions: `majority` (the most frequent answer), `majority-by-kind` (that
    /// of closed and of open questions), `question-only` (the most frequent answer to the same question). Empty without
    /// training questions.
    pub floors: Vec<(String, VqaScore)>,
}

/// Whether a question is closed: as the set says, else whether all its answers are yes or no.
pub fn is_closed(item: &Item) -> bool {
    let yes_no = |answer: &String| matches!(normalize(answer).as_str(), "yes" | "no");
    item.closed.unwrap_or_else(|| item.references.iter().all(yes_no))
}

/// Scores `answers` to the questions of `test`, and the floors that `train` gives.
///
/// # Errors
/// [`Error::Input`] when the numbers of questions and answers differ, or there are none; as [`Bootstrap::interval`].
pub fn score(
    test: &[Item],
    answers: &[impl AsRef<str>],
    train: &[Item],
    bootstrap: Bootstrap,
) -> Result<VqaReport> {
    if test.len() != answers.len() {
        return Err(Error::Input(format!("{} questions, but {} answers", test.len(), answers.len())));
    }
    let answers: Vec<&str> = answers.iter().map(AsRef::as_ref).collect();
    let floors = floor_answers(test, train)?
        .into_iter()
        .map(|(name, answers)| {
            let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
            Ok((name.to_owned(), VqaScore::new(&units(test, &answers), bootstrap)?))
        })
        .collect::<Result<_>>()?;
    Ok(VqaReport { system: VqaScore::new(&units(test, &answers), bootstrap)?, floors })
}

/// Counts by group, in order of first appearance; an item without a group is one.
pub fn units(items: &[Item], answers: &[&str]) -> Vec<VqaStats> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut units: Vec<VqaStats> = Vec::new();
    for (item, answer) in items.iter().zip(answers) {
        let stats = VqaStats::new(answer, &item.references, is_closed(item));
        let next = units.len();
        let place = item.group.as_deref().map_or(next, |group| *places.entry(group).or_insert(next));
        match units.get_mut(place) {
            Some(unit) => *unit += stats,
            None => units.push(stats),
        }
    }
    units
}

/// What each floor answers to the questions of `test`.
pub(crate) fn floor_answers(test: &[Item], train: &[Item]) -> Result<Vec<(&'static str, Vec<String>)>> {
    if train.is_empty() {
        return Ok(Vec::new());
    }
    let question = |item: &Item| normalize(item.question.as_deref().unwrap_or_default());
    let pairs: Vec<(String, String, bool)> = train
        .iter()
        .filter_map(|item| Some((question(item), normalize(item.references.first()?), is_closed(item))))
        .collect();
    let most = |kind: Option<bool>| {
        let answers = pairs.iter().filter(|(_, _, closed)| kind.is_none_or(|kind| kind == *closed));
        majority_answer(&answers.map(|(_, answer, _)| answer.as_str()).collect::<Vec<_>>()).map(str::to_owned)
    };
    let majority = most(None).unwrap_or_default();
    let [open, closed] = [false, true].map(|kind| most(Some(kind)).unwrap_or_else(|| majority.clone()));
    let by_kind =
        test.iter().map(|item| if is_closed(item) { closed.clone() } else { open.clone() }).collect();
    let known: Vec<(&str, &str)> =
        pairs.iter().map(|(question, answer, _)| (question.as_str(), answer.as_str())).collect();
    let asked: Vec<String> = test.iter().map(question).collect();
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    let by_question = answers_by_question(&known, &asked)?.into_iter().map(str::to_owned).collect();
    Ok(vec![
        ("majority", vec![majority; test.len()]),
        ("majority-by-kind", by_kind),
        ("question-only", by_question),
    ])
}
