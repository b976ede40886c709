//! Questions about pictures: VQA-RAD, SLAKE, PathVQA, easy-VQA, VQA-Med, and those inside R2Gen files.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::collect::{Collector, Found};
use super::find::image_root;
use super::json::{self, Checked, Place, Raw};
use super::layout::{Layout, Source};
use super::{Item, Split, Task, r2gen};
use crate::error::Result;

/// Each record of a file that is one list.
fn each(
    source: &Source,
    collector: &mut Collector<'_>,
    folders: &[&str],
    climb: usize,
    item: impl Fn(Raw<'_>, usize, &Path, Split) -> Found,
) -> Result<Task> {
    for file in &source.files {
        let bytes = collector.file(file)?;
        let list: Vec<Raw<'_>> = json::parse(&bytes, file)?;
        let root = image_root(file, climb, folders);
        for (index, raw) in list.iter().enumerate() {
            if collector.is_full() {
                break;
            }
            let found = item(raw, index, &root, collector.split());
            let pointer = format_args!("/{index}");
            collector.take(file, &Place { file: &bytes, raw, pointer }, found)?;
        }
    }
    Ok(Task::Question)
}

/// Question and answer, trimmed: the published files have stray blanks.
fn question(record: &mut Map<String, Value>) -> Checked<(String, String)> {
    let mut trimmed = |name| json::text(record, &[name]).map(|text| text.trim().to_owned());
    Ok((trimmed("question")?, trimmed("answer")?))
}

/// `CLOSED` or `OPEN`.
fn answer_type(record: &mut Map<String, Value>) -> Checked<Option<bool>> {
    let Some(kind) = json::optional(record, &["answer_type"])? else { return Ok(None) };
    match kind.trim() {
        kind if kind.eq_ignore_ascii_case("closed") => Ok(Some(true)),
        kind if kind.eq_ignore_ascii_case("open") => Ok(Some(false)),
        other => Err(format!("field `answer_type`: `{other}`, expected OPEN or CLOSED")),
    }
}

/// VQA-RAD (Lau et al. 2018): `phrase_type` begins with `test` for the official test questions. There is no
/// validation split.
pub(super) fn read_vqa_rad(source: &Source, collector: &mut Collector<'_>) -> Result<Task> {
    let folders = ["VQA_RAD Image Folder", "images", "Images"];
    each(source, collector, &folders, 0, |raw, index, root, split| {
        let mut record = json::record(raw)?;
        let is_test = match record.get("phrase_type") {
            Some(Value::String(phrase)) => Some(phrase.trim().starts_with("test")),
            _ => None,
        };
        if is_test.is_some_and(|test| split != if test { Split::Test } else { Split::Train }) {
            return Ok(None);
        }
        let image = json::text(&mut record, &["image_name"])?;
        let (question, answer) = question(&mut record)?;
        Ok(Some(Item {
            id: json::optional(&mut record, &["qid"])?.unwrap_or_else(|| index.to_string()),
            images: vec![root.join(&image)],
            question: Some(question),
            references: vec![answer],
            group: Some(image),
            closed: answer_type(&mut record)?,
            extra: record,
        }))
    })
}

/// SLAKE (Liu et al. 2021), the questions of one language.
pub(super) fn read_slake(source: &Source, collector: &mut Collector<'_>) -> Result<Task> {
    let language = if source.layout == Layout::SlakeZh { "zh" } else { "en" };
    each(source, collector, &["imgs", "images"], 0, |raw, index, root, _| {
        let mut record = json::record(raw)?;
        if json::optional(&mut record, &["q_lang"])?.is_some_and(|found| found != language) {
            return Ok(None);
        }
        let image = json::text(&mut record, &["img_name"])?;
        let (question, answer) = question(&mut record)?;
        Ok(Some(Item {
            id: json::optional(&mut record, &["qid"])?.unwrap_or_else(|| index.to_string()),
            images: vec![root.join(&image)],
            question: Some(question),
            references: vec![answer],
            group: Some(image),
            closed: answer_type(&mut record)?,
            extra: record,
        }))
    })
}

fn is_yes_no(answer: &str) -> bool {
    answer.eq_ignore_ascii_case("yes") || answer.eq_ignore_ascii_case("no")
}

/// PathVQA (He et al. 2020): `image` is a name without extension, in `images/{split}`. Yes/no questions are the closed
/// ones, as the paper counts them.
pub(super) fn read_path_vqa(source: &Source, collector: &mut Collector<'_>) -> Result<Task> {
    let folder = format!("images/{}", collector.split());
    each(source, collector, &[&folder, "images"], 2, |raw, index, root, split| {
        let mut record = json::record(raw)?;
        let image = json::text(&mut record, &["image"])?;
        let (question, answer) = question(&mut record)?;
        let name =
            if Path::new(&image).extension().is_some() { image.clone() } else { format!("{image}.jpg") };
        Ok(Some(Item {
            id: json::optional(&mut record, &["id", "qid"])?.unwrap_or_else(|| format!("{split}-{index}")),
            images: vec![root.join(name)],
            question: Some(question),
            closed: Some(is_yes_no(&answer)),
            references: vec![answer],
            group: Some(image),
            extra: record,
        }))
    })
}

/// easy-VQA: `[question, answer, image number]`; yes/no questions are the closed ones.
pub(super) fn read_easy_vqa(source: &Source, collector: &mut Collector<'_>) -> Result<Task> {
    each(source, collector, &["images"], 0, |raw, index, root, split| {
        let (question, answer, image): (String, String, u64) =
            serde_json::from_str(raw.get()).map_err(|error| {
                format!("{}, expected [question, answer, image number]", json::without_place(&error))
            })?;
        Ok(Some(Item {
            id: format!("{split}-{index}"),
            images: vec![root.join(format!("{image}.png"))],
            question: Some(question),
            closed: Some(is_yes_no(&answer)),
            references: vec![answer],
            group: Some(image.to_string()),
            extra: Map::new(),
        }))
    })
}

#[derive(Deserialize)]
struct VqaMed<'a> {
    #[serde(borrow)]
    images: Vec<Raw<'a>>,
}

