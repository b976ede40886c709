//! The report form, `FINDINGS: .. IMPRESSION: ..`, as an automaton over bytes, by choice over the words of a lexicon.
//!
//! A state is a few bytes and every mask depends on the state alone, so masks are remembered: in a long report nearly
//! all steps are a look-up.

use std::collections::HashMap;
use std::sync::Arc;

use llguidance::toktrie::recognizer::{FunctionalRecognizer, StackRecognizer};
use swinseek_kernels::{Error, Result};

use super::lexicon::{Lexicon, Prefix};
use super::vocabulary::Vocabulary;
use super::{Constraint, TokenMask, grammar};

const FINDINGS: &[u8] = b"FINDINGS:";
const IMPRESSION: &[u8] = b"IMPRESSION:";
/// Masks remembered by one report; a mask takes one bit an id.
const MAX_MASKS: usize = 512;

/// Which part of the report is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Section {
    /// So many bytes of `FINDINGS: `.
    Heading(u8),
    Findings,
    Impression,
}

/// Where in a sentence the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Text {
    /// After a heading: a space follows.
    Gap,
    /// Before a word; `after_space` also allows what opens (a bracket).
    Open { after_space: bool },
    /// Free text: after a character that ends no sentence, with the bytes that its last character still lacks.
    Free(Utf8),
    /// In a word of the lexicon, which may also be a number so far.
    Word { prefix: Option<Prefix>, number: bool },
    /// After a bracket, a comma or a per cent sign: a space or more punctuation follows.
    Closed,
    /// After `.`, `!` or `?`; `number` when digits may go on after a decimal point.
    End { number: bool },
    /// The words cannot go on like this, only the heading of the next section can.
    Dead,
}

/// What the next byte of a character must be: so many more, the first of them in a range (Unicode, table 3-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Utf8 {
    missing: u8,
    low: u8,
    high: u8,
}

const COMPLETE: Utf8 = Utf8 { missing: 0, low: 0x80, high: 0xBF };

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    section: Section,
    text: Text,
    /// Bytes of `IMPRESSION:` and of `FINDINGS:` read just now. Headings stand nowhere but at their place.
    impression: u8,
    findings: u8,
    /// The bytes of `IMPRESSION:` began after the end of a sentence.
    heading: bool,
}

/// The automaton: a vocabulary and, by choice, the words.
pub(super) struct ReportForm {
    vocabulary: Arc<Vocabulary>,
    lexicon: Option<Arc<Lexicon>>,
}

impl ReportForm {
    pub(super) fn new(vocabulary: Arc<Vocabulary>, lexicon: Option<Arc<Lexicon>>) -> Self {
        Self { vocabulary, lexicon }
    }

    const START: State =
        State { section: Section::Heading(0), text: Text::Dead, impression: 0, findings: 0, heading: false };

    fn step(&self, state: State, byte: u8) -> Option<State> {
        if let Section::Heading(read) = state.section {
            return heading_step(state, read, byte);
        }
        let impression = marker_step(IMPRESSION, state.impression, byte);
        let findings = marker_step(FINDINGS, state.findings, byte);
        let fresh = impression == 1 && matches!(state.text, Text::Open { after_space: true });
        // A heading that fell back to a shorter beginning of itself began inside a word.
        let goes_on = impression == state.impression + 1;
        let heading = state.heading && goes_on && (impression > 1 || fresh);
        let full = |read: u8, marker: &[u8]| usize::from(read) == marker.len();
        if full(findings, FINDINGS) {
            return None;
        }
        if full(impression, IMPRESSION) {
            let placed = heading && state.section == Section::Findings;
            return placed.then_some(State { section: Section::Impression, text: Text::Gap, ..Self::START });
        }
        let text = self.text_step(state.text, byte).unwrap_or(Text::Dead);
        let ended = matches!(state.text, Text::End { .. }) && byte == b' ';
        // Before the `I` of a heading, the flag says that the place is right.
        let heading = heading || (impression == 0 && ended);
        let alive = text != Text::Dead || (heading && impression > 0 && state.section == Section::Findings);
        alive.then_some(State { section: state.section, text, impression, findings, heading })
    }

