//! Evaluation across rooms: what one room makes is what another reads.

use swinseek_evals::dataset::{Layout, OpenOptions, Task, image_bytes, open};
use swinseek_evals::radiology::{Label, Observation, Section, label, section};
use swinseek_phantom::grammar::Report;
use swinseek_phantom::{Options, Study, StudyOptions, write_dataset};

const STUDIES: u64 = 300;

/// The grammar of the phantoms says no more and no less than what the labeller reads out of it. Lung opacity is left
/// out: the phantoms infer it from nodules and the like, the labeller takes it from words.
#[test]
fn phantom_reports_are_labelled_as_their_findings() {
    for index in 0..STUDIES {
        let (_, description) = Study::example(5, index, &StudyOptions { size: 32 });
        let texts = description.references.iter().chain([&description.report]).map(Report::text);
        for text in texts {
            let labels = label(&text);
            for observation in Observation::ALL.into_iter().filter(|o| *o != Observation::LungOpacity) {
                let there = description.labels.contains(&observation.name());
                assert_eq!(labels[observation] == Label::Positive, there, "{observation}: {text}");
            }
            let impression = section(&text, Section::Impression).unwrap();
            assert!(text.ends_with(&impression) && !impression.is_empty(), "{text}");
        }
    }
}

#[test]
fn phantom_sets_are_read_as_reports_and_as_questions() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { study: StudyOptions { size: 32 }, ..Options::default() };
    write_dataset(dir.path(), 4, 9, &options, &|_| {}).unwrap();
    let reports = open(dir.path(), &OpenOptions::default()).unwrap();
    assert_eq!((reports.layout, reports.task, reports.items.len()), (Layout::R2gen, Task::Report, 4));
    for item in &reports.items {
        assert_eq!(item.references.len(), 4);
        assert!(image_bytes(&item.images[0]).unwrap().starts_with(b"\x89PNG"));
        assert!(item.extra["labels"].is_array() && item.extra["questions"].is_array());
    }
    let layout = Some(Layout::R2genQuestions);
    let questions = open(dir.path(), &OpenOptions { layout, ..OpenOptions::default() }).unwrap();
    assert!(questions.task == Task::Question && questions.items.len() >= 4 * 6);
    assert_eq!(questions.items[0].group.as_deref(), Some(reports.items[0].id.as_str()));
    assert_eq!(questions.hash, reports.hash);
}
