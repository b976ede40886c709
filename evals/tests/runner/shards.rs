//! Shards put together against the undivided run, and what a result says.

use proptest::prelude::*;
use swinseek_evals::bleu::{Bleu, Segment};
use swinseek_evals::runner::{Merged, compare, merge};

use super::*;

/// Groups of three studies, as of a patient.
fn grouped(items: usize) -> Dataset {
    let mut dataset = dataset(items, Task::Report);
    for (index, item) in dataset.items.iter_mut().enumerate() {
        item.group = Some(format!("patient-{}", index / 3));
    }
    dataset
}

fn result_bytes(statistics: &Statistics, lines: &[Line]) -> Vec<u8> {
    serde_json::to_vec(&result(statistics, lines, &Environment::default()).expect("a result")).expect("JSON")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// More shards than items too: some are empty then.
    #[test]
    fn merged_shards_are_the_undivided_run(items in 1usize..14, count in 1usize..6, patients: bool, coco: bool) {
        let dataset = if patients { grouped(items) } else { dataset(items, Task::Report) };
        let profile = if coco { Profile::Coco } else { Profile::Sacrebleu };
        let train = Dataset { items: (20..40).map(item).collect(), split: Split::Train, ..dataset.clone() };
        let floors = floors(&dataset, Ok(&train), None, 5).expect("floors");
        let folder = tempfile::tempdir().expect("a folder");
        let whole = run(&folder.path().join("whole"), &dataset, Shard::WHOLE, &floors, profile);
        // In another order than that of the shards.
        let dirs: Vec<PathBuf> = (1..=count).rev().map(|index| {
            let dir = folder.path().join(index.to_string());
            run(&dir, &dataset, Shard { index, count }, &floors, profile);
            dir
        }).collect();
        let Merged { statistics, lines, .. } = merge(&dirs).expect("a whole");
        let json = |statistics: &Statistics| serde_json::to_string(statistics).expect("JSON");
        prop_assert_eq!(json(&statistics), json(&whole));
        let expected = std::fs::read(folder.path().join("whole").join(HYPOTHESES)).expect("answers");
        prop_assert_eq!(swinseek_evals::runner::encode_all(&lines), expected);
        prop_assert_eq!(result_bytes(&statistics, &lines), result_bytes(&whole, &lines));
    }

    #[test]
    fn reading_a_shard_never_panics(text in "[0-9/ -]{0,6}") {
        if let Ok(shard) = text.parse::<Shard>() {
            prop_assert!(shard.index >= 1 && shard.index <= shard.count);
            prop_assert_eq!(shard.to_string().parse::<Shard>().ok(), Some(shard));
        }
    }
}

#[test]
fn a_result_holds_scores_floors_and_outputs() {
    let dataset = dataset(9, Task::Report);
    let train = Dataset { items: (20..40).map(item).collect(), split: Split::Train, ..dataset.clone() };
    let floors = floors(&dataset, Ok(&train), None, 5).expect("floors");
    let folder = tempfile::tempdir().expect("a folder");
    let statistics = run(folder.path(), &dataset, Shard::WHOLE, &floors, Profile::Sacrebleu);
    let lines: Vec<Line> = std::fs::read_to_string(folder.path().join(HYPOTHESES))
        .expect("answers")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line"))
        .collect();
    let environment = Environment { hardware: json!({ "threads": 2 }), speed: Value::Null };
    let result = result(&statistics, &lines, &environment).expect("a result");
    let references: Vec<Vec<&str>> =
        dataset.items.iter().map(|item| item.references.iter().map(String::as_str).collect()).collect();
    let segments: Vec<Segment<'_>> = lines
        .iter()
        .zip(&references)
        .map(|(line, references)| Segment { hypothesis: line.text(), references })
        .collect();
    let bleu = Bleu::default();
    let stats = bleu.corpus_stats(&segments).expect("counts");
    let entry = &result["scores"]["bleu"];
    assert_eq!(entry["score"], json!(bleu.score(&stats.sum()).score), "item 2 failed and counts as empty");
    let interval = bleu.interval(&stats, BOOTSTRAP).expect("an interval");
    assert_eq!(
        (&entry["interval"]["low"], &entry["interval"]["high"]),
        (&json!(interval.low), &json!(interval.high))
    );
    assert_eq!(entry["signature"], json!(bleu.signature(Some(2), Some(BOOTSTRAP))));
    assert_eq!(result["errors"], 1);
    assert_eq!(result["hardware"]["threads"], 2);
    assert!(result.get("speed").is_none());
    let distinct: std::collections::HashSet<&str> = lines.iter().map(Line::text).collect();
    assert_eq!(result["distinct_outputs"], json!(distinct.len()));
    assert!(result["floors"]["constant"]["text"].is_string());
    assert!(result["floors"]["random"]["bleu"]["score"].is_number());
    assert!(result["verbatim_share"].is_number());
}

