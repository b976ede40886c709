//! Every layout from small made-up files, real sets where they lie beside the repository, damage of every kind.

use std::path::Path;

use swinseek_evals::Result;
use swinseek_evals::dataset::{Dataset, Item, OpenOptions, Split, open};
use tempfile::TempDir;

mod captions;
mod columns;
mod damage;
mod questions;
mod real;
mod reports;

/// A folder with these files; a name that ends in `/` is a folder.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        if name.ends_with('/') {
            std::fs::create_dir_all(path).unwrap();
        } else {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }
    dir
}

fn split(split: Split) -> OpenOptions {
    OpenOptions { split, ..OpenOptions::default() }
}

/// The test split of a folder of these files.
fn test_split(files: &[(&str, &str)]) -> Result<Dataset> {
    open(folder(files).path(), &OpenOptions::default())
}

fn message(result: Result<Dataset>) -> String {
    let text = result.unwrap_err().to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

fn ids(dataset: &Dataset) -> Vec<&str> {
    dataset.items.iter().map(|item| item.id.as_str()).collect()
}

/// The first picture, below the folder.
fn image<'a>(item: &'a Item, root: &Path) -> &'a str {
    item.images[0].strip_prefix(root).unwrap().to_str().unwrap()
}
