//! A run while it runs: what its attempts share.

use std::any::{Any, TypeId};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::ask::{Answerers, Pause};
use crate::context::Context;
use crate::error::StepError;
use crate::event::{Event, Kind, Ring};
use crate::id::RunId;
use crate::path::Path;
use crate::recording::Recording;
use crate::report::{Attempt, Outcome};
use crate::store::Tried;
use crate::workers::Alive;

pub(crate) type Provided = HashMap<TypeId, Arc<dyn Any + Send + Sync>>;

pub(crate) struct Live {
    pub(crate) id: RunId,
    pub(crate) started: Instant,
    pub(crate) started_at: SystemTime,
    pub(crate) deadline: Option<Instant>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) provided: Provided,
    pub(crate) answerers: Answerers,
    pub(crate) trace_inputs: bool,
    pub(crate) rings: Vec<Arc<Ring>>,
    pub(crate) recording: Option<Recording>,
    pub(crate) alive: Arc<Alive>,
    log: Mutex<Log>,
    budgets: Mutex<Vec<Budget>>,
    pauses: Mutex<Vec<Pause>>,
}

/// One lock for all that is told about a run, so that everybody is told in the same order.
#[derive(Default)]
struct Log {
    seq: u64,
    /// The end of the run was told, and is the last word: branches of a dropped run may go after it.
    ended: bool,
    trace: Vec<Attempt>,
}

pub(crate) struct Budget {
    pub(crate) unit: Cow<'static, str>,
    pub(crate) limit: Option<u64>,
    pub(crate) spent: u64,
}

impl Live {
    /// A run without options; `earlier` is the trace of the processes before.
    pub(crate) fn new(id: RunId, mut budgets: Vec<Budget>, earlier: Vec<Attempt>) -> Self {
        for (unit, spent) in earlier.iter().flat_map(|attempt| &attempt.spent) {
            let budget = budget(&mut budgets, unit);
            budget.spent = budget.spent.saturating_add(*spent);
        }
        Self {
            id,
            started: Instant::now(),
            started_at: SystemTime::now(),
            deadline: None,
            headers: Vec::new(),
            provided: Provided::new(),
            answerers: Answerers::default(),
            trace_inputs: false,
            rings: Vec::new(),
            recording: None,
            alive: Arc::default(),
            log: Mutex::new(Log { seq: 0, ended: false, trace: earlier }),
            budgets: Mutex::new(budgets),
            pauses: Mutex::default(),
        }
    }

    pub(crate) fn is_watched(&self) -> bool {
        !self.rings.is_empty()
    }

    /// The time of day at `instant`, by the clock that timeouts run on.
    pub(crate) fn at(&self, instant: Instant) -> SystemTime {
        self.started_at + instant.saturating_duration_since(self.started)
    }

    pub(crate) fn emit(&self, path: &Path, attempt: u32, kind: impl FnOnce() -> Kind) {
        if self.is_watched() {
            let at = self.at(Instant::now());
            self.tell(&mut lock(&self.log), path, attempt, at, kind());
        }
    }

    fn tell(&self, log: &mut Log, path: &Path, attempt: u32, at: SystemTime, kind: Kind) {
        if log.ended {
            return;
        }
        log.ended = matches!(kind, Kind::RunEnded(_));
        let event =
            Event { seq: log.seq, run: self.id.clone(), path: path.clone(), attempt, at, kind };
        log.seq += 1;
        if let Some((last, others)) = self.rings.split_last() {
            others.iter().for_each(|ring| ring.push(event.clone()));
            last.push(event);
        }
    }

    /// The end of an attempt: into the trace, and to those who watch.
    pub(crate) fn attempted(&self, attempt: Attempt, kind: Option<Kind>) {
        let mut log = lock(&self.log);
        if let Some(kind) = kind.filter(|_| self.is_watched()) {
            let at = attempt.started + attempt.took;
            self.tell(&mut log, &attempt.path, attempt.attempt, at, kind);
        }
        log.trace.push(attempt);
    }

    pub(crate) fn take_trace(&self) -> Vec<Attempt> {
        std::mem::take(&mut lock(&self.log).trace)
    }

    /// Adds to what was spent; limit and sum where that is over the limit.
    pub(crate) fn spend(&self, unit: &'static str, amount: u64) -> Option<(u64, u64)> {
        let mut budgets = lock(&self.budgets);
        let budget = budget(&mut budgets, unit);
        budget.spent = budget.spent.saturating_add(amount);
        budget.limit.filter(|limit| budget.spent > *limit).map(|limit| (limit, budget.spent))
    }

