//! A model or a server over a data set: answers that survive a kill, scores with their floors, a result directory.

mod local;
mod noise;
mod page;
mod server;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use swinseek_evals::dataset::{Dataset, Item, Layout, OpenOptions, Split, Task, open};
use swinseek_evals::profile::Profile;
use swinseek_evals::resample::Bootstrap;
use swinseek_evals::runner::{
    BLIND, Candidate, DataFacts, Environment, Floors, HYPOTHESES, Header, Job, Line, Log, MetricName,
    Outcome, PAGE, RESULT, RUN, SHARD, Shard, Sight, Statistics, answer_all, floors, result, write_file,
};
use swinseek_fusion::pipeline::{CAPTION_PROMPT, REPORT_PROMPT};

pub use local::Local;
pub(crate) use server::mime;
pub use server::{Server, ServerOptions};

/// What is asked about an item, and how.
#[derive(Clone, Debug)]
pub struct Ask {
    /// For items without a question of their own.
    pub prompt: String,
    /// Most tokens an answer.
    pub max_tokens: usize,
    /// Of noise, and of servers that sample.
    pub seed: u64,
}

impl Ask {
    fn prompt_of<'a>(&'a self, item: &'a Item) -> &'a str {
        item.question.as_deref().unwrap_or(&self.prompt)
    }
}

/// The instruction for a task; questions bring their own.
pub fn default_prompt(task: Task) -> &'static str {
    match task {
        Task::Report => REPORT_PROMPT,
        Task::Caption => CAPTION_PROMPT,
        Task::Question => "",
    }
}

/// Which items.
#[derive(Clone, Debug)]
pub struct DataChoice {
    /// Folder or annotation file.
    pub path: PathBuf,
    /// Split, layout, limit, bad records.
    pub options: OpenOptions,
    /// What is to be written, if not what the layout says.
    pub task: Option<Task>,
}

impl DataChoice {
    /// Reads the data set. A study's own questions and caption are found by their task.
    pub fn open(&self) -> Result<Dataset> {
        let mut options = self.options;
        let mut dataset = open(&self.path, &options)?;
        let Some(task) = self.task.filter(|&task| task != dataset.task) else {
            return Ok(dataset);
        };
        match (dataset.layout, task) {
            (Layout::R2gen, Task::Question) => {
                options.layout = Some(Layout::R2genQuestions);
                dataset = open(&self.path, &options)?;
            }
            (Layout::R2gen, Task::Caption) => {
                for item in &mut dataset.items {
                    let caption = item.extra.get("caption").and_then(Value::as_str);
                    let caption = caption.with_context(|| {
                        format!("{}: study `{}` has no field `caption`", self.path.display(), item.id)
                    })?;
                    item.references = vec![caption.to_owned()];
                }
                dataset.task = task;
            }
            (_, Task::Question) => {
                bail!("{}: layout {} has no questions", self.path.display(), dataset.layout)
            }
            _ => dataset.task = task,
        }
        Ok(dataset)
    }

    /// Another split of the same set, for floors; the reason when there is none.
    fn other(&self, split: Split, own: &Dataset) -> Result<Dataset, String> {
        let options = OpenOptions { split, limit: None, ..self.options };
        let other = Self { options, ..self.clone() }.open().map_err(|error| crate::cli::one_line(&error))?;
        // A file that knows no splits gives the same items for every split.
        let same = own.split == split || other.items.iter().zip(&own.items).all(|(other, own)| other == own);
        if same { Err(format!("the data set has no {split} split of its own")) } else { Ok(other) }
    }
}

/// What is done with the items.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The items.
    pub data: DataChoice,
    /// What is computed; the first names the run.
    pub metrics: Vec<MetricName>,
    /// Under which protocol.
    pub profile: Profile,
    /// Which part of the items.
    pub shard: Shard,
    /// The result directory; one below `eval-results` when `None`.
    pub out: Option<PathBuf>,
    /// Forget what the result directory holds.
    pub fresh: bool,
    /// Compute the floors that need no model.
    pub floors: bool,
    /// Run the model once more on noise.
    pub blind: bool,
    /// Items worked on at a time.
    pub workers: usize,
    /// Of intervals.
    pub bootstrap: Bootstrap,
}

