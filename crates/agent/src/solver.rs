//! The loop, as a flow: plan, execute, verify, again and again, until there is an answer or nothing left to spend.
//!
//! It ends when the planner answers. When the verifier finds the results sufficient, when steps run out, or when the
//! planner repeats itself, the planner is asked once more with `answer` as the only action. When the budget is gone, no
//! model is asked again, and the last computed result is the answer; a call that is running when the time is up is cut.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentflow_flow::{Flow, FlowError, Run, repeat_or, step};
use agentflow_llm::ChatModel;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::attempt::{Attempt, Ended};
use crate::broken;
use crate::event::Event;
use crate::executor::Executor;
use crate::planner::CallSettings;
use crate::prompt::Profile;
use crate::steps::{Means, execute, lock, plan, verify};
use crate::trajectory::{ModelRecord, SCHEMA, SamplingRecord, Stop, Trajectory};
use crate::verifier::Verifier;

/// The events are read by the task that runs the attempt, whenever the run waits: few are ever held, and none is dropped.
const ALL_EVENTS: usize = usize::MAX;

/// What one question may cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Steps before the planner has to answer; that answer is one more.
    pub max_steps: usize,
    /// Prompt and completion tokens of all calls together; `None` for no limit. Once they are used up, planner and
    /// verifier are not asked again, so the last step can exceed them.
    pub max_tokens: Option<u64>,
    /// Wall-clock time; `None` for no limit. A call that runs when it is over is cut. A resumed attempt has it anew.
    pub max_wall: Option<Duration>,
}

/// Solves questions. Holds nothing between two of them.
#[derive(Clone)]
pub struct Solver {
    pub model: Arc<dyn ChatModel>,
    /// Shared with the thread that a tool runs on.
    pub executor: Arc<Mutex<Executor>>,
    pub profile: Profile,
    pub settings: CallSettings,
    pub verifier: Verifier,
    pub budget: Budget,
    pub cancel: CancellationToken,
}

/// Why an attempt ended without a trajectory worth keeping.
#[derive(Debug, thiserror::Error)]
pub enum SolveError {
    #[error("interrupted")]
    Interrupted,
    #[error("the tool thread panicked; please report this")]
    ToolPanicked,
    /// The run could not begin, or be kept, or something in it panicked.
    #[error(transparent)]
    Run(#[from] FlowError),
}

impl Solver {
    /// Solves one question and gives the record, also of an attempt that failed (`stop` says so).
    ///
    /// Dropping the future ends the call that is running, of model or tool.
    ///
    /// # Errors
    /// If the attempt was interrupted through `cancel`, or something panicked.
    pub async fn solve(
        &self,
        id: &str,
        question: &str,
        on_event: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Trajectory, SolveError> {
        self.solve_on(Attempt::new(id, question), on_event).await
    }

    /// Solves on from where `attempt` stands, e.g. [`after`](Attempt::after) recorded steps, within the same budget.
    ///
    /// # Errors
    /// Those of [`solve`](Self::solve).
    pub async fn solve_on(
        &self,
        attempt: Attempt,
        on_event: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Trajectory, SolveError> {
        self.follow(self.flow().run(attempt), on_event).await
    }

    /// The loop. A run of it does nothing by itself: [`follow`](Self::follow) provides it with this solver. In between it
    /// can be given a store, and a run that a store knows is taken up by [`Flow::resume`].
    pub fn flow(&self) -> Flow<Attempt, Ended> {
        let hop = Flow::new("step")
            .then(step("plan", plan))
            .then(step("execute", execute))
            .then(step("verify", verify));
        // One more, in which the planner has to answer.
        let hops = u32::try_from(self.budget.max_steps).unwrap_or(u32::MAX).saturating_add(1);
        let unanswered = |attempt: Attempt| attempt.ends_early(Stop::MaxSteps);
        Flow::new("solve").then(repeat_or("agent", hops, hop, unanswered))
    }

    /// Drives a run of [`flow`](Self::flow) to its end.
    ///
    /// # Errors
    /// Those of [`solve`](Self::solve), and those of the store.
    pub async fn follow(
        &self,
        run: Run<Ended>,
        on_event: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Trajectory, SolveError> {
        let started = Instant::now();
        let sandbox = lock(&self.executor).sandbox().report().level.to_string();
        let deadline = self.budget.max_wall.and_then(|most| started.checked_add(most));
        let means = Arc::new(Means { solver: self.clone(), deadline });
        let (mut events, run) = run.provide(means).events(ALL_EVENTS);
        let watch = async {
            while let Some(event) = events.next().await {
                if let Some(event) = Event::of(event) {
                    on_event(event);
                }
            }
        };
        let report = tokio::select! {
            biased;
            () = self.cancel.cancelled() => None,
            (report, ()) = async { tokio::join!(biased; run, watch) } => Some(report),
        };
        let Some(report) = report else {
            self.tool_is_over().await;
            return Err(SolveError::Interrupted);
        };
        let Ended { attempt, stop, answer, error } = report.into_result().or_else(broken::ended)?;
        let (info, sampling) = (self.model.info(), &self.settings.sampling);
        Ok(Trajectory {
            schema: SCHEMA.to_owned(),
            id: attempt.id,
            run: None,
            question: attempt.question,
            gold: None,
            benchmark: None,
            problem_id: None,
            model: ModelRecord::from(info),
            sampling: SamplingRecord {
                temperature: sampling.temperature,
                top_p: sampling.top_p,
                seed: sampling.seed,
                think: self.settings.think,
                num_ctx: info.num_ctx,
            },
            prompts: self.profile.version().to_owned(),
            sandbox,
            steps: attempt.memory.into_steps(),
            answer,
            stop,
            error,
            score: None,
            usage: attempt.usage,
            wall_s: started.elapsed().as_secs_f64(),
        })
    }

    /// Waits for the tool of a run that was dropped: its thread lets go of the executor when the sandbox is empty.
    async fn tool_is_over(&self) {
        let executor = self.executor.clone();
        // It cannot fail, but for a runtime that is shutting down.
        let _ = tokio::task::spawn_blocking(move || drop(lock(&executor))).await;
    }
}
