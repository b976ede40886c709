//! What the handle and the worker share: the queue, the phase of life, the counters.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::{Event, FailKind, Job, Refusal, Stats};

/// A job and the way back to its client.
pub(super) struct Queued {
    pub(super) job: Job,
    pub(super) events: UnboundedSender<Event>,
}

impl Queued {
    /// Whether the job's time is up.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.job.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Tells the client, if it is still there.
    pub(super) fn fail(&self, kind: FailKind, message: &str) {
        let _ = self.events.send(Event::Failed { kind, message: message.to_owned() });
    }
}

/// The phases of an engine's life, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Takes jobs.
    Open,
    /// Finishes what it has.
    Draining,
    /// Drops what it has.
    Stopping,
    /// The worker has returned.
    Stopped,
}

/// Everything under the lock.
pub(super) struct State {
    pub(super) queue: VecDeque<Queued>,
    pub(super) phase: Phase,
    pub(super) stats: Stats,
    /// Seconds that a job holds its place, a moving average.
    pub(super) job_seconds: f64,
}

/// One lock for the queue; it is held for moments only.
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    max_queue: usize,
    max_batch: usize,
}

impl Shared {
    pub(super) fn new(max_queue: usize, max_batch: usize) -> Self {
        let state =
            State { queue: VecDeque::new(), phase: Phase::Open, stats: Stats::default(), job_seconds: 1.0 };
        Self { state: Mutex::new(state), changed: Condvar::new(), max_queue, max_batch }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a job into the queue, if there is room.
    pub(super) fn push(&self, queued: Queued) -> Result<(), Refusal> {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            state.stats.refused_other += 1;
            return Err(Refusal::ShuttingDown);
        }
        // Jobs that will have a place as soon as the worker looks do not wait, so they take no room in the queue.
        let room = self.max_queue.saturating_add(self.max_batch);
        if state.outstanding() >= room {
            // Those who went away while waiting must not keep others out.
            state.purge(Instant::now());
        }
        if state.outstanding() >= room {
            state.stats.refused_queue += 1;
            let waves = (state.queue.len() / self.max_batch + 1) as f64;
            let seconds = (waves * state.job_seconds).ceil().clamp(1.0, 60.0);
            let retry_after = Duration::from_secs(seconds as u64);
            return Err(Refusal::QueueFull { queued: state.queue.len(), retry_after });
        }
        state.queue.push_back(queued);
        state.stats.accepted += 1;
        state.stats.queued = state.queue.len();
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Moves the phase forward, never back.
    pub(super) fn enter(&self, phase: Phase) {
        let mut state = self.lock();
        state.phase = state.phase.max(phase);
        drop(state);
        self.changed.notify_all();
    }

    /// Sleeps until there is a job or the phase changes.
    pub(super) fn wait_for_work(&self) {
        let idle = |state: &mut State| state.queue.is_empty() && state.phase == Phase::Open;
        drop(self.changed.wait_while(self.lock(), idle));
    }

    /// Sleeps until the worker has returned.
    pub(super) fn wait_for_end(&self) {
        drop(self.changed.wait_while(self.lock(), |state| state.phase != Phase::Stopped));
    }
}

impl State {
    /// Jobs that wait or have a place.
    fn outstanding(&self) -> usize {
        self.queue.len() + self.stats.running
    }

    /// Removes jobs whose client is gone or whose time is up.
    pub(super) fn purge(&mut self, now: Instant) {
        let stats = &mut self.stats;
        self.queue.retain(|queued| {
            if queued.events.is_closed() {
                stats.cancelled += 1;
                return false;
            }
            if queued.is_late(now) {
                stats.deadlines += 1;
                queued.fail(FailKind::Deadline, "the deadline passed while the request waited");
                return false;
            }
            true
        });
        self.stats.queued = self.queue.len();
    }

    /// Fails all jobs that wait.
    pub(super) fn clear(&mut self) {
        for queued in self.queue.drain(..) {
            self.stats.failed += 1;
            queued.fail(FailKind::Shutdown, "the engine is shutting down");
        }
        self.stats.queued = 0;
    }
}