/// A finished run.
#[derive(Debug)]
pub struct Done {
    /// The result directory.
    pub dir: PathBuf,
    /// What `result.json` holds; none for one shard of several.
    pub result: Option<Value>,
    /// Items without an answer: name and reason.
    pub failed: Vec<(String, String)>,
}

/// Told after each item: what is done (`pictures` or `noise`), how many items are done, how many there are, and whether
/// this one is new.
pub type Progress<'a> = dyn FnMut(&'static str, usize, usize, bool) + 'a;

/// Asks `candidate` about all items of `plan` and writes the result directory.
pub fn run(
    plan: &Plan,
    dataset: &Dataset,
    candidate: &dyn Candidate,
    ask: &Ask,
    progress: &mut Progress,
) -> Result<Done> {
    let header = header(plan, dataset, candidate, ask);
    let dir = plan.out.clone().unwrap_or_else(|| default_directory(&header));
    begin(&dir, &header, plan.fresh)?;
    let positions = plan.shard.positions(dataset.items.len());
    let job = Job {
        root: data_folder(&plan.data.path),
        items: &dataset.items,
        positions: &positions,
        candidate,
        sight: Sight::Pictures,
        threads: plan.workers,
    };
    let start = Instant::now();
    let (lines, outcome) = ask_all(&dir, HYPOTHESES, &job, progress)?;
    let speed = speed(outcome.asked, start.elapsed().as_secs_f64(), candidate);
    let mut failed = outcome.failed;
    let mut blind = None;
    if plan.blind {
        let (lines, outcome) = ask_all(&dir, BLIND, &Job { sight: Sight::Noise, ..job }, progress)?;
        failed.extend(outcome.failed.into_iter().map(|(id, reason)| (format!("{id}, blind"), reason)));
        blind = Some(lines);
    }
    let floors = if plan.floors { text_floors(plan, dataset, ask.seed)? } else { Floors::default() };
    let settings = (plan.metrics.as_slice(), plan.profile, plan.bootstrap);
    let statistics = Statistics::new(header, settings, &dataset.items, &lines, blind.as_deref(), &floors)?;
    // A run that only scores again says nothing about speed.
    let earlier = (outcome.asked == 0).then(|| environment_of(&dir)).flatten();
    let environment = earlier.unwrap_or_else(|| Environment { hardware: hardware(), speed });
    let result = save(&dir, &statistics, &lines, &environment)?;
    Ok(Done { dir, result, failed })
}

fn header(plan: &Plan, dataset: &Dataset, candidate: &dyn Candidate, ask: &Ask) -> Header {
    Header {
        swinseek: env!("CARGO_PKG_VERSION").to_owned(),
        data: DataFacts::new(&plan.data.path, dataset),
        model: candidate.describe(),
        prompt: ask.prompt.clone(),
        seed: ask.seed,
        max_tokens: ask.max_tokens,
        shard: plan.shard,
    }
}

/// Writes `shard.json` and, for a whole run, `report.html` and `result.json`, which is returned.
pub fn save(
    dir: &Path,
    statistics: &Statistics,
    lines: &[Line],
    environment: &Environment,
) -> Result<Option<Value>> {
    write_file(&dir.join(SHARD), &serde_json::to_vec(statistics)?)?;
    if statistics.run.shard.count > 1 {
        return Ok(None);
    }
    let result = result(statistics, lines, environment)?;
    write_file(&dir.join(RESULT), &pretty(&result)?)?;
    write_file(&dir.join(PAGE), page::page(statistics, lines, &result)?.as_bytes())?;
    Ok(Some(result))
}

/// Where the pictures of the data at `path` are.
fn data_folder(path: &Path) -> &Path {
    if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) }
}

