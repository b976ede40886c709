//! A data set in any layout that `eval` reads: pictures, and what is right to write about them.

use std::path::Path;

use anyhow::{Result, ensure};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use swinseek_evals::dataset::{Item, OpenOptions, Task, open};

use super::{Record, Source, read_image};
use crate::eval::default_prompt;

/// The items of one split that have a picture.
pub(super) struct Annotated {
    task: Task,
    items: Vec<Item>,
}

impl Annotated {
    /// Reads the annotation files at `dir`; pictures are read when they are drawn.
    pub(super) fn open(dir: &Path, split: &str) -> Result<Self> {
        let mut data = open(dir, &OpenOptions { split: split.parse()?, ..OpenOptions::default() })?;
        data.items.retain(|item| !item.images.is_empty());
        ensure!(!data.items.is_empty(), "{}: split `{split}` has no items with a picture", dir.display());
        Ok(Self { task: data.task, items: data.items })
    }

    /// An item, how it is asked for, and one of its references: a set with several teaches several wordings.
    fn pick(&self, rng: &mut ChaCha8Rng) -> (&Item, String, String) {
        let item = &self.items[rng.random_range(0..self.items.len())];
        let prompt = item.question.as_deref().unwrap_or(default_prompt(self.task)).to_owned();
        let answer = item.references[rng.random_range(0..item.references.len())].clone();
        (item, prompt, answer)
    }
}

impl Source for Annotated {
    fn draw(&self, rng: &mut ChaCha8Rng) -> Result<Record> {
        let (item, prompt, answer) = self.pick(rng);
        Ok(Record { image: read_image(&item.images[0])?, prompt, answer, findings: None })
    }

    fn text(&self, rng: &mut ChaCha8Rng) -> Result<(String, String)> {
        let (_, prompt, answer) = self.pick(rng);
        Ok((prompt, answer))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use swinseek_phantom::{Format, Options, Split, StudyOptions, write_dataset};

    use super::*;

    #[test]
    fn what_phantom_writes_can_be_trained_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let split: Split = "test:1".parse().expect("shares");
        let options = Options { format: Format::Png, study: StudyOptions { size: 64 }, split };
        write_dataset(dir.path(), 2, 1, &options, &|_| ()).expect("phantoms");
        let source = Annotated::open(dir.path(), "test").expect("a source");
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let record = source.draw(&mut rng).expect("its picture is found");
        assert_eq!(record.image.width(), 64);
        assert!(record.answer.contains("FINDINGS"), "{}", record.answer);
        assert!(Annotated::open(dir.path(), "train").is_err());
    }
}
