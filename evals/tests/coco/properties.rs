//! Against plain references, on texts of any length and kind.

use proptest::prelude::*;
use swinseek_evals::profile::Profile;
use swinseek_evals::rouge::rouge_l;
use swinseek_evals::tokenize::ptb;

/// Length of the longest common subsequence by its table.
fn plain_common(a: &[&str], b: &[&str]) -> usize {
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate() {
            table[i + 1][j + 1] = if x == y { table[i][j] + 1 } else { table[i][j + 1].max(table[i + 1][j]) };
        }
    }
    table[a.len()][b.len()]
}

fn text(words: &[u8]) -> String {
    words.iter().map(|word| format!("w{word}")).collect::<Vec<String>>().join(" ")
}

/// Single letters, marks and anything else, so that many rules meet.
const PIECES: &str = r#"[A-Za-z0-9.,'"&;:/<>()_@#$%!?*\\ \-]{0,60}|\PC{0,20}|.{0,20}"#;

proptest! {
    #[test]
    fn rouge_l_is_the_longest_common_subsequence(
        a in prop::collection::vec(0_u8..12, 1..300),
        b in prop::collection::vec(0_u8..12, 1..300),
    ) {
        let (hypothesis, reference) = (text(&a), text(&b));
        let (a, b): (Vec<&str>, Vec<&str>) = (hypothesis.split(' ').collect(), reference.split(' ').collect());
        let common = plain_common(&a, &b) as f64;
        let (precision, recall) = (common / a.len() as f64, common / b.len() as f64);
        let expected = if common == 0.0 { 0.0 } else { 2.44 * precision * recall / (recall + 1.44 * precision) };
        // The weight is 1.2 squared in f64.
        prop_assert!((rouge_l(&hypothesis, &[&reference]) - expected).abs() < 1e-12);
    }

    #[test]
    fn any_text_becomes_one_line_of_tokens(texts in prop::collection::vec(PIECES, 1..6)) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let lines = ptb::tokenize_all(&texts);
        prop_assert_eq!(lines.len(), texts.len());
        for (line, text) in lines.iter().zip(&texts) {
            prop_assert!(!line.contains(['\n', '\r']), "{:?} {:?}", text, line);
            prop_assert!(line.split(' ').all(|token| !ptb::PUNCTUATION.contains(&token)));
        }
    }

    #[test]
    fn a_set_is_the_sum_of_its_items(
        pairs in prop::collection::vec((PIECES, prop::collection::vec(PIECES, 1..4)), 1..12),
    ) {
        let hypotheses: Vec<&str> = pairs.iter().map(|(hypothesis, _)| hypothesis.as_str()).collect();
        let references: Vec<&[String]> = pairs.iter().map(|(_, references)| references.as_slice()).collect();
        for profile in Profile::ALL {
            let table = profile.table(&hypotheses, &references).unwrap();
            let all: Vec<usize> = (0..table.len()).collect();
            prop_assert_eq!(table.scores(), table.scores_of(&all));
            prop_assert!(table.scores().bleu.iter().all(|score| (0.0..=1.0 + 1e-9).contains(score)));
        }
    }
}

#[test]
fn a_profile_goes_by_its_name() {
    for profile in Profile::ALL {
        assert_eq!(profile.to_string().parse::<Profile>().unwrap(), profile);
        assert!(profile.describe().ends_with('.'));
    }
    assert_eq!("r2gen".parse::<Profile>().unwrap(), Profile::R2genIu);
    let error = "bleu".parse::<Profile>().unwrap_err().to_string();
    assert!(error.contains("`bleu`") && error.contains("sacrebleu, coco, r2gen-iu"), "{error}");
    let error = Profile::Coco.table(&["a"], &[["a"], ["b"]]).unwrap_err().to_string();
    assert_eq!(error, "1 hypotheses for 2 items with references");
}
