//! Whole attempts through the agent's loop and tools, under the policy as it is now.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentflow_agent::prompt::Profile;
use agentflow_agent::trajectory::Stop;
use agentflow_agent::{Budget, CallSettings, Executor, SolveError, Solver, Trajectory, Verifier};
use agentflow_eval::{Outcome, Problem, judge};
use agentflow_llm::Sampling;
use agentflow_model::Local;
use agentflow_tools::sandbox::LevelWanted;
use agentflow_tools::{Limits, Sandbox, SandboxConfig, SandboxError, Toolbox};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::recorder::{Call, Recorder};
use super::{Attempted, Decided, Group};
use crate::dapo::row::GroupOrigin;
use crate::prm::{Prm, PrmError};
use crate::reward::{self, LengthPenalty, RewardConfig};

/// How attempts are made.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) max_steps: usize,
    pub(crate) max_tokens: u32,
    pub(crate) tool_timeout: f64,
    pub(crate) sandbox: LevelWanted,
    /// Attempts under way at once.
    pub(crate) concurrency: usize,
    /// Of an attempt, thinking about it and tools together.
    pub(crate) max_seconds: Option<f64>,
    pub(crate) plain_logprobs: bool,
}

/// One attempt to be made.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) problem: &'a Problem,
    pub(crate) seed: u64,
}

/// Makes attempts.
pub(crate) struct Flow {
    policy: Local,
    profile: Profile,
    setting: Setting,
    /// As many as attempts at once: a sandbox runs one call at a time.
    executors: Mutex<Vec<Arc<Mutex<Executor>>>>,
    cancel: CancellationToken,
}

/// An attempt that is over, and the calls that it took.
pub(crate) struct Rolled {
    pub(crate) trajectory: Trajectory,
    /// 1 where the answer was right, else 0; none where the attempt failed.
    pub(crate) outcome: Option<f64>,
    calls: Vec<Call>,
}

impl Rolled {
    /// How often the planner was asked.
    pub(crate) fn calls(&self) -> usize {
        self.calls.len()
    }
}

impl Flow {
    /// `policy` shares its weights with the trainer.
    ///
    /// # Errors
    /// If there is no sandbox of the level asked for.
    pub(crate) fn new(
        policy: Local,
        profile: Profile,
        setting: Setting,
        cancel: CancellationToken,
    ) -> Result<Self, SandboxError> {
        let executor = || -> Result<_, SandboxError> {
            let time = Duration::from_secs_f64(setting.tool_timeout);
            let limits = Limits { wall: time, cpu: time, ..Limits::default() };
            let config =
                SandboxConfig { level: setting.sandbox, limits, ..SandboxConfig::default() };
            let executor = Executor::new(Toolbox::built_in(), Sandbox::new(config)?);
            Ok(Arc::new(Mutex::new(executor)))
        };
        let executors = (0..setting.concurrency).map(|_| executor()).collect::<Result<_, _>>()?;
        Ok(Self { policy, profile, setting, executors: Mutex::new(executors), cancel })
    }

    /// The policy that the attempts are made by.
    pub(crate) fn policy(&self) -> &Local {
        &self.policy
    }

