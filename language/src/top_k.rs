//! The k largest of a row, decided the same way every time.

/// Indices of the `k` largest `scores`, ascending. Among equals the lowest index wins.
pub(crate) fn top_k(scores: &[f32], k: usize) -> Vec<u32> {
    let mut indices: Vec<u32> = (0..scores.len() as u32).collect();
    if k < indices.len() {
        let better_first =
            |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then_with(|| a.cmp(b));
        if k > 0 {
            indices.select_nth_unstable_by(k - 1, better_first);
        }
        indices.truncate(k);
        indices.sort_unstable();
    }
    indices
}

#[cfg(test)]
mod tests {
    use super::top_k;

    #[test]
    fn ties_go_to_the_lowest_index() {
        assert_eq!(top_k(&[1.0, 3.0, 3.0, 3.0, 2.0], 2), [1, 2]);
        assert_eq!(top_k(&[1.0, f32::NEG_INFINITY, 0.0], 2), [0, 2]);
        assert_eq!(top_k(&[1.0, 2.0], 5), [0, 1]);
        assert!(top_k(&[1.0, 2.0], 0).is_empty());
    }
}
