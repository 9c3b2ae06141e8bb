//! The runner: every decision labelled once and kept as one line of `labels.jsonl`.
//!
//! That file is the record, and the only one: a run that was killed is taken up by reading it, and labels exactly what is
//! not in it. Decisions with the same [`key`](Labeller::key) are one job: what is said of the first is said of all, and
//! what it took stands in the record of the first alone. The flow gives concurrency, retries and progress.
//!
//! Start reading at [`run`].

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use agentflow_eval::{Prices, RunDirError};
use agentflow_flow::{
    Context, Failure, Flow, FlowError, Kind, Retry, StepError, each_settled, step,
};
use agentflow_llm::Usage;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::kept::{Kept, Tally, What};
use super::labeller::{Case, Labelled, Labeller, LabellerError};

/// Between a label that could not be had and the next try.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// It is also how long ctrl-c may have to wait; what takes longer to heal is waited for inside the model.
const LONGEST_RETRY_WAIT: Duration = Duration::from_secs(4);

/// At least so many labels in a row have to fail, and twice as many as are made at once, before the run gives up.
const HOPELESS: u64 = 20;

/// How much of a run a dying machine may take along; a dying process takes none.
const SYNC_EVERY: Duration = Duration::from_secs(2);

/// The events are read by the task that drives the run: few are ever held, and none is dropped.
const ALL_EVENTS: usize = usize::MAX;

/// What is to be labelled, and how hard to try.
pub struct Plan {
    pub cases: Vec<Case>,
    /// Labels under way at the same time.
    pub concurrency: usize,
    /// Further tries of a label that could not be had.
    pub retries: u32,
    /// Dollars that the whole run may cost, at these prices. A label is not begun where it, and those under way, would go
    /// beyond it by the labeller's own estimate.
    pub budget: Option<(f64, Prices)>,
}

/// What happens in a run, for whoever watches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Decisions are labelled, or known to have no label, and kept.
    Kept { so_far: Tally },
    /// A decision could not be labelled, and is tried again.
    TriedAgain { trajectory: String, step: usize, error: String },
    /// It is left for another process.
    Failed { trajectory: String, step: usize, error: String, so_far: Tally },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// Nothing is left to label, but for what failed.
    Complete,
    Interrupted,
    OutOfMoney {
        spent: f64,
        limit: f64,
    },
    /// So many labels in a row could not be had that the next could not, either.
    Failing {
        in_a_row: u64,
        error: String,
    },
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    pub end: End,
    /// Of everything in the record, that of earlier processes included.
    pub tally: Tally,
    /// Why decisions could not be labelled in this process, and how many.
    pub failed_by_cause: BTreeMap<String, u64>,
    /// In this process.
    pub wall: Duration,
}

/// What a run cannot go on after. What was kept by then stays.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The record cannot be read or written.
    #[error("{0}; what is in the record stays, so resume the run when that is mended")]
    Record(#[from] RunDirError),
    /// Some labels broke the runner itself; all others were made.
    #[error(
        "a label could not be made: {0}; please report this, and resume the run to try it again"
    )]
    Label(Failure),
    #[error(transparent)]
    Flow(#[from] FlowError),
}

/// Decisions that get the same label, as the flow hands them out.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Job {
    /// Indices in the plan, ascending.
    cases: Vec<usize>,
}

/// Labels the decisions of `plan` that are not in `kept`, and adds them to it. When `cancel` is cancelled, what is under
/// way is dropped, and left for the next time.
///
/// # Errors
/// If the record cannot be written, or something panicked. A label that could not be had is no error.
pub async fn run(
    kept: Kept,
    plan: Plan,
    labeller: Arc<dyn Labeller>,
    cancel: &CancellationToken,
    on_event: &mut (dyn FnMut(Event) + Send),
) -> Result<Finished, RunError> {
    let started = Instant::now();
    let jobs = jobs(&plan.cases, &*labeller, &kept);
    let retry = Retry {
        attempts: plan.retries.saturating_add(1),
        first: RETRY_WAIT,
        cap: LONGEST_RETRY_WAIT,
        ..Retry::default()
    };
    let concurrency = plan.concurrency;
    let desk = Arc::new(Desk::new(kept, plan, labeller, cancel));
    desk.began()?;
    let label = step("label", label).retry(retry);
    let flow = Flow::new("label").then(each_settled("decision", concurrency, label));
    let (mut events, run) = flow.run(jobs).provide(desk.clone()).events(ALL_EVENTS);
    let watch = async {
        while let Some(event) = events.next().await {
            if let Kind::Progress(told) = event.kind
                && let Ok(event) = serde_json::from_value(told)
            {
                on_event(event);
            }
        }
    };
    let (report, ()) = tokio::join!(biased; run, watch);
    let settled = report.into_result()?;
    if let Some(error) = lock(&desk.state).error.take() {
        return Err(error.into());
    }
    if let Some(failure) = settled.into_iter().find_map(Result::err) {
        return Err(RunError::Label(failure));
    }
    Ok(desk.ended(started.elapsed())?)
}

