//! Protocols by name: how texts become words, and with whose arithmetic they are scored. Numbers of different profiles do not
//! compare, so a profile is part of every result.
//!
//! ```
//! use swinseek_evals::profile::Profile;
//!
//! let profile: Profile = "r2gen-iu".parse().unwrap();
//! let references = [vec!["The lungs are clear. No effusion."], vec!["Heart size is normal."]];
//! let table = profile.table(&["Lungs are clear. No effusion.", "Heart size normal."], &references).unwrap();
//! let scores = table.scores();
//! assert_eq!(format!("{:.3} {:.3}", scores.bleu[3], scores.rouge_l.unwrap()), "0.704 0.897");
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::bleu::{Bleu, BleuStats};
use crate::cider::{Cider, Frequencies};
use crate::coco::{self, CocoBleu};
use crate::error::{Error, Result};
use crate::metric::{self, Count, Metric, Segment};
use crate::nltk::{self, Method, NltkBleu};
use crate::r2gen_clean::Cleaner;
use crate::rouge::rouge_l;
use crate::tokenize::{ptb, words};

/// A protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// sacreBLEU's defaults.
    #[default]
    Sacrebleu,
    /// The COCO caption evaluation.
    Coco,
    /// R2Gen on IU X-Ray.
    R2genIu,
    /// R2Gen on MIMIC-CXR.
    R2genMimic,
    /// R2GenGPT on MIMIC-CXR.
    R2gengptMimic,
    /// NLTK's corpus BLEU.
    Nltk,
    /// Plain words with the COCO arithmetic.
    CocoWords,
}

/// N-grams of every profile.
const ORDERS: usize = 4;
/// Numbers of BLEU in a row, before ROUGE-L, CIDEr-D and 1.
const BLEU_WIDTH: usize = 2 + 2 * ORDERS;

impl Profile {
    /// All profiles, in the order in which messages list them.
    pub const ALL: [Self; 7] = [
        Self::Sacrebleu,
        Self::Coco,
        Self::R2genIu,
        Self::R2genMimic,
        Self::R2gengptMimic,
        Self::Nltk,
        Self::CocoWords,
    ];

