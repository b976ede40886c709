//! Real sets, where they lie in `shared/data` beside the repository.

use std::path::{Path, PathBuf};

use swinseek_evals::dataset::{Dataset, Layout, OpenOptions, Split, Task, open};
use swinseek_evals::floors::verbatim_share;

use super::split;

/// `None` where the sets are not at hand.
fn shared(name: &str) -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    above.map(|folder| folder.join("shared/data").join(name)).find(|path| path.is_dir())
}

fn sizes(path: &Path) -> [usize; 3] {
    [Split::Train, Split::Val, Split::Test].map(|part| open(path, &split(part)).unwrap().items.len())
}

/// Lower case, without punctuation at the ends of words.
fn words(text: &str) -> String {
    let lower = text.to_lowercase();
    let words = lower.split_whitespace().map(|word| word.trim_matches(|c: char| c.is_ascii_punctuation()));
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn references(set: &Dataset) -> Vec<&str> {
    set.items.iter().map(|item| item.references[0].as_str()).collect()
}

#[test]
fn iu_x_ray_has_2955_reports_and_repeats_itself() {
    let Some(path) = shared("iu-xray-text") else { return };
    assert_eq!(sizes(&path), [2069, 296, 590]);
    let [train, test] = [Split::Train, Split::Test].map(|part| open(&path, &split(part)).unwrap());
    assert_eq!(
        (test.layout, test.task, test.items.iter().map(|i| i.images.len()).sum()),
        (Layout::R2gen, Task::Report, 1180)
    );
    // 46.4 % of the official test reports stand in train byte for byte; the known 46.9 % are those with the same words.
    let share = verbatim_share(&references(&test), &references(&train));
    assert!((share - 0.4644).abs() < 5e-5, "{share}");
    let [train, test] = [train, test].map(|set| references(&set).into_iter().map(words).collect::<Vec<_>>());
    let [train, test] = [&train, &test].map(|list| list.iter().map(String::as_str).collect::<Vec<_>>());
    let share = verbatim_share(&test, &train);
    assert!((share - 0.469).abs() < 5e-4, "{share}");
}

#[test]
fn flickr8k_has_five_captions_an_image() {
    let Some(path) = shared("flickr8k") else { return };
    assert_eq!(sizes(&path), [6000, 1000, 492]);
    let test = open(&path, &OpenOptions::default()).unwrap();
    assert_eq!((test.layout, test.task), (Layout::Karpathy, Task::Caption));
    assert!(test.items.iter().all(|item| item.references.len() == 5 && item.images[0].is_file()));
}

#[test]
fn notes_and_questions_have_their_pictures() {
    if let Some(path) = shared("covid-cxr") {
        assert_eq!(sizes(&path), [361, 66, 30]);
        let test = open(&path, &OpenOptions::default()).unwrap();
        assert!(test.layout == Layout::R2gen && test.items.iter().all(|item| item.images[0].is_file()));
    }
    if let Some(path) = shared("vqa-med-2021") {
        let test = open(&path, &OpenOptions::default()).unwrap();
        assert_eq!((test.layout, test.items.len()), (Layout::VqaMed, 76));
        assert_eq!(test.items.iter().map(|item| item.references.len()).sum::<usize>(), 302);
        assert!(test.items.iter().all(|item| item.images[0].is_file()));
    }
}
