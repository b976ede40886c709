//! Longest match, left to right.

use std::ops::Range;
use std::sync::LazyLock;

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::pool::Pool;
use regex_automata::{Anchored, Input, MatchKind};

use super::grammar::Grammar;
use super::rules::{End, RULES, Rule};

/// Room for every state: 7.8 MB when a text visits them all.
const CACHE_BYTES: usize = 1 << 24;

/// The automaton of all rules; states are made when a text needs them.
pub(super) struct Scanner {
    automaton: DFA,
    caches: Pool<Cache, Box<dyn Fn() -> Cache + Send + Sync>>,
    classes: Vec<u8>,
}

pub(super) static SCANNER: LazyLock<Scanner> = LazyLock::new(|| {
    let grammar = Grammar::new();
    let nfa = thompson::Compiler::new()
        .configure(thompson::Config::new().utf8(false))
        .build_many_from_hir(&grammar.patterns)
        .expect("the rules are fixed");
    let automaton = DFA::builder()
        .configure(DFA::config().match_kind(MatchKind::All).cache_capacity(CACHE_BYTES))
        .build_from_nfa(nfa)
        .expect("the rules are fixed");
    let template = automaton.clone();
    let caches: Box<dyn Fn() -> Cache + Send + Sync> = Box::new(move || template.create_cache());
    Scanner { automaton, caches: Pool::new(caches), classes: grammar.classes }
});

/// A text as the automaton reads it: a class for each UTF-16 code unit.
#[derive(Debug, Default)]
pub(super) struct Units {
    classes: Vec<u8>,
    /// Where each unit begins in the text, and the end of the text. The second half of a pair begins where the next
    /// character does, so that every range is a slice of the text.
    starts: Vec<usize>,
}

impl Units {
    fn set(&mut self, classes: &[u8], text: &str) {
        self.classes.clear();
        self.starts.clear();
        for (at, c) in text.char_indices() {
            for (index, unit) in c.encode_utf16(&mut [0; 2]).iter().enumerate() {
                self.classes.push(classes[usize::from(*unit)]);
                self.starts.push(if index == 0 { at } else { at + c.len_utf8() });
            }
        }
        self.starts.push(text.len());
    }

    fn bytes(&self, units: &Range<usize>) -> Range<usize> {
        self.starts[units.start]..self.starts[units.end]
    }
}

impl Scanner {
    /// Calls `token` with the rule and the bytes of every token of the first line of `text`, which is `line` bytes long. What
    /// follows the line is only looked at.
    pub(super) fn scan(&self, text: &str, line: usize, mut token: impl FnMut(&Rule, &str)) {
        let mut units = Units::default();
        units.set(&self.classes, text);
        let end = units.starts.partition_point(|&start| start < line);
        let mut cache = self.caches.get();
        let mut at = 0;
        while at < end {
            let mut found = self.longest(&mut cache, &units.classes[at..]);
            let mut cut = found.map(|(rule, len)| ends(rule, &text[units.bytes(&(at..at + len))], len));
            if cut.is_some_and(|(len, _)| at + len > end) {
                // A tag or a face that goes on after the line.
                found = self.longest(&mut cache, &units.classes[at..end]);
                cut = found.map(|(rule, len)| ends(rule, &text[units.bytes(&(at..at + len))], len));
            }
            let (Some((rule, _)), Some((len, next))) = (found, cut) else {
                at += 1;
                continue;
            };
            token(rule, &text[units.bytes(&(at..at + len))]);
            at += next.max(1);
        }
    }

    /// The rule that matches the most of the front of `classes`, and how much.
    fn longest(&self, cache: &mut Cache, classes: &[u8]) -> Option<(&'static Rule, usize)> {
        let input = Input::new(classes).anchored(Anchored::Yes);
        let found = self.automaton.try_search_fwd(cache, &input).ok().flatten()?;
        Some((&RULES[found.pattern().as_usize()], found.offset()))
    }
}

/// How many units of a match of `len` units are its token, and how many are done with.
fn ends(rule: &Rule, text: &str, len: usize) -> (usize, usize) {
    let units = |bytes: Option<usize>| {
        bytes.and_then(|bytes| text.get(..bytes)).map_or(len, |front| front.encode_utf16().count())
    };
    let space = || units(text.find(is_white));
    let apostrophe = || {
        let mark = text.rfind(['\'', '`', '\u{91}', '\u{92}', '\u{2018}', '\u{2019}', '\u{201b}']);
        // `&apos;` in any case has no other apostrophe behind it.
        units(mark.or_else(|| text.rfind('&')))
    };
    let end = match rule.end {
        End::Whole => len,
        End::Short(count) => len - count,
        End::First => 1,
        End::Apostrophe => apostrophe(),
        End::Negation => apostrophe() - 1,
        End::Space => space(),
        End::Stop => units(text.find('.')) + 1,
        End::File => len - if text.ends_with("\r\n") { 2 } else { 1 },
        End::StopTwice => return (space(), space() - 1),
        End::LastStopTwice => return (len, len - 1),
        End::Initial => match space() {
            2 => return (1, 1),
            end => return (end, end - 1),
        },
    };
    (end, end)
}

/// White space of the grammar.
fn is_white(c: char) -> bool {
    matches!(c, '\t'..='\r' | ' ' | '\u{85}' | '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{2028}' | '\u{2029}' | '\u{3000}')
}