    fn text_step(&self, text: Text, byte: u8) -> Option<Text> {
        match &self.lexicon {
            Some(lexicon) => word_step(lexicon, text, byte),
            None => free_step(text, byte),
        }
    }
}

fn is_complete(state: State) -> bool {
    state.section == Section::Impression && matches!(state.text, Text::End { .. })
}

fn heading_step(state: State, read: u8, byte: u8) -> Option<State> {
    let heading = [FINDINGS, b" "].concat();
    if heading[usize::from(read)] != byte {
        return None;
    }
    let read = read + 1;
    if usize::from(read) < heading.len() {
        return Some(State { section: Section::Heading(read), ..state });
    }
    Some(State { section: Section::Findings, text: Text::Open { after_space: true }, ..state })
}

/// How much of `marker` has been read after `byte`, where `read` bytes of it were before.
fn marker_step(marker: &[u8], read: u8, byte: u8) -> u8 {
    let read = usize::from(read);
    let longest = (0..=read.min(marker.len() - 1))
        .rev()
        // What was read ends with the first `length` bytes of the marker, and goes on.
        .find(|&length| marker[..read].ends_with(&marker[..length]) && marker[length] == byte);
    longest.map_or(0, |length| length as u8 + 1)
}

/// Any characters but controls; single spaces between them.
fn free_step(text: Text, byte: u8) -> Option<Text> {
    match text {
        Text::Free(Utf8 { missing, low, high }) if missing > 0 => {
            (low..=high).contains(&byte).then_some(Text::Free(Utf8 { missing: missing - 1, ..COMPLETE }))
        }
        Text::Gap | Text::Closed => (byte == b' ').then_some(Text::Open { after_space: true }),
        Text::Open { .. } if byte == b' ' => None,
        Text::Open { .. } | Text::Free(_) | Text::End { .. } | Text::Word { .. } => match byte {
            b' ' => Some(Text::Open { after_space: true }),
            b'.' | b'!' | b'?' if !matches!(text, Text::Open { .. }) => Some(Text::End { number: false }),
            b')' | b'"' if matches!(text, Text::End { .. }) => Some(text),
            _ => lead(byte).map(Text::Free),
        },
        Text::Dead => None,
    }
}

/// The first byte of a character that is no control.
fn lead(byte: u8) -> Option<Utf8> {
    let (missing, low, high) = match byte {
        0x20..=0x7E => (0, 0x80, 0xBF),
        // U+0080 to U+009F are controls.
        0xC2 => (1, 0xA0, 0xBF),
        0xC3..=0xDF => (1, 0x80, 0xBF),
        0xE0 => (2, 0xA0, 0xBF),
        0xE1..=0xEC | 0xEE..=0xEF => (2, 0x80, 0xBF),
        0xED => (2, 0x80, 0x9F),
        0xF0 => (3, 0x90, 0xBF),
        0xF1..=0xF3 => (3, 0x80, 0xBF),
        0xF4 => (3, 0x80, 0x8F),
        _ => return None,
    };
    Some(Utf8 { missing, low, high })
}

/// Words of the lexicon, numbers, and the punctuation between them.
fn word_step(lexicon: &Lexicon, text: Text, byte: u8) -> Option<Text> {
    let begin = |byte: u8| {
        let prefix = lexicon.narrow(lexicon.start(), byte.to_ascii_lowercase());
        let number = byte.is_ascii_digit();
        (prefix.is_some() || number).then_some(Text::Word { prefix, number })
    };
    match (text, byte) {
        (Text::Open { after_space: true }, b'(') => Some(Text::Open { after_space: false }),
        (Text::Open { .. }, _) => begin(byte),
        (Text::Word { prefix, number }, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | 0x80..) => {
            let prefix = prefix.and_then(|prefix| lexicon.narrow(prefix, byte.to_ascii_lowercase()));
            let number = number && byte.is_ascii_digit();
            (prefix.is_some() || number).then_some(Text::Word { prefix, number })
        }
        (Text::Word { prefix, number }, _) => {
            let whole = number || prefix.is_some_and(|prefix| lexicon.is_word(prefix));
            if whole { after_word(byte, number) } else { None }
        }
        (Text::Gap | Text::Closed | Text::End { .. }, b' ') => Some(Text::Open { after_space: true }),
        (Text::Closed, b')' | b',' | b';' | b':') => Some(Text::Closed),
        (Text::Closed, b'.' | b'!' | b'?') | (Text::End { .. }, b')') => Some(Text::End { number: false }),
        (Text::End { number: true }, b'0'..=b'9') => Some(Text::Word { prefix: None, number: true }),
        _ => None,
    }
}

