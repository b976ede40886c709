//! No bytes make a reader panic.

use proptest::prelude::*;
use swinseek_evals::dataset::{Layout, OpenOptions, open};

/// Pieces of which files that nearly fit are made.
const PIECES: [&str; 30] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\n",
    "null",
    "5",
    "-1e999",
    "\"id\"",
    "\"images\"",
    "\"annotations\"",
    "\"test\"",
    "\"sentences\"",
    "\"questions\"",
    "\"image_id\"",
    "\"question\"",
    "\"answer\"",
    "\"img_name\"",
    "\"a\"",
    "\"\\ud800\"",
    "a.jpg#0\tA dog",
    "image,caption\n",
    "image_name| comment\n",
    "|",
    "é",
    "\u{feff}",
    "{\"report\": \"x\"}",
];

fn any_file() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::collection::vec(prop::sample::select(PIECES.as_slice()), 0..40);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        pieces.prop_map(|pieces| pieces.concat().into_bytes())
    ]
}

fn read_as_everything(bytes: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    for extension in ["json", "txt"] {
        let path = dir.path().join("data").with_extension(extension);
        std::fs::write(&path, bytes).unwrap();
        for skip_bad in [true, false] {
            for layout in Layout::ALL.into_iter().map(Some).chain([None]) {
                let result = open(&path, &OpenOptions { layout, skip_bad, ..OpenOptions::default() });
                if let Err(error) = result {
                    assert!(!error.to_string().contains('\n'), "{error:?}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_bytes_are_read_or_refused(bytes in any_file()) {
        read_as_everything(&bytes);
    }

    #[test]
    fn a_damaged_table_is_read_or_refused(at in 0_usize..3000, value in any::<u8>(), cut in 0_usize..2) {
        let mut bytes = include_bytes!("../goldens/parquet/test-00000-of-00001.parquet").to_vec();
        let at = at % bytes.len();
        bytes[at] = value;
        bytes.truncate(if cut == 0 { bytes.len() } else { at });
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.parquet");
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(set) = open(&path, &OpenOptions::default()) {
            // A damaged cell may say that there is no picture.
            for image in set.items.iter().flat_map(|item| &item.images) {
                drop(swinseek_evals::dataset::image_bytes(image));
            }
        }
    }
}

#[test]
fn a_picture_that_is_not_there_is_named() {
    let text = swinseek_evals::dataset::image_bytes("no/such/picture.png".as_ref()).unwrap_err().to_string();
    assert!(text.starts_with("no/such/picture.png: cannot be read: "), "{text}");
}
