//! Rates, curves, floors and annotation files.

use proptest::prelude::*;
use swinseek_evals::bleu::{Bleu, Segment};
use swinseek_evals::dataset::{Annotations, Split};
use swinseek_evals::detection::{Confusion, Proportion, Ranking, closed_accuracy, normalize_answer};
use swinseek_evals::floors::{
    answers_by_question, constant_text, majority_answer, random_texts, verbatim_share,
};
use swinseek_evals::resample::Bootstrap;

#[test]
fn wilson_intervals_equal_published_ones() {
    // Newcombe (1998, Statistics in Medicine 17:857), table I, method 3, printed to four digits.
    for (hits, count, low, high) in
        [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
    {
        let found = Proportion::new(hits, count).unwrap();
        assert!((found.low - low).abs() < 5e-5 && (found.high - high).abs() < 5e-5, "{found:?}");
    }
    assert_eq!(Proportion::new(20, 20).unwrap().high, 1.0);
    assert!(Proportion::new(0, 0).is_none() && Proportion::new(2, 1).is_none());
}

#[test]
fn rates_are_taken_over_the_right_cases() {
    let predicted = [true, true, false, false, true, false];
    let truth = [true, false, false, true, true, false];
    let confusion = Confusion::from_pairs(predicted.into_iter().zip(truth));
    let rate = |p: Option<Proportion>| p.map(|p| (p.hits, p.count));
    assert_eq!(rate(confusion.sensitivity()), Some((2, 3)));
    assert_eq!(rate(confusion.specificity()), Some((2, 3)));
    assert_eq!(rate(confusion.accuracy()), Some((4, 6)));
    assert_eq!(Confusion::from_pairs([(true, true)]).specificity(), None);
}

#[test]
fn curves_have_their_textbook_values() {
    // scikit-learn's own example: roc_auc_score([0, 0, 1, 1], [.1, .4, .35, .8]) = 0.75.
    let ranking = Ranking::new(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]).unwrap();
    assert_eq!(ranking.auc(), 0.75);
    let (threshold, at) = ranking.sensitivity_at(0.9);
    assert_eq!((threshold, at.true_positive, at.true_negative), (0.8, 1, 2));
    let (threshold, at) = ranking.sensitivity_at(0.5);
    assert_eq!((threshold, at.true_positive, at.true_negative), (0.35, 2, 1));
    assert_eq!(ranking.sensitivity_at(0.0).1.true_positive, 2);
    assert_eq!(Ranking::new(&[0.5; 4], &[true, false, true, false]).unwrap().auc(), 0.5);
    assert_eq!(Ranking::new(&[0.5; 2], &[true, false]).unwrap().sensitivity_at(0.1).0, f64::INFINITY);

    let interval = ranking.auc_interval(Bootstrap { resamples: 500, seed: 1 }).unwrap();
    assert!(interval.low <= 0.75 && interval.high == 1.0, "{interval:?}");
    let message = |scores: &[f64], truth: &[bool]| Ranking::new(scores, truth).unwrap_err().to_string();
    assert!(message(&[0.5], &[true]).contains("no negative case"));
    assert!(message(&[0.5], &[]).contains("1 scores, but 0"));
    assert!(message(&[f64::NAN, 0.0], &[true, false]).contains("score 1 is NaN"));
}

proptest! {
    #[test]
    fn auc_is_the_share_of_ordered_pairs(cases in prop::collection::vec((0_i32..6, any::<bool>()), 2..40)) {
        let scores: Vec<f64> = cases.iter().map(|c| f64::from(c.0)).collect();
        let truth: Vec<bool> = cases.iter().map(|c| c.1).collect();
        let Ok(ranking) = Ranking::new(&scores, &truth) else { return Ok(()) };
        let (mut wins, mut pairs) = (0.0, 0.0);
        for (present, _) in cases.iter().filter(|c| c.1) {
            for (absent, _) in cases.iter().filter(|c| !c.1) {
                pairs += 1.0;
                wins += match present.cmp(absent) {
                    std::cmp::Ordering::Less => 0.0,
                    std::cmp::Ordering::Equal => 0.5,
                    std::cmp::Ordering::Greater => 1.0,
                };
            }
        }
        // Halves below 2^53 are exact.
        prop_assert_eq!(ranking.auc(), wins / pairs);
    }

    #[test]
    fn thresholds_keep_their_promise(
        cases in prop::collection::vec((0_i32..9, any::<bool>()), 2..40),
        wanted in 0.0_f64..=1.0,
    ) {
        let scores: Vec<f64> = cases.iter().map(|c| f64::from(c.0)).collect();
        let truth: Vec<bool> = cases.iter().map(|c| c.1).collect();
        let Ok(ranking) = Ranking::new(&scores, &truth) else { return Ok(()) };
        let (threshold, confusion) = ranking.sensitivity_at(wanted);
        let at = |t: f64| Confusion::from_pairs(scores.iter().map(|s| *s >= t).zip(truth.iter().copied()));
        prop_assert_eq!(at(threshold), confusion);
        prop_assert!(confusion.specificity().unwrap().value >= wanted);
        // No lower threshold among the scores would do.
        for lower in scores.iter().filter(|s| **s < threshold) {
            prop_assert!(at(*lower).specificity().unwrap().value < wanted);
        }
    }

    #[test]
    fn annotation_files_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(Annotations::from_json(&bytes, "x"));
    }
}

