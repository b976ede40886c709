//! R2Gen files and JSON lines.

use swinseek_evals::dataset::{Layout, OpenOptions, Split, Task, open};

use super::{folder, ids, image, message, split, test_split};

const ANNOTATION: &str = r#"{
"train": [{"id": "a", "report": "clear .", "image_path": ["a/0.png", "a/1.png"], "split": "train"}],
"    ": [
 {"id": 7, "report": "old", "image_path": "b.png", "references": ["new", "newer"], "subject_id": 12,
  "findings": [{"kind": "nodule"}], "labels": ["Lung Lesion"],
  "questions": [{"question": " Is it? ", "answer": "yes", "type": "presence"}, {"question": "Which?", "answer": "left", "type": "side"}]},
 {"id": "c", "report": "none", "image_path": []}
]}"#;

#[test]
fn reports_keep_references_findings_and_patients() {
    let dir = folder(&[("annotation.json", ANNOTATION), ("images/", "")]);
    let set = open(dir.path(), &OpenOptions::default()).unwrap();
    assert_eq!((set.layout, set.task, ids(&set)), (Layout::R2gen, Task::Report, vec!["7", "c"]));
    let item = &set.items[0];
    assert_eq!(image(item, dir.path()), "images/b.png");
    assert_eq!(item.references, ["new", "newer"]);
    assert_eq!((item.group.as_deref(), &item.question, item.closed), (Some("12"), &None, None));
    assert_eq!(item.extra["findings"][0]["kind"], "nodule");
    assert_eq!(item.extra["labels"][0], "Lung Lesion");
    assert!(set.items[1].images.is_empty() && set.skipped.is_empty());
    // The digest is that of the file alone.
    assert_eq!(set.hash, blake3::hash(ANNOTATION.as_bytes()).to_hex().as_str());
    let train = open(dir.path(), &split(Split::Train)).unwrap();
    assert_eq!((train.items[0].images.len(), train.hash), (2, set.hash));
    assert!(
        message(open(dir.path(), &split(Split::Val))).ends_with("no item of split `val` in layout r2gen")
    );
}

#[test]
fn questions_inside_reports_are_a_set_of_their_own() {
    let dir = folder(&[("annotations.json", ANNOTATION)]);
    let options = OpenOptions { layout: Some(Layout::R2genQuestions), ..OpenOptions::default() };
    let set = open(dir.path(), &options).unwrap();
    assert_eq!((set.task, ids(&set)), (Task::Question, vec!["7/0", "7/1"]));
    let [first, second] = set.items.as_slice() else { panic!() };
    assert_eq!(
        (first.question.as_deref(), first.closed, first.group.as_deref()),
        (Some("Is it?"), Some(true), Some("12"))
    );
    assert_eq!((second.closed, second.extra["type"].as_str()), (Some(false), Some("side")));
    assert_eq!(image(first, dir.path()), "b.png");
}

