//! `swinseek bench --url`: what a running server sustains.
//!
//! Closed loop: each client sends its next request when the last one is answered, as a reading room would. Answers are
//! streamed, so that the time to the first token is what a person sees.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use swinseek_fusion::pipeline::REPORT_PROMPT;

use crate::cli::args::key_in;
use crate::cli::output::print_json;
use crate::eval::mime;

/// A refused client asks again after what the server says, but not later than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A client gives up after so many failures in a row.
const FAILURES: usize = 3;

/// Flags of the load run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Load on a server")]
pub(super) struct LoadArgs {
    /// Measure a running server instead of this machine's kernels, such as http://127.0.0.1:8080.
    #[arg(long)]
    url: Option<String>,
    /// Requests under way at once.
    #[arg(long, default_value_t = 32, value_name = "N", requires = "url")]
    clients: usize,
    /// How long to ask.
    #[arg(long, default_value_t = 30.0, value_name = "S", requires = "url")]
    seconds: f64,
    /// Stop after so many answers, if that is sooner.
    #[arg(long, value_name = "N", requires = "url")]
    requests: Option<usize>,
    /// Most tokens of an answer.
    #[arg(long, default_value_t = 128, value_name = "N", requires = "url")]
    max_tokens: usize,
    /// Directory of images to ask about, one after the other; by default the one of --image.
    #[arg(long, value_name = "DIR", requires = "url")]
    images: Option<PathBuf>,
    /// Environment variable that holds the API key.
    #[arg(long, value_name = "VAR", requires = "url")]
    api_key_env: Option<String>,
}

/// What a client saw, in milliseconds.
#[derive(Debug, Default)]
struct Seen {
    first: Vec<f64>,
    whole: Vec<f64>,
    refused: Vec<f64>,
    tokens: usize,
    errors: Vec<String>,
}

/// The result of a run.
#[derive(Debug, Serialize)]
struct Summary {
    clients: usize,
    seconds: f64,
    answers: usize,
    answers_per_second: f64,
    tokens_per_second: f64,
    first_token_ms: Percentiles,
    answer_ms: Percentiles,
    refused: usize,
    refusal_ms: Percentiles,
    errors: usize,
}

