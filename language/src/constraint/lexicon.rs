//! The words that a report may use, read from term files.

use swinseek_kernels::{Error, Result};

/// Largest term file.
const MAX_FILE_BYTES: usize = 1 << 30;
/// Most different words, and the bytes they take.
const MAX_WORDS: usize = 2_000_000;
const MAX_TEXT_BYTES: usize = 64 << 20;
/// Longest word.
const MAX_WORD_BYTES: usize = 64;
/// Columns of MRCONSO.RRF and RXNCONSO.RRF (each line also ends with a bar).
const RRF_COLUMNS: usize = 18;
const RRF_LANGUAGE: usize = 1;
const RRF_STRING: usize = 14;
const RRF_SUPPRESS: usize = 16;

/// The closed classes of English, which join the words of any lexicon: articles, prepositions, conjunctions, pronouns,
/// auxiliary verbs, negation.
#[rustfmt::skip]
pub const FUNCTION_WORDS: &[&str] = &[
    "a", "about", "above", "across", "after", "again", "against", "all", "along", "also", "although", "an", "and", "any",
    "are", "around", "as", "at", "be", "because", "been", "before", "behind", "being", "below", "beneath", "beside",
    "between", "beyond", "both", "but", "by", "can", "cannot", "could", "did", "do", "does", "due", "during", "each",
    "either", "except", "few", "for", "from", "had", "has", "have", "how", "if", "in", "into", "is", "it", "its", "less",
    "may", "might", "more", "most", "must", "near", "neither", "no", "none", "nor", "not", "of", "on", "only", "or", "other",
    "out", "over", "per", "rather", "s", "same", "should", "since", "so", "some", "such", "than", "that", "the", "their",
    "then", "there", "these", "they", "this", "those", "through", "throughout", "to", "too", "toward", "towards", "under",
    "until", "up", "upon", "very", "via", "was", "were", "when", "where", "whether", "which", "while", "will", "with",
    "within", "without",
];

/// A set of lower-case words, kept sorted.
#[derive(Debug)]
pub struct Lexicon {
    /// All words, one after the other.
    text: String,
    /// Where each word begins; one more entry for the end.
    starts: Vec<u32>,
}

/// Words that begin alike: a range of indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Prefix {
    first: u32,
    end: u32,
    /// Bytes read.
    length: u8,
}

