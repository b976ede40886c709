//! Sentences as words, and phrases that are looked for in them.

/// Sentences of a text: ends of sentences, semicolons, colons and lines part them; the point of a number does not.
pub(super) fn sentences(text: &str) -> Vec<Vec<String>> {
    let mut found = vec![Vec::new()];
    let mut word = String::new();
    let mut characters = text.chars().peekable();
    let mut previous = ' ';
    while let Some(c) = characters.next() {
        let inside_number =
            c == '.' && previous.is_ascii_digit() && characters.peek().is_some_and(char::is_ascii_digit);
        if c.is_alphanumeric() || inside_number {
            word.extend(c.to_lowercase());
        } else if c != '\'' && c != '\u{2019}' {
            push(&mut found, &mut word);
            match c {
                ',' | '(' => {
                    word.push(',');
                    push(&mut found, &mut word);
                }
                '.' | ';' | ':' | '!' | '?' | '\n' | '\r' => found.push(Vec::new()),
                _ => {}
            }
        }
        previous = c;
    }
    push(&mut found, &mut word);
    found.retain(|sentence| !sentence.is_empty());
    found
}

fn push(sentences: &mut [Vec<String>], word: &mut String) {
    if let Some(sentence) = sentences.last_mut().filter(|_| !word.is_empty()) {
        sentence.push(std::mem::take(word));
    }
}

/// Words skipped by `~` at most.
const GAP: usize = 3;

/// Whether `phrase` begins at the first of `words`, and how many of them it takes; `word*` is a beginning, `~` is up to
/// three words, none of them a comma, `no` or `not`.
pub(super) fn matches(phrase: &str, words: &[String]) -> Option<usize> {
    let (piece, rest) = match phrase.split_once(' ') {
        Some((piece, rest)) => (piece, Some(rest)),
        None => (phrase, None),
    };
    if piece == "~" {
        return (0..=GAP.min(words.len()))
            .take_while(|&skipped| {
                words[..skipped].iter().all(|word| !matches!(word.as_str(), "," | "no" | "not"))
            })
            .find_map(|skipped| match rest {
                Some(rest) => Some(skipped + matches(rest, &words[skipped..])?),
                // A gap at the end takes one word: whatever noun it is.
                None => (skipped == 1).then_some(1),
            });
    }
    let word = words.first()?;
    let fits = match piece.strip_suffix('*') {
        Some(beginning) => word.starts_with(beginning),
        None => word == piece,
    };
    match rest {
        _ if !fits => None,
        None => Some(1),
        Some(rest) => Some(1 + matches(rest, &words[1..])?),
    }
}

/// The longest of `phrases` that begins at the first of `words`.
pub(super) fn longest(phrases: &[&str], words: &[String]) -> Option<usize> {
    phrases.iter().filter_map(|phrase| matches(phrase, words)).max()
}

/// Everything of a table that is found in a sentence, from the left, the longest first, without overlap: beginning, end
/// and row.
pub(super) fn scan<T: Copy>(table: &[(T, &[&str])], words: &[String]) -> Vec<(usize, usize, T)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let here = table.iter().filter_map(|&(row, phrases)| Some((longest(phrases, &words[at..])?, row)));
        // Of equally long ones the first in the table.
        match here.reduce(|best, next| if next.0 > best.0 { next } else { best }) {
            Some((length, row)) => {
                found.push((at, at + length, row));
                at += length;
            }
            None => at += 1,
        }
    }
    found
}