/// VQA-Med's question generation (Ben Abacha et al. 2021): the references of an image are its questions. The file is the
/// test split.
pub(super) fn read_vqa_med(source: &Source, collector: &mut Collector<'_>) -> Result<Task> {
    for file in &source.files {
        let bytes = collector.file(file)?;
        let list: VqaMed<'_> = json::parse(&bytes, file)?;
        let root = image_root(file, 0, &["images"]);
        for (index, raw) in list.images.iter().enumerate() {
            if collector.is_full() || collector.split() != Split::Test {
                break;
            }
            let found = json::record(raw).and_then(|mut record| {
                let (name, questions) = json::need(&mut record, &["questions"])?;
                let questions = Value::Array(json::as_list(name, questions)?);
                let image = root.join(json::text(&mut record, &["file"])?);
                Ok(Some(Item {
                    id: json::text(&mut record, &["id"])?,
                    images: vec![image],
                    question: None,
                    references: json::as_texts(name, questions)?,
                    group: None,
                    closed: None,
                    extra: record,
                }))
            });
            let pointer = format_args!("/images/{index}");
            collector.take(file, &Place { file: &bytes, raw, pointer }, found)?;
        }
    }
    Ok(Task::Caption)
}

/// The field `questions` of each study: `question`, `answer` and more.
pub(super) fn read_r2gen(source: &Source, collector: &mut Collector<'_>) -> Result<Task> {
    r2gen::each(source, collector, |collector, file, place, found| {
        let mut study = match found {
            Ok(study) => study,
            Err(message) => return collector.bad(file, place, &message),
        };
        let questions = match study.extra.shift_remove("questions") {
            None => return Ok(()),
            Some(Value::Array(questions)) => questions,
            Some(other) => {
                let message = format!("field `questions`: found {}, expected a list", json::kind(&other));
                return collector.bad(file, place, &message);
            }
        };
        for (index, value) in questions.into_iter().enumerate() {
            let found = of_study(&study, index, value).map(Some);
            collector.take(file, &format_args!("{place}/questions/{index}"), found)?;
        }
        Ok(())
    })?;
    Ok(Task::Question)
}

fn of_study(study: &Item, index: usize, value: Value) -> Checked<Item> {
    let mut record = json::object(value)?;
    let (question, answer) = question(&mut record)?;
    Ok(Item {
        id: format!("{}/{index}", study.id),
        images: study.images.clone(),
        question: Some(question),
        closed: Some(is_yes_no(&answer)),
        references: vec![answer],
        group: study.group.clone().or_else(|| Some(study.id.clone())),
        extra: record,
    })
}
