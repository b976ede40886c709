//! What a token looks like after the Penn Treebank's conventions.

use std::borrow::Cow;

use super::rules::Action;

/// The token of a match, `None` for what is not one.
pub(super) fn normal(action: Action, text: &str) -> Option<Cow<'_, str>> {
    Some(match action {
        Action::Drop => return None,
        Action::Keep => text.into(),
        Action::Word => without_soft_hyphens(text),
        Action::As(token) => token.into(),
        Action::Quote => tex_quotes(text, "'", "''").into(),
        Action::OpenQuote => tex_quotes(text, "`", "``").into(),
        Action::Ampersand => plain_ampersands(text).into(),
        Action::Spaced => hard_spaces(text).into(),
        Action::Phone => named_parentheses(&hard_spaces(text)).into(),
        Action::Smiley => named_parentheses(text).into(),
        Action::Hyphens => if (3..=4).contains(&text.len()) { "--" } else { text }.into(),
        Action::Fraction => fraction(text).into(),
        Action::Currency => currency(text).into(),
    })
}

/// A token of nothing but soft hyphens is a hyphen.
fn without_soft_hyphens(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{ad}') {
        return text.into();
    }
    let rest = text.replace('\u{ad}', "");
    if rest.is_empty() { "-".into() } else { rest.into() }
}

/// Straight marks become `single` and `double`, the others what they are; also those of Windows-1252 in the control range.
fn tex_quotes(text: &str, single: &str, double: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.replace("&apos;", "'").replace("&quot;", "\"").chars() {
        match c {
            '\'' => out.push_str(single),
            '"' => out.push_str(double),
            '\u{91}' | '\u{2018}' | '\u{201b}' | '\u{2039}' => out.push('`'),
            '\u{92}' | '\u{2019}' | '\u{203a}' => out.push('\''),
            '\u{93}' | '\u{201c}' | '\u{ab}' => out.push_str("``"),
            '\u{94}' | '\u{201d}' | '\u{bb}' => out.push_str("''"),
            c => out.push(c),
        }
    }
    out
}

/// `&amp;` in any case.
fn plain_ampersands(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        let after = &rest[at + 1..];
        out.push_str(&rest[..=at]);
        let entity = after.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("amp;"));
        rest = if entity { &after[4..] } else { after };
    }
    out + rest
}

fn hard_spaces(text: &str) -> String {
    text.replace(' ', "\u{a0}")
}

fn named_parentheses(text: &str) -> String {
    text.replace('(', "-LRB-").replace(')', "-RRB-")
}

fn fraction(text: &str) -> &str {
    match text {
        "\u{bc}" => "1/4",
        "\u{bd}" => "1/2",
        "\u{be}" => "3/4",
        "\u{2153}" => "1/3",
        "\u{2154}" => "2/3",
        other => other,
    }
}

/// The corpus has dollars, cents and, as `#`, pounds.
fn currency(text: &str) -> &str {
    match text {
        "\u{a2}" => "cents",
        "\u{a3}" => "#",
        "\u{80}" | "\u{a4}" | "\u{20a0}" | "\u{20ac}" => "$",
        other => other,
    }
}
