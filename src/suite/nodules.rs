//! Reading a nodule out of a report, by rule.

/// Whether `report` says that there is a nodule: a sentence names one and does not deny it. A 'round opacity' is the
/// phantom grammar's other word for a nodule.
pub fn reports_nodule(report: &str) -> bool {
    let text = report.to_lowercase();
    text.split(['.', ';', ':']).any(|sentence| {
        let words: Vec<&str> =
            sentence.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
        let is_nodule =
            |word: &&str| matches!(*word, "nodule" | "nodules" | "nodular" | "mass" | "masses" | "round");
        let Some(place) = words.iter().position(is_nodule) else {
            return false;
        };
        !words[..place]
            .iter()
            .any(|word| matches!(*word, "no" | "without" | "free" | "negative" | "not" | "nor"))
    })
}

#[cfg(test)]
mod tests {
    use super::reports_nodule;

    #[test]
    fn reads_mentions_and_denials() {
        for (report, expected) in [
            (
                "FINDINGS: There is a 12 mm nodule in the right upper lung. IMPRESSION: Right upper lung nodule.",
                true,
            ),
            ("FINDINGS: Two pulmonary nodules are seen.", true),
            ("There is a round 8 mm opacity in the left lower lung.", true),
            ("FINDINGS: No nodule or consolidation. IMPRESSION: Normal study.", false),
            ("The lungs are clear without nodules. No effusion.", false),
            ("No effusion. A nodule is present.", true),
            ("There is a massive effusion around the heart.", false),
            ("", false),
        ] {
            assert_eq!(reports_nodule(report), expected, "{report}");
        }
    }
}
