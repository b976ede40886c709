//! Answers, their counts and their floors.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use swinseek_evals::dataset::{Item, Layout, OpenOptions, Split, open};
use swinseek_evals::resample::Bootstrap;
use swinseek_evals::vqa::{VqaStats, is_closed, normalize, score, units};

const QUICK: Bootstrap = Bootstrap { resamples: 50, seed: 1 };

fn item(question: &str, answer: &str, closed: Option<bool>, group: Option<&str>) -> Item {
    Item {
        id: String::new(),
        images: Vec::new(),
        question: Some(question.into()),
        references: vec![answer.into()],
        group: group.map(str::to_owned),
        closed,
        extra: serde_json::Map::new(),
    }
}

#[test]
fn answers_are_compared_without_form() {
    for (answer, expected) in [
        ("  The Left  lung. ", "left lung"),
        ("\"Yes!\"", "yes"),
        ("a", "a"),
        ("Two masses", "2 masses"),
        ("3.5 cm, x-ray", "3.5 cm x ray"),
        ("1,000.", "1000"),
        ("it isn't", "it isnt"),
        ("right/left", "right left"),
        ("肺。", "肺。"),
        ("", ""),
    ] {
        assert_eq!(normalize(answer), expected, "{answer}");
    }
}

#[test]
fn open_answers_share_words() {
    let one = (1_u64 << 32) as f64;
    let open = |answer: &str, references: &[&str]| {
        let stats = VqaStats::new(answer, references, false);
        (stats.right, stats.open_recall as f64 / one, stats.open_f1 as f64 / one)
    };
    // Fixed point: 2^-33 off at most.
    let close = |found: (u64, f64, f64), expected: (u64, f64, f64)| {
        assert!(
            found.0 == expected.0
                && (found.1 - expected.1).abs() < 2e-10
                && (found.2 - expected.2).abs() < 2e-10,
            "{found:?}"
        );
    };
    close(open("the left upper lobe", &["left lung"]), (0, 0.5, 2.0 / 5.0));
    close(open("lung lung", &["lung"]), (0, 1.0, 2.0 / 3.0));
    close(open("lung", &["lung lung"]), (0, 0.5, 2.0 / 3.0));
    close(open("Left lung.", &["right", "left lung"]), (1, 1.0, 1.0));
    close(open("", &["left"]), (0, 0.0, 0.0));
    close(open("?", &["."]), (1, 1.0, 1.0));
    let closed = VqaStats::new("Yes.", &["yes"], true);
    assert_eq!((closed.closed_right, closed.open_recall, closed.questions), (1, 0, 1));
}

#[test]
fn floors_stand_beside_the_system() {
    let train = [
        item("Is it red?", "yes", None, None),
        item("is it red", "Yes", None, None),
        item("is it blue?", "no", None, None),
        item("is it blue?", "yes", None, None),
        item("is it blue?", "no", None, None),
        item("which colour?", "red", None, None),
    ];
    let test = [
        item("is it red?", "yes", None, Some("a")),
        item("is it blue?", "no", Some(true), Some("a")),
        item("which colour?", "blue", Some(false), Some("b")),
    ];
    let report = score(&test, &["yes", "no", "red blue"], &train, QUICK).unwrap();
    let shares =
        |s: &swinseek_evals::vqa::VqaScore| (s.all.hits, s.closed.unwrap().hits, s.open.unwrap().hits);
    assert_eq!(shares(&report.system), (2, 2, 0));
    assert_eq!(report.system.open_recall.unwrap().value, 1.0);
    assert!((report.system.accuracy.value - 2.0 / 3.0).abs() < 1e-12);
    let floors: Vec<(&str, (u64, u64, u64))> =
        report.floors.iter().map(|(name, score)| (name.as_str(), shares(score))).collect();
    assert_eq!(
        floors,
        [("majority", (1, 1, 0)), ("majority-by-kind", (1, 1, 0)), ("question-only", (2, 2, 0))]
    );
    assert_eq!(units(&test, &["yes", "no", "x"]).len(), 2);
    assert!(score(&test, &["yes", "no", "x"], &[], QUICK).unwrap().floors.is_empty());
    let message = score(&test, &["yes"], &train, QUICK).unwrap_err().to_string();
    assert_eq!(message, "3 questions, but 1 answers");
    assert!(score(&[], &[] as &[&str], &train, QUICK).is_err());
    assert!(!is_closed(&test[2]) && is_closed(&test[1]) && is_closed(&test[0]));
}

/// The data folder of the package easy-VQA, in an environment of Python that is active.
fn easy_vqa() -> Option<PathBuf> {
    let environment = PathBuf::from(std::env::var_os("VIRTUAL_ENV")?);
    let versions = std::fs::read_dir(environment.join("lib")).ok()?.flatten();
    let data = |version: PathBuf| version.join("site-packages/easy_vqa/data");
    versions.map(|entry| data(entry.path())).find(|path| path.is_dir())
}

#[test]
fn easy_vqa_has_its_floors() {
    let Some(path) = easy_vqa() else { return };
    let read = |split| open(Path::new(&path), &OpenOptions { split, ..OpenOptions::default() }).unwrap();
    let (train, test) = (read(Split::Train), read(Split::Test));
    assert_eq!((test.layout, train.items.len(), test.items.len()), (Layout::EasyVqa, 38_575, 9_673));
    assert_eq!(test.items.iter().filter(|item| is_closed(item)).count(), 7_136);
    let answers = vec!["yes"; test.items.len()];
    let report = score(&test.items, &answers, &train.items, QUICK).unwrap();
    // Published with one digit of per cent: all, yes/no, other.
    for ((name, score), expected) in
        report.floors.iter().zip([[0.373, 0.506, 0.0], [0.420, 0.506, 0.177], [0.670, 0.825, 0.233]])
    {
        let found = [score.all.value, score.closed.unwrap().value, score.open.unwrap().value];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 5.1e-4), "{name}: {found:?}");
    }
}

proptest! {
    #[test]
    fn counts_add_up_in_any_order(answers in prop::collection::vec(("[a-c ]{0,8}", "[a-c ]{0,8}", any::<bool>()), 1..20)) {
        let stats: Vec<VqaStats> =
            answers.iter().map(|(answer, reference, closed)| VqaStats::new(answer, &[reference], *closed)).collect();
        let forward: VqaStats = stats.iter().copied().sum();
        let backward: VqaStats = stats.iter().rev().copied().sum();
        prop_assert_eq!(forward, backward);
        prop_assert!(forward.closed_right <= forward.right && forward.right <= forward.questions);
        // No word is shared without recall, and F1 is between nothing and recall or precision.
        prop_assert!(forward.open_f1 <= (1 << 32) * (forward.questions - forward.closed));
    }

    #[test]
    fn normal_answers_stay_as_they_are(answer in ".{0,30}") {
        let once = normalize(&answer);
        prop_assert_eq!(normalize(&once), once);
    }
}