#[test]
fn a_bad_study_is_named_by_line_and_pointer() {
    let text = ANNOTATION.replace(r#""report": "none""#, r#""report": 5"#);
    let dir = folder(&[("annotation.json", &text)]);
    let path = dir.path().join("annotation.json");
    let expected = format!(
        "{}: line 7: /test/1: field `report`: invalid type: integer `5`, expected a string",
        path.display()
    );
    assert_eq!(message(open(dir.path(), &OpenOptions::default())), expected);
    let set = open(&path, &OpenOptions { skip_bad: true, ..OpenOptions::default() }).unwrap();
    assert_eq!((ids(&set), &set.skipped), (vec!["7"], &vec![expected]));
    for (from, to, part) in [
        (r#""image_path": []"#, r#""pictures": []"#, "line 7: /test/1: missing field `image_path`"),
        (
            r#"{"id": "c", "report": "none", "image_path": []}"#,
            "3",
            "line 7: /test/1: found a number, expected an object",
        ),
        (r#""id": "c""#, r#""id": []"#, "line 7: /test/1: field `id` must be text or a number"),
        (r#""none""#, r#""\ud800""#, "line 7: /test/1: unexpected end of hex escape"),
        ("    ", "rest", "`rest`: unknown split, expected train, val and test"),
        ("\n]}", "\n]", "EOF while parsing an object at line 8 column 1"),
    ] {
        let found = message(test_split(&[("annotation.json", &ANNOTATION.replace(from, to))]));
        assert!(found.ends_with(part) || found.contains(&format!("{part},")), "{found}\n{part}");
    }
}

#[test]
fn json_lines_have_their_fields() {
    let text = concat!(
        "\u{feff}{\"id\": \"a\", \"image\": \"x.png\", \"reference\": \"one\", \"patient_id\": 3, \"site\": \"B\"}\r\n",
        "\n",
        "{\"images\": [\"y.png\", \"/abs.png\"], \"references\": [\"two\", \"three\"]}\n",
        "{\"id\": \"a\", \"report\": \"four\", \"split\": \"validation\"}\n",
        "{\"id\": \"a\", \"report\": \"five\", \"split\": \"test\"}",
    );
    let dir = folder(&[("test.jsonl", text)]);
    let set = open(dir.path(), &OpenOptions::default()).unwrap();
    assert_eq!((set.layout, set.task, ids(&set)), (Layout::Jsonl, Task::Report, vec!["a", "3", "a#2"]));
    assert_eq!((image(&set.items[0], dir.path()), set.items[0].group.as_deref()), ("x.png", Some("3")));
    assert_eq!(set.items[0].extra["site"], "B");
    assert_eq!(set.items[1].references, ["two", "three"]);
    assert_eq!(set.items[1].images[1].to_str(), Some("/abs.png"));
    // A file knows no split but that of its records.
    let val = open(&dir.path().join("test.jsonl"), &split(Split::Val)).unwrap();
    assert_eq!(ids(&val), ["a", "3", "a#2"]);
    assert_eq!(val.items[2].references, ["four"]);
    let two = open(dir.path(), &OpenOptions { limit: Some(2), ..OpenOptions::default() }).unwrap();
    assert_eq!(ids(&two), ["a", "3"]);
}

#[test]
fn json_lines_tell_their_task() {
    let asked = r#"{"question": "q?", "image": "p", "answers": ["yes", "y"], "closed": true}"#;
    let set = test_split(&[("data.jsonl", asked)]).unwrap();
    assert_eq!(
        (set.task, set.items[0].closed, set.items[0].references.len()),
        (Task::Question, Some(true), 2)
    );
    assert_eq!(set.items[0].group.as_deref(), Some("p"));
    let set = test_split(&[("data.jsonl", r#"{"image": "p", "captions": ["c"]}"#)]).unwrap();
    assert_eq!((set.task, set.items[0].group.as_deref()), (Task::Caption, None));
    for (line, part) in [
        (
            "{\"id\": 1}",
            "line 2: field `references` or `reference` or `report` or `captions` or `caption` or `answers` or `answer` is missing",
        ),
        (
            "{\"answer\": \"a\"}",
            "line 2: field `question`: this record has no question, unlike the first one",
        ),
        ("{\"question\": [], \"answer\": \"a\"}", "line 2: field `question`: found a list, expected text"),
        ("{\"question\": \"q\", \"answer\": []}", "line 2: field `answer`: the list is empty"),
        ("{\"question\": \"q\", \"answer\": [null]}", "line 2: field `answer`: found null, expected text"),
        (
            "{\"question\": \"q\", \"answer\": 1, \"closed\": 1}",
            "line 2: field `closed`: found a number, expected true or false",
        ),
        ("{\"split\": \"dev2\"}", "line 2: split: `dev2`, expected one of train, val, test"),
        ("[1]", "line 2: found a list, expected an object"),
        ("{\"a\": }", "line 2: column 7: expected value"),
        ("{\"a\": 1", "line 2: column 7: EOF while parsing an object"),
    ] {
        let found = message(test_split(&[("data.jsonl", &format!("{asked}\n{line}\n"))]));
        assert!(found.ends_with(part), "{found}");
    }
}

#[test]
fn what_is_not_there_is_named() {
    let found = message(test_split(&[("notes.md", "")]));
    assert!(found.contains("no annotation file of split `test`, looked for annotation.json, "), "{found}");
    let found = message(test_split(&[("train.jsonl", "{}"), ("val.jsonl", "{}")]));
    assert!(found.ends_with("no annotation file of split `test`, but of train, val"), "{found}");
    let found = message(test_split(&[("dataset_a.json", "{}"), ("dataset_b.json", "{}")]));
    assert!(found.contains("several annotation files, name one: "), "{found}");
    let found = message(open("nowhere/at/all".as_ref(), &OpenOptions::default()));
    assert!(found.starts_with("nowhere/at/all: cannot be read: "), "{found}");
    let found = message(test_split(&[("test.json", "[]")]));
    assert!(found.contains("the layout cannot be told, name one of r2gen, "), "{found}");
    let dir = folder(&[("x.pkl", "")]);
    let found = message(open(&dir.path().join("x.pkl"), &OpenOptions::default()));
    assert!(
        found.ends_with("pickles run code when they are read; write the records as JSON lines"),
        "{found}"
    );
    let found = "slake2".parse::<Layout>().unwrap_err().to_string();
    assert!(found.starts_with("layout: `slake2`, expected one of r2gen, r2gen-questions, "), "{found}");
    for layout in Layout::ALL {
        assert_eq!(layout.to_string().parse::<Layout>().unwrap(), layout);
    }
}
