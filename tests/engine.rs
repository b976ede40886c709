//! The engine: its scheduler on a mock, its results on the default model.

mod equality;
mod mock;

use std::time::{Duration, Instant};

use mock::{Call, FAILS, Mock, PANICS, VOCAB, image, job};
use swinseek::engine::{Engine, EngineConfig, Event, FailKind, Job, Refusal, Stats, Stream};
use swinseek_fusion::FinishReason;
use swinseek_kernels::{Error, Result};
use swinseek_language::constraint::{Constraint, TokenMask};

fn config(max_batch: usize, max_queue: usize) -> EngineConfig {
    EngineConfig { max_batch, max_queue, prefill_chunk: 4, ..EngineConfig::default() }
}

/// Ids and text of an answer, and how it ended.
fn answer(stream: &mut Stream) -> (Vec<u32>, FinishReason) {
    let mut ids = Vec::new();
    loop {
        match stream.blocking_next() {
            Some(Event::Started { .. }) => {}
            Some(Event::Token { id, .. }) => ids.push(id),
            Some(Event::Finished { reason, .. }) => return (ids, reason),
            other => panic!("{other:?} after {ids:?}"),
        }
    }
}

fn failure(stream: &mut Stream) -> FailKind {
    loop {
        match stream.blocking_next() {
            Some(Event::Failed { kind, .. }) => return kind,
            Some(Event::Started { .. } | Event::Token { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Waits for tokens until there are `n`.
fn tokens(stream: &mut Stream, n: usize) {
    let mut seen = 0;
    while seen < n {
        match stream.blocking_next() {
            Some(Event::Token { .. }) => seen += 1,
            Some(Event::Started { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn wait_for(engine: &Engine, what: impl Fn(&Stats) -> bool) {
    let start = Instant::now();
    while !what(&engine.stats()) {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", engine.stats());
        std::thread::yield_now();
    }
}

#[test]
fn jobs_join_and_leave_between_steps() {
    let (mock, control) = Mock::gated();
    let engine = Engine::start(mock, config(2, 8)).unwrap();
    let mut a = engine.submit(job(11, 3, 4)).unwrap();
    tokens(&mut a, 1);
    let mut b = engine.submit(job(12, 3, 2)).unwrap();
    let mut c = engine.submit(job(13, 3, 3)).unwrap();
    control.allow(usize::MAX);
    assert_eq!([answer(&mut a).0.len(), answer(&mut b).0.len(), answer(&mut c).0.len()], [3, 2, 3]);
    let steps = control.steps();
    assert!(steps.contains(&vec![11, 12]), "two share a step: {steps:?}");
    let rows = |first: u32| steps.iter().filter(|step| step.contains(&first)).count();
    // The first token comes from the prompt.
    assert_eq!([rows(11), rows(12), rows(13)], [3, 1, 2]);
    assert!(steps.iter().all(|step| step.len() <= 2));
    let stats = engine.stats();
    assert_eq!((stats.finished, stats.running, stats.queued, stats.generated_tokens), (3, 0, 0, 9));
}

#[test]
fn batch_and_caches_do_not_show_in_the_answer() {
    let jobs = || {
        (0..40u32).map(|i| {
            let images = if i % 3 == 0 { vec![image(u64::from(i % 2))] } else { Vec::new() };
            Job { images, ..job(10 + i % 7, 3 + i as usize % 9, 5) }
        })
    };
    let run = |config: EngineConfig| {
        let engine = Engine::start(Mock::free().0, config).unwrap();
        let mut streams: Vec<Stream> = jobs().map(|job| engine.submit(job).unwrap()).collect();
        streams.iter_mut().map(answer).collect::<Vec<_>>()
    };
    let plain = run(EngineConfig { prefix_cache_bytes: 0, feature_cache_bytes: 0, ..config(1, 64) });
    assert_eq!(run(config(7, 64)), plain);
    assert_eq!(
        run(EngineConfig { prefix_cache_bytes: 3000, feature_cache_bytes: 1000, ..config(40, 64) }),
        plain
    );
}

#[test]
fn a_full_queue_refuses_at_once_and_those_who_left_make_room() {
    let (mock, control) = Mock::gated();
    let engine = Engine::start(mock, config(1, 2)).unwrap();
    let mut running = engine.submit(job(11, 3, 2)).unwrap();
    tokens(&mut running, 1);
    let mut waiting = engine.submit(job(12, 3, 1)).unwrap();
    let left = engine.submit(job(13, 3, 1)).unwrap();
    match engine.submit(job(14, 3, 1)).map(|_| ()) {
        Err(Refusal::QueueFull { queued: 2, retry_after }) => assert!(retry_after >= Duration::from_secs(1)),
        other => panic!("{other:?}"),
    }
    drop(left);
    let mut late = engine.submit(job(15, 3, 1)).unwrap();
    control.allow(usize::MAX);
    assert_eq!([&mut running, &mut waiting, &mut late].map(|s| answer(s).1), [FinishReason::Length; 3]);
    let stats = engine.stats();
    assert_eq!((stats.refused_queue, stats.cancelled, stats.finished), (1, 1, 3));
    assert!(!control.steps().iter().flatten().any(|&first| first == 13), "nothing was computed for who left");
}

#[test]
fn a_client_that_goes_away_frees_its_place_at_the_next_step() {
    let (mock, control) = Mock::gated();
    let engine = Engine::start(mock, config(1, 8)).unwrap();
    let mut gone = engine.submit(job(11, 3, 90)).unwrap();
    let mut next = engine.submit(job(12, 3, 3)).unwrap();
    tokens(&mut gone, 1);
    control.allow(1);
    tokens(&mut gone, 1);
    drop(gone);
    control.allow(usize::MAX);
    assert_eq!(answer(&mut next).0.len(), 3);
    // The step that was under way may end; no more.
    let steps = control.steps();
    assert!(steps.iter().filter(|step| **step == [11]).count() <= 3, "{steps:?}");
    assert_eq!(engine.stats().cancelled, 1);
}

#[test]
fn a_deadline_ends_jobs_that_wait_and_jobs_that_run() {
    let (mock, control) = Mock::gated();
    let engine = Engine::start(mock, config(1, 8)).unwrap();
    let soon = Instant::now() + Duration::from_millis(50);
    let mut running = engine.submit(Job { deadline: Some(soon), ..job(11, 3, 90) }).unwrap();
    let mut waiting = engine.submit(Job { deadline: Some(soon), ..job(12, 3, 1) }).unwrap();
    let mut patient = engine.submit(job(13, 3, 1)).unwrap();
    while Instant::now() < soon {
        std::thread::yield_now();
    }
    control.allow(usize::MAX);
    assert_eq!([failure(&mut running), failure(&mut waiting)], [FailKind::Deadline; 2]);
    assert_eq!(answer(&mut patient).1, FinishReason::Length);
    assert_eq!(engine.stats().deadlines, 2);
    assert!(control.steps().iter().filter(|step| **step == [11]).count() <= 1);
}

#[test]
fn a_long_prompt_holds_up_neither_short_ones_nor_those_who_decode() {
    let (mock, control) = Mock::gated();
    let engine = Engine::start(mock, config(4, 8)).unwrap();
    let mut decoding = engine.submit(job(11, 3, 40)).unwrap();
    tokens(&mut decoding, 1);
    let mut long = engine.submit(job(12, 60, 1)).unwrap();
    let mut short = engine.submit(job(13, 3, 1)).unwrap();
    control.allow(usize::MAX);
    for stream in [&mut decoding, &mut long, &mut short] {
        answer(stream);
    }
    let calls = control.calls.lock().unwrap();
    let at = |call: &Call| calls.iter().position(|found| found == call).unwrap();
    let chunks: Vec<usize> = (0..calls.len()).filter(|&i| calls[i] == Call::Prefill(12, 4)).collect();
    assert_eq!(chunks.len(), 15, "60 tokens by 4");
    assert!(at(&Call::Prefill(13, 3)) < chunks[3], "the short one does not wait for the long one");
    for pair in chunks.windows(2) {
        let between = &calls[pair[0]..pair[1]];
        assert!(between.iter().any(|call| matches!(call, Call::Decode(rows) if rows.contains(&11))));
    }
}

#[test]
fn draining_finishes_what_was_accepted() {
    let (mock, control) = Mock::gated();
    let engine = Engine::start(mock, config(1, 8)).unwrap();
    let mut streams: Vec<Stream> = (0..3).map(|i| engine.submit(job(11 + i, 3, 3)).unwrap()).collect();
    engine.shutdown(true);
    assert!(matches!(engine.submit(job(20, 3, 1)), Err(Refusal::ShuttingDown)));
    control.allow(usize::MAX);
    for stream in &mut streams {
        assert_eq!(answer(stream).0.len(), 3);
    }
    engine.wait();
}

#[test]
fn a_hard_shutdown_and_the_loss_of_all_handles_fail_what_is_left() {
    for drop_handle in [false, true] {
        let (mock, control) = Mock::gated();
        let engine = Engine::start(mock, config(1, 8)).unwrap();
        let mut running = engine.submit(job(11, 3, 90)).unwrap();
        let mut waiting = engine.submit(job(12, 3, 1)).unwrap();
        tokens(&mut running, 1);
        if drop_handle {
            drop(engine);
        } else {
            engine.shutdown(false);
        }
        control.allow(1);
        assert_eq!([failure(&mut running), failure(&mut waiting)], [FailKind::Shutdown; 2]);
    }
}

#[test]
fn a_panic_or_an_error_fails_who_it_concerns_and_the_worker_goes_on() {
    let (mock, control) = Mock::gated();
    let engine = Engine::start(mock, config(4, 8)).unwrap();
    let mut panics = engine.submit(job(PANICS, 3, 9)).unwrap();
    let mut beside = engine.submit(job(12, 3, 9)).unwrap();
    tokens(&mut panics, 1);
    control.allow(1);
    assert_eq!(failure(&mut panics), FailKind::Internal);
    control.allow(usize::MAX);
    // In the step of the panic its caches are lost too; otherwise it never noticed.
    let _ = beside.blocking_next();
    let mut unreadable = engine.submit(job(FAILS, 6, 2)).unwrap();
    let mut fine = engine.submit(job(14, 3, 5)).unwrap();
    assert_eq!(failure(&mut unreadable), FailKind::Model);
    assert_eq!(answer(&mut fine).0.len(), 5);
    let mut again = engine.submit(job(14, 3, 5)).unwrap();
    assert_eq!(answer(&mut again).0.len(), 5);
}

#[test]
fn caches_stay_within_their_bytes() {
    let sizes = EngineConfig { feature_cache_bytes: 10_500, prefix_cache_bytes: 8_000, ..config(3, 1000) };
    let (mock, control) = Mock::free();
    let engine = Engine::start(mock, sizes).unwrap();
    for number in 0..200 {
        let images = vec![image(number), image(number / 2)];
        answer(&mut engine.submit(Job { images, ..job(11, 9, 2) }).unwrap());
        let stats = engine.stats();
        assert!(stats.image_bytes <= 10_500 && stats.prefix_bytes <= 8_000, "{stats:?}");
    }
    let stats = engine.stats();
    assert!(stats.image_bytes > 9_000, "{stats:?}");
    let encoded = control.calls.lock().unwrap().iter().filter(|call| **call == Call::Encode).count();
    assert_eq!((stats.image_misses, stats.image_hits), (encoded as u64, 400 - encoded as u64));
}

#[test]
fn the_same_prompt_is_read_once() {
    let (mock, control) = Mock::free();
    let engine = Engine::start(mock, config(8, 8)).unwrap();
    let mut streams: Vec<Stream> = (0..4).map(|_| engine.submit(job(11, 10, 3)).unwrap()).collect();
    let answers: Vec<_> = streams.iter_mut().map(answer).collect();
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    let calls = control.calls.lock().unwrap();
    let read = calls.iter().filter(|call| matches!(call, Call::Prefill(..))).count();
    assert_eq!(read, 3, "4 + 4 + 2 tokens, once");
    let stats = engine.stats();
    assert_eq!((stats.prompt_tokens, stats.cached_tokens), (40, 30));
}

#[test]
fn what_cannot_work_is_refused_before_any_work() {
    let (mock, control) = Mock::free();
    let engine = Engine::start(mock, config(1, 8)).unwrap();
    let refusal = |job: Job| engine.submit(job).map(|_| ()).unwrap_err();
    assert_eq!(refusal(job(11, 60, 41)), Refusal::TooLong { tokens: 101, context: 100 });
    assert!(matches!(refusal(job(11, 60, usize::MAX)), Refusal::TooLong { tokens: usize::MAX, .. }));
    let invalid = |job: Job, part: &str| match refusal(job) {
        Refusal::Invalid(message) => assert!(message.contains(part), "{message}"),
        other => panic!("{other:?}"),
    };
    invalid(Job { prompt: Vec::new(), ..job(11, 3, 1) }, "prompt");
    invalid(job(11, 3, 0), "max_tokens");
    invalid(job(VOCAB as u32, 3, 1), "930");
    invalid(Job { stop: vec![String::new()], ..job(11, 3, 1) }, "stop");
    let mut hot = job(11, 3, 1);
    hot.sampling.temperature = f64::NAN;
    invalid(hot, "temperature");
    let mut biased = job(11, 3, 1);
    biased.sampling.logit_bias = vec![(5000, 1.0)];
    invalid(biased, "5000");
    let stats = engine.stats();
    assert_eq!((stats.refused_length, stats.refused_other, stats.accepted), (2, 6, 0));
    assert!(control.calls.lock().unwrap().is_empty());
    assert!(Engine::start(Mock::free().0, config(0, 8)).is_err());
}

/// Allows one id after the other, then no more.
struct Script {
    ids: Vec<u32>,
    breaks: bool,
}

impl Constraint for Script {
    fn allowed(&mut self) -> Result<TokenMask> {
        if self.breaks {
            return Err(Error::Input("no way on".to_owned()));
        }
        let mut mask = TokenMask::none(VOCAB);
        mask.allow(self.ids[0]);
        Ok(mask)
    }

    fn accept(&mut self, id: u32) -> Result<()> {
        assert_eq!(self.ids.remove(0), id);
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.ids.is_empty()
    }
}

#[test]
fn a_constraint_decides_and_its_failure_is_the_jobs() {
    let engine = Engine::start(Mock::free().0, config(4, 8)).unwrap();
    let constrained = |breaks| Job {
        constraint: Some(Box::new(Script { ids: vec![300, 301, 302], breaks })),
        ..job(11, 3, 50)
    };
    let mut follows = engine.submit(constrained(false)).unwrap();
    let mut breaks = engine.submit(constrained(true)).unwrap();
    assert_eq!(answer(&mut follows), (vec![300, 301, 302], FinishReason::Stop));
    assert_eq!(failure(&mut breaks), FailKind::Model);
    wait_for(&engine, |stats| stats.running == 0);
}