    pub(crate) fn spent(&self) -> BTreeMap<String, u64> {
        let budgets = lock(&self.budgets);
        budgets.iter().map(|budget| (budget.unit.clone().into_owned(), budget.spent)).collect()
    }

    pub(crate) fn pause(&self, pause: Pause) {
        lock(&self.pauses).push(pause);
    }

    /// What is below `done` is not waited for any more: a branch that asked was cancelled.
    pub(crate) fn withdraw_pauses(&self, done: &Path) {
        let mut pauses = lock(&self.pauses);
        if !pauses.is_empty() {
            let done = done.to_string();
            let below = |path: &str| {
                path.strip_prefix(&done).is_some_and(|rest| rest.starts_with(['/', '#', '[']))
            };
            pauses.retain(|pause| !below(&pause.path));
        }
    }

    pub(crate) fn take_pauses(&self) -> Vec<Pause> {
        std::mem::take(&mut lock(&self.pauses))
    }
}

/// That of `unit`, which is made where nobody set one.
fn budget<'a>(budgets: &'a mut Vec<Budget>, unit: &str) -> &'a mut Budget {
    let known = budgets.iter().position(|budget| budget.unit == unit);
    let index = known.unwrap_or_else(|| {
        budgets.push(Budget { unit: unit.to_owned().into(), limit: None, spent: 0 });
        budgets.len() - 1
    });
    &mut budgets[index]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// An attempt that is running. Dropped before it is finished, it was cancelled, and says so.
pub(crate) struct Running<'a> {
    cx: &'a Context,
    started: Instant,
    input: Option<Value>,
    /// What it took and spent, once its record is to be written.
    stopped: Option<(Duration, BTreeMap<String, u64>)>,
    finished: bool,
}

impl<'a> Running<'a> {
    pub(crate) fn start(cx: &'a Context, input: &impl Serialize) -> Self {
        let live = cx.live();
        // Before anybody is told of it: this is code of the user's type, and may panic.
        let input = live.trace_inputs.then(|| serde_json::to_value(input).unwrap_or(Value::Null));
        let started = Instant::now();
        if live.is_watched() {
            live.tell(
                &mut lock(&live.log),
                cx.path(),
                cx.attempt(),
                live.at(started),
                Kind::StepStarted,
            );
        }
        Self { cx, started, input, stopped: None, finished: false }
    }

    /// The work is over, for the step's own tasks, too; the attempt is not before its record is written. What that says.
    pub(crate) fn stop(&mut self) -> Tried {
        self.cx.end();
        let took = self.started.elapsed();
        let tried = self.tried(took, self.cx.take_spent());
        self.stopped = Some((took, tried.spent.clone()));
        tried
    }

    fn tried(&self, took: Duration, spent: BTreeMap<String, u64>) -> Tried {
        Tried {
            attempt: self.cx.attempt(),
            at_ms: millis(self.cx.live().at(self.started)),
            took_us: took.as_micros() as u64,
            spent,
        }
    }

    pub(crate) fn finish(mut self, outcome: Outcome, kind: Option<Kind>) {
        self.end(outcome, kind);
    }

    pub(crate) fn fail(self, error: &StepError) {
        let error = error.to_string();
        self.finish(Outcome::Failed(error.clone()), Some(Kind::StepFailed { error }));
    }

    fn end(&mut self, outcome: Outcome, kind: Option<Kind>) {
        self.finished = true;
        self.cx.end();
        let live = self.cx.live();
        let (took, spent) = self.stopped.take().unwrap_or_else(|| {
            let (took, spent) = (self.started.elapsed(), self.cx.take_spent());
            if let Some(recording) = live.recording.as_ref().filter(|_| !spent.is_empty()) {
                let tried = self.tried(took, spent.clone());
                recording.record_spent(self.cx.path(), outcome.clone(), tried);
            }
            (took, spent)
        });
        let attempt = Attempt {
            path: self.cx.path().clone(),
            attempt: self.cx.attempt(),
            started: live.at(self.started),
            took,
            outcome,
            input: self.input.take(),
            spent,
            earlier: false,
        };
        live.attempted(attempt, kind);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.end(Outcome::Cancelled, Some(Kind::StepCancelled));
        }
    }
}
