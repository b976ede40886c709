//! Reading a nodule out of a report, by rule.

/// Whether `report` says that there is a nodule: a sentence names one and does not deny it.
pub fn reports_nodule(report: &str) -> bool {
    let text = report.to_lowercase();
    text.split(['.', ';', ':']).any(|sentence| {
        let Some(place) = ["nodule", "nodular opacity", "mass"].iter().filter_map(|word| find_word(sentence, word)).min() else {
            return false;
        };
        let before = &sentence[..place];
        !["no ", "without ", "free of ", "negative for ", "not ", "nor "].iter().any(|denial| contains_word(before, denial))
    })
}

/// Start of `word` in `sentence` where it begins a word; plurals count.
fn find_word(sentence: &str, word: &str) -> Option<usize> {
    sentence.match_indices(word).map(|(place, _)| place).find(|&place| !sentence[..place].ends_with(char::is_alphanumeric))
}

fn contains_word(text: &str, word: &str) -> bool {
    find_word(text, word).is_some()
}

#[cfg(test)]
mod tests {
    use super::reports_nodule;

    #[test]
    fn reads_mentions_and_denials() {
        for (report, expected) in [
            ("FINDINGS: There is a 12 mm nodule in the right upper zone. IMPRESSION: Right upper zone nodule.", true),
            ("FINDINGS: Two pulmonary nodules are seen.", true),
            ("FINDINGS: No nodule or consolidation. IMPRESSION: Normal study.", false),
            ("The lungs are clear without nodules. No effusion.", false),
            ("No effusion. A nodule is present.", true),
            ("The heart is enlarged; no massive effusion.", false),
            ("", false),
        ] {
            assert_eq!(reports_nodule(report), expected, "{report}");
        }
    }
}
