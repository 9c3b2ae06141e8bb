//! Labels by Monte-Carlo rollouts (Math-Shepherd, arXiv 2312.08935): from the state after a decision the policy goes on
//! several times, and the label is the share of these continuations that reach the right answer (its *soft* label).
//!
//! A trajectory's last decision leaves nothing to go on from: its label is the outcome. Every continuation draws from a
//! seed of its own, made of the run's seed, the [`key`](Labeller::key) of the case and its number, so labels depend neither
//! on the order of the work nor on how much of it is done at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agentflow_agent::trajectory::{ModelRecord, Step, Stop};
use agentflow_agent::{Attempt, Executor, SolveError, Solver, Verifier};
use agentflow_eval::runner::attempt_seed;
use agentflow_eval::{Outcome, judge};
use agentflow_llm::Usage;
use async_trait::async_trait;
use futures::future::join_all;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::labeller::{Case, Labelled, Labeller, LabellerError};
use super::record::Provenance;

/// Labels by continuations of one policy.
pub struct MonteCarlo {
    /// The pattern: each continuation has a seed and an executor of its own.
    solver: Solver,
    policy: ModelRecord,
    rollouts: u32,
    seed: u64,
    executors: Executors,
}

/// How one continuation ended.
struct Rollout {
    /// Whether it reached the right answer, or why it does not count.
    right: Result<bool, String>,
    usage: Usage,
}

impl MonteCarlo {
    /// `rollouts` continuations of a decision, at least 1, as `solver` makes them; over all decisions, as many at once as
    /// there are `executors`, at least 1.
    pub fn new(solver: Solver, executors: Vec<Executor>, rollouts: u32, seed: u64) -> Self {
        let policy = ModelRecord::from(solver.model.info());
        Self { solver, policy, rollouts, seed, executors: Executors::new(executors) }
    }

    fn by(&self, rollouts: u32, right: u32) -> Provenance {
        Provenance::MonteCarlo {
            policy: self.policy.clone(),
            temperature: self.solver.settings.sampling.temperature,
            seed: self.seed,
            rollouts,
            right,
        }
    }

    async fn rollout(&self, case: &Case, key: &str, number: u32) -> Result<Rollout, LabellerError> {
        let borrowed = self.executors.borrow().await;
        let mut solver = self.solver.clone();
        solver.executor = borrowed.executor.clone();
        let seed = Some(attempt_seed(self.seed, key, number));
        solver.settings.sampling.seed = seed;
        if let Verifier::Model { settings, .. } = &mut solver.verifier {
            settings.sampling.seed = seed;
        }
        let trajectory = &case.sample.trajectory;
        let steps = &trajectory.steps[..=case.step];
        let attempt = Attempt::after(&trajectory.id, &trajectory.question, steps);
        let ended = solver.solve_on(attempt, &mut |_| {}).await.map_err(|error| match error {
            SolveError::Interrupted => LabellerError::Other("interrupted".to_owned()),
            other => LabellerError::Other(other.to_string()),
        })?;
        drop(borrowed);
        let usage = used(&ended.steps[steps.len()..]);
        let right = match (ended.stop, ended.answer) {
            (Stop::Failed, _) => Err(ended.error.unwrap_or_default()),
            (_, None) => Ok(false),
            (_, Some(answer)) => {
                Ok(judge(&case.sample.eval.gold, &answer).outcome == Outcome::Right)
            }
        };
        Ok(Rollout { right, usage })
    }
}

#[async_trait]
impl Labeller for MonteCarlo {
    fn key(&self, case: &Case) -> String {
        if case.is_last() {
            // Nothing is rolled out, so nothing can be shared.
            let trajectory = &case.sample.trajectory;
            return format!("outcome/{:?}/{}/{}", trajectory.run, trajectory.id, case.step);
        }
        let Solver { profile, settings, budget, .. } = &self.solver;
        let trajectory = &case.sample.trajectory;
        let steps = &trajectory.steps[..=case.step];
        // What the planner reads next is made of these, and of nothing else; times and token ids are left out.
        let seen: Vec<_> = steps
            .iter()
            .map(|step| {
                let raw = step.reply.is_none().then_some(&step.raw);
                (&step.reply, raw, step.observation.ok, &step.observation.text)
            })
            .collect();
        let all = json!({
            "question": trajectory.question,
            "gold": case.sample.eval.gold,
            "steps": seen,
            "sufficient": case.step().verdict.sufficient,
            // It only matters where it is limited.
            "used": budget.max_tokens.map(|_| used(steps)),
            "policy": self.policy,
            "prompts": profile.version(),
            "temperature": settings.sampling.temperature,
            "top_p": settings.sampling.top_p,
            "think": settings.think,
            "max_tokens": settings.max_tokens,
            "max_steps": budget.max_steps,
            "rollouts": self.rollouts,
            "seed": self.seed,
        });
        format!("{:x}", Sha256::digest(all.to_string()))
    }

    async fn label(&self, case: &Case) -> Result<Labelled, LabellerError> {
        if case.is_last() {
            let (label, usage) = (Ok(case.outcome()), Usage::default());
            return Ok(Labelled { label, by: self.by(0, 0), usage });
        }
        let key = self.key(case);
        let rollouts = join_all((0..self.rollouts).map(|number| self.rollout(case, &key, number)));
        let (mut usage, mut counted, mut right, mut failure) = (Usage::default(), 0, 0, None);
        for rollout in rollouts.await {
            let rollout = rollout?;
            usage += rollout.usage;
            match rollout.right {
                Ok(is_right) => {
                    counted += 1;
                    right += u32::from(is_right);
                }
                Err(error) => failure = Some(error),
            }
        }
        if counted == 0 {
            return Err(LabellerError::Other(failure.unwrap_or_default()));
        }
        let label = Ok(f64::from(right) / f64::from(counted));
        Ok(Labelled { label, by: self.by(counted, right), usage })
    }
}

fn used(steps: &[Step]) -> Usage {
    steps.iter().fold(Usage::default(), |mut all, step| {
        all += step.usage;
        all
    })
}

/// Executors to be borrowed in turn: a sandbox runs one call at a time.
struct Executors {
    idle: Mutex<Vec<Arc<Mutex<Executor>>>>,
    free: Semaphore,
}

struct Borrowed<'a> {
    from: &'a Executors,
    executor: Arc<Mutex<Executor>>,
    _permit: SemaphorePermit<'a>,
}

impl Executors {
    fn new(executors: Vec<Executor>) -> Self {
        let idle: Vec<_> =
            executors.into_iter().map(|executor| Arc::new(Mutex::new(executor))).collect();
        Self { free: Semaphore::new(idle.len()), idle: Mutex::new(idle) }
    }

    /// The next that is idle; who asks first is served first, so that labels are done in about the order of their cases.
    async fn borrow(&self) -> Borrowed<'_> {
        let permit = self.free.acquire().await.expect("it is never closed");
        let executor = lock(&self.idle).pop().expect("there is one for every permit");
        Borrowed { from: self, executor, _permit: permit }
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        // Before the permit goes back.
        lock(&self.from.idle).push(self.executor.clone());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