/// Writes `run.json`.
pub fn save_header(dir: &Path, header: &Header) -> Result<()> {
    Ok(write_file(&dir.join(RUN), &pretty(header)?)?)
}

fn pretty(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Makes the result directory, or finds in it the same run.
fn begin(dir: &Path, header: &Header, fresh: bool) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("{}: cannot be made", dir.display()))?;
    if fresh {
        for name in [RUN, HYPOTHESES, BLIND, SHARD, RESULT, PAGE] {
            let path = dir.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("{}: cannot be removed", path.display()));
                }
                _ => {}
            }
        }
    }
    let answers = std::fs::metadata(dir.join(HYPOTHESES)).is_ok_and(|file| file.len() > 0);
    let found = Header::read(dir)?.filter(|_| answers);
    match found.map(|found| found.difference(header, false)) {
        Some(Some((field, found, expected))) => bail!(
            "{}: holds another run, `{field}` is {found} there and {expected} now; --fresh starts it anew, or choose another --out",
            dir.display()
        ),
        Some(None) => Ok(()),
        None if answers => bail!("{}: holds answers but no {RUN}", dir.display()),
        None => save_header(dir, header),
    }
}

fn default_directory(header: &Header) -> PathBuf {
    let model = header.model["name"].as_str().unwrap_or("model");
    let mut name = format!("{}-{}-{model}-{}", header.data.name, header.data.split, &header.digest()[..8]);
    if header.shard.count > 1 {
        name = format!("{name}-{}-of-{}", header.shard.index, header.shard.count);
    }
    let plain = |letter: char| if letter.is_alphanumeric() || "-_.".contains(letter) { letter } else { '_' };
    Path::new("eval-results").join(name.chars().map(plain).collect::<String>())
}

fn ask_all(dir: &Path, file: &str, job: &Job<'_>, progress: &mut Progress) -> Result<(Vec<Line>, Outcome)> {
    let mut log = Log::open(&dir.join(file))?;
    let part = if job.sight == Sight::Noise { "noise" } else { "pictures" };
    let (mut done, count) = (0, job.positions.len());
    let outcome = answer_all(&mut log, job, &mut |_, fresh| {
        done += 1;
        progress(part, done, count, fresh);
    })?;
    let lines = log.finish()?;
    if let Some(reason) = outcome.gone {
        bail!(
            "{reason}; {} of {count} answers are kept in {}, the same command goes on from there",
            lines.len(),
            dir.display()
        );
    }
    Ok((lines, outcome))
}

fn text_floors(plan: &Plan, dataset: &Dataset, seed: u64) -> Result<Floors> {
    let train = plan.data.other(Split::Train, dataset);
    let validation = plan.data.other(Split::Val, dataset).ok();
    Ok(floors(dataset, train.as_ref().map_err(Clone::clone), validation.as_ref(), seed)?)
}

/// Of this part of the run; answers that were there already took no time.
fn speed(asked: usize, seconds: f64, candidate: &dyn Candidate) -> Value {
    let rate = (asked > 0).then(|| asked as f64 / seconds.max(1e-9));
    let mut speed = candidate.measured();
    speed.extend([
        ("items".to_owned(), json!(asked)),
        ("seconds".to_owned(), json!(seconds)),
        ("images_per_second".to_owned(), json!(rate)),
    ]);
    Value::Object(speed)
}

/// Of the result that is there already.
fn environment_of(dir: &Path) -> Option<Environment> {
    let result: Value = serde_json::from_slice(&std::fs::read(dir.join(RESULT)).ok()?).ok()?;
    Some(Environment { hardware: result.get("hardware")?.clone(), speed: result.get("speed")?.clone() })
}

/// Processor and threads.
pub fn hardware() -> Value {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        line.split_once(':').map(|(_, name)| name.trim().to_owned())
    });
    json!({
        "cpu": cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        "threads": rayon::current_num_threads(),
    })
}
