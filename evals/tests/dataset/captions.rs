//! COCO, Karpathy's splits, Flickr8k and Flickr30k.

use swinseek_evals::dataset::{Layout, OpenOptions, Split, Task, open};

use super::{folder, ids, image, message, split, test_split};

#[test]
fn coco_joins_captions_to_images() {
    let text = r#"{"info": {}, "licenses": [],
"images": [{"id": 9, "file_name": "000009.jpg", "height": 4}, {"id": 4, "file_name": "000004.jpg"},
  {"id": 5, "file_name": "000005.jpg"}],
"annotations": [{"image_id": 4, "id": 1, "caption": "a"}, {"image_id": 9, "id": 2, "caption": "b"}, {"image_id": 4, "id": 3, "caption": "c"}]}"#;
    let dir = folder(&[("annotations/captions_val2017.json", text), ("val2017/", "")]);
    let found = message(open(dir.path(), &split(Split::Val)));
    assert!(found.ends_with("captions_val2017.json: line 3: /images/2: image 5 has no captions"), "{found}");
    let options = OpenOptions { split: Split::Val, skip_bad: true, ..OpenOptions::default() };
    let set = open(dir.path(), &options).unwrap();
    assert_eq!((set.layout, set.task, ids(&set)), (Layout::CocoCaptions, Task::Caption, vec!["9", "4"]));
    assert_eq!(image(&set.items[0], dir.path()), "val2017/000009.jpg");
    assert_eq!(
        (set.items[1].references.as_slice(), set.skipped.len()),
        (["a".into(), "c".into()].as_slice(), 1)
    );
    // Named as a file, it is the split that is asked for.
    let file = dir.path().join("annotations/captions_val2017.json");
    assert_eq!(
        open(&file, &OpenOptions { skip_bad: true, ..OpenOptions::default() }).unwrap().items,
        set.items
    );
    let bad = text.replace(r#""caption": "b""#, r#""caption": {}"#);
    let found = message(open(folder(&[("captions_val2017.json", &bad)]).path(), &split(Split::Val)));
    assert!(
        found.ends_with("line 4: /annotations/1: field `caption`: found an object, expected text"),
        "{found}"
    );
}

#[test]
fn karpathy_splits_count_restval_as_train() {
    let text = r#"{"dataset": "coco", "images": [
{"filepath": "val2014", "filename": "a.jpg", "split": "restval", "cocoid": 1, "sentences": [{"raw": "one", "tokens": ["one"]}]},
{"filename": "b.jpg", "split": "test", "sentences": [{"raw": "two"}, {"raw": "three"}]},
{"filename": "c.jpg", "split": "train", "sentences": [{"raw": "four"}]}]}"#;
    let dir = folder(&[("dataset_coco.json", text), ("images/", "")]);
    let set = open(dir.path(), &split(Split::Train)).unwrap();
    assert_eq!((set.layout, ids(&set)), (Layout::Karpathy, vec!["a.jpg", "c.jpg"]));
    assert_eq!(image(&set.items[0], dir.path()), "images/val2014/a.jpg");
    let test = open(dir.path(), &OpenOptions::default()).unwrap();
    assert_eq!(test.items[0].references, ["two", "three"]);
    for (from, to, part) in [
        ("\"raw\": \"two\"", "\"row\": 1", "line 3: /images/1: field `raw` is missing"),
        (
            "\"restval\"",
            "\"rest\"",
            "line 2: /images/0: split: `rest`, expected one of train, val, test, restval",
        ),
        (
            "[{\"raw\": \"two\"}, {\"raw\": \"three\"}]",
            "[]",
            "line 3: /images/1: field `sentences`: the list is empty",
        ),
    ] {
        let found = message(test_split(&[("dataset_coco.json", &text.replace(from, to))]));
        assert!(found.ends_with(part), "{found}");
    }
}

