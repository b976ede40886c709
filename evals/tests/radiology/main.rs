//! The labeller against sentences read by hand, the counts against plain counting.

mod rules;
mod scores;
mod texts;
