//! Which tokens belong to which shared n-grams.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::text::{Text, each};
use crate::bleu::Bleu;
use crate::tokenize::{Tokens, is_space};

/// The longest n-gram that is told apart; BLEU's own default.
pub(super) const MAX_ORDER: usize = 4;

/// One token of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// As the text has it.
    pub(super) text: String,
    /// Whether white space comes before it.
    pub(super) space: bool,
    /// Length of the longest shared n-gram that covers it, up to [`MAX_ORDER`]; 0 for none.
    pub(super) order: usize,
}

/// The tokens of a hypothesis, with the n-grams that any reference has, and those of each reference, with the n-grams
/// that the hypothesis has.
pub(super) fn marked(bleu: &Bleu, hypothesis: &str, references: &[String]) -> (Vec<Token>, Vec<Vec<Token>>) {
    let mut ids: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut read = |line: &str| -> (Vec<usize>, Vec<Token>) {
        let mut tokens = Tokens::default();
        tokens.set(bleu.tokenizer, &bleu.cased(line));
        let numbers = tokens.iter().map(|token| {
            let next = ids.len();
            *ids.entry(token.to_vec()).or_insert(next)
        });
        let numbers = numbers.collect();
        let words: Vec<Cow<'_, str>> = tokens.iter().map(String::from_utf8_lossy).collect();
        (numbers, spaced(line, &words))
    };
    let (own, mut tokens) = read(hypothesis);
    let (others, mut reference_tokens): (Vec<_>, Vec<_>) = references.iter().map(|line| read(line)).unzip();
    shade(&mut tokens, &own, &others);
    for (tokens, numbers) in reference_tokens.iter_mut().zip(&others) {
        shade(tokens, numbers, std::slice::from_ref(&own));
    }
    (tokens, reference_tokens)
}

fn shade(tokens: &mut [Token], own: &[usize], others: &[Vec<usize>]) {
    for order in 1..=MAX_ORDER {
        let known: HashSet<&[usize]> = others.iter().flat_map(|other| other.windows(order)).collect();
        for (begin, gram) in own.windows(order).enumerate() {
            if known.contains(gram) {
                tokens[begin..begin + order].iter_mut().for_each(|token| token.order = order);
            }
        }
    }
}

/// Puts the tokens back where `line` has them, so that "clear." is not shown as "clear .". Where the tokeniser changed
/// characters (entities, say) the tokens are shown as they were scored, with spaces between.
fn spaced(line: &str, words: &[Cow<'_, str>]) -> Vec<Token> {
    let as_scored = || words.iter().map(|word| Token { text: word.to_string(), space: true, order: 0 });
    found_in(line, words).unwrap_or_else(|| as_scored().collect())
}

fn found_in(line: &str, words: &[Cow<'_, str>]) -> Option<Vec<Token>> {
    let mut rest = line.chars().peekable();
    let mut tokens = Vec::with_capacity(words.len());
    for word in words {
        let mut space = false;
        while rest.next_if(|c| is_space(*c)).is_some() {
            space = true;
        }
        let same = |c: char, scored: char| c == scored || c.to_lowercase().eq([scored]);
        let text = word.chars().map(|scored| rest.next().filter(|c| same(*c, scored)));
        tokens.push(Token { text: text.collect::<Option<String>>()?, space, order: 0 });
    }
    rest.all(is_space).then_some(tokens)
}

/// The tokens as HTML; neighbours of the same order share one mark.
pub(super) fn to_html(tokens: &[Token]) -> String {
    let runs = tokens.chunk_by(|a, b| a.order == b.order);
    each(runs.enumerate(), |(number, run)| {
        let text = each(&run[1..], |token| format!("{}{}", blank(token), Text(&token.text)));
        let lead = if number > 0 { blank(&run[0]) } else { "" };
        let first = Text(&run[0].text);
        match run[0].order {
            0 => format!("{lead}{first}{text}"),
            order => format!("{lead}<mark class=\"m{order}\">{first}{text}</mark>"),
        }
    })
}

fn blank(token: &Token) -> &'static str {
    if token.space { " " } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenize::Tokenizer;

    fn orders(tokens: &[Token]) -> Vec<usize> {
        tokens.iter().map(|token| token.order).collect()
    }

    #[test]
    fn the_longest_shared_ngram_counts() {
        let references = ["the heart is large .".to_owned(), "no effusion is seen .".to_owned()];
        let (hypothesis, shaded) =
            marked(&Bleu::default(), "The heart is large. No effusion is seen", &references);
        assert_eq!(orders(&hypothesis), [0, 4, 4, 4, 4, 0, 3, 3, 3]);
        assert_eq!(orders(&shaded[0]), [0, 4, 4, 4, 4]);
        assert_eq!(orders(&shaded[1]), [0, 3, 3, 3, 1]);
        assert_eq!(
            to_html(&hypothesis),
            "The <mark class=\"m4\">heart is large.</mark> No <mark class=\"m3\">effusion is seen</mark>"
        );
    }

    #[test]
    fn text_keeps_its_looks_where_it_can() {
        let bleu = Bleu { lowercase: true, ..Bleu::default() };
        let (hypothesis, _) = marked(&bleu, " Lungs (both)\tclear, 1.5 cm.\n", &["lungs".into()]);
        assert_eq!(to_html(&hypothesis), "<mark class=\"m1\">Lungs</mark> (both) clear, 1.5 cm.");
        // An entity is scored as its character, and shown so.
        let (hypothesis, _) = marked(&bleu, "a&lt;b.", &[]);
        assert_eq!(to_html(&hypothesis), "a &lt; b .");
        let zh = Bleu { tokenizer: Tokenizer::Zh, ..Bleu::default() };
        let (hypothesis, _) = marked(&zh, "双肺清晰。", &["肺清".into()]);
        assert_eq!(to_html(&hypothesis), "双<mark class=\"m2\">肺清</mark>晰。");
    }

    proptest::proptest! {
        /// Against the definition: a position has order n when some window of n tokens over it stands in another text.
        #[test]
        fn shades_are_the_longest_shared_windows(
            own in proptest::collection::vec(0_u8..4, 0..14),
            others in proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..14), 0..4),
        ) {
            let text = |tokens: &[u8]| each(tokens, |token| format!(" w{token}"));
            let references: Vec<String> = others.iter().map(|other| text(other)).collect();
            let (hypothesis, shaded) = marked(&Bleu::default(), &text(&own), &references);
            let plain = |own: &[u8], others: &[Vec<u8>], at: usize| {
                let shared = |begin: usize, n: usize| {
                    others.iter().any(|other| (0..other.len()).any(|i| other.get(i..i + n) == own.get(begin..begin + n)))
                };
                let covers = |n: usize| (0..=at).any(|b| b + n > at && b + n <= own.len() && shared(b, n));
                (1..=MAX_ORDER).rev().find(|&n| covers(n)).unwrap_or(0)
            };
            for (at, token) in hypothesis.iter().enumerate() {
                proptest::prop_assert_eq!(token.order, plain(&own, &others, at));
            }
            for (other, tokens) in others.iter().zip(&shaded) {
                for (at, token) in tokens.iter().enumerate() {
                    proptest::prop_assert_eq!(token.order, plain(other, std::slice::from_ref(&own), at));
                }
            }
        }
    }
}