    /// Makes `jobs`, as many at once as are allowed; the results are in their order, and do not depend on which were made at
    /// once where the engine is exact.
    ///
    /// # Errors
    /// If it was interrupted, or something panicked. An attempt that failed is a result.
    pub(crate) async fn attempts(
        &self,
        jobs: &[Job<'_>],
        temperature: f64,
    ) -> Result<Vec<Rolled>, SolveError> {
        let made = jobs.iter().enumerate().map(async |(at, job)| {
            let rolled = self.attempt(*job, temperature).await?;
            Ok::<_, SolveError>((at, rolled))
        });
        let made = stream::iter(made).buffer_unordered(self.setting.concurrency);
        let mut rolled: Vec<(usize, Rolled)> = made.try_collect().await?;
        rolled.sort_by_key(|(at, _)| *at);
        Ok(rolled.into_iter().map(|(_, rolled)| rolled).collect())
    }

    async fn attempt(&self, job: Job<'_>, temperature: f64) -> Result<Rolled, SolveError> {
        let recorder = Arc::new(Recorder::new(self.policy.clone()));
        let executor = lock(&self.executors).pop().expect("there is one for each attempt at once");
        let solver = self.solver(recorder.clone(), executor.clone(), job.seed, temperature);
        let Problem { id, question, gold, .. } = job.problem;
        let solved = solver.solve(id, question, &mut |_| {}).await;
        lock(&self.executors).push(executor);
        let trajectory = solved?;
        let outcome = match (&trajectory.stop, &trajectory.answer) {
            (Stop::Failed, _) => None,
            (_, None) => Some(0.0),
            (_, Some(answer)) => {
                Some(f64::from(u8::from(judge(gold, answer).outcome == Outcome::Right)))
            }
        };
        Ok(Rolled { trajectory, outcome, calls: recorder.take() })
    }

    fn solver(
        &self,
        recorder: Arc<Recorder>,
        executor: Arc<Mutex<Executor>>,
        seed: u64,
        temperature: f64,
    ) -> Solver {
        let Setting { max_steps, max_tokens, max_seconds, .. } = self.setting;
        // The whole distribution: what was cut off would be missing in the trainer's log-probs.
        let sampling =
            Sampling { temperature, top_p: 1.0, top_k: None, min_p: 0.0, seed: Some(seed) };
        let settings = CallSettings { sampling, think: false, max_tokens };
        // As where the policy is used; but only what the planner says is learnt from.
        let verifier = match self.profile {
            Profile::Full => {
                Verifier::Model { model: Arc::new(self.policy.clone()), settings: settings.clone() }
            }
            Profile::Compact => Verifier::Planner,
        };
        Solver {
            model: recorder,
            executor,
            profile: self.profile,
            settings,
            verifier,
            budget: Budget {
                max_steps,
                max_tokens: None,
                max_wall: max_seconds.map(Duration::from_secs_f64),
            },
            cancel: self.cancel.clone(),
        }
    }

    /// The attempts at one problem as a group. Its rows have no advantages yet.
    pub(crate) fn group(
        &self,
        position: u64,
        problem: &Problem,
        rolled: &[Rolled],
        temperature: f64,
    ) -> Group {
        let attempts = rolled.iter().map(|rolled| {
            let Trajectory { answer, error, .. } = &rolled.trajectory;
            Attempted {
                outcome: rolled.outcome,
                answer: answer.clone(),
                error: error.clone(),
                decisions: self.decisions(rolled, temperature),
            }
        });
        Group {
            position,
            problem: problem.id.clone(),
            question: problem.question.clone(),
            gold: problem.gold.text(),
            attempts: attempts.collect(),
        }
    }

    /// A row for each call that belongs to a step of the trajectory, first tries that could not be read among them.
    fn decisions(&self, rolled: &Rolled, temperature: f64) -> Vec<Decided> {
        let steps = &rolled.trajectory.steps;
        placed(rolled)
            .map(|(call, place)| {
                let Call { schema, drawn, .. } = call;
                let origin = GroupOrigin {
                    prompt: drawn.prompt.clone().into(),
                    group: state(&drawn.prompt, schema.as_ref()),
                    temperature,
                    schema: schema.clone().map(Arc::new),
                    think_end: None,
                    plain_logprobs: self.setting.plain_logprobs,
                };
                let step = place.taken.then(|| &steps[place.step]);
                Decided {
                    row: origin.row(&drawn.completion),
                    valid: step.is_some_and(|step| step.reply.is_some()),
                    prm: None,
                    reply: drawn.completion.text.clone(),
                    observation: step.map(|step| step.observation.text.clone()),
                }
            })
            .collect()
    }
}

/// Where a call belongs.
struct Place {
    /// Index of its step.
    step: usize,
    /// Whether the step is of this reply, and not of a second try.
    taken: bool,
}

/// The calls of an attempt with their places; a call whose step was never finished has none.
fn placed(rolled: &Rolled) -> impl Iterator<Item = (&Call, Place)> {
    let steps = &rolled.trajectory.steps;
    let mut step = 0;
    rolled.calls.iter().map_while(move |call| {
        // A second try is asked with other messages: those that its step has.
        let taken = steps.get(step)?.prompt == call.messages;
        let place = Place { step, taken };
        step += usize::from(taken);
        Some((call, place))
    })
}

/// A name of the state that a completion was drawn in: its prompt tokens and what it was allowed to be.
fn state(prompt: &[u32], schema: Option<&Value>) -> u64 {
    let mut hash = Sha256::new();
    prompt.iter().for_each(|id| hash.update(id.to_le_bytes()));
    hash.update(schema.map(Value::to_string).unwrap_or_default());
    let first: [u8; 8] = hash.finalize()[..8].try_into().expect("a hash has 32 bytes");
    u64::from_le_bytes(first)
}

/// Has `prm` rate every decision of `groups`; `rolled` has their trajectories, in the same order. A reply that is no decision
/// gets 0, and the PRM never sees it.
///
/// # Errors
/// What the PRM fails with.
pub(crate) fn rate(
    groups: &mut [Group],
    rolled: &[Rolled],
    profile: Profile,
    prm: &Prm,
    length: Option<&LengthPenalty>,
) -> Result<(), PrmError> {
    let mut asked = Vec::new();
    for rolled in rolled {
        let Trajectory { question, steps, .. } = &rolled.trajectory;
        for (call, place) in placed(rolled) {
            asked.push(reward::Decided {
                question,
                previous: &steps[..place.step],
                decision: place.taken.then(|| steps[place.step].reply.as_ref()).flatten(),
                tokens: call.drawn.completion.tokens.len(),
                outcome: None, // it has an advantage of its own
            });
        }
    }
    let config = RewardConfig { outcome_weight: 0.0, length: length.cloned() };
    let rewards = reward::rewards(&config, profile, &asked, |texts| {
        let ids = texts.iter().map(|text| Ok(prm.encode(text)?.ids));
        prm.scores(&ids.collect::<Result<Vec<_>, PrmError>>()?)
    })?;
    let decisions = groups.iter_mut().flat_map(Group::decisions_mut);
    for (decided, reward) in decisions.zip(rewards) {
        decided.prm = Some(reward.total).filter(|total| total.is_finite());
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
