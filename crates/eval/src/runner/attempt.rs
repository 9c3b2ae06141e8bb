//! One attempt at one problem: solved, judged, kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use agentflow_agent::trajectory::Stop;
use agentflow_agent::{self as agent, Executor, SolveError, Solver, Trajectory, Verifier};
use agentflow_flow::{Context, StepError};
use agentflow_llm::Usage;
use tokio_util::sync::CancellationToken;

use super::record::What;
use super::{End, Event, Job, Plan, Record, Tally, attempt_seed};
use crate::{Outcome, Problem, RunDir, RunDirError, Sample, Scored, Verdict, judge};

/// At least so many attempts in a row have to fail, and twice as many as run at once, before the run gives up.
const HOPELESS: u64 = 20;

/// How much of a run a dying machine may take along; a dying process takes none.
const SYNC_EVERY: Duration = Duration::from_secs(2);

/// What the attempts of a run share.
pub(super) struct Desk {
    run: String,
    plan: Plan,
    solver: Solver,
    /// Cancelled where the run is to end at once, by whoever runs it or by us.
    halt: CancellationToken,
    idle: Mutex<Vec<Arc<Mutex<Executor>>>>,
    state: Mutex<State>,
}

struct State {
    record: Record,
    failed_in_a_row: u64,
    last_failure: Option<String>,
    synced: Instant,
    end: Option<End>,
    error: Option<RunDirError>,
}

/// Makes the attempt `job`, unless the run is ending.
pub(super) async fn attempt(cx: Context, job: Job) -> Result<(), StepError> {
    let desk = cx.need::<Desk>()?;
    if desk.is_ending() {
        return Ok(());
    }
    let Job { problem, repeat } = job;
    let problem = &desk.plan.problems[problem];
    let mut warn = |event| {
        if let agent::Event::Warning { text } = event {
            cx.progress(Event::Warning { problem: problem.id.clone(), text });
        }
    };
    let borrowed = desk.borrow();
    let id = format!("{}#{repeat}", problem.id);
    let solved = borrowed.solver(problem, repeat).solve(&id, &problem.question, &mut warn).await;
    drop(borrowed);
    let trajectory = match solved {
        Ok(trajectory) => trajectory,
        Err(SolveError::Interrupted) => return Ok(()),
        Err(other) => return Err(other.into()),
    };
    let error = trajectory.error.clone();
    if let (Stop::Failed, Some(error)) = (trajectory.stop, &error)
        && cx.attempt() <= desk.plan.retries
        && !desk.is_ending()
    {
        desk.tried_again(problem, repeat, error, trajectory.usage)?;
        let problem = problem.id.clone();
        cx.progress(Event::TriedAgain { problem, repeat, error: error.clone() });
        return Err(StepError::failed(error.clone()));
    }
    let so_far = desk.keep(&desk.scored(problem, repeat, trajectory))?;
    cx.progress(Event::Kept { problem: problem.id.clone(), repeat, error, so_far });
    Ok(())
}

impl Desk {
    pub(super) fn new(
        dir: &RunDir,
        record: Record,
        plan: Plan,
        solver: Solver,
        executors: Vec<Executor>,
    ) -> Self {
        let idle = executors.into_iter().map(|executor| Arc::new(Mutex::new(executor))).collect();
        let name = dir.path().file_name().map(|name| name.to_string_lossy().into_owned());
        let end = plan.limits.reached(record.spent());
        let state = State {
            record,
            failed_in_a_row: 0,
            last_failure: None,
            synced: Instant::now(),
            end,
            error: None,
        };
        Self {
            run: name.unwrap_or_default(),
            halt: solver.cancel.child_token(),
            idle: Mutex::new(idle),
            state: Mutex::new(state),
            plan,
            solver,
        }
    }

    fn is_ending(&self) -> bool {
        self.halt.is_cancelled() || lock(&self.state).end.is_some()
    }