#[test]
fn floors_without_a_train_split_say_so() {
    let dataset = dataset(4, Task::Question);
    let floors = floors(&dataset, Err("no train split".into()), None, 5).expect("floors");
    let folder = tempfile::tempdir().expect("a folder");
    let statistics = run(folder.path(), &dataset, Shard::WHOLE, &floors, Profile::Sacrebleu);
    let lines = merge(&[folder.path()]).expect("a whole").lines;
    let result = result(&statistics, &lines, &Environment::default()).expect("a result");
    for floor in ["majority", "majority_by_kind", "question_only", "random"] {
        assert_eq!(result["floors"][floor], json!({ "unavailable": "no train split" }), "{floor}");
    }
    assert_eq!(result["verbatim_share"], Value::Null);
}

#[test]
fn floors_of_questions_know_only_answers() {
    let question = |index: usize, question: &str, answer: &str| Item {
        question: Some(question.into()),
        references: vec![answer.into()],
        ..item(index)
    };
    let train =
        [("Colour?", "red"), ("Colour?", "red"), ("Round?", "yes"), ("Round?", "yes"), ("Big?", "yes")];
    let items = train.iter().enumerate().map(|(index, (asked, answer))| question(index, asked, answer));
    let train = Dataset { items: items.collect(), split: Split::Train, ..dataset(0, Task::Question) };
    let items = vec![question(0, "Colour?", "blue"), question(1, "Round?", "no"), question(2, "New?", "x")];
    let test = Dataset { items, ..dataset(0, Task::Question) };
    let floors = floors(&test, Ok(&train), None, 1).expect("floors").floors;
    let texts = |name: &str| {
        floors.iter().find(|floor| floor.name == name).expect("a floor").texts.clone().expect("texts")
    };
    assert_eq!(texts("majority"), ["yes", "yes", "yes"]);
    assert_eq!(texts("question_only"), ["red", "yes", "yes"]);
}

/// What `merge` says of shards that do not fit.
#[test]
fn shards_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let dataset = dataset(7, Task::Report);
    let shard = |name: &str, index, count, dataset: &Dataset| {
        let dir = folder.path().join(name);
        run(&dir, dataset, Shard { index, count }, &Floors::default(), Profile::Sacrebleu);
        dir
    };
    let (one, two) = (shard("one", 1, 2, &dataset), shard("two", 2, 2, &dataset));
    let fails = |dirs: &[&PathBuf], parts: &[&str]| {
        let error = merge(dirs).expect_err("no whole").to_string();
        assert!(parts.iter().all(|part| error.contains(part)) && !error.contains('\n'), "{error}");
    };
    fails(&[&one], &["shard 2/2 is missing"]);
    fails(&[&one, &two, &one], &["shard 1/2 is there twice", "one"]);
    fails(&[&one, &shard("third", 2, 3, &dataset)], &["`shard` is 3, but 2"]);
    fails(&[&one, &shard("less", 2, 2, &super::dataset(5, Task::Report))], &["`data.n` is 5, but 7"]);
    fails(&[&folder.path().join("none")], &["none/shard.json", "cannot be read"]);
    std::fs::write(two.join(HYPOTHESES), "").expect("written");
    fails(&[&one, &two], &["two/hypotheses.jsonl", "shard 2/2"]);
    for text in ["0/3", "4/3", "1", "a/b", "1/0", "-1/2"] {
        let error = text.parse::<Shard>().expect_err("no shard").to_string();
        assert!(error.contains(text) && error.contains("expected I/N"), "{error}");
    }
}

#[test]
fn a_run_equals_itself_and_other_items_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    run(&a, &dataset(9, Task::Report), Shard::WHOLE, &Floors::default(), Profile::Sacrebleu);
    run(&b, &dataset(8, Task::Report), Shard::WHOLE, &Floors::default(), Profile::Sacrebleu);
    for row in compare(&a, &a, BOOTSTRAP, 100).expect("a comparison") {
        assert_eq!(row.difference, 0.0);
        assert!(row.p_randomization > 0.0 && row.p_bootstrap > 0.0);
    }
    let error = compare(&a, &b, BOOTSTRAP, 100).expect_err("other items").to_string();
    assert!(error.contains("`data."), "{error}");
}
