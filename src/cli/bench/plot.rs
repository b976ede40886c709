//! The roofline plot: rows under the ceilings of the machine that ran them (Williams et al. 2009), as SVG.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::labels::{Label, Point, place};
use super::roofline::Roofline;
use super::work::Work;

/// Pixels of the picture and of the frame in it: left, top, right, bottom.
const SIZE: (u32, u32) = (980, 640);
const FRAME: [f64; 4] = [84.0, 52.0, 956.0, 572.0];

/// Pixels of the letters of labels and ticks, and how wide one is at most on average.
const LETTERS: f64 = 13.0;
const LETTER_WIDTH: f64 = 0.53 * LETTERS;

/// The backend writes a size divided by this.
const FONT_SCALE: f64 = 1.24;

const INK: RGBColor = RGBColor(32, 36, 44);
const FAINT: RGBColor = RGBColor(228, 231, 236);
const GREY: RGBColor = RGBColor(120, 126, 138);
const MARK: RGBColor = RGBColor(20, 96, 190);
const ROOF: RGBColor = RGBColor(190, 60, 30);

/// A measured row.
#[derive(Debug)]
pub(super) struct Dot {
    pub(super) name: String,
    /// Operations for each byte of weights and inputs.
    pub(super) intensity: f64,
    /// Operations a second.
    pub(super) rate: f64,
}

impl Dot {
    pub(super) fn new(name: &str, work: Work, seconds: f64) -> Self {
        let name = name.strip_prefix("decoder ").unwrap_or(name).to_owned();
        Self { name, intensity: work.flops / work.bytes, rate: work.flops / seconds }
    }
}

/// Writes the picture to `path`.
pub(super) fn write(path: &Path, roofline: Roofline, dots: &[Dot]) -> Result<()> {
    let svg = draw(roofline, dots).map_err(|error| anyhow!("the roofline cannot be drawn: {error}"))?;
    std::fs::write(path, svg).with_context(|| format!("{} cannot be written", path.display()))
}

/// A logarithmic axis between two pixels.
#[derive(Debug, Clone, Copy)]
struct Axis {
    values: [f64; 2],
    pixels: [f64; 2],
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let [low, high] = self.values.map(f64::ln);
        self.pixels[0] + (value.ln() - low) / (high - low) * (self.pixels[1] - self.pixels[0])
    }

    /// 1, 2 and 5 times the powers of ten in range.
    fn ticks(&self) -> impl Iterator<Item = f64> {
        let [low, high] = self.values;
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        decades
            .flat_map(|power| [1.0, 2.0, 5.0].map(|factor| factor * 10f64.powi(power)))
            .filter(move |tick| (low..=high).contains(tick))
    }
}

/// Axes that hold the points and the roof.
fn axes(roofline: Roofline, dots: &[Dot]) -> (Axis, Axis) {
    let Roofline { bf16_flops: flat, read_bytes: slope } = roofline;
    let ridge = flat / slope;
    let range = |values: &mut dyn Iterator<Item = f64>, first: f64| {
        values.fold([first; 2], |[low, high], value| [low.min(value), high.max(value)])
    };
    let [left, right] = range(&mut dots.iter().map(|dot| dot.intensity), ridge);
    let x = Axis { values: [left.min(1.0) / 2.5, right * 4.0], pixels: [FRAME[0], FRAME[2]] };
    let [low, high] = range(&mut dots.iter().map(|dot| dot.rate), flat);
    let y = Axis { values: [low.min(slope * x.values[0]) / 2.0, high * 2.0], pixels: [FRAME[3], FRAME[1]] };
    (x, y)
}

/// Where the words of a label begin, end or have their middle. The side that looks at the point is exact, the width an estimate.
fn anchor(label: &Label, point: Point) -> (f64, HPos) {
    if label.left > point.x {
        (label.left, HPos::Left)
    } else if label.right < point.x {
        (label.right, HPos::Right)
    } else {
        (f64::midpoint(label.left, label.right), HPos::Center)
    }
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Where a plot is drawn.
struct Canvas<'a>(DrawingArea<SVGBackend<'a>, Shift>);