    /// The means of one attempt.
    fn borrow(&self) -> Borrowed<'_> {
        let executor = lock(&self.idle).pop();
        // As many as attempts at once were promised; one short, the pattern's own has to be shared.
        Borrowed { desk: self, executor: executor.unwrap_or_else(|| self.solver.executor.clone()) }
    }

    fn scored(&self, problem: &Problem, repeat: u32, mut trajectory: Trajectory) -> Sample {
        let verdict = match (&trajectory.stop, &trajectory.answer) {
            (Stop::Failed, _) => {
                let how = "the attempt failed";
                unread(Outcome::Failed, problem, how)
            }
            (_, None) => unread(Outcome::NoAnswer, problem, "the agent gave no answer"),
            (_, Some(answer)) => judge(&problem.gold, answer),
        };
        trajectory.run = Some(self.run.clone());
        trajectory.gold = Some(problem.gold.text());
        trajectory.benchmark = Some(self.plan.benchmark.clone());
        trajectory.problem_id = Some(problem.id.clone());
        trajectory.score = match verdict.outcome {
            Outcome::Right => Some(1.0),
            Outcome::Wrong | Outcome::NoAnswer => Some(0.0),
            Outcome::Failed => None,
        };
        let (gold, tags) = (problem.gold.clone(), problem.tags.clone());
        Sample { trajectory, eval: Scored { repeat, gold, tags, verdict } }
    }

    /// Keeps a sample, and sees whether it was the last of the run.
    fn keep(&self, sample: &Sample) -> Result<Tally, StepError> {
        let mut state = lock(&self.state);
        let kept = state.record.keep(sample).and_then(|()| state.sync_sometimes());
        self.or_end(&mut state, kept)?;
        let failed = sample.eval.verdict.outcome == Outcome::Failed;
        state.failed_in_a_row = if failed { state.failed_in_a_row + 1 } else { 0 };
        if failed {
            state.last_failure.clone_from(&sample.trajectory.error);
        }
        if failed && state.end.is_none() {
            state.end = self.ended_by_failure(state.failed_in_a_row, &sample.trajectory);
            if state.end.is_some() {
                self.halt.cancel();
            }
        }
        let reached = self.plan.limits.reached(state.record.spent());
        state.end = state.end.take().or(reached);
        Ok(state.record.tally())
    }

    fn ended_by_failure(&self, in_a_row: u64, trajectory: &Trajectory) -> Option<End> {
        let error = trajectory.error.clone().unwrap_or_default();
        if self.plan.limits.fail_fast {
            return Some(End::FailFast { problem: trajectory.id.clone(), error });
        }
        let hopeless = HOPELESS.max(2 * self.plan.concurrency as u64);
        (in_a_row >= hopeless).then_some(End::Failing { in_a_row, error })
    }

    fn tried_again(
        &self,
        problem: &Problem,
        repeat: u32,
        error: &str,
        usage: Usage,
    ) -> Result<(), StepError> {
        let mut state = lock(&self.state);
        let (problem_id, error) = (problem.id.clone(), error.to_owned());
        let noted = state.record.note(What::TriedAgain { problem_id, repeat, error, usage });
        self.or_end(&mut state, noted)?;
        let reached = self.plan.limits.reached(state.record.spent());
        state.end = state.end.take().or(reached);
        Ok(())
    }

    /// A record that cannot be written ends the run at once.
    fn or_end(&self, state: &mut State, written: Result<(), RunDirError>) -> Result<(), StepError> {
        let Err(error) = written else { return Ok(()) };
        self.halt.cancel();
        let text = error.to_string();
        state.error.get_or_insert(error);
        Err(StepError::fatal(text))
    }

    pub(super) fn began(&self, missing: usize) -> Result<(), RunDirError> {
        let record = &mut lock(&self.state).record;
        let kept = record.tally().done();
        record.note(What::Began { kept, missing: missing as u64 })
    }

    /// Notes how the run ended, and has all of it kept.
    pub(super) fn ended(&self, end: &End, wall: Duration) -> Result<(), RunDirError> {
        let record = &mut lock(&self.state).record;
        let kept = record.tally().done();
        record.note(What::Ended { how: end.to_string(), kept, wall_s: wall.as_secs_f64() })?;
        record.sync()
    }

    /// How the run ended. What is complete is complete, also where a limit was reached with the last attempt.
    pub(super) fn end(&self, out_of_time: bool) -> End {
        let state = lock(&self.state);
        let wanted = self.plan.problems.len() as u64 * u64::from(self.plan.repeats);
        if state.record.tally().done() >= wanted {
            return End::Complete;
        }
        match (&state.end, self.plan.limits.max_time) {
            (Some(end), _) => end.clone(),
            (None, Some(limit)) if out_of_time => End::OutOfTime { limit },
            (None, _) => End::Interrupted,
        }
    }

    pub(super) fn tally(&self) -> Tally {
        lock(&self.state).record.tally()
    }

    pub(super) fn last_failure(&self) -> Option<String> {
        lock(&self.state).last_failure.clone()
    }

    /// Why the record could not be written.
    pub(super) fn take_error(&self) -> Option<RunDirError> {
        lock(&self.state).error.take()
    }
}

impl State {
    fn sync_sometimes(&mut self) -> Result<(), RunDirError> {
        if self.synced.elapsed() < SYNC_EVERY {
            return Ok(());
        }
        self.synced = Instant::now();
        self.record.sync()
    }
}

/// An executor that goes back when the attempt is over, however it ends: a sandbox runs one call at a time.
struct Borrowed<'a> {
    desk: &'a Desk,
    executor: Arc<Mutex<Executor>>,
}

impl Borrowed<'_> {
    /// The pattern, with what this attempt has to itself.
    fn solver(&self, problem: &Problem, repeat: u32) -> Solver {
        let mut solver = self.desk.solver.clone();
        solver.executor = self.executor.clone();
        solver.cancel = self.desk.halt.clone();
        let seed = Some(attempt_seed(self.desk.plan.seed, &problem.id, repeat));
        solver.settings.sampling.seed = seed;
        if let Verifier::Model { settings, .. } = &mut solver.verifier {
            settings.sampling.seed = seed;
        }
        solver
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        lock(&self.desk.idle).push(self.executor.clone());
    }
}

fn unread(outcome: Outcome, problem: &Problem, how: &str) -> Verdict {
    Verdict { outcome, gold_read: problem.gold.text(), pred_read: None, how: how.to_owned() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
