//! Parquet files of Arrow's own writer: `goldens/parquet`, written by `goldens/make_parquet.py`.

use std::path::{Path, PathBuf};

use swinseek_evals::dataset::{Layout, OpenOptions, Split, Task, image_bytes, open};

use super::{ids, message, split};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/parquet").join(name)
}

#[test]
fn pictures_inside_a_file_are_read_when_wanted() {
    let set =
        open(&golden(""), &OpenOptions { layout: Some(Layout::Parquet), ..OpenOptions::default() }).unwrap();
    assert_eq!((set.task, set.items.len()), (Task::Question, 7));
    let item = &set.items[4];
    assert_eq!(item.id, "test-00000-of-00001-4");
    assert_eq!(
        (item.question.as_deref(), item.references.as_slice()),
        (Some("what is 4?"), ["a circle".to_owned()].as_slice())
    );
    assert_eq!(
        (
            item.extra["grade"].as_i64(),
            set.items[3].extra.get("grade").is_some_and(serde_json::Value::is_null)
        ),
        (Some(4), true)
    );
    assert_eq!(item.images[0], golden("test-00000-of-00001.parquet/4/image"));
    for (row, item) in set.items[..5].iter().enumerate() {
        assert_eq!(image_bytes(&item.images[0]).unwrap(), vec![row as u8; row + 1]);
    }
    // A null beside a path is the file of that name; it is not there.
    let text = image_bytes(&set.items[5].images[0]).unwrap_err().to_string();
    assert!(text.contains("beside.bin: cannot be read"), "{text}");
    let text = image_bytes(&set.items[6].images[0]).unwrap_err().to_string();
    assert!(text.ends_with("row 6: column `image` has no picture"), "{text}");
    let text = image_bytes(&golden("test-00000-of-00001.parquet/7/image")).unwrap_err().to_string();
    assert!(text.ends_with("row 7: there is no such row"), "{text}");
    let text = image_bytes(&golden("test-00000-of-00001.parquet/0/grade")).unwrap_err().to_string();
    assert!(text.ends_with("row 0: column `grade.bytes` does not hold bytes"), "{text}");
    let binary = open(&golden("binary.parquet"), &OpenOptions::default()).unwrap();
    assert_eq!((binary.task, image_bytes(&binary.items[1].images[0]).unwrap()), (Task::Caption, vec![2, 3]));
}

#[test]
fn every_codec_gives_the_same_items() {
    for name in ["reports-none.parquet", "reports-gzip.parquet", "reports-zstd.parquet"] {
        let found = message(open(&golden(name), &OpenOptions::default()));
        assert!(found.ends_with(&format!("{name}: row 2: field `references`: the list is empty")), "{found}");
        let set = open(&golden(name), &OpenOptions { skip_bad: true, ..OpenOptions::default() }).unwrap();
        assert_eq!((set.layout, set.task, ids(&set)), (Layout::Parquet, Task::Report, vec!["11", "14"]));
        assert_eq!(set.items[0].references, ["one", "two"]);
        assert_eq!((set.items[0].extra["score"].as_f64(), set.items[1].images.len()), (Some(0.5), 0));
        assert_eq!(set.hash, blake3::hash(&std::fs::read(golden(name)).unwrap()).to_hex().as_str());
        assert_eq!(ids(&open(&golden(name), &split(Split::Train)).unwrap()), ["12"]);
    }
}