#[derive(Debug, Serialize)]
struct Percentiles {
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

struct Client {
    agent: ureq::Agent,
    url: String,
    key: Option<String>,
    bodies: Vec<String>,
    next: AtomicUsize,
    answers: AtomicUsize,
    most: usize,
    end: Instant,
}

impl LoadArgs {
    pub(super) fn is_wanted(&self) -> bool {
        self.url.is_some()
    }
}

pub(super) fn run(args: &LoadArgs, image: &Path, json: bool) -> Result<()> {
    let url = args.url.as_deref().unwrap_or_default().trim_end_matches('/').trim_end_matches("/v1");
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_idle_connections_per_host(args.clients)
        .timeout_connect(Some(Duration::from_secs(10)))
        .build();
    let client = Client {
        agent: config.into(),
        url: format!("{url}/v1/chat/completions"),
        key: args.api_key_env.as_deref().map(key_in).transpose()?,
        bodies: bodies(args, image)?,
        next: AtomicUsize::new(0),
        answers: AtomicUsize::new(0),
        most: args.requests.unwrap_or(usize::MAX),
        end: Instant::now() + Duration::try_from_secs_f64(args.seconds).context("--seconds")?,
    };
    eprintln!("{} clients, {} images, {url}", args.clients, client.bodies.len());
    let start = Instant::now();
    let all = Mutex::new(Seen::default());
    std::thread::scope(|scope| {
        for _ in 0..args.clients.max(1) {
            scope.spawn(|| {
                let seen = client.run();
                let mut all = all.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                all.first.extend(seen.first);
                all.whole.extend(seen.whole);
                all.refused.extend(seen.refused);
                all.tokens += seen.tokens;
                all.errors.extend(seen.errors);
            });
        }
    });
    let seen = all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let summary = summary(args.clients, start.elapsed().as_secs_f64(), &seen);
    if json {
        print_json(&summary)?;
    } else {
        print(&summary);
    }
    if let Some(error) = seen.errors.first() {
        bail!("{} requests failed, the first one: {error}", seen.errors.len());
    }
    Ok(())
}

/// A request for a report of each image.
fn bodies(args: &LoadArgs, image: &Path) -> Result<Vec<String>> {
    let mut paths = vec![image.to_owned()];
    if let Some(dir) = &args.images {
        let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
        paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        paths.retain(|path| path.is_file());
        paths.sort();
        ensure!(!paths.is_empty(), "{}: holds no files, expected images", dir.display());
    }
    let body = |path: PathBuf| {
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let mime = mime(&bytes).with_context(|| format!("{}: is no picture", path.display()))?;
        let image = format!("data:{mime};base64,{}", STANDARD.encode(&bytes));
        let content = json!([
            { "type": "text", "text": REPORT_PROMPT },
            { "type": "image_url", "image_url": { "url": image } },
        ]);
        let body = json!({
            "messages": [{ "role": "user", "content": content }],
            "max_tokens": args.max_tokens,
            "temperature": 0,
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        Ok(body.to_string())
    };
    paths.into_iter().map(body).collect()
}

impl Client {
    fn run(&self) -> Seen {
        let (mut seen, mut in_a_row) = (Seen::default(), 0);
        let goes_on = || Instant::now() < self.end && self.answers.load(Ordering::Relaxed) < self.most;
        while goes_on() && in_a_row < FAILURES {
            let body = &self.bodies[self.next.fetch_add(1, Ordering::Relaxed) % self.bodies.len()];
            in_a_row = match self.ask(body, &mut seen) {
                Ok(()) => 0,
                Err(error) => {
                    seen.errors.push(format!("{error:#}"));
                    in_a_row + 1
                }
            };
        }
        seen
    }

    fn ask(&self, body: &str, seen: &mut Seen) -> Result<()> {
        let start = Instant::now();
        let since = || start.elapsed().as_secs_f64() * 1e3;
        let request = self.agent.post(&self.url).header("content-type", "application/json");
        let key = self.key.iter().map(|key| format!("Bearer {key}"));
        let request = key.fold(request, |request, key| request.header("authorization", key));
        let mut response = request.send(body)?;
        let status = response.status().as_u16();
        if matches!(status, 429 | 503) {
            seen.refused.push(since());
            let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
            let wait = wait.and_then(|seconds| seconds.parse().ok()).unwrap_or(1);
            response.body_mut().read_to_string()?;
            std::thread::park_timeout(Duration::from_secs(wait).min(LONGEST_PAUSE));
            return Ok(());
        }
        if status != 200 {
            let text = response.body_mut().read_to_string()?;
            bail!("HTTP {status}: {}", text.chars().take(200).collect::<String>());
        }
        let (mut first, mut done) = (None, false);
        for line in BufReader::new(response.body_mut().as_reader()).lines() {
            let line = line?;
            let Some(data) = line.strip_prefix("data: ") else { continue };
            if data == "[DONE]" {
                done = true;
                break;
            }
            let event: Value = serde_json::from_str(data)?;
            if let Some(message) = event.pointer("/error/message").and_then(Value::as_str) {
                bail!("in the stream: {message}");
            }
            let text = event.pointer("/choices/0/delta/content").and_then(Value::as_str);
            if first.is_none() && text.is_some_and(|text| !text.is_empty()) {
                first = Some(since());
            }
            let tokens = event.pointer("/usage/completion_tokens").and_then(Value::as_u64);
            seen.tokens += tokens.unwrap_or_default() as usize;
        }
        ensure!(done, "the stream ended without [DONE]");
        // An answer may be empty.
        seen.first.push(first.unwrap_or_else(since));
        seen.whole.push(since());
        self.answers.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn percentiles(values: &[f64]) -> Percentiles {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).map(|value| (value * 10.0).round() / 10.0)
    };
    Percentiles { p50: at(0.5), p95: at(0.95), p99: at(0.99) }
}

fn summary(clients: usize, seconds: f64, seen: &Seen) -> Summary {
    Summary {
        clients,
        seconds,
        answers: seen.whole.len(),
        answers_per_second: seen.whole.len() as f64 / seconds,
        tokens_per_second: seen.tokens as f64 / seconds,
        first_token_ms: percentiles(&seen.first),
        answer_ms: percentiles(&seen.whole),
        refused: seen.refused.len(),
        refusal_ms: percentiles(&seen.refused),
        errors: seen.errors.len(),
    }
}

fn print(summary: &Summary) {
    let line = |name: &str, Percentiles { p50, p95, p99 }: &Percentiles| {
        let number = |value: &Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
        println!("{name:<18} {:>10} {:>10} {:>10}", number(p50), number(p95), number(p99));
    };
    println!(
        "{} answers in {:.1} s: {:.2} a second, {:.0} tokens a second; {} refused, {} failed",
        summary.answers,
        summary.seconds,
        summary.answers_per_second,
        summary.tokens_per_second,
        summary.refused,
        summary.errors
    );
    println!("{:<18} {:>10} {:>10} {:>10}", "milliseconds", "p50", "p95", "p99");
    line("first token", &summary.first_token_ms);
    line("answer", &summary.answer_ms);
    line("refusal", &summary.refusal_ms);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let found = percentiles(&values);
        assert_eq!((found.p50, found.p95, found.p99), (Some(50.0), Some(95.0), Some(99.0)));
        assert_eq!(percentiles(&[3.0]).p99, Some(3.0));
        assert_eq!(percentiles(&[]).p50, None);
    }
}
