//! Pictures with what should have been written and what was.

use super::matches::{MAX_ORDER, Token, marked, to_html};
use super::text::{Text, base64, each, fixed};
use super::{Case, Group, Page};
use crate::bleu::{Bleu, Segment};
use crate::tokenize::Tokenizer;

/// References up to so many characters in all are shown side by side; of longer ones the closest is open.
const OPEN_CHARACTERS: usize = 400;

/// The cases by group; empty when there are none.
pub(super) fn section(page: &Page<'_>) -> String {
    if page.cases.is_empty() {
        return String::new();
    }
    let groups = Group::ALL.map(|group| {
        let cases: Vec<&Case<'_>> = page.cases.iter().filter(|case| case.group == group).collect();
        (words(group), cases)
    });
    let shown: Vec<_> = groups.iter().filter(|(_, cases)| !cases.is_empty()).collect();
    let links = each(&shown, |((id, name, _), _)| format!("<li><a href=\"#{id}\">{name}</a></li>"));
    let body = each(&shown, |((id, name, about), cases)| {
        format!(
            "<section id=\"{id}\" aria-labelledby=\"{id}-title\">\n<h3 id=\"{id}-title\">{name}</h3>\n\
             <p class=\"about\">{about}</p>\n{}</section>\n",
            each(cases, |case| article(page.bleu, case))
        )
    });
    format!(
        "<section id=\"cases\" aria-labelledby=\"cases-title\">\n<h2 id=\"cases-title\">Cases</h2>\n\
         <p class=\"about\">A shade tells the longest run of tokens that hypothesis and a reference share there. A run that \
         is written twice is shaded twice, while BLEU counts it at most as often as one reference has it.</p>\n\
         <div class=\"tools\">{}<nav aria-label=\"Groups of cases\"><ul>{links}</ul></nav></div>\n{body}</section>\n",
        legend()
    )
}

fn words(group: Group) -> (&'static str, &'static str, &'static str) {
    match group {
        Group::Best => ("best", "Best", "The highest sentence scores."),
        Group::Worst => ("worst", "Worst", "The lowest sentence scores."),
        Group::Random => ("random", "Random", "Drawn from the other cases: what to expect."),
    }
}

fn legend() -> String {
    let shades = each(1..=MAX_ORDER, |order| {
        let words = match order {
            1 => "1 token".into(),
            MAX_ORDER => format!("{order} or more"),
            _ => order.to_string(),
        };
        format!("<li><mark class=\"m{order}\">{words}</mark></li>")
    });
    format!("<div class=\"legend\"><span>Shared in a row:</span><ul><li>none</li>{shades}</ul></div>")
}

fn article(bleu: &Bleu, case: &Case<'_>) -> String {
    let (hypothesis, references) = marked(bleu, case.hypothesis, case.references);
    let picture = case.image.as_ref().map(|image| {
        format!(
            "<img src=\"data:{};base64,{}\" alt=\"Picture of case {}\" decoding=\"async\">\n",
            Text(&image.mime),
            base64(&image.bytes),
            Text(case.id)
        )
    });
    let class = if picture.is_some() { "case card" } else { "case card bare" };
    let question =
        case.question.map(|question| format!("<p class=\"question\" dir=\"auto\">{}</p>\n", Text(question)));
    let written = if hypothesis.is_empty() { "<em>nothing</em>".into() } else { to_html(&hypothesis) };
    format!(
        "<article class=\"{class}\">\n<header><h4 dir=\"auto\">{}</h4>{}</header>\n{}{}\
         <div class=\"texts\">\n<div class=\"written\">\n<h5>Model wrote</h5>\n<p class=\"text\"{lang} dir=\"auto\">{written}</p>\n{}</div>\n\
         <div class=\"references\">\n{}</div>\n</div>\n</article>\n",
        Text(case.id),
        score(case.score),
        picture.unwrap_or_default(),
        question.unwrap_or_default(),
        counts(bleu, case),
        reference_texts(&references, hypothesis.len(), lang(bleu)),
        lang = lang(bleu),
    )
}

/// Chinese characters look different in Japanese fonts; other languages are not known here.
fn lang(bleu: &Bleu) -> &'static str {
    if bleu.tokenizer == Tokenizer::Zh { " lang=\"zh\"" } else { "" }
}

fn score(score: f64) -> String {
    let score = if score.is_finite() { score } else { 0.0 };
    format!(
        "<p class=\"score\"><span class=\"meter\" aria-hidden=\"true\"><span style=\"width:{}%\"></span></span>\
         <span class=\"hidden\">Sentence score </span>{score:.1}</p>",
        fixed(score.clamp(0.0, 100.0), 2)
    )
}

/// The clipped matches that the sentence score is made of.
fn counts(bleu: &Bleu, case: &Case<'_>) -> String {
    let references: Vec<&str> = case.references.iter().map(String::as_str).collect();
    let segment = Segment { hypothesis: case.hypothesis, references: &references };
    let Ok(stats) = bleu.corpus_stats(&[segment]) else { return String::new() };
    let stats = stats.sum();
    let orders = stats.correct.iter().zip(&stats.total).enumerate().filter(|(_, (_, total))| **total > 0);
    let orders = each(orders, |(index, (correct, total))| {
        format!("<div><dt>{}-gram</dt><dd>{correct}/{total}</dd></div>", index + 1)
    });
    format!(
        "<dl class=\"counts\">{orders}<div><dt>Length</dt><dd>{}, reference {}</dd></div></dl>\n",
        stats.hyp_len, stats.ref_len
    )
}

/// The reference with the most in common for its length; of equal ones the first.
fn closest(references: &[Vec<Token>], written: usize) -> usize {
    let nearness = |tokens: &[Token]| {
        let shared: usize = tokens.iter().map(|token| token.order).sum();
        1000 * shared / (tokens.len() + written).max(1)
    };
    let best =
        references.iter().enumerate().max_by_key(|(index, tokens)| (nearness(tokens), usize::MAX - index));
    best.map_or(0, |(index, _)| index)
}

fn reference_texts(references: &[Vec<Token>], written: usize, lang: &str) -> String {
    let text =
        |tokens: &Vec<Token>| format!("<p class=\"text\"{lang} dir=\"auto\">{}</p>\n", to_html(tokens));
    let characters: usize = references.iter().flatten().map(|token| token.text.chars().count()).sum();
    match references {
        [] => "<h5>Reference</h5>\n<p class=\"text\"><em>none</em></p>\n".into(),
        [only] => format!("<h5>Reference</h5>\n{}", text(only)),
        all if characters <= OPEN_CHARACTERS => {
            format!("<h5>{} references</h5>\n{}", all.len(), each(all, text))
        }
        all => {
            let closest = closest(all, written);
            let others = all.iter().enumerate().filter(|(index, _)| *index != closest);
            format!(
                "<h5>Reference {} of {}, the closest</h5>\n{}<details><summary>The other {}</summary>\n{}</details>\n",
                closest + 1,
                all.len(),
                text(&all[closest]),
                all.len() - 1,
                each(others, |(_, tokens)| text(tokens))
            )
        }
    }
}
