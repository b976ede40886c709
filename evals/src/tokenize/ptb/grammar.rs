//! From the written rules to expressions over classes of characters.
//!
//! The rules tell about 130 kinds of UTF-16 code units apart. With one byte for each kind, the automaton runs over bytes
//! and needs no Unicode of its own; a character above U+FFFF is two units of the kind that no rule names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, ClassUnicode, Hir, HirKind, Repetition};

use super::rules::{DEFINITIONS, Definition, RULES};

/// A character that no rule names; so are surrogates.
const UNNAMED: usize = 0xE000;

/// The rules as the automaton sees them.
pub(super) struct Grammar {
    /// The pattern of each rule over classes.
    pub(super) patterns: Vec<Hir>,
    /// The class of each UTF-16 code unit.
    pub(super) classes: Vec<u8>,
}

/// Ranges of code points, first and last.
type Set = Vec<(u32, u32)>;

impl Grammar {
    pub(super) fn new() -> Self {
        let patterns: Vec<Hir> = written()
            .iter()
            .map(|pattern| regex_syntax::parse(pattern).expect("the rules are fixed"))
            .collect();
        let mut sets = BTreeSet::new();
        for pattern in &patterns {
            collect(pattern, &mut sets);
        }
        let sets: Vec<Set> = sets.into_iter().collect();
        let (classes, members) = partition(&sets);
        let by_set: HashMap<&Set, &Vec<u8>> = sets.iter().zip(&members).collect();
        Self { patterns: patterns.iter().map(|pattern| translate(pattern, &by_set)).collect(), classes }
    }
}

/// The patterns of all rules with definitions and words put in.
fn written() -> Vec<String> {
    let mut definitions: HashMap<&str, String> = HashMap::new();
    for (name, definition) in DEFINITIONS {
        let text = match definition {
            Definition::Pattern(pattern) => expand(pattern, &definitions),
            Definition::Words(words) => {
                let words: Vec<String> = words.split_whitespace().map(word).collect();
                words.join("|")
            }
        };
        definitions.insert(name, format!("(?:{text})"));
    }
    RULES.iter().map(|rule| expand(rule.pattern, &definitions)).collect()
}

fn expand(pattern: &str, definitions: &HashMap<&str, String>) -> String {
    let mut text = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(['<', '´']) {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        let close = if from.starts_with('<') { '>' } else { '´' };
        let inner = &from[if close == '>' { 1 } else { '´'.len_utf8() }..];
        let (name, after) = inner.split_once(close).unwrap_or((inner, ""));
        if close == '´' {
            text.push_str(&any_case(name));
            rest = after;
        } else if let Some(definition) = definitions.get(name) {
            text.push_str(definition);
            rest = after;
        } else {
            // A `<` of the pattern itself.
            text.push('<');
            rest = &from[1..];
        }
    }
    text + rest
}

/// A word in any case, but a capital at its front stays one.
fn word(text: &str) -> String {
    match text.chars().next() {
        Some(capital) if capital.is_ascii_uppercase() => format!("{capital}{}", any_case(&text[1..])),
        _ => any_case(text),
    }
}

/// As the original folds cases: Turkish i, long s and the Kelvin sign count.
fn any_case(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let (lower, upper) = (c.to_ascii_lowercase(), c.to_ascii_uppercase());
        match lower {
            'i' => out.push_str(r"[iI\x{130}\x{131}]"),
            'k' => out.push_str(r"[kK\x{212A}]"),
            's' => out.push_str(r"[sS\x{17F}]"),
            _ if lower != upper => out.extend(['[', lower, upper, ']']),
            _ => out.push_str(&regex_syntax::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    out
}

fn set_of(class: &ClassUnicode) -> Set {
    class.ranges().iter().map(|range| (u32::from(range.start()), u32::from(range.end()))).collect()
}

fn characters(literal: &[u8]) -> impl Iterator<Item = Set> {
    String::from_utf8_lossy(literal)
        .chars()
        .map(|c| vec![(u32::from(c), u32::from(c))])
        .collect::<Vec<_>>()
        .into_iter()
}

/// All sets of characters that a pattern asks for.
fn collect(pattern: &Hir, sets: &mut BTreeSet<Set>) {
    match pattern.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            sets.insert(set_of(class));
        }
        HirKind::Literal(literal) => sets.extend(characters(&literal.0)),
        kind => kind.subs().iter().for_each(|sub| collect(sub, sets)),
    }
}

/// The class of each code unit, and for each set the classes that make it up. Units are of one class when no set tells
/// them apart.
fn partition(sets: &[Set]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut changes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, set) in sets.iter().enumerate() {
        for &(first, last) in set {
            changes.entry(first).or_default().push(index);
            changes.entry(last + 1).or_default().push(index);
        }
    }
    let mut classes = Vec::with_capacity(0x10000);
    let mut known: HashMap<Vec<bool>, u8> = HashMap::new();
    let mut inside = vec![false; sets.len()];
    let mut close = |classes: &mut Vec<u8>, inside: &Vec<bool>, end: u32| {
        let next = known.len() as u8;
        let class = *known.entry(inside.clone()).or_insert(next);
        classes.resize(end.min(0x10000) as usize, class);
    };
    for (&at, toggled) in &changes {
        if at as usize > classes.len() && classes.len() < 0x10000 {
            close(&mut classes, &inside, at);
        }
        for &index in toggled {
            inside[index] = !inside[index];
        }
    }
    if classes.len() < 0x10000 {
        close(&mut classes, &inside, 0x10000);
    }
    let unnamed = classes[UNNAMED];
    classes[0xD800..0xE000].fill(unnamed);
    let mut members = vec![Vec::new(); sets.len()];
    for (inside, &class) in &known {
        for (members, _) in members.iter_mut().zip(inside).filter(|(_, inside)| **inside) {
            members.push(class);
        }
    }
    (classes, members)
}

/// The pattern over classes.
fn translate(pattern: &Hir, members: &HashMap<&Set, &Vec<u8>>) -> Hir {
    let any = |set: &Set| {
        let ranges = members.get(set).into_iter().flat_map(|classes| classes.iter());
        Hir::class(Class::Bytes(ClassBytes::new(ranges.map(|&class| ClassBytesRange::new(class, class)))))
    };
    let all = |subs: &[Hir]| subs.iter().map(|sub| translate(sub, members)).collect();
    match pattern.kind() {
        HirKind::Class(Class::Unicode(class)) => any(&set_of(class)),
        HirKind::Literal(literal) => Hir::concat(characters(&literal.0).map(|set| any(&set)).collect()),
        HirKind::Repetition(repetition) => Hir::repetition(Repetition {
            sub: Box::new(translate(&repetition.sub, members)),
            ..repetition.clone()
        }),
        HirKind::Capture(capture) => translate(&capture.sub, members),
        HirKind::Concat(subs) => Hir::concat(all(subs)),
        HirKind::Alternation(subs) => Hir::alternation(all(subs)),
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(Class::Bytes(_)) => Hir::empty(),
    }
}