/// What is left to label, in the order of the cases.
fn jobs(cases: &[Case], labeller: &dyn Labeller, kept: &Kept) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    let mut of_key: HashMap<String, usize> = HashMap::new();
    for (index, case) in cases.iter().enumerate() {
        let job = *of_key.entry(labeller.key(case)).or_insert(jobs.len());
        match jobs.get_mut(job) {
            Some(job) => job.cases.push(index),
            None => jobs.push(Job { cases: vec![index] }),
        }
    }
    jobs.retain(|job| job.cases.iter().any(|case| kept.get(&cases[*case].place()).is_none()));
    jobs
}

/// How many labels are left to be made, and what they will take, about.
pub fn left(cases: &[Case], labeller: &dyn Labeller, kept: &Kept) -> (u64, Usage) {
    let jobs = jobs(cases, labeller, kept);
    let usage = jobs.iter().fold(Usage::default(), |mut all, job| {
        all += labeller.estimate(&cases[job.cases[0]]);
        all
    });
    (jobs.len() as u64, usage)
}

/// How many labels have to be made for `cases`: those with the same key have one.
pub fn distinct(cases: &[Case], labeller: &dyn Labeller) -> u64 {
    let keys: std::collections::HashSet<String> =
        cases.iter().map(|case| labeller.key(case)).collect();
    keys.len() as u64
}

/// What the jobs of a run share.
struct Desk {
    plan: Plan,
    labeller: Arc<dyn Labeller>,
    /// Cancelled where the run is to end at once, by whoever runs it or by us.
    halt: CancellationToken,
    state: Mutex<State>,
}

struct State {
    kept: Kept,
    /// What the labels under way will take.
    reserved: Usage,
    failed_in_a_row: u64,
    failed_by_cause: BTreeMap<String, u64>,
    synced: Instant,
    end: Option<End>,
    error: Option<RunDirError>,
}

/// Does one job, unless the run is ending.
async fn label(cx: Context, job: Job) -> Result<(), StepError> {
    let desk = cx.need::<Desk>()?;
    if desk.is_ending() {
        return Ok(());
    }
    let started = Instant::now();
    let case = &desk.plan.cases[job.cases[0]];
    let said = match desk.said(&job) {
        Some(labelled) => Ok(labelled),
        None => {
            let Some(_reserved) = desk.reserve(case) else { return Ok(()) };
            tokio::select! {
                biased;
                () = desk.halt.cancelled() => return Ok(()),
                said = desk.labeller.label(case) => said.and_then(checked),
            }
        }
    };
    let trajectory = case.sample.trajectory.id.clone();
    match said {
        Ok(labelled) => {
            let so_far = desk.keep(&job, &labelled, started.elapsed())?;
            cx.progress(Event::Kept { so_far });
        }
        Err(error) if cx.attempt() <= desk.plan.retries && !desk.is_ending() => {
            let error = error.to_string();
            cx.progress(Event::TriedAgain { trajectory, step: case.step, error: error.clone() });
            return Err(StepError::failed(error));
        }
        Err(error) => {
            let error = error.to_string();
            let so_far = desk.failed(&job, &error);
            cx.progress(Event::Failed { trajectory, step: case.step, error, so_far });
        }
    }
    Ok(())
}

/// Labels are shares: one that is none must not get into a training set.
fn checked(labelled: Labelled) -> Result<Labelled, LabellerError> {
    match labelled.label {
        Ok(label) if !(0.0..=1.0).contains(&label) => Err(LabellerError::Other(format!(
            "the labeller gave {label}, and labels are from 0 to 1; please report this"
        ))),
        _ => Ok(labelled),
    }
}

impl Desk {
    fn new(
        kept: Kept,
        plan: Plan,
        labeller: Arc<dyn Labeller>,
        cancel: &CancellationToken,
    ) -> Self {
        let end = out_of_money(&plan, kept.tally().usage);
        let state = State {
            kept,
            reserved: Usage::default(),
            failed_in_a_row: 0,
            failed_by_cause: BTreeMap::new(),
            synced: Instant::now(),
            end,
            error: None,
        };
        Self { plan, labeller, halt: cancel.child_token(), state: Mutex::new(state) }
    }

