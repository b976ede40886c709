//! The drawings: the score beside its floors, and what lies behind a mean.

use std::collections::BTreeMap;

use super::Page;
use super::results::{Floor, Metric, Results};
use super::svg::{Anchor, Svg, axis, ticks};
use super::text::{Text, count, each, fixed, short};

/// Height of the area that holds the marks of the charts over all cases.
const PLOT: f64 = 170.0;
/// Room for a number above and for the axis below.
const TOP: f64 = 18.0;
const BOTTOM: f64 = TOP + PLOT;

/// Score with its interval, and below it the floors as marks on the same scale, the hardest first.
pub(super) fn floors(floors: &[(&Floor<'_>, f64)], metric: &Metric<'_>, score: f64) -> String {
    const ROW: f64 = 46.0;
    let scale = axis(metric.most(), 0.0);
    let x = |value: f64| (100.0 * value / scale.0).clamp(0.0, 100.0);
    let bottom = ROW * (floors.len() + 1) as f64;

    let words = each(floors, |(floor, value)| format!("; {}: {}", floor.name, metric.show(*value)));
    let label = format!("{}: this run {}{}", metric.name, with_interval(metric, score), words);
    let mut svg = Svg::new(bottom + 26.0, label);
    for tick in ticks(scale) {
        svg.line("grid", (x(tick), 0.0), (x(tick), bottom));
        svg.text("tick", (x(tick), bottom + 18.0), 0.0, Anchor::Middle, &short(tick));
    }
    if let Some((_, best)) = floors.first() {
        svg.line("guide", (x(*best), ROW * 0.5), (x(*best), ROW + 30.0));
    }
    svg.text("name strong", (0.0, 15.0), 0.0, Anchor::Start, "This run");
    svg.text("value strong", (100.0, 15.0), 0.0, Anchor::End, &with_interval(metric, score));
    if let Some((low, high)) = metric.interval {
        svg.line("whisker", (x(low), 30.0), (x(high), 30.0));
        for end in [low, high] {
            svg.line("whisker", (x(end), 24.0), (x(end), 36.0));
        }
    }
    svg.circle("dot", (x(score), 30.0), 6.0, "");
    for (row, (floor, value)) in floors.iter().enumerate() {
        let top = ROW * (row + 1) as f64;
        svg.text("name", (0.0, top + 15.0), 0.0, Anchor::Start, &floor.name);
        svg.text("value", (100.0, top + 15.0), 0.0, Anchor::End, &metric.show(*value));
        svg.line("floor", (x(*value), top + 23.0), (x(*value), top + 37.0));
    }
    svg.finish()
}

/// `67.53 (65.10 to 69.90)`.
pub(super) fn with_interval(metric: &Metric<'_>, score: f64) -> String {
    let interval =
        metric.interval.map(|(low, high)| format!(" ({} to {})", metric.show(low), metric.show(high)));
    format!("{}{}", metric.show(score), interval.unwrap_or_default())
}

/// The section of charts over all cases; empty when there is nothing to draw.
pub(super) fn distributions(page: &Page<'_>, results: &Results<'_>) -> String {
    let figures = [histogram(page.scores), lengths(page.lengths), results.precisions().map(precisions)];
    let figures: String = figures.into_iter().flatten().collect();
    if figures.is_empty() {
        return String::new();
    }
    format!(
        "<section id=\"distributions\" aria-labelledby=\"distributions-title\">\n\
         <h2 id=\"distributions-title\">Behind the number</h2>\n<div class=\"charts\">\n{figures}</div>\n</section>\n"
    )
}

fn figure(title: &str, svg: &Svg, class: &str, caption: &str) -> String {
    format!(
        "<figure class=\"card {class}\">\n<h3>{}</h3>\n{}<figcaption>{}</figcaption>\n</figure>\n",
        Text(title),
        svg.finish(),
        Text(caption)
    )
}

/// Grid lines with their counts on the left, for axes of [`PLOT`] pixels.
fn left_axis(svg: &mut Svg, scale: (f64, f64)) {
    for tick in ticks(scale) {
        let y = BOTTOM - PLOT * tick / scale.0;
        svg.line("grid", (0.0, y), (100.0, y));
        svg.text("tick", (0.0, y + 4.0), -8.0, Anchor::End, &short(tick));
    }
}

/// Sentence scores in twenty bins of five; the last one holds 100 too.
fn histogram(scores: &[f64]) -> Option<String> {
    const BINS: usize = 20;
    let mut sorted: Vec<f64> = scores.iter().copied().filter(|score| score.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = match sorted.len() {
        0 => return None,
        len if len % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    };
    let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
    let mut bins = [0_u64; BINS];
    for score in &sorted {
        bins[((score / 5.0).max(0.0) as usize).min(BINS - 1)] += 1;
    }
    let scale = axis(bins.iter().copied().max().unwrap_or(0) as f64, 1.0);
    let (zeros, perfect) =
        (sorted.iter().filter(|s| **s <= 0.0).count(), sorted.iter().filter(|s| **s >= 100.0 - 1e-9).count());
    let caption = format!(
        "Cases: {}; median {}, mean {}; {} at 0, {} at 100. The corpus score is not their mean: it adds up counts first.",
        count(sorted.len() as u64),
        fixed(median, 1),
        fixed(mean, 1),
        count(zeros as u64),
        count(perfect as u64),
    );
    let mut svg = Svg::new(BOTTOM + 40.0, format!("Histogram of sentence scores. {caption}"));
    left_axis(&mut svg, scale);
    for (bin, &cases) in bins.iter().enumerate().filter(|(_, cases)| **cases > 0) {
        let (left, height) = (5.0 * bin as f64, PLOT * cases as f64 / scale.0);
        let title = format!("{left} to {}, cases: {}", left + 5.0, count(cases));
        svg.rect("bar", (left + 0.3, BOTTOM - height), (4.4, height), &title);
    }
    svg.line("guide", (median.clamp(0.0, 100.0), TOP - 4.0), (median.clamp(0.0, 100.0), BOTTOM));
    let anchor = if median > 75.0 { Anchor::End } else { Anchor::Start };
    let shift = if median > 75.0 { -5.0 } else { 5.0 };
    svg.text(
        "note",
        (median.clamp(0.0, 100.0), TOP - 5.0),
        shift,
        anchor,
        &format!("median {}", fixed(median, 1)),
    );
    for tick in ticks((100.0, 20.0)) {
        svg.text("tick", (tick, BOTTOM + 18.0), 0.0, Anchor::Middle, &short(tick));
    }
    svg.text("title", (50.0, BOTTOM + 37.0), 0.0, Anchor::Middle, "sentence BLEU");
    Some(figure("Sentence scores of all cases", &svg, "inset", &caption))
}

/// Lengths as dots whose area is the number of cases; left out where all texts are a word or two.
fn lengths(pairs: &[(u64, u64)]) -> Option<String> {
    const CELLS: u64 = 40;
    let most = pairs.iter().map(|(own, reference)| *own.max(reference)).max().filter(|most| *most > 2)?;
    let cell = most.div_ceil(CELLS);
    let mut cells: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for (own, reference) in pairs {
        *cells.entry((reference / cell, own / cell)).or_default() += 1;
    }
    let fullest = cells.values().copied().max().unwrap_or(1) as f64;
    let scale = axis(most as f64, 1.0);
    let share = |pick: fn(&(u64, u64)) -> bool| pairs.iter().filter(|pair| pick(pair)).count();
    let caption = format!(
        "Against the reference nearest in length: {} shorter, {} as long, {} longer. A larger dot is more cases.",
        count(share(|(own, reference)| own < reference) as u64),
        count(share(|(own, reference)| own == reference) as u64),
        count(share(|(own, reference)| own > reference) as u64),
    );
    let mut svg = Svg::new(BOTTOM + 40.0, format!("Length of hypothesis against reference. {caption}"));
    left_axis(&mut svg, scale);
    svg.line("guide", (0.0, BOTTOM), (100.0, TOP));
    // The middle of the whole numbers that a cell holds.
    let centre = |index: u64| (index * cell) as f64 + (cell - 1) as f64 / 2.0;
    for (&(reference, own), &cases) in &cells {
        let at = (100.0 * centre(reference) / scale.0, BOTTOM - PLOT * centre(own) / scale.0);
        let title = format!(
            "{} written, {} in the reference, cases: {}",
            short(centre(own)),
            short(centre(reference)),
            count(cases)
        );
        svg.circle("bubble", at, (9.0 * (cases as f64 / fullest).sqrt()).max(2.0), &title);
    }
    for tick in ticks(scale) {
        svg.text("tick", (100.0 * tick / scale.0, BOTTOM + 18.0), 0.0, Anchor::Middle, &short(tick));
    }
    svg.text("note", (0.0, TOP - 5.0), 0.0, Anchor::Start, "tokens written");
    svg.text("title", (50.0, BOTTOM + 37.0), 0.0, Anchor::Middle, "tokens in the reference");
    Some(figure("Length", &svg, "inset", &caption))
}

/// Precisions as bars in the shades of the cases.
fn precisions(metric: &Metric<'_>) -> String {
    const ROW: f64 = 44.0;
    let values = &metric.precisions;
    let words: Vec<String> =
        values.iter().enumerate().map(|(n, value)| format!("{}-gram {}", n + 1, fixed(*value, 1))).collect();
    let mut svg =
        Svg::new(ROW * values.len() as f64, format!("N-gram precisions in percent: {}", words.join(", ")));
    for (index, value) in values.iter().enumerate() {
        let top = ROW * index as f64;
        let words =
            if index == 0 { "single tokens".into() } else { format!("{} tokens in a row", index + 1) };
        svg.text("name", (0.0, top + 14.0), 0.0, Anchor::Start, &words);
        svg.text("value", (100.0, top + 14.0), 0.0, Anchor::End, &format!("{}\u{202f}%", fixed(*value, 1)));
        svg.rect("track", (0.0, top + 21.0), (100.0, 13.0), "");
        let class = format!("order o{}", (index + 1).min(super::matches::MAX_ORDER));
        svg.rect(&class, (0.0, top + 21.0), (value.clamp(0.0, 100.0), 13.0), "");
    }
    let caption = "The share of what was written that a reference has too, each counted at most as often as there. The shades \
                   are those of the cases below.";
    figure("N-gram precision", &svg, "", caption)
}