impl Canvas<'_> {
    fn text(&self, text: &str, at: Point, style: &TextStyle) -> Drawn {
        Ok(self.0.draw_text(text, style, at.round())?)
    }

    fn line(&self, from: Point, to: Point, style: ShapeStyle) -> Drawn {
        Ok(self.0.draw(&PathElement::new(vec![from.round(), to.round()], style))?)
    }

    /// The frame with its numbers and words.
    fn grid(&self, x: &Axis, y: &Axis) -> Drawn {
        for tick in x.ticks() {
            let at = x.at(tick);
            self.line(Point { x: at, y: FRAME[1] }, Point { x: at, y: FRAME[3] }, FAINT.stroke_width(1))?;
            let below = Point { x: at, y: FRAME[3] + 8.0 };
            self.text(&number(tick), below, &style(LETTERS, INK, HPos::Center, VPos::Top))?;
        }
        for tick in y.ticks() {
            let at = y.at(tick);
            self.line(Point { x: FRAME[0], y: at }, Point { x: FRAME[2], y: at }, FAINT.stroke_width(1))?;
            let beside = Point { x: FRAME[0] - 8.0, y: at };
            self.text(&number(tick / 1e9), beside, &style(LETTERS, INK, HPos::Right, VPos::Center))?;
        }
        let [left, top, right, bottom] = FRAME;
        self.line(Point { x: left, y: top }, Point { x: left, y: bottom }, GREY.stroke_width(1))?;
        self.line(Point { x: left, y: bottom }, Point { x: right, y: bottom }, GREY.stroke_width(1))?;
        let threads = rayon::current_num_threads();
        let title = format!(
            "swinseek bench on {threads} threads, under the ceilings that it measured on the machine"
        );
        self.text(&title, Point { x: left, y: 14.0 }, &style(LETTERS + 2.0, INK, HPos::Left, VPos::Top))?;
        let corner = Point { x: left - 8.0, y: top - 14.0 };
        self.text("GFLOP/s", corner, &style(LETTERS, INK, HPos::Right, VPos::Center))?;
        let middle = Point { x: f64::midpoint(left, right), y: bottom + 34.0 };
        let description = "floating-point operations for each byte of weights and inputs";
        self.text(description, middle, &style(LETTERS, INK, HPos::Center, VPos::Top))?;
        Ok(())
    }
}

fn style<'a>(size: f64, color: RGBColor, h: HPos, v: VPos) -> TextStyle<'a> {
    ("sans-serif", size * FONT_SCALE).into_font().color(&color).pos(Pos::new(h, v))
}

fn draw(roofline: Roofline, dots: &[Dot]) -> Result<String, Box<dyn std::error::Error>> {
    let Roofline { bf16_flops: flat, read_bytes: slope } = roofline;
    let ridge = flat / slope;
    let (x, y) = axes(roofline, dots);
    let pixel = |intensity: f64, rate: f64| Point { x: x.at(intensity), y: y.at(rate) };

    let mut svg = String::new();
    {
        let canvas = Canvas(SVGBackend::with_string(&mut svg, SIZE).into_drawing_area());
        canvas.0.fill(&WHITE)?;
        canvas.grid(&x, &y)?;
        // The roof's two numbers stand above it, at its ends.
        let (foot, top_of_slope, end) =
            (pixel(x.values[0], slope * x.values[0]), pixel(ridge, flat), pixel(x.values[1], flat));
        let compute = format!("products in bf16: {} GFLOP/s", number(three_digits(flat / 1e9)));
        let memory = format!("memory: {} GB/s", number(three_digits(slope / 1e9)));
        let at = Point { x: FRAME[2] - text_width(&compute) - 6.0, y: end.y - 10.0 - LETTERS };
        let compute_box = Label::of_size(text_width(&compute), LETTERS, at);
        // Its last letter stands over the slope.
        let rise = (top_of_slope.y - foot.y) / (top_of_slope.x - foot.x);
        let width = text_width(&memory);
        let at = Point { x: foot.x + 8.0, y: foot.y + rise * (width + 16.0) - 6.0 - LETTERS };
        let memory_box = Label::of_size(width, LETTERS, at);
        for (caption, place) in [(&compute, compute_box), (&memory, memory_box)] {
            let at = Point { x: place.left, y: place.bottom };
            canvas.text(caption, at, &style(LETTERS, ROOF, HPos::Left, VPos::Bottom))?;
        }

        let points: Vec<Point> = dots.iter().map(|dot| pixel(dot.intensity, dot.rate)).collect();
        let sizes: Vec<(f64, f64)> = dots.iter().map(|dot| (text_width(&dot.name), LETTERS + 2.0)).collect();
        let labels = place(
            FRAME,
            &points,
            &sizes,
            &[(foot, top_of_slope), (top_of_slope, end)],
            &[compute_box, memory_box],
        );
        for (point, label) in points.iter().zip(&labels) {
            if let Some(end) = label.leader(*point) {
                canvas.line(*point, end, GREY.stroke_width(1))?;
            }
        }
        // Where nothing else was free, a line passes behind the words and not through them.
        for label in &labels {
            let corners = [(label.left, label.top), (label.right, label.bottom)];
            let corners = corners.map(|(x, y)| Point { x, y }.round());
            canvas.0.draw(&Rectangle::new(corners, WHITE.filled()))?;
        }
        let roof = [foot, top_of_slope, end].map(Point::round).to_vec();
        canvas.0.draw(&PathElement::new(roof, ROOF.stroke_width(2)))?;
        for ((dot, point), label) in dots.iter().zip(&points).zip(&labels) {
            let (x, side) = anchor(label, *point);
            let at = Point { x, y: f64::midpoint(label.top, label.bottom) };
            canvas.text(&dot.name, at, &style(LETTERS, INK, side, VPos::Center))?;
        }
        // Last, so that no leader crosses a mark.
        for point in &points {
            canvas.0.draw(&Circle::new(point.round(), 5, MARK.filled()))?;
        }
        canvas.0.present()?;
    }
    Ok(svg)
}

fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * LETTER_WIDTH
}

/// To three digits that count.
fn three_digits(value: f64) -> f64 {
    let power = 10f64.powi(2 - value.log10().floor() as i32);
    (value * power).round() / power
}

fn number(value: f64) -> String {
    // Fifteen digits: 0.1 times a power of ten is no more exact.
    let digits = format!("{value:.6}");
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dots(count: usize) -> Vec<Dot> {
        (0..count)
            .map(|i| Dot {
                name: format!("row {i} <&> of many"),
                intensity: 1.0 + (i * 7 % 5) as f64 * 60.0,
                rate: 1e10 * (1.0 + (i * 3 % 4) as f64 * 20.0),
            })
            .collect()
    }

    /// Every element that opens closes, in order, and text holds no bare sign.
    fn is_well_formed(svg: &str) -> bool {
        let mut open = Vec::new();
        let mut rest = svg;
        while let Some((text, tail)) = rest.split_once('<') {
            let Some((tag, tail)) = tail.split_once('>') else { return false };
            let entities = text.split('&').skip(1);
            if !entities
                .clone()
                .all(|part| ["lt;", "gt;", "amp;", "quot;"].iter().any(|e| part.starts_with(e)))
            {
                return false;
            }
            let name = tag.split_whitespace().next().unwrap_or_default();
            if let Some(name) = name.strip_prefix('/') {
                if open.pop() != Some(name) {
                    return false;
                }
            } else if !tag.ends_with('/') && !tag.starts_with(['?', '!']) {
                open.push(name);
            }
            rest = tail;
        }
        open.is_empty()
    }

    #[test]
    fn a_picture_has_a_point_and_a_label_for_each_row() {
        let roofline = Roofline { bf16_flops: 4e12, read_bytes: 15e9 };
        for count in [0, 1, 13, 31] {
            let svg = draw(roofline, &dots(count)).expect("drawn");
            assert!(is_well_formed(&svg), "{svg}");
            assert_eq!(svg.matches("<circle").count(), count);
            assert_eq!(svg.matches("&lt;&amp;&gt; of many").count(), count);
            assert!(
                svg.contains("products in bf16: 4000 GFLOP/s") && svg.contains("memory: 15 GB/s"),
                "{svg}"
            );
        }
    }

    #[test]
    fn ticks_are_round_and_rise() {
        let axis = Axis { values: [0.4, 2100.0], pixels: [0.0, 100.0] };
        let ticks: Vec<String> = axis.ticks().map(number).collect();
        assert_eq!(ticks, ["0.5", "1", "2", "5", "10", "20", "50", "100", "200", "500", "1000", "2000"]);
        assert_eq!(number(three_digits(3456.7)), "3460");
        assert_eq!(number(three_digits(14.123)), "14.1");
    }
}
