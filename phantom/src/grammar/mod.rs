//! Words for facts: reports, questions and captions, with variety of wording and order.

mod caption;
mod phrases;
mod questions;
mod report;

pub use caption::caption;
pub use questions::{Question, QuestionType, questions};
pub use report::{Report, report};

use crate::rng::Rng;
use phrases::Phrases;

/// Draws a wording and fills its slots; a slot named with a capital gets a capital.
fn say(rng: &mut Rng, phrases: Phrases, slots: &[(&str, &str)]) -> String {
    let weights: Vec<f32> = phrases.iter().map(|(weight, _)| *weight).collect();
    fill(phrases[rng.weighted(&weights)].1, slots)
}

fn fill(template: &str, slots: &[(&str, &str)]) -> String {
    let mut text = template.to_owned();
    for (name, value) in slots {
        text = text.replace(&format!("{{{name}}}"), value);
        text = text.replace(&format!("{{{}}}", capital(name)), &capital(value));
    }
    // Of all sizes that are ever stated, only this one is said with a vowel first.
    let text = text.replace(" a 8 mm", " an 8 mm").replace("A 8 mm", "An 8 mm");
    debug_assert!(!text.contains('{'), "unfilled slot in {text:?}");
    text
}

/// The text with its first letter in upper case.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
