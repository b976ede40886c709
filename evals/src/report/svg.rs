//! A small SVG builder: x in percent of the width, y in pixels, looks by class.

use std::fmt::Write;

use super::text::{Text, fixed};

/// Where text stands at its x.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing that fills the width it is given.
pub(super) struct Svg {
    height: f64,
    label: String,
    body: String,
}

impl Svg {
    /// `label` says in words what the drawing shows.
    pub(super) fn new(height: f64, label: String) -> Self {
        Self { height, label, body: String::new() }
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) -> &mut Self {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(element);
        self
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) -> &mut Self {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(round);
        self.push(format_args!("<line class=\"{class}\" x1=\"{x1}%\" y1=\"{y1}\" x2=\"{x2}%\" y2=\"{y2}\"/>"))
    }

    /// `title` is what a pointer that rests on the mark reads.
    pub(super) fn circle(&mut self, class: &str, at: (f64, f64), radius: f64, title: &str) -> &mut Self {
        let [x, y, r] = [at.0, at.1, radius].map(round);
        self.push(format_args!(
            "<circle class=\"{class}\" cx=\"{x}%\" cy=\"{y}\" r=\"{r}\">{}</circle>",
            Title(title)
        ))
    }

    /// A box from its upper left corner; `size` is percent by pixels.
    pub(super) fn rect(&mut self, class: &str, at: (f64, f64), size: (f64, f64), title: &str) -> &mut Self {
        let [x, y, w, h] = [at.0, at.1, size.0, size.1].map(round);
        self.push(format_args!(
            "<rect class=\"{class}\" x=\"{x}%\" y=\"{y}\" width=\"{w}%\" height=\"{h}\">{}</rect>",
            Title(title)
        ))
    }

    /// `shift` moves it by pixels to the right.
    pub(super) fn text(
        &mut self,
        class: &str,
        at: (f64, f64),
        shift: f64,
        anchor: Anchor,
        text: &str,
    ) -> &mut Self {
        let [x, y, dx] = [at.0, at.1, shift].map(round);
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(format_args!(
            "<text class=\"{class}\" x=\"{x}%\" y=\"{y}\" dx=\"{dx}\" text-anchor=\"{anchor}\">{}</text>",
            Text(text)
        ))
    }

    pub(super) fn finish(&self) -> String {
        format!(
            "<svg role=\"img\" aria-label=\"{}\" width=\"100%\" height=\"{}\">{}</svg>\n",
            Text(&self.label),
            round(self.height),
            self.body
        )
    }
}

struct Title<'a>(&'a str);

impl std::fmt::Display for Title<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "<title>{}</title>", Text(self.0)) }
    }
}

/// Hundredths are finer than any screen, and the same everywhere.
fn round(value: f64) -> String {
    fixed(if value.is_finite() { value } else { 0.0 }, 2)
}

/// The end of an axis from 0 that holds `most`, and the step of its ticks: 1, 2 or 5 times a power of ten, with two
/// to seven ticks. Steps below `least` are left out (1 for counts).
pub(super) fn axis(most: f64, least: f64) -> (f64, f64) {
    let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
    let power = 10_f64.powf((most / 6.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| most / step <= 6.0);
    let step = step.unwrap_or(10.0 * power).max(least);
    ((most / step - 1e-9).ceil().max(1.0) * step, step)
}

/// The ticks of such an axis.
pub(super) fn ticks((end, step): (f64, f64)) -> impl Iterator<Item = f64> {
    (0..=(end / step).round() as u32).map(move |tick| f64::from(tick) * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_their_data_with_round_steps() {
        assert_eq!(axis(67.5, 0.0), (80.0, 20.0));
        assert_eq!(axis(100.0, 0.0), (100.0, 20.0));
        assert_eq!(axis(3.0, 1.0), (3.0, 1.0));
        assert_eq!(axis(0.0, 1.0), (1.0, 1.0));
        for value in [0.00123, 0.7, 1.0, 9.99, 11.0, 49.0, 51.0, 99999.0] {
            let (end, step) = axis(value, 0.0);
            let count = ticks((end, step)).count();
            assert!(end >= value && (3..=7).contains(&count), "{value}: to {end} by {step}");
        }
    }
}
