//! A run that is killed, fails in places, or loses its candidate.

use std::sync::{Condvar, Mutex};

use proptest::prelude::*;
use swinseek_evals::dataset::Task;

use super::*;

fn whole_run(dataset: &Dataset, candidate: &dyn Candidate) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(HYPOTHESES);
    ask(&path, dataset, Shard::WHOLE, candidate, 1);
    std::fs::read(path).expect("answers")
}

proptest! {
    /// Killed after any byte, on any number of threads.
    #[test]
    fn a_run_cut_anywhere_ends_in_the_same_bytes(cut in 0.0f64..1.0, items in 1usize..12, threads in 1usize..5) {
        let dataset = dataset(items, Task::Report);
        let expected = whole_run(&dataset, &Mock::default());
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(HYPOTHESES);
        let kept = &expected[..(cut * expected.len() as f64) as usize];
        std::fs::write(&path, kept).expect("written");
        let whole_lines = kept.split(|&byte| byte == b'\n').count() - 1;
        let (lines, outcome) = ask(&path, &dataset, Shard::WHOLE, &Mock::default(), threads);
        prop_assert_eq!(outcome.asked, items - whole_lines, "whole lines are not asked for again");
        prop_assert_eq!(lines.len(), items);
        prop_assert_eq!(std::fs::read(path).expect("answers"), expected);
    }
}

/// Holds item 0 back until all others are answered.
struct Late(Mutex<usize>, Condvar, usize);

impl Candidate for Late {
    fn describe(&self) -> Value {
        Value::Null
    }

    fn answer(&self, item: &Item, sight: Sight) -> Result<String, CandidateError> {
        let mut answered = self.0.lock().expect("a lock");
        if item.id == "study-0" {
            answered = self.1.wait_while(answered, |answered| *answered < self.2 - 1).expect("a lock");
        }
        *answered += 1;
        self.1.notify_all();
        Mock::default().answer(item, sight)
    }
}

#[test]
fn answers_out_of_order_are_kept_as_they_come_and_end_in_order() {
    let dataset = dataset(6, Task::Report);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(HYPOTHESES);
    let late = Late(Mutex::new(0), Condvar::new(), 6);
    let positions = Shard::WHOLE.positions(6);
    let mut log = Log::open(&path).expect("a log");
    let (items, root) = (dataset.items.as_slice(), Path::new("data"));
    let job =
        Job { root, items, positions: &positions, candidate: &late, sight: Sight::Pictures, threads: 2 };
    let mut order = Vec::new();
    answer_all(&mut log, &job, &mut |line, _| order.push(line.index)).expect("a run");
    assert_eq!(order, [1, 2, 3, 4, 5, 0]);
    let first = std::fs::read_to_string(&path).expect("answers");
    assert!(first.starts_with("{\"index\":1,"), "an answer waits for its turn: {first}");
    log.finish().expect("lines");
    assert_eq!(std::fs::read(&path).expect("answers"), whole_run(&dataset, &Mock::default()));
}

#[test]
fn a_failed_item_is_named_counted_and_asked_again() {
    let dataset = dataset(5, Task::Report);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(HYPOTHESES);
    let failing = Mock { fails: vec![1, 3], gone_from: None };
    let (lines, outcome) = ask(&path, &dataset, Shard::WHOLE, &failing, 2);
    let reason = "no picture".to_owned();
    assert_eq!(outcome.failed, [("study-1".to_owned(), reason.clone()), ("study-3".to_owned(), reason)]);
    assert_eq!((lines.len(), lines[1].text(), lines[1].error.as_deref()), (5, "", Some("no picture")));
    let bytes = std::fs::read(&path).expect("answers");
    // Failing again gives the same file, and only the failed items are asked.
    let (_, outcome) = ask(&path, &dataset, Shard::WHOLE, &failing, 2);
    assert_eq!((outcome.asked, std::fs::read(&path).expect("answers")), (2, bytes));
    let (_, outcome) = ask(&path, &dataset, Shard::WHOLE, &Mock::default(), 2);
    assert_eq!((outcome.asked, outcome.failed.len()), (2, 0));
    assert_eq!(std::fs::read(&path).expect("answers"), whole_run(&dataset, &Mock::default()));
}

#[test]
fn a_lost_candidate_ends_the_run_and_keeps_its_answers() {
    let dataset = dataset(8, Task::Report);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(HYPOTHESES);
    let (lines, outcome) = ask(&path, &dataset, Shard::WHOLE, &Mock { fails: vec![], gone_from: Some(3) }, 1);
    assert_eq!((lines.len(), outcome.gone.as_deref()), (3, Some("no more")));
    let (_, outcome) = ask(&path, &dataset, Shard::WHOLE, &Mock::default(), 1);
    assert_eq!((outcome.asked, outcome.gone), (5, None));
}

#[test]
fn a_damaged_line_and_a_second_writer_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(HYPOTHESES);
    std::fs::write(&path, "{\"index\":0,\"id\":\"a\",\"references\":[],\"images\":[]}\nnonsense\n")
        .expect("written");
    let error = Log::open(&path).expect_err("damage").to_string();
    assert!(error.contains("hypotheses.jsonl: line 2:") && !error.contains('\n'), "{error}");
    let path = folder.path().join("other.jsonl");
    let _writer = Log::open(&path).expect("a log");
    let error = Log::open(&path).expect_err("a second writer").to_string();
    assert!(error.contains("another run is writing here"), "{error}");
}

#[test]
fn another_run_is_named_by_what_differs() {
    let dataset = dataset(3, Task::Report);
    let own = header(&dataset, Shard::WHOLE);
    let mut moved = own.clone();
    moved.data.path = "elsewhere".into();
    assert_eq!(own.difference(&moved, false), None, "data may move");
    assert_eq!(own.digest(), moved.digest());
    let mut other = own.clone();
    other.model = json!({ "kind": "mock", "digest": "4567" });
    let (field, ours, theirs) = own.difference(&other, false).expect("a difference");
    assert_eq!((field.as_str(), ours.as_str(), theirs.as_str()), ("model.digest", "\"0123\"", "\"4567\""));
    other = Header { shard: Shard { index: 1, count: 2 }, ..own.clone() };
    assert_eq!(own.difference(&other, true), None);
    assert_eq!(own.difference(&other, false).expect("a difference").0, "shard");
    assert_ne!(own.digest(), other.digest());
}

#[test]
fn the_digest_of_pictures_sees_their_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let items: Vec<Item> = (0..3)
        .map(|index| Item { images: vec![folder.path().join(format!("{index}.png"))], ..item(index) })
        .collect();
    let write = |index: usize, bytes: &str| {
        std::fs::write(folder.path().join(format!("{index}.png")), bytes).expect("written");
        swinseek_evals::runner::images_digest(&items)
    };
    let missing = swinseek_evals::runner::images_digest(&items);
    let (one, two, again) = (write(0, "a"), write(0, "b"), write(0, "a"));
    assert!(missing != one && one != two && one == again);
}