    /// Keeps the budget free for the label of `case`; `None`, and the run is ending, where there is not enough of it.
    fn reserve(&self, case: &Case) -> Option<Reserved<'_>> {
        let Some((limit, prices)) = self.plan.budget else {
            return Some(Reserved { desk: self, usage: Usage::default() });
        };
        let usage = self.labeller.estimate(case);
        let mut state = lock(&self.state);
        let spent = dollars(prices, state.kept.tally().usage);
        if spent + dollars(prices, state.reserved) + dollars(prices, usage) > limit {
            state.end.get_or_insert(End::OutOfMoney { spent, limit });
            return None;
        }
        state.reserved += usage;
        drop(state);
        Some(Reserved { desk: self, usage })
    }

    fn is_ending(&self) -> bool {
        self.halt.is_cancelled() || lock(&self.state).end.is_some()
    }

    /// What was said of one of them already: a process died between their lines.
    fn said(&self, job: &Job) -> Option<Labelled> {
        let state = lock(&self.state);
        job.cases.iter().find_map(|case| state.kept.get(&self.plan.cases[*case].place()).cloned())
    }

    fn keep(&self, job: &Job, labelled: &Labelled, wall: Duration) -> Result<Tally, StepError> {
        let mut state = lock(&self.state);
        for (nth, case) in job.cases.iter().enumerate() {
            let case = &self.plan.cases[*case];
            if state.kept.get(&case.place()).is_some() {
                continue;
            }
            let (usage, wall_ms) = match nth {
                0 => (labelled.usage, wall.as_millis() as u64),
                _ => (Usage::default(), 0),
            };
            let line = case.labelled(labelled, usage, wall_ms);
            if let Err(error) = state.kept.keep(&line) {
                return Err(self.broken(&mut state, error));
            }
        }
        if state.synced.elapsed() >= SYNC_EVERY {
            state.synced = Instant::now();
            if let Err(error) = state.kept.sync() {
                return Err(self.broken(&mut state, error));
            }
        }
        state.failed_in_a_row = 0;
        let tally = state.kept.tally();
        state.end = state.end.take().or_else(|| out_of_money(&self.plan, tally.usage));
        Ok(tally)
    }

    /// A record that cannot be written ends the run at once.
    fn broken(&self, state: &mut State, error: RunDirError) -> StepError {
        self.halt.cancel();
        let text = error.to_string();
        state.error.get_or_insert(error);
        StepError::fatal(text)
    }

    fn failed(&self, job: &Job, error: &str) -> Tally {
        let mut state = lock(&self.state);
        let decisions = job.cases.len() as u64;
        state.kept.failed(decisions);
        *state.failed_by_cause.entry(error.to_owned()).or_default() += decisions;
        state.failed_in_a_row += 1;
        let in_a_row = state.failed_in_a_row;
        if in_a_row >= HOPELESS.max(2 * self.plan.concurrency as u64) && state.end.is_none() {
            state.end = Some(End::Failing { in_a_row, error: error.to_owned() });
            self.halt.cancel();
        }
        state.kept.tally()
    }

    fn began(&self) -> Result<(), RunDirError> {
        let kept = &mut lock(&self.state).kept;
        let done = kept.tally().kept();
        let missing = (self.plan.cases.len() as u64).saturating_sub(done);
        kept.note(What::Began { kept: done, missing })
    }

    /// Notes how the run ended, and has all of it kept.
    fn ended(&self, wall: Duration) -> Result<Finished, RunDirError> {
        let state = &mut *lock(&self.state);
        let tally = state.kept.tally();
        let end = match state.end.take() {
            _ if tally.kept() + tally.failed >= self.plan.cases.len() as u64 => End::Complete,
            Some(end) => end,
            None => End::Interrupted,
        };
        let (how, kept) = (end.to_string(), tally.kept());
        state.kept.note(What::Ended { how, kept, wall_s: wall.as_secs_f64() })?;
        state.kept.sync()?;
        let failed_by_cause = std::mem::take(&mut state.failed_by_cause);
        Ok(Finished { end, tally, failed_by_cause, wall })
    }
}

/// A part of the budget, kept free for one label.
struct Reserved<'a> {
    desk: &'a Desk,
    usage: Usage,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let reserved = &mut lock(&self.desk.state).reserved;
        reserved.prompt_tokens -= self.usage.prompt_tokens;
        reserved.completion_tokens -= self.usage.completion_tokens;
    }
}

fn out_of_money(plan: &Plan, usage: Usage) -> Option<End> {
    let (limit, prices) = plan.budget.as_ref()?;
    let spent = dollars(*prices, usage);
    (spent >= *limit).then_some(End::OutOfMoney { spent, limit: *limit })
}

/// What tokens cost.
pub fn dollars(prices: Prices, usage: Usage) -> f64 {
    let (prompt, completion) = (usage.prompt_tokens as f64, usage.completion_tokens as f64);
    (prompt * prices.prompt + completion * prices.completion) / 1e6
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("complete"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::OutOfMoney { spent, limit } => {
                write!(f, "the budget of ${limit} does not reach further (${spent:.4} spent)")
            }
            Self::Failing { in_a_row, error } => {
                write!(f, "the last {in_a_row} labels all failed, the last with: {error}")
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
