//! Which cases get a picture.

use super::Group;
use crate::resample::{below, generator};

/// Indices of the cases to show; no case is in two groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Highest scores, the highest first.
    pub best: Vec<usize>,
    /// Lowest scores, the lowest first.
    pub worst: Vec<usize>,
    /// Drawn from the others.
    pub random: Vec<usize>,
}

impl Selection {
    /// All indices with their groups, in the order of the page.
    pub fn iter(&self) -> impl Iterator<Item = (Group, usize)> {
        Group::ALL.into_iter().flat_map(|group| {
            let indices = match group {
                Group::Best => &self.best,
                Group::Worst => &self.worst,
                Group::Random => &self.random,
            };
            indices.iter().map(move |&index| (group, index))
        })
    }
}

/// Which cases get a picture: `each` best, `each` worst and `each` random ones, fewer where there are not enough. Of
/// equal scores `seed` decides, so that a run full of perfect scores does not show the beginning of its file. A score
/// that is not a number counts as the lowest.
pub fn choose(scores: &[f64], each: usize, seed: u64) -> Selection {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let mut rng = generator(seed, 0);
    for last in (1..order.len()).rev() {
        order.swap(last, below(&mut rng, last + 1));
    }
    let key = |index: usize| if scores[index].is_nan() { f64::NEG_INFINITY } else { scores[index] };
    let mut ranked = order.clone();
    ranked.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
    let best = each.min(ranked.len().div_ceil(2));
    let worst = each.min(ranked.len() - best);
    let best = ranked[..best].to_vec();
    let worst: Vec<usize> = ranked.iter().rev().take(worst).copied().collect();
    let others = order.into_iter().filter(|index| !best.contains(index) && !worst.contains(index));
    let random = others.take(each).collect();
    Selection { best, worst, random }
}
