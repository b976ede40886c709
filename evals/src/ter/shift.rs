//! Shifts of word blocks, one after the other, each the one that saves the most edits.

use super::distance::{Distances, Edit};

/// Words of a block, at most.
const MAX_SIZE: usize = 10;
/// Words between a block and its place in the reference, at most.
const MAX_DISTANCE: usize = 50;
/// Shifts that are tried for a pair before the search is given up.
const MAX_CANDIDATES: usize = 1000;

/// Edits and shifts that make `reference` from `hypothesis`.
pub(super) fn edits(hypothesis: &[u32], reference: &[u32]) -> usize {
    if reference.is_empty() {
        return hypothesis.len();
    }
    let mut words = hypothesis.to_vec();
    let mut distances = Distances::new(reference, words.len());
    let (mut shifts, mut tried) = (0, 0);
    loop {
        let distance = distances.align(&words);
        if distance == 0 {
            return shifts;
        }
        let best = best_shift(&words, reference, distance, &mut distances, &mut tried);
        match best {
            // A shift that was found while the search was given up is not made.
            Some((shift, gain)) if gain > 0 && tried < MAX_CANDIDATES => words = shift.apply(&words),
            _ => return shifts + distance as usize,
        }
        shifts += 1;
    }
}

/// A block of the hypothesis and the place that it moves to.
#[derive(Clone, Copy)]
struct Shift {
    start: usize,
    len: usize,
    target: usize,
}

impl Shift {
    fn apply(self, words: &[u32]) -> Vec<u32> {
        let Self { start, len, target } = self;
        let end = start + len;
        let block = &words[start..end];
        if target < start {
            [&words[..target], block, &words[target..start], &words[end..]].concat()
        } else if target > end {
            [&words[..start], &words[end..target], block, &words[target..]].concat()
        } else {
            // Within the block the place counts from its front.
            let place = (len + target).min(words.len());
            [&words[..start], &words[end..place], block, &words[place..]].concat()
        }
    }
}

/// Where each reference word stands in the hypothesis (the word before it, when it is missing there, -1 at the front),
/// and how many errors there are before each position.
struct Alignment {
    places: Vec<isize>,
    reference_errors: Vec<usize>,
    hypothesis_errors: Vec<usize>,
}

impl Alignment {
    fn new(trace: &[Edit]) -> Self {
        let mut own = Self { places: Vec::new(), reference_errors: vec![0], hypothesis_errors: vec![0] };
        let push = |errors: &mut Vec<usize>, error: bool| {
            errors.push(errors.last().copied().unwrap_or(0) + usize::from(error));
        };
        for &edit in trace {
            let error = edit != Edit::Keep;
            if edit != Edit::Insert {
                push(&mut own.hypothesis_errors, error);
            }
            if edit != Edit::Delete {
                push(&mut own.reference_errors, error);
                own.places.push(own.hypothesis_errors.len() as isize - 2);
            }
        }
        own
    }
}

/// The shift that saves most; of equal ones the longest block, then the first block, then the first place.
fn best_shift(
    words: &[u32],
    reference: &[u32],
    distance: u32,
    distances: &mut Distances<'_>,
    tried: &mut usize,
) -> Option<(Shift, i64)> {
    let alignment = Alignment::new(&distances.trace());
    let mut best: Option<(Shift, i64)> = None;
    for (start, place, len) in common_blocks(words, reference) {
        // Both the block and its place must be wrong now.
        let wrong = |errors: &[usize], from: usize| errors[from + len] > errors[from];
        let inside = (start as isize..(start + len) as isize).contains(&alignment.places[place]);
        let possible =
            wrong(&alignment.hypothesis_errors, start) && wrong(&alignment.reference_errors, place);
        if inside || !possible {
            continue;
        }
        let mut previous = None;
        for target in targets(&alignment.places, place, len) {
            if previous == Some(target) {
                continue;
            }
            previous = Some(target);
            let shift = Shift { start, len, target };
            let shifted = shift.apply(words);
            let gain = i64::from(distance) - i64::from(distances.distance(&shifted, start.min(target)));
            *tried += 1;
            let rank = |(shift, gain): (Shift, i64)| {
                (gain, shift.len, std::cmp::Reverse(shift.start), std::cmp::Reverse(shift.target))
            };
            if best.is_none_or(|best| rank((shift, gain)) > rank(best)) {
                best = Some((shift, gain));
            }
        }
        if *tried >= MAX_CANDIDATES {
            break;
        }
    }
    best
}

/// Places in the hypothesis before which a block that belongs to `place` in the reference may go: after the words that
/// stand for the one before it and for its own.
fn targets(places: &[isize], place: usize, len: usize) -> impl Iterator<Item = usize> {
    let before = place.checked_sub(1).map_or(0, |before| (places[before] + 1) as usize);
    let own = places.iter().skip(place).take(len).map(|&at| (at + 1) as usize);
    std::iter::once(before).chain(own)
}

/// Blocks that hypothesis and reference share, `(start, place in the reference, length)`, with all their beginnings.
fn common_blocks<'a>(
    words: &'a [u32],
    reference: &'a [u32],
) -> impl Iterator<Item = (usize, usize, usize)> + 'a {
    (0..words.len()).flat_map(move |start| {
        let near = start.saturating_sub(MAX_DISTANCE)..reference.len().min(start + MAX_DISTANCE + 1);
        near.flat_map(move |place| {
            let equal = words[start..].iter().zip(&reference[place..]).take(MAX_SIZE);
            let longest = equal.take_while(|(word, other)| word == other).count();
            (1..=longest).map(move |len| (start, place, len))
        })
    })
}
