//! A folder of pictures with `labels.csv`: the label's column becomes a question with a fixed answer for each value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::{Record, Source, read_image};

/// Pictures by answer. Answers are drawn evenly, so that a rare label is seen as often as a common one.
pub(super) struct Labels {
    images: PathBuf,
    questions: Vec<String>,
    by_answer: Vec<(String, Vec<String>)>,
}

impl Labels {
    /// Reads `dir/labels.csv` (columns `file`, `split` and `column`); rows of other splits and labels are left out.
    pub(super) fn open(
        dir: &Path,
        column: &str,
        split: &str,
        questions: &[String],
        answers: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let path = dir.join("labels.csv");
        let mut reader =
            csv::Reader::from_path(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let headers = reader.headers()?.clone();
        let find = |name: &str| {
            let place = headers.iter().position(|header| header == name);
            place.with_context(|| {
                format!(
                    "{}: no column `{name}`, found {}",
                    path.display(),
                    headers.iter().collect::<Vec<_>>().join(", ")
                )
            })
        };
        let (file, part, label) = (find("file")?, find("split")?, find(column)?);
        let mut by_answer: BTreeMap<&String, Vec<String>> = BTreeMap::new();
        for (line, row) in reader.records().enumerate() {
            let row = row.with_context(|| format!("{} line {}", path.display(), line + 2))?;
            if &row[part] == split
                && let Some(answer) = answers.get(&row[label])
            {
                by_answer.entry(answer).or_default().push(row[file].to_owned());
            }
        }
        if by_answer.is_empty() || questions.is_empty() {
            bail!("{}: no row of split `{split}` has a label among {:?}", path.display(), answers.keys());
        }
        let by_answer = by_answer.into_iter().map(|(answer, files)| (answer.clone(), files)).collect();
        Ok(Self { images: dir.join("images"), questions: questions.to_vec(), by_answer })
    }

    fn pick(&self, rng: &mut ChaCha8Rng) -> (&str, &str, &str) {
        let question = &self.questions[rng.random_range(0..self.questions.len())];
        let (answer, files) = &self.by_answer[rng.random_range(0..self.by_answer.len())];
        (question, answer, &files[rng.random_range(0..files.len())])
    }
}

impl Source for Labels {
    fn draw(&self, rng: &mut ChaCha8Rng) -> Result<Record> {
        let (question, answer, file) = self.pick(rng);
        let image = read_image(&self.images.join(file))?;
        Ok(Record { image, prompt: question.to_owned(), answer: answer.to_owned(), findings: None })
    }

    fn text(&self, rng: &mut ChaCha8Rng) -> Result<(String, String)> {
        let (question, answer, _) = self.pick(rng);
        Ok((question.to_owned(), answer.to_owned()))
    }
}
