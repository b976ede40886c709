//! VQA-RAD, SLAKE, PathVQA, easy-VQA, VQA-Med.

use swinseek_evals::dataset::{Layout, OpenOptions, Split, Task, open};

use super::{folder, ids, image, message, split, test_split};

#[test]
fn vqa_rad_is_split_by_its_phrases() {
    let text = r#"[{"qid": 1, "image_name": "s1.jpg", "question": "Is it? ", "answer": "Yes", "answer_type": "CLOSED ", "phrase_type": "test_freeform", "image_organ": "CHEST"},
{"qid": "2", "image_name": "s1.jpg", "question": "How many?", "answer": 5, "answer_type": "OPEN", "phrase_type": "para"}]"#;
    let dir = folder(&[("VQA_RAD Dataset Public.json", text), ("VQA_RAD Image Folder/", "")]);
    let set = open(dir.path(), &OpenOptions::default()).unwrap();
    assert_eq!((set.layout, set.task, ids(&set)), (Layout::VqaRad, Task::Question, vec!["1"]));
    let item = &set.items[0];
    assert_eq!(
        (item.question.as_deref(), item.closed, item.group.as_deref()),
        (Some("Is it?"), Some(true), Some("s1.jpg"))
    );
    assert_eq!(image(item, dir.path()), "VQA_RAD Image Folder/s1.jpg");
    assert_eq!(item.extra["image_organ"], "CHEST");
    let train = open(dir.path(), &split(Split::Train)).unwrap();
    assert_eq!(
        (train.items[0].references.as_slice(), train.items[0].closed),
        (["5".to_owned()].as_slice(), Some(false))
    );
    assert!(
        message(open(dir.path(), &split(Split::Val))).ends_with("no item of split `val` in layout vqa-rad")
    );
    let found = message(test_split(&[(
        "testset.json",
        &text.replace("\"OPEN\"", "\"HALF\"").replace("\"para\"", "\"test_para\""),
    )]));
    assert!(found.ends_with("line 2: /1: field `answer_type`: `HALF`, expected OPEN or CLOSED"), "{found}");
}

#[test]
fn slake_has_two_languages() {
    let text = r#"[{"img_id": 1, "img_name": "xmlab1/source.jpg", "question": "Where?", "answer": "Lung", "q_lang": "en", "qid": 10, "answer_type": "OPEN"},
{"img_id": 1, "img_name": "xmlab1/source.jpg", "question": "哪里?", "answer": "肺", "q_lang": "zh", "qid": 11, "answer_type": "OPEN"}]"#;
    let dir = folder(&[("train.json", "[]"), ("validate.json", text), ("test.json", text), ("imgs/", "")]);
    for part in [Split::Val, Split::Test] {
        let set = open(dir.path(), &split(part)).unwrap();
        assert_eq!((set.layout, ids(&set), set.items[0].closed), (Layout::Slake, vec!["10"], Some(false)));
        assert_eq!(image(&set.items[0], dir.path()), "imgs/xmlab1/source.jpg");
    }
    let chinese = OpenOptions { layout: Some(Layout::SlakeZh), ..OpenOptions::default() };
    assert_eq!(open(dir.path(), &chinese).unwrap().items[0].references, ["肺"]);
    let found = message(test_split(&[(
        "test.json",
        &text.replace(
            "\"img_name\": \"xmlab1/source.jpg\", \"question\": \"W",
            "\"img_name\": null, \"question\": \"W",
        ),
    )]));
    assert!(found.ends_with("test.json: line 1: /0: field `img_name` is missing"), "{found}");
}

#[test]
fn path_vqa_names_pictures_without_extension() {
    let text = r#"[{"image": "test_0001", "question": "what?", "answer": "liver"}, {"image": "test_0001", "question": "is it?", "answer": "yes"}]"#;
    let dir = folder(&[("qas/test/test_qa.json", text), ("images/test/", "")]);
    let set = open(dir.path(), &OpenOptions::default()).unwrap();
    assert_eq!((set.layout, ids(&set)), (Layout::PathVqa, vec!["test-0", "test-1"]));
    assert_eq!(image(&set.items[0], dir.path()), "images/test/test_0001.jpg");
    assert_eq!((set.items[0].closed, set.items[1].closed), (Some(false), Some(true)));
}

#[test]
fn easy_vqa_counts_its_pictures() {
    let text = "[[\"what is the red shape?\", \"triangle\", 0],\n[\"is there a circle?\", \"no\", 17]]";
    let dir = folder(&[("test/questions.json", text), ("test/images/", ""), ("answers.txt", "")]);
    let set = open(dir.path(), &OpenOptions::default()).unwrap();
    assert_eq!(
        (set.layout, set.task, ids(&set)),
        (Layout::EasyVqa, Task::Question, vec!["test-0", "test-1"])
    );
    assert_eq!(image(&set.items[1], dir.path()), "test/images/17.png");
    assert_eq!((set.items[0].closed, set.items[1].closed), (Some(false), Some(true)));
    let found = message(open(dir.path(), &split(Split::Train)));
    assert!(found.ends_with("no annotation file of split `train`, but of test"), "{found}");
    let found = message(test_split(&[("test/questions.json", &text.replace("17", "-1"))]));
    assert!(
        found.contains(
            "line 2: /1: invalid value: integer `-1`, expected u64, expected [question, answer, image number]"
        ),
        "{found}"
    );
}

#[test]
fn vqa_med_questions_are_references() {
    let text = r#"{"name": "x", "images": [{"id": "synpic1", "file": "synpic1.jpg", "width": 4, "questions": ["What?", "Where?"]},
{"id": "synpic2", "file": "synpic2.jpg", "questions": []}]}"#;
    let dir = folder(&[("questions.json", text), ("images/", "")]);
    let found = message(open(dir.path(), &OpenOptions::default()));
    assert!(found.ends_with("line 2: /images/1: field `questions`: the list is empty"), "{found}");
    let set = open(dir.path(), &OpenOptions { skip_bad: true, ..OpenOptions::default() }).unwrap();
    assert_eq!((set.layout, set.task, ids(&set)), (Layout::VqaMed, Task::Caption, vec!["synpic1"]));
    assert_eq!((set.items[0].references.len(), image(&set.items[0], dir.path())), (2, "images/synpic1.jpg"));
    assert!(
        message(open(dir.path(), &split(Split::Train)))
            .ends_with("no item of split `train` in layout vqa-med")
    );
}