#[test]
fn flickr_tokens_follow_the_lists_of_images() {
    let tokens = "1_a.jpg#0\tA dog .\n1_a.jpg#1\tA brown dog .\n2_b.jpg#0\tA girl .\n1_a.jpg#2\tDog\r\n\n";
    let files = [
        ("Flickr8k_text/Flickr8k.token.txt", tokens),
        ("Flickr8k_text/Flickr_8k.trainImages.txt", "2_b.jpg\n"),
        ("Flickr8k_text/Flickr_8k.testImages.txt", "1_a.jpg\r\n"),
        ("Flicker8k_Dataset/", ""),
    ];
    let dir = folder(&files);
    let set = open(dir.path(), &OpenOptions::default()).unwrap();
    assert_eq!((set.layout, ids(&set)), (Layout::Flickr8k, vec!["1_a.jpg"]));
    assert_eq!(set.items[0].references, ["A dog .", "A brown dog .", "Dog"]);
    assert_eq!(image(&set.items[0], dir.path()), "Flicker8k_Dataset/1_a.jpg");
    // Both files count.
    let both = [tokens, "1_a.jpg\r\n"].concat();
    assert_eq!(set.hash, blake3::hash(both.as_bytes()).to_hex().as_str());
    assert_eq!(ids(&open(dir.path(), &split(Split::Train)).unwrap()), ["2_b.jpg"]);
    let found = message(open(dir.path(), &split(Split::Val)));
    assert!(found.ends_with("there are lists of images, but none of split `val`"), "{found}");
    std::fs::write(dir.path().join("Flickr8k_text/Flickr_8k.testImages.txt"), "1_a.jpg\n3_c.jpg\n").unwrap();
    let found = message(open(dir.path(), &OpenOptions::default()));
    assert!(
        found.ends_with("testImages.txt: line 2: `3_c.jpg` has no captions, or is listed twice"),
        "{found}"
    );
    // Without lists the captions are not divided.
    let all = test_split(&[("results_20130124.token", tokens)]).unwrap();
    assert_eq!((all.layout, ids(&all)), (Layout::Flickr30k, vec!["1_a.jpg", "2_b.jpg"]));
    for (line, part) in [
        ("1_a.jpg#0 no tab", "line 5: no tab, expected `name#number`, a tab and a caption"),
        ("1_a.jpg.1#x\tq", "line 5: `1_a.jpg.1#x`, expected `name#number`, a tab and a caption"),
        ("1_a.jpg\tq", "line 5: no `#` in `1_a.jpg`, expected `name#number`, a tab and a caption"),
    ] {
        let text = tokens.replace("\n\n", &format!("\n{line}\n"));
        let found = message(test_split(&[("Flickr8k.token.txt", &text)]));
        assert!(found.ends_with(part), "{found}");
    }
    let file = dir.path().join("bytes.token");
    std::fs::write(&file, b"a.jpg#0\tx\nb.jpg#0\t\xff\n").unwrap();
    let found = message(open(&file, &OpenOptions::default()));
    assert!(found.ends_with("bytes.token: line 2: invalid UTF-8 at byte 9 of the line"), "{found}");
}

#[test]
fn flickr_tables_come_in_three_forms() {
    let kaggle = "image,caption\n1.jpg,A dog .\n1.jpg,\"A dog, brown\"\n2.jpg,Two\n";
    let set = test_split(&[("captions.txt", kaggle), ("Images/", "")]).unwrap();
    assert_eq!((set.layout, ids(&set)), (Layout::Flickr8k, vec!["1.jpg", "2.jpg"]));
    assert_eq!(set.items[0].references, ["A dog .", "A dog, brown"]);
    let bars = "image_name| comment_number| comment\n1.jpg| 0| Two \"young\" men , one tall\n2.jpg| 4   A dog runs\n";
    let dir = folder(&[("results.csv", bars)]);
    let found = message(open(dir.path(), &OpenOptions::default()));
    assert!(found.ends_with("results.csv: line 3: found 2 fields, expected 3"), "{found}");
    let set = open(dir.path(), &OpenOptions { skip_bad: true, ..OpenOptions::default() }).unwrap();
    assert_eq!(set.items[0].references, ["Two \"young\" men , one tall"]);
    let splits = "raw,sentids,split,filename,img_id\n\"[\"\"One\"\", \"\"Two\"\"]\",\"[0, 1]\",test,7.jpg,0\n\"[\"\"x\"\"]\",[2],val,8.jpg,1\n";
    let set = test_split(&[("flickr_annotations_30k.csv", splits)]).unwrap();
    assert_eq!(
        (set.layout, set.items[0].references.as_slice()),
        (Layout::Flickr30k, ["One".into(), "Two".into()].as_slice())
    );
    assert_eq!(ids(&set), ["7.jpg"]);
    let found = message(test_split(&[("captions.txt", "picture,caption\n")]));
    assert!(
        found.ends_with(
            "line 1: column `image` or `image_name` or `filename` is missing, found `picture`, `caption`"
        ),
        "{found}"
    );
}
