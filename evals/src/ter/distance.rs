//! Edit distance near the diagonal, with the operations that lead to it.

/// A cell outside the beam; adding 1 does not overflow.
const FAR: u32 = u32::MAX / 2;

/// Half the width of the beam around the diagonal.
const BEAM: f64 = 25.0;

/// How a cell was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    Keep,
    Substitute,
    /// A reference word that the hypothesis lacks.
    Insert,
    /// A hypothesis word too many.
    Delete,
}

/// Edit distances of hypotheses of one length, which are arrangements of the same words, to one reference.
pub(super) struct Distances<'a> {
    reference: &'a [u32],
    /// Number of hypothesis words.
    rows: usize,
    /// Reference words per hypothesis word.
    slope: f64,
    beam: i64,
    /// For the arrangement aligned last: cost and edit of each cell, `rows + 1` by `reference.len() + 1`.
    costs: Vec<u32>,
    edits: Vec<Edit>,
    /// The row before and the row at hand of another arrangement.
    trial: [Vec<u32>; 2],
    trial_edits: Vec<Edit>,
}

impl<'a> Distances<'a> {
    pub(super) fn new(reference: &'a [u32], rows: usize) -> Self {
        let columns = reference.len() + 1;
        let slope = if rows == 0 { 1.0 } else { reference.len() as f64 / rows as f64 };
        let beam = if BEAM < slope / 2.0 { (slope / 2.0 + BEAM).ceil() } else { BEAM };
        let mut costs = vec![FAR; (rows + 1) * columns];
        for (column, cost) in costs[..columns].iter_mut().enumerate() {
            *cost = column as u32;
        }
        Self {
            reference,
            rows,
            slope,
            beam: beam as i64,
            costs,
            // The first row is reached by inserting every word.
            edits: vec![Edit::Insert; (rows + 1) * columns],
            trial: [vec![FAR; columns], vec![FAR; columns]],
            trial_edits: vec![Edit::Insert; columns],
        }
    }

    /// Distance of `words`, and with it the edits for [`Distances::trace`].
    pub(super) fn align(&mut self, words: &[u32]) -> u32 {
        let columns = self.reference.len() + 1;
        let band = Band { slope: self.slope, beam: self.beam, rows: self.rows };
        for (index, &word) in words.iter().enumerate() {
            let (before, row) = self.costs.split_at_mut((index + 1) * columns);
            let edits = &mut self.edits[(index + 1) * columns..][..columns];
            band.fill(
                index + 1,
                word,
                self.reference,
                &before[index * columns..],
                &mut row[..columns],
                edits,
            );
        }
        self.costs[self.costs.len() - 1]
    }

    /// Distance of an arrangement whose first `same` words are those aligned last.
    pub(super) fn distance(&mut self, words: &[u32], same: usize) -> u32 {
        let columns = self.reference.len() + 1;
        let band = Band { slope: self.slope, beam: self.beam, rows: self.rows };
        let [before, row] = &mut self.trial;
        before.copy_from_slice(&self.costs[same * columns..][..columns]);
        for (index, &word) in words.iter().enumerate().skip(same) {
            band.fill(index + 1, word, self.reference, before, row, &mut self.trial_edits);
            std::mem::swap(before, row);
        }
        before[columns - 1]
    }

    /// The edits that make the reference from the words aligned last, in order.
    pub(super) fn trace(&self) -> Vec<Edit> {
        let columns = self.reference.len() + 1;
        let (mut row, mut column) = (self.rows, columns - 1);
        let mut trace = Vec::with_capacity(row + column);
        while row > 0 || column > 0 {
            // At the borders only one way is left.
            let edit = match (row, column) {
                (0, _) => Edit::Insert,
                (_, 0) => Edit::Delete,
                _ => self.edits[row * columns + column],
            };
            trace.push(edit);
            row -= usize::from(edit != Edit::Insert);
            column -= usize::from(edit != Edit::Delete);
        }
        trace.reverse();
        trace
    }
}

/// The cells that are looked at.
struct Band {
    slope: f64,
    beam: i64,
    rows: usize,
}

impl Band {
    /// Fills row number `index` (from 1), which stands for `word`. Of equally cheap edits keeping or substituting goes
    /// first, then deleting, then inserting.
    fn fill(
        &self,
        index: usize,
        word: u32,
        reference: &[u32],
        before: &[u32],
        row: &mut [u32],
        edits: &mut [Edit],
    ) {
        let diagonal = (index as f64 * self.slope).floor() as i64;
        let begin = (diagonal - self.beam).max(0) as usize;
        let end = if index == self.rows { row.len() } else { row.len().min((diagonal + self.beam) as usize) };
        row.fill(FAR);
        for column in begin..end {
            if column == 0 {
                (row[0], edits[0]) = (before[0] + 1, Edit::Delete);
                continue;
            }
            let same = word == reference[column - 1];
            let kept = before[column - 1] + u32::from(!same);
            let mut best = (kept.min(FAR), if same { Edit::Keep } else { Edit::Substitute });
            for (cost, edit) in [(before[column] + 1, Edit::Delete), (row[column - 1] + 1, Edit::Insert)] {
                if cost < best.0 {
                    best = (cost, edit);
                }
            }
            (row[column], edits[column]) = best;
        }
    }
}