fn after_word(byte: u8, number: bool) -> Option<Text> {
    match byte {
        b' ' => Some(Text::Open { after_space: true }),
        b'-' | b'/' | b'\'' => Some(Text::Open { after_space: false }),
        b',' | b';' | b':' | b')' => Some(Text::Closed),
        b'%' if number => Some(Text::Closed),
        b'.' | b'!' | b'?' => Some(Text::End { number: number && byte == b'.' }),
        _ => None,
    }
}

/// The automaton from one state, for a walk over the trie of tokens.
#[derive(Clone, Copy)]
struct From<'a> {
    form: &'a ReportForm,
    state: State,
}

impl FunctionalRecognizer<State> for From<'_> {
    fn initial(&self) -> State {
        self.state
    }

    fn try_append(&self, state: State, byte: u8) -> Option<State> {
        self.form.step(state, byte)
    }
}

pub(super) struct ReportConstraint {
    form: ReportForm,
    state: State,
    masks: HashMap<State, TokenMask>,
    /// A stop id was taken.
    ended: bool,
}

impl ReportConstraint {
    pub(super) fn new(form: ReportForm) -> Self {
        Self { form, state: ReportForm::START, masks: HashMap::new(), ended: false }
    }

    fn mask(&self) -> TokenMask {
        let vocabulary = &*self.form.vocabulary;
        let trie = vocabulary.trie();
        let mut bits = trie.alloc_token_set();
        let mut walk = StackRecognizer::from(From { form: &self.form, state: self.state });
        trie.add_bias(&mut walk, &mut bits, &[]);
        bits.and(&vocabulary.usable);
        if is_complete(self.state) {
            vocabulary.stop_ids.iter().for_each(|&id| bits.allow_token(id));
        }
        TokenMask::from_bits(&bits)
    }
}

impl Constraint for ReportConstraint {
    fn allowed(&mut self) -> Result<TokenMask> {
        let vocabulary = &self.form.vocabulary;
        if self.ended {
            return Ok(TokenMask::of(vocabulary.trie().vocab_size(), &vocabulary.stop_ids));
        }
        if let Some(mask) = self.masks.get(&self.state) {
            return Ok(mask.clone());
        }
        let mask = self.mask();
        if mask.is_empty() {
            let message = "the report cannot go on: the vocabulary has no token that fits here";
            return Err(Error::Input(message.to_owned()));
        }
        if self.masks.len() >= MAX_MASKS {
            self.masks.clear();
        }
        self.masks.insert(self.state, mask.clone());
        Ok(mask)
    }

    fn accept(&mut self, id: u32) -> Result<()> {
        let vocabulary = &self.form.vocabulary;
        if vocabulary.stop_ids.contains(&id) {
            self.ended = self.ended || is_complete(self.state);
            return if self.ended { Ok(()) } else { Err(grammar::refused(id)) };
        }
        let known = (id as usize) < vocabulary.trie().vocab_size() && vocabulary.usable.is_allowed(id);
        let bytes = if known && !self.ended { vocabulary.trie().token(id) } else { &[] };
        let read = bytes.iter().try_fold(self.state, |state, &byte| self.form.step(state, byte));
        self.state = read.filter(|_| !bytes.is_empty()).ok_or_else(|| grammar::refused(id))?;
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.ended
    }
}