    /// As it is typed and printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sacrebleu => "sacrebleu",
            Self::Coco => "coco",
            Self::R2genIu => "r2gen-iu",
            Self::R2genMimic => "r2gen-mimic",
            Self::R2gengptMimic => "r2gengpt-mimic",
            Self::Nltk => "nltk",
            Self::CocoWords => "coco-words",
        }
    }

    /// One sentence for the reader of a result.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Sacrebleu => "sacreBLEU's defaults: tokeniser 13a, case counts, exponential smoothing.",
            Self::Coco => {
                "COCO caption evaluation: Penn Treebank words of CoreNLP 3.4.1 in lower case without \
                 punctuation, arithmetic of pycocoevalcap 1.2."
            }
            Self::R2genIu => "R2Gen's cleaner for IU X-Ray on both sides, arithmetic of pycocoevalcap 1.2.",
            Self::R2genMimic => {
                "R2Gen's cleaner for MIMIC-CXR on both sides, arithmetic of pycocoevalcap 1.2."
            }
            Self::R2gengptMimic => {
                "R2GenGPT's cleaner for MIMIC-CXR on both sides, arithmetic of pycocoevalcap 1.2."
            }
            Self::Nltk => "NLTK's corpus_bleu without smoothing over words between white space; case counts.",
            Self::CocoWords => {
                "Words between white space in lower case without ASCII punctuation at their ends, arithmetic \
                 of pycocoevalcap 1.2."
            }
        }
    }

    fn cleaner(self) -> Option<Cleaner> {
        match self {
            Self::R2genIu => Some(Cleaner::IuXray),
            Self::R2genMimic => Some(Cleaner::MimicCxr),
            Self::R2gengptMimic => Some(Cleaner::MimicCxrColon),
            _ => None,
        }
    }

    /// Whether ROUGE-L and CIDEr-D belong to it.
    fn is_coco(self) -> bool {
        !matches!(self, Self::Sacrebleu | Self::Nltk)
    }

    /// The text as [`Profile::scorer`] takes it, whatever stands next to it in a set.
    pub fn prepare(self, text: &str) -> String {
        match (self, self.cleaner()) {
            (_, Some(cleaner)) => cleaner.clean(text),
            (Self::Coco, _) => ptb::tokenize_line(text),
            (Self::CocoWords, _) => plain_words(text),
            _ => text.to_owned(),
        }
    }

    /// The texts of a whole set in order. As [`Profile::prepare`], but for `coco` a text is one line of a file, as for
    /// `pycocoevalcap`, and an abbreviation at its end looks at the next line. Computed in parallel.
    pub fn prepare_all(self, texts: &[&str]) -> Vec<String> {
        use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
        if self == Self::Coco {
            return ptb::tokenize_all(texts);
        }
        texts.par_iter().map(|text| self.prepare(text)).collect()
    }

    /// The arithmetic. `references` are the prepared references of the whole set, also where only a part of it is scored:
    /// CIDEr-D weighs words by how rare they are in them.
    pub fn scorer<R: AsRef<str>>(self, references: &[impl AsRef<[R]>]) -> Scorer {
        let bleu: Box<dyn Metric> = match self {
            Self::Sacrebleu => Box::new(Bleu::default()),
            Self::Nltk => Box::new(NltkBleu::new(ORDERS, Method::Zero)),
            _ => Box::new(CocoBleu::new(ORDERS)),
        };
        let frequencies = self.is_coco().then(|| Frequencies::new(references));
        Scorer { profile: self, bleu, frequencies }
    }

    /// Prepares and scores a whole set.
    ///
    /// # Errors
    /// [`Error::Input`] when the numbers of hypotheses and references differ, there are none, or an item has no
    /// reference.
    pub fn table<R: AsRef<[S]>, S: AsRef<str>>(self, hypotheses: &[&str], references: &[R]) -> Result<Table> {
        if hypotheses.len() != references.len() || hypotheses.is_empty() {
            let (found, expected) = (hypotheses.len(), references.len());
            return Err(Error::Input(format!("{found} hypotheses for {expected} items with references")));
        }
        let hypotheses = self.prepare_all(hypotheses);
        let flat: Vec<&str> =
            references.iter().flat_map(|all| all.as_ref().iter().map(AsRef::as_ref)).collect();
        let mut prepared = self.prepare_all(&flat).into_iter();
        let references: Vec<Vec<String>> =
            references.iter().map(|all| prepared.by_ref().take(all.as_ref().len()).collect()).collect();
        let scorer = self.scorer(&references);
        let references: Vec<Vec<&str>> =
            references.iter().map(|all| all.iter().map(String::as_str).collect()).collect();
        let segments: Vec<Segment<'_>> = hypotheses
            .iter()
            .zip(&references)
            .map(|(hypothesis, references)| Segment { hypothesis, references })
            .collect();
        Ok(Table { profile: self, rows: metric::rows(&scorer, &segments)? })
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        // Most papers that say R2Gen mean IU X-Ray.
        let canonical = if name == "r2gen" { Self::R2genIu.name() } else { name };
        Self::ALL.into_iter().find(|profile| profile.name() == canonical).ok_or_else(|| {
            let message = format!("`{name}`, expected one of {}", Self::ALL.map(Self::name).join(", "));
            Error::Setting { name: "profile", message }
        })
    }
}

/// Lower case, ASCII punctuation stripped from both ends of every word, words that are gone left out.
fn plain_words(text: &str) -> String {
    let lower = text.to_lowercase();
    let words = words(&lower).map(|word| word.trim_matches(|c: char| c.is_ascii_punctuation()));
    words.filter(|word| !word.is_empty()).collect::<Vec<&str>>().join(" ")
}

/// The arithmetic of a profile. A row holds BLEU's counts, the ROUGE-L and CIDEr-D of the segment, and 1; rows add up.
pub struct Scorer {
    profile: Profile,
    bleu: Box<dyn Metric>,
    frequencies: Option<Frequencies>,
}

