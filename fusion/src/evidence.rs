//! What a sentence rests on: how sure the model was of its words, and where in the image it looked.

use std::ops::Range;

use swinseek_language::text_stream;
use swinseek_vision::preprocess::{Geometry, Region};

use crate::generate::Token;
use crate::projector::MemoryLayout;

/// A sentence of an answer with its evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Sentence {
    /// Its words.
    pub text: String,
    /// Its tokens within the answer.
    pub tokens: Range<usize>,
    /// Mean probability of its tokens, 0 to 1: how sure the model was of the wording, not how likely it is true.
    pub confidence: f64,
    /// Where it looked, if there was an image.
    pub region: Option<ImageRegion>,
}

/// A rectangle of one of the request's images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageRegion {
    /// Index of the image.
    pub image: usize,
    /// In pixels of the original image.
    pub region: Region,
}

/// Evidence for `sentences`; `layout` and `geometry` describe the images, all of one size after preprocessing.
pub fn sentences(
    sentences: &[text_stream::Sentence],
    tokens: &[Token],
    layout: Option<&MemoryLayout>,
    geometry: &[Geometry],
) -> Vec<Sentence> {
    let clamp = |range: &Range<usize>| range.start.min(tokens.len())..range.end.min(tokens.len());
    let of_sentence = |sentence: &text_stream::Sentence| &tokens[clamp(&sentence.tokens)];
    let mean = mean_attention(tokens);
    let evidence = |sentence: &text_stream::Sentence| {
        let part = of_sentence(sentence);
        let probability: f64 = part.iter().map(|token| f64::from(token.logprob).exp()).sum();
        let region = layout.and_then(|layout| region(&mean_attention(part), &mean, layout, geometry));
        Sentence {
            text: sentence.text.clone(),
            tokens: clamp(&sentence.tokens),
            confidence: probability / part.len().max(1) as f64,
            region,
        }
    };
    sentences.iter().map(evidence).collect()
}

/// Mean attention over the memory of `tokens`; empty when it was not recorded.
fn mean_attention(tokens: &[Token]) -> Vec<f32> {
    let length = tokens.iter().map(|token| token.attention.len()).max().unwrap_or(0);
    let mut mean = vec![0.0; length];
    for token in tokens.iter().filter(|token| token.attention.len() == length) {
        mean.iter_mut().zip(&token.attention).for_each(|(mean, a)| *mean += a / tokens.len() as f32);
    }
    mean
}

/// The cells that the sentence attended to more than the whole answer did, around the strongest.
fn region(
    attention: &[f32],
    background: &[f32],
    layout: &MemoryLayout,
    geometry: &[Geometry],
) -> Option<ImageRegion> {
    let finest = layout.maps.first()?;
    let (rows, columns) = (finest.height, finest.width);
    let mut maps = vec![vec![0.0f32; rows * columns]; geometry.len()];
    for (index, (&attention, &background)) in attention.iter().zip(background).enumerate() {
        let token = layout.token(index)?;
        let map = maps.get_mut(token.image)?;
        let cells = cells_of(token.region(), rows, columns);
        // Attention that every sentence pays (to the frame, to a marker) says nothing of this one.
        let excess = attention - 0.5 * background;
        for &cell in &cells {
            map[cell] += excess / cells.len() as f32;
        }
    }
    let strongest = |map: &Vec<f32>| map.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    let peaks = maps
        .iter()
        .enumerate()
        .filter_map(|(image, map)| strongest(map).map(|(cell, value)| (image, cell, value)));
    let (image, cell, value) = peaks.max_by(|a, b| a.2.total_cmp(&b.2)).filter(|peak| peak.2 > 0.0)?;
    let [x0, y0, x1, y1] = around(&maps[image], cell, 0.5 * value, columns).map(|edge| edge as f64);
    let (width, height) = geometry[image].input_size();
    let (across, down) = (width as f64 / columns as f64, height as f64 / rows as f64);
    let seen = Region { left: x0 * across, top: y0 * down, right: x1 * across, bottom: y1 * down };
    Some(ImageRegion { image, region: geometry[image].to_original(seen)? })
}

/// Cells of a `rows × columns` grid under a rectangle given in fractions.
fn cells_of([x0, y0, x1, y1]: [f32; 4], rows: usize, columns: usize) -> Vec<usize> {
    let range = |low: f32, high: f32, count: usize| {
        let first = ((low * count as f32 + 0.5) as usize).min(count - 1);
        first..((high * count as f32 + 0.5) as usize).clamp(first + 1, count)
    };
    let columns_hit = range(x0, x1, columns);
    range(y0, y1, rows).flat_map(|y| columns_hit.clone().map(move |x| y * columns + x)).collect()
}

/// Bounding box, in cells, of the connected cells of at least `threshold` around `start`.
fn around(map: &[f32], start: usize, threshold: f32, columns: usize) -> [usize; 4] {
    let rows = map.len() / columns;
    let mut seen = vec![false; map.len()];
    let mut open = vec![start];
    let mut bbox = [start % columns, start / columns, start % columns + 1, start / columns + 1];
    seen[start] = true;
    while let Some(cell) = open.pop() {
        let (x, y) = (cell % columns, cell / columns);
        bbox = [bbox[0].min(x), bbox[1].min(y), bbox[2].max(x + 1), bbox[3].max(y + 1)];
        let neighbours = [(x.wrapping_sub(1), y), (x + 1, y), (x, y.wrapping_sub(1)), (x, y + 1)];
        for (x, y) in neighbours.into_iter().filter(|&(x, y)| x < columns && y < rows) {
            let next = y * columns + x;
            if !seen[next] && map[next] >= threshold {
                seen[next] = true;
                open.push(next);
            }
        }
    }
    bbox
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_the_connected_part_around_the_peak() {
        #[rustfmt::skip]
        let map = [0.9, 0.0, 0.0, 0.0,
                   0.0, 0.0, 1.0, 0.6,
                   0.0, 0.0, 0.7, 0.1];
        assert_eq!(around(&map, 6, 0.5, 4), [2, 1, 4, 3]);
    }

    #[test]
    fn a_coarse_token_covers_the_fine_cells_under_it() {
        assert_eq!(cells_of([0.5, 0.0, 1.0, 0.5], 4, 4), [2, 3, 6, 7]);
        assert_eq!(cells_of([0.25, 0.25, 0.5, 0.5], 4, 4), [5]);
        assert_eq!(
            cells_of([0.0, 0.0, 1.0 / 3.0, 1.0 / 3.0], 4, 4),
            [0],
            "a map of another size still hits a cell"
        );
    }
}