#[test]
fn closed_answers_ignore_case_and_punctuation() {
    assert_eq!(normalize_answer("  The Left  lung. "), "left lung");
    assert_eq!(normalize_answer("\"Yes!\""), "yes");
    assert_eq!(normalize_answer("a"), "a");
    assert_eq!(normalize_answer("3.5 cm, x-ray"), "3.5 cm x-ray");
    let accuracy = closed_accuracy(&["Yes.", "no", "red"], &["yes", "No", "blue"]).unwrap();
    assert_eq!((accuracy.hits, accuracy.count), (2, 3));
    assert!(closed_accuracy(&["a"], &["a", "b"]).unwrap_err().to_string().contains("1 answers, but 2"));
    assert!(closed_accuracy(&[] as &[&str], &[] as &[&str]).is_err());
}

#[test]
fn floors_need_no_image() {
    let train = ["the heart is normal", "there is a nodule", "the heart is normal", "no effusion"];
    let validation: [&[&str]; 2] =
        [&["the heart is normal"], &["the heart is enlarged", "the heart is large"]];
    let bleu = Bleu { effective_order: true, ..Bleu::default() };
    let best = constant_text(&bleu, &train, &validation, 99, 1).unwrap();
    assert_eq!(best, "the heart is normal");
    let segments = validation.map(|references| Segment { hypothesis: best, references });
    assert!(bleu.corpus(&segments).unwrap().score > 50.0);
    assert_eq!(
        constant_text(&bleu, &train, &validation, 1, 7).unwrap(),
        constant_text(&bleu, &train, &validation, 1, 7).unwrap()
    );

    let drawn = random_texts(&train, 400, 3).unwrap();
    assert_eq!(drawn, random_texts(&train, 400, 3).unwrap());
    // Binomial(400, 1/2): 160 to 240 is four standard deviations.
    assert!((160..=240).contains(&drawn.iter().filter(|text| **text == "the heart is normal").count()));
    assert!(random_texts(&[], 1, 3).is_err() && constant_text(&bleu, &[], &validation, 9, 1).is_err());

    assert_eq!(majority_answer(&["no", "yes", "yes", "no"]), Some("no"));
    assert_eq!(majority_answer(&[]), None);
    let seen = [
        ("is it red?", "yes"),
        ("is it red?", "yes"),
        ("is it red?", "no"),
        ("shape?", "circle"),
        ("colour?", "no"),
        ("x?", "no"),
    ];
    assert_eq!(
        answers_by_question(&seen, &["is it red?", "shape?", "new?"]).unwrap(),
        ["yes", "circle", "no"]
    );
    assert_eq!(verbatim_share(&["no effusion", "new"], &train), 0.5);
}

#[test]
fn annotation_files_of_both_kinds_are_read() {
    let published = r#"{"train": [{"id": "CXR1", "report": "normal .", "image_path": ["CXR1/0.png", "CXR1/1.png"], "split": "train"}],
        "val": [], "    ": [{"id": 7, "report": "nodule .", "image_path": "7.png", "subject_id": 12}]}"#;
    let annotations = Annotations::from_json(published.as_bytes(), "annotation.json").unwrap();
    assert_eq!(annotations.train[0].targets(), ["normal ."]);
    let test = &annotations.split(Split::Test)[0];
    assert_eq!((test.id.as_str(), test.image_path.as_slice()), ("7", ["7.png".to_owned()].as_slice()));
    assert_eq!(test.other["subject_id"], 12);

    let ours = r#"{"test": [{"id": "p1", "report": "a", "image_path": ["p1.png"], "split": "test",
        "references": ["a", "b"], "findings": [{"kind": "nodule", "box": [1, 2, 3, 4]}]}]}"#;
    let annotations = Annotations::from_json(ours.as_bytes(), "annotations.json").unwrap();
    assert_eq!(
        (annotations.test[0].targets().len(), &annotations.test[0].findings[0]["kind"]),
        (2, &"nodule".into())
    );
    let written = serde_json::to_vec(&annotations).unwrap();
    assert_eq!(Annotations::from_json(&written, "x").unwrap(), annotations);

    let message =
        |text: &str| Annotations::from_json(text.as_bytes(), "annotation.json").unwrap_err().to_string();
    let missing = message("{\"train\": [\n{\"id\": \"1\", \"image_path\": []}]}");
    assert!(
        missing.contains("annotation.json") && missing.contains("`report`") && missing.contains("line 2"),
        "{missing}"
    );
    assert!(message(r#"{"rest": []}"#).contains("`rest`: unknown split, expected train, val and test"));
    assert!(
        message("{\"train\": [{\"id\": [], \"report\": \"\", \"image_path\": []}]}")
            .contains("field `id` must be text")
    );
    assert!(message("[1").contains("line 1"));
    assert!("rest".parse::<Split>().unwrap_err().to_string().contains("train, val, test"));
}