impl fmt::Debug for Scorer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scorer").field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl Metric for Scorer {
    fn name(&self) -> String {
        format!("BLEU-{ORDERS}")
    }

    fn validate(&self) -> Result<()> {
        self.bleu.validate()
    }

    fn width(&self) -> usize {
        BLEU_WIDTH + 3
    }

    fn counter(&self) -> Count<'_> {
        let mut count = self.bleu.counter();
        Box::new(move |segment, row| {
            count(segment, &mut row[..BLEU_WIDTH]);
            if let Some(frequencies) = &self.frequencies {
                row[BLEU_WIDTH] = rouge_l(segment.hypothesis, segment.references);
                row[BLEU_WIDTH + 1] = Cider { frequencies }.segment(segment);
            }
            row[BLEU_WIDTH + 2] = 1.0;
        })
    }

    fn score_sum(&self, sum: &[f64]) -> f64 {
        self.bleu.score_sum(&sum[..BLEU_WIDTH])
    }

    fn settings(&self) -> Vec<(&'static str, &'static str, String)> {
        let mut settings = vec![("profile", "p", self.profile.name().to_owned())];
        settings.extend(self.bleu.settings());
        settings
    }
}

/// All scores of a profile.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// BLEU-1 to BLEU-4, 0 to 1.
    pub bleu: [f64; ORDERS],
    /// ROUGE-L, 0 to 1, where the profile has it.
    pub rouge_l: Option<f64>,
    /// CIDEr-D, 0 to 10, where the profile has it.
    pub cider: Option<f64>,
    /// Words of the hypotheses by words of the references nearest in length.
    pub length_ratio: f64,
}

impl Scores {
    /// Of any sum of a scorer's rows.
    ///
    /// # Panics
    /// When `sum` is not as wide as a row.
    pub fn of(profile: Profile, sum: &[f64]) -> Self {
        let stats = BleuStats::from_row(&sum[..BLEU_WIDTH]);
        let segments = sum[BLEU_WIDTH + 2];
        let mean = |value: f64| profile.is_coco().then_some(value / segments);
        Self {
            bleu: bleu(profile, &stats),
            rouge_l: mean(sum[BLEU_WIDTH]),
            cider: mean(sum[BLEU_WIDTH + 1]),
            length_ratio: Bleu::default().score(&stats).length_ratio(),
        }
    }
}

/// BLEU of every order up to the last, 0 to 1.
fn bleu(profile: Profile, stats: &BleuStats) -> [f64; ORDERS] {
    if profile.is_coco() {
        let all = coco::bleu(stats);
        return std::array::from_fn(|order| all[order]);
    }
    std::array::from_fn(|order| {
        let mut front = stats.clone();
        front.correct.truncate(order + 1);
        front.total.truncate(order + 1);
        match profile {
            Profile::Nltk => nltk::bleu(&front, Method::Zero),
            _ => Bleu { max_order: order + 1, ..Bleu::default() }.score(&front).score / 100.0,
        }
    })
}

/// The statistics of a set under a profile: one row for each item, from which any part of the set can be scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    profile: Profile,
    rows: Vec<f64>,
}

impl Table {
    /// Number of items.
    pub fn len(&self) -> usize {
        self.rows.len() / (BLEU_WIDTH + 3)
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows of all items one after the other, each as [`Scorer`] describes it.
    pub fn rows(&self) -> &[f64] {
        &self.rows
    }

    /// Scores of the whole set.
    pub fn scores(&self) -> Scores {
        let mut sum = vec![0.0; BLEU_WIDTH + 3];
        metric::add_rows(&mut sum, &self.rows);
        Scores::of(self.profile, &sum)
    }

    /// Scores of some items, which may repeat.
    ///
    /// # Panics
    /// When there is no such item.
    pub fn scores_of(&self, items: &[usize]) -> Scores {
        let width = BLEU_WIDTH + 3;
        let mut sum = vec![0.0; width];
        for item in items {
            metric::add_rows(&mut sum, &self.rows[item * width..][..width]);
        }
        Scores::of(self.profile, &sum)
    }
}
