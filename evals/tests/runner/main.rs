//! The runner with candidates made for the test: resume, failures, shards, results.

mod resume;
mod shards;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use swinseek_evals::dataset::{Dataset, Item, Layout, Split, Task};
use swinseek_evals::profile::Profile;
use swinseek_evals::resample::Bootstrap;
use swinseek_evals::runner::{
    Candidate, CandidateError, DataFacts, Environment, Floors, HYPOTHESES, Header, Job, Line, Log,
    MetricName, Outcome, SHARD, Shard, Sight, Statistics, answer_all, floors, result, write_file,
};

const WORDS: [&str; 8] = ["the", "lungs", "are", "clear", ".", "no", "effusion", "cat"];

/// Deterministic text of `length` words.
fn text(seed: usize, length: usize) -> String {
    let word = |k: usize| WORDS[(seed * 7 + k * k * 3 + seed * k) % WORDS.len()];
    (0..length).map(word).collect::<Vec<_>>().join(" ")
}

fn item(index: usize) -> Item {
    Item {
        id: format!("study-{index}"),
        images: vec![PathBuf::from(format!("data/images/{index}.png"))],
        question: None,
        references: (0..2).map(|k| text(index + 5 * k, 4 + index % 5)).collect(),
        group: None,
        closed: None,
        extra: Map::new(),
    }
}

fn dataset(items: usize, task: Task) -> Dataset {
    let items = (0..items).map(item).collect();
    Dataset { layout: Layout::R2gen, task, split: Split::Test, items, skipped: Vec::new(), hash: "h".into() }
}

/// Writes a text that depends on the item and on what it is shown, and fails where it is told to.
#[derive(Default)]
struct Mock {
    fails: Vec<usize>,
    gone_from: Option<usize>,
}

impl Candidate for Mock {
    fn describe(&self) -> Value {
        json!({ "kind": "mock", "digest": "0123" })
    }

    fn answer(&self, item: &Item, sight: Sight) -> Result<String, CandidateError> {
        let index: usize = item.id["study-".len()..].parse().expect("a number");
        if self.gone_from.is_some_and(|from| index >= from) {
            return Err(CandidateError::Gone("no more".into()));
        }
        if self.fails.contains(&index) {
            return Err(CandidateError::Item("no picture".into()));
        }
        Ok(text(index + usize::from(sight == Sight::Noise), 3 + index % 4))
    }
}

fn header(dataset: &Dataset, shard: Shard) -> Header {
    Header {
        swinseek: "0".into(),
        data: DataFacts::new(Path::new("data"), dataset),
        model: Mock::default().describe(),
        prompt: "Write.".into(),
        seed: 1,
        max_tokens: 9,
        shard,
    }
}

fn ask(
    path: &Path,
    dataset: &Dataset,
    shard: Shard,
    candidate: &dyn Candidate,
    threads: usize,
) -> (Vec<Line>, Outcome) {
    let positions = shard.positions(dataset.items.len());
    let mut log = Log::open(path).expect("a log");
    let job = Job {
        root: Path::new("data"),
        items: &dataset.items,
        positions: &positions,
        candidate,
        sight: Sight::Pictures,
        threads,
    };
    let outcome = answer_all(&mut log, &job, &mut |_, _| {}).expect("a run");
    (log.finish().expect("lines"), outcome)
}

const BOOTSTRAP: Bootstrap = Bootstrap { resamples: 50, seed: 3 };

/// A whole run of a shard into `dir`.
fn run(dir: &Path, dataset: &Dataset, shard: Shard, floors: &Floors, profile: Profile) -> Statistics {
    std::fs::create_dir_all(dir).expect("a folder");
    let (lines, _) = ask(&dir.join(HYPOTHESES), dataset, shard, &Mock { fails: vec![2], gone_from: None }, 3);
    let mut metrics = MetricName::defaults(dataset.task, profile);
    metrics.extend([MetricName::Chrf, MetricName::Ter]);
    let settings = (metrics.as_slice(), profile, BOOTSTRAP);
    let header = header(dataset, shard);
    let statistics =
        Statistics::new(header, settings, &dataset.items, &lines, None, floors).expect("statistics");
    write_file(&dir.join(SHARD), &serde_json::to_vec(&statistics).expect("JSON")).expect("written");
    statistics
}
