//! The runner: attempts at problems, as many at once as are wanted, each kept as one line of `trajectories.jsonl`.
//!
//! That file is the record, and the only one: a run that was killed is taken up by reading it, and does exactly the
//! attempts that are not in it. So the flow below keeps no journal; what it gives is concurrency, retries, a deadline and
//! progress. Attempts share nothing and draw from seeds of their own ([`attempt_seed`]), so a resumed run computes what
//! the uninterrupted one does.
//!
//! Start reading at [`run`]; one attempt is in `attempt.rs`, the record in `record.rs`, what ends a run early in
//! `limits.rs`.

mod attempt;
mod limits;
mod record;
mod seed;
mod tally;

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentflow_agent::{Executor, Solver};
use agentflow_flow::{
    self as flow, ErrorKind, Failure, Flow, FlowError, Kind, Retry, each_settled, step,
};
use serde::{Deserialize, Serialize};

use crate::{Problem, RunDir, RunDirError};
use attempt::{Desk, attempt};

pub use limits::{End, Limits};
pub use record::Record;
pub use seed::attempt_seed;
pub use tally::Tally;

/// Between an attempt that failed and the next at the same problem.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// It is also how long ctrl-c may have to wait; what takes longer to heal is waited for inside the model.
const LONGEST_RETRY_WAIT: Duration = Duration::from_secs(4);

/// The events are read by the task that drives the run: few are ever held, and none is dropped.
const ALL_EVENTS: usize = usize::MAX;

/// What is to be attempted.
pub struct Plan {
    /// As trajectories name it, e.g. `arith/test`.
    pub benchmark: String,
    pub problems: Vec<Problem>,
    /// Attempts at each problem.
    pub repeats: u32,
    /// All seeds of attempts come from it.
    pub seed: u64,
    /// Attempts under way at the same time.
    pub concurrency: usize,
    /// Further tries of an attempt that failed.
    pub retries: u32,
    pub limits: Limits,
}

/// What happens in a run, for whoever watches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// An attempt is done and kept.
    Kept { problem: String, repeat: u32, error: Option<String>, so_far: Tally },
    /// An attempt failed and is tried again.
    TriedAgain { problem: String, repeat: u32, error: String },
    /// Something that went wrong without ending an attempt.
    Warning { problem: String, text: String },
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    pub end: End,
    /// Of everything in the record, that of earlier processes included.
    pub tally: Tally,
    /// Why the last attempt failed that did, in this process.
    pub last_failure: Option<String>,
    /// In this process.
    pub wall: Duration,
}

/// What a run cannot go on after. What was kept by then stays.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The record cannot be read or written.
    #[error("{0}; what is in the record stays, so resume the run when that is mended")]
    Record(#[from] RunDirError),
    /// Some attempts broke the harness itself; all others were made.
    #[error(
        "an attempt could not be made: {0}; please report this, and resume the run to try it again"
    )]
    Attempt(Failure),
    #[error(transparent)]
    Flow(#[from] FlowError),
}

/// One attempt, as the flow hands it out.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Index in the plan.
    problem: usize,
    repeat: u32,
}

/// Makes the attempts of `plan` that are not in `record`, and adds them to it.
///
/// `solver` is the pattern for all: each attempt has a seed and an executor of its own, one of `executors`, which are as
/// many as attempts at once. When `solver.cancel` is cancelled, what is under way ends, and is left for the next time.
///
/// # Errors
/// If the record cannot be written, or something panicked. An attempt that failed is no error, but a sample.
pub async fn run(
    dir: &RunDir,
    record: Record,
    plan: Plan,
    solver: Solver,
    executors: Vec<Executor>,
    on_event: &mut (dyn FnMut(Event) + Send),
) -> Result<Finished, RunError> {
    let started = Instant::now();
    let jobs = record.missing(&plan.problems, plan.repeats);
    let retry = Retry {
        attempts: plan.retries.saturating_add(1),
        first: RETRY_WAIT,
        cap: LONGEST_RETRY_WAIT,
        ..Retry::default()
    };
    let (concurrency, deadline) = (plan.concurrency, plan.limits.max_time);
    let desk = Arc::new(Desk::new(dir, record, plan, solver, executors));
    desk.began(jobs.len())?;
    let flow = Flow::new("eval").then(each_settled(
        "sample",
        concurrency,
        step("attempt", attempt).retry(retry),
    ));
    let mut run = flow.run(jobs).provide(desk.clone());
    if let Some(deadline) = deadline {
        run = run.deadline(deadline);
    }
    let (mut events, run) = run.events(ALL_EVENTS);
    let watch = async {
        while let Some(event) = events.next().await {
            if let Some(event) = Event::of(event) {
                on_event(event);
            }
        }
    };
    let (report, ()) = tokio::join!(biased; run, watch);
    let out_of_time = match report.into_result() {
        Ok(settled) => {
            if let Some(error) = desk.take_error() {
                return Err(error.into());
            }
            if let Some(failure) = settled.into_iter().find_map(Result::err) {
                return Err(RunError::Attempt(failure));
            }
            false
        }
        Err(error) if matches!(error.kind, ErrorKind::Deadline) => true,
        Err(error) => return Err(error.into()),
    };
    let finished = Finished {
        end: desk.end(out_of_time),
        tally: desk.tally(),
        last_failure: desk.last_failure(),
        wall: started.elapsed(),
    };
    desk.ended(&finished.end, finished.wall)?;
    Ok(finished)
}

impl Event {
    fn of(event: flow::Event) -> Option<Self> {
        match event.kind {
            Kind::Progress(told) => serde_json::from_value(told).ok(),
            _ => None,
        }
    }
}