impl Lexicon {
    /// Reads a term file, UTF-8, told apart by its first line with content:
    ///
    /// - RRF (`MRCONSO.RRF`, `RXNCONSO.RRF`): 18 columns, each ended by `|`. The term is `STR`; rows of a language other
    ///   than `ENG` and suppressed rows are left out.
    /// - TSV: the term is the column whose name in the first line is `term`; without such a line, the first column.
    ///   Empty lines and lines that begin with `#` are left out.
    ///
    /// A term gives its words, in lower case: runs of letters and digits.
    ///
    /// # Errors
    /// [`Error::Config`] for `lexicon`, with the line; also when no word is left, or there are too many.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(fault(format!("{} bytes, expected at most {MAX_FILE_BYTES}", bytes.len())));
        }
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let mut words: Vec<String> = Vec::new();
        let mut text_bytes = 0;
        let mut form = None;
        for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let at = |message: String| fault(format!("line {}: {message}", index + 1));
            let line = std::str::from_utf8(line)
                .map_err(|error| at(format!("not UTF-8 from byte {} of the line", error.valid_up_to())))?;
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let Some(term) = form.get_or_insert_with(|| Form::of(line)).term(line).map_err(at)? else {
                continue;
            };
            for word in words_of(term) {
                if word.len() > MAX_WORD_BYTES {
                    let start: String = word.chars().take(20).collect();
                    return Err(at(format!("the word `{start}…` is longer than {MAX_WORD_BYTES} bytes")));
                }
                text_bytes += word.len();
                words.push(word);
            }
            if words.len() > 2 * MAX_WORDS || text_bytes > 2 * MAX_TEXT_BYTES {
                tidy(&mut words);
                text_bytes = words.iter().map(String::len).sum();
                if words.len() > MAX_WORDS || text_bytes > MAX_TEXT_BYTES {
                    return Err(at(format!("more than {MAX_WORDS} words or {MAX_TEXT_BYTES} bytes of them")));
                }
            }
        }
        if words.is_empty() {
            return Err(fault("no line holds a term".to_owned()));
        }
        Ok(Self::of_words(words))
    }

    /// The words of `terms`.
    ///
    /// # Errors
    /// As [`Lexicon::from_bytes`], lines counted as terms.
    pub fn from_terms<S: AsRef<str>>(terms: &[S]) -> Result<Self> {
        let lines: Vec<String> =
            terms.iter().map(|term| term.as_ref().replace(['\n', '\t', '#'], " ")).collect();
        Self::from_bytes(lines.join("\n").as_bytes())
    }

    fn of_words(mut words: Vec<String>) -> Self {
        words.extend(FUNCTION_WORDS.iter().map(ToString::to_string));
        tidy(&mut words);
        let mut starts = Vec::with_capacity(words.len() + 1);
        let mut text = String::with_capacity(words.iter().map(String::len).sum());
        for word in &words {
            starts.push(text.len() as u32);
            text.push_str(word);
        }
        starts.push(text.len() as u32);
        Self { text, starts }
    }

    /// How many words there are, function words included.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Never true: there are always the function words.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `word`, in any case, is one of the words.
    pub fn contains(&self, word: &str) -> bool {
        let prefix =
            word.to_lowercase().bytes().try_fold(self.start(), |prefix, byte| self.narrow(prefix, byte));
        prefix.is_some_and(|prefix| self.is_word(prefix))
    }

    fn word(&self, index: u32) -> &[u8] {
        let [start, end] = [index, index + 1].map(|i| self.starts[i as usize] as usize);
        &self.text.as_bytes()[start..end]
    }

    /// All words.
    pub(super) fn start(&self) -> Prefix {
        Prefix { first: 0, end: self.len() as u32, length: 0 }
    }

    /// The words of `prefix` that go on with `byte`.
    pub(super) fn narrow(&self, prefix: Prefix, byte: u8) -> Option<Prefix> {
        let at = usize::from(prefix.length);
        // A word that ends here sorts before all that go on.
        let bound = |above: bool| {
            let (mut low, mut high) = (prefix.first, prefix.end);
            while low < high {
                let middle = low + (high - low) / 2;
                let before = self.word(middle).get(at).is_none_or(|&b| b < byte || (above && b == byte));
                if before { low = middle + 1 } else { high = middle }
            }
            low
        };
        let (first, end) = (bound(false), bound(true));
        (first < end).then_some(Prefix { first, end, length: prefix.length + 1 })
    }

    /// Whether the bytes read so far are a word.
    pub(super) fn is_word(&self, prefix: Prefix) -> bool {
        self.word(prefix.first).len() == usize::from(prefix.length)
    }
}

fn fault(message: String) -> Error {
    Error::config("lexicon", message)
}

fn tidy(words: &mut Vec<String>) {
    words.sort_unstable();
    words.dedup();
}

/// Runs of letters and digits, in lower case.
fn words_of(term: &str) -> impl Iterator<Item = String> {
    term.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// How the lines of a file are read.
enum Form {
    Rrf,
    /// Column of the term; the first line is a header.
    Tsv {
        column: usize,
        header: bool,
    },
}

impl Form {
    fn of(line: &str) -> Self {
        if !line.contains('\t') && line.matches('|').count() >= RRF_COLUMNS - 1 {
            return Self::Rrf;
        }
        let named = line.split('\t').position(|name| name.trim().eq_ignore_ascii_case("term"));
        Self::Tsv { column: named.unwrap_or(0), header: named.is_some() }
    }

    /// The term of a line, unless the line is to be left out.
    fn term<'a>(&mut self, line: &'a str) -> std::result::Result<Option<&'a str>, String> {
        match self {
            Self::Rrf => {
                let columns: Vec<&str> = line.strip_suffix('|').unwrap_or(line).split('|').collect();
                if columns.len() != RRF_COLUMNS {
                    return Err(format!(
                        "{} columns, expected the {RRF_COLUMNS} of MRCONSO.RRF",
                        columns.len()
                    ));
                }
                let kept = columns[RRF_LANGUAGE] == "ENG" && matches!(columns[RRF_SUPPRESS], "N" | "");
                Ok(kept.then_some(columns[RRF_STRING]))
            }
            Self::Tsv { header, .. } if *header => {
                *header = false;
                Ok(None)
            }
            Self::Tsv { column, .. } => {
                let found =
                    line.split('\t').nth(*column).filter(|term| term.chars().any(char::is_alphanumeric));
                let missing = || format!("column {} holds no term", *column + 1);
                found.map(Some).ok_or_else(missing)
            }
        }
    }
}
