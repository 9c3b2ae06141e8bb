//! The loop: plan, execute, verify, remember, until there is an answer or nothing left to spend.
//!
//! It ends when the planner answers. When the verifier finds the results sufficient, when steps run out, or when the
//! planner repeats itself, the planner is asked once more with `answer` as the only action. When the budget is gone, no
//! model is asked again, and the last computed result is the answer; a call that is running when the time is up is cut.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use agentflow_llm::{ChatError, ChatModel, Usage};
use agentflow_tools::{Cancel, Observation, SandboxError};
use tokio_util::sync::CancellationToken;

use crate::executor::Executor;
use crate::memory::Memory;
use crate::planner::{CallSettings, Planned, Planner};
use crate::prompt::{PlannerPrompt, Profile, State, ToolLine};
use crate::trajectory::{
    Decision, ModelRecord, SCHEMA, SamplingRecord, Step, Stop, Trajectory, Verdict,
};
use crate::verifier::{Judged, Verifier};

/// A step that repeats this many earlier ones: the planner is stuck and has to answer.
const MAX_REPEATS: usize = 2;

/// What one question may cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Steps before the planner has to answer; that answer is one more.
    pub max_steps: usize,
    /// Prompt and completion tokens of all calls together; `None` for no limit. Once they are used up, planner and
    /// verifier are not asked again, so the last step can exceed them.
    pub max_tokens: Option<u64>,
    /// Wall-clock time; `None` for no limit. A call that runs when it is over is cut.
    pub max_wall: Option<Duration>,
}

/// What happens while a question is being solved, for whoever watches.
#[derive(Debug)]
pub enum Event<'a> {
    /// The planner decided; the tool runs now.
    Decided { index: usize, decision: &'a Decision },
    /// The tool is done.
    Observed { observation: &'a Observation },
    /// The step is done and recorded.
    StepDone { step: &'a Step },
    /// Something that went wrong without stopping the loop.
    Warning { text: &'a str },
}

/// Solves questions. Holds nothing between two of them.
pub struct Solver<'a> {
    pub model: &'a dyn ChatModel,
    /// Shared with the thread that a tool runs on.
    pub executor: Arc<Mutex<Executor>>,
    pub profile: Profile,
    pub settings: CallSettings,
    pub verifier: Verifier<'a>,
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
}

/// What broke the loop from below.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Model(#[from] ChatError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Solve(#[from] SolveError),
    #[error("the time for this question is up")]
    OutOfTime,
}

impl Solver<'_> {
    /// Solves one question and gives the record, also of an attempt that failed (`stop` says so).
    ///
    /// Dropping the future ends the call that is running, of model or tool.
    ///
    /// # Errors
    /// If the attempt was interrupted through `cancel`.
    pub async fn solve(
        &self,
        id: &str,
        question: &str,
        on_event: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Trajectory, SolveError> {
        let started = Instant::now();
        let info = self.model.info();
        let mut attempt = Attempt {
            solver: self,
            question,
            deadline: self.budget.max_wall.and_then(|most| started.checked_add(most)),
            memory: Memory::default(),
            usage: Usage::default(),
            warned: Vec::new(),
        };
        let sandbox = self.executor().sandbox().report().level.to_string();
        let (stop, answer, error) = match attempt.run(on_event).await {
            Ok((stop, answer)) => (stop, answer, None),
            Err(Broken::OutOfTime) => (Stop::Budget, attempt.memory.last_result(), None),
            // The attempt outgrew the context by its own steps: as good as out of budget. A question that does not
            // fit by itself is an error.
            Err(Broken::Model(ChatError::ContextTooLong { .. }))
                if !attempt.memory.steps().is_empty() =>
            {
                (Stop::Budget, attempt.memory.last_result(), None)
            }
            Err(Broken::Solve(error)) => return Err(error),
            Err(error) => (Stop::Failed, None, Some(with_causes(&error))),
        };
        Ok(Trajectory {
            schema: SCHEMA.to_owned(),
            id: id.to_owned(),
            run: None,
            question: question.to_owned(),
            gold: None,
            benchmark: None,
            problem_id: None,
            model: ModelRecord::from(info),
            sampling: SamplingRecord {
                temperature: self.settings.sampling.temperature,
                top_p: self.settings.sampling.top_p,
                seed: self.settings.sampling.seed,
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
}

impl Solver<'_> {
    fn executor(&self) -> MutexGuard<'_, Executor> {
        lock(&self.executor)
    }
}

/// A tool that panicked left nothing half-done in here: every call starts from fresh processes.
fn lock(executor: &Mutex<Executor>) -> MutexGuard<'_, Executor> {
    executor.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// `error` and what caused it: a trajectory has one line for both.
fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Ends a tool call when it is dropped; by then the call is over, or nobody waits for it any more.
struct EndOnDrop(Cancel);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// One question being solved.
struct Attempt<'a> {
    solver: &'a Solver<'a>,
    question: &'a str,
    deadline: Option<Instant>,
    memory: Memory,
    usage: Usage,
    /// Warnings told already: most repeat with every call.
    warned: Vec<String>,
}

impl Attempt<'_> {
    async fn run(
        &mut self,
        on_event: &mut (dyn FnMut(Event) + Send),
    ) -> Result<(Stop, Option<String>), Broken> {
        let mut conclude = false;
        loop {
            if self.over_budget() {
                return Ok((Stop::Budget, self.memory.last_result()));
            }
            let last = self.memory.steps().len() >= self.solver.budget.max_steps;
            let stop = if last && !conclude { Stop::MaxSteps } else { Stop::Answered };
            let Outcome { answer, sufficient } =
                self.step(conclude || last, last, on_event).await?;
            if answer.is_some() {
                return Ok((stop, answer));
            }
            if last {
                // Asked to answer and did not: what was computed last has to do.
                return Ok((Stop::MaxSteps, self.memory.last_result()));
            }
            conclude = sufficient || self.memory.repeats() >= MAX_REPEATS;
        }
    }

    /// Plans, executes, judges and remembers one step. With `conclude`, `answer` is the only action on offer; after the
    /// `last` step there is nothing to judge.
    async fn step(
        &mut self,
        conclude: bool,
        last: bool,
        on_event: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Outcome, Broken> {
        let started = Instant::now();
        let index = self.memory.steps().len();
        let tools = tools_on_offer(&self.solver.executor(), conclude);
        let Planned { prompt, decision, reply, usage, warnings } = self.plan(&tools).await?;
        self.usage += usage;
        self.warn(&warnings, on_event);
        let observation = match &decision {
            Ok(decision) => {
                on_event(Event::Decided { index, decision });
                self.execute(decision).await?
            }
            Err(problem) => {
                Observation::failed(format!("the planner's reply could not be read: {problem}"))
            }
        };
        on_event(Event::Observed { observation: &observation });
        let mut step = Step {
            index,
            prompt,
            raw: reply.text,
            reply: decision.ok(),
            thinking: reply.thinking,
            token_ids: reply.token_ids,
            logprobs: reply.logprobs,
            observation,
            verdict: Verdict {
                sufficient: false,
                reason: "the verifier gave no verdict".to_owned(),
            },
            label: None,
            prm_score: None,
            usage,
            wall_ms: 0,
        };
        let answer = answer(&step);
        // The step was done, so it is kept, also where the verifier fails.
        let judged = self.judge(&step, answer.is_some(), last).await.map(|judged| {
            self.usage += judged.usage;
            step.usage += judged.usage;
            step.verdict = judged.verdict;
            self.warn(&judged.warnings, on_event);
        });
        step.wall_ms = started.elapsed().as_millis() as u64;
        on_event(Event::StepDone { step: &step });
        let sufficient = step.verdict.sufficient;
        self.memory.push(step);
        judged.map(|()| Outcome { answer, sufficient })
    }

    async fn plan(&self, tools: &[ToolLine]) -> Result<Planned, Broken> {
        let planner = Planner {
            model: self.solver.model,
            prompt: PlannerPrompt { profile: self.solver.profile },
            settings: self.solver.settings.clone(),
        };
        let state = State {
            question: self.question,
            steps: self.memory.steps(),
            tools,
            max_steps: self.solver.budget.max_steps,
        };
        self.in_time(planner.plan(&state)).await
    }

    /// The verdict on `step`; a model is asked only where its word can change what happens next.
    async fn judge(&self, step: &Step, answered: bool, last: bool) -> Result<Judged, Broken> {
        if answered {
            return Ok(Judged::unasked(true, "the planner answered"));
        }
        if last {
            return Ok(Judged::unasked(false, "there are no more steps"));
        }
        if self.over_budget() {
            return Ok(Judged::unasked(false, "the budget is used up"));
        }
        if !step.observation.ok {
            return Ok(Judged::unasked(false, "a step that failed settles nothing"));
        }
        let mut steps = self.memory.steps().to_vec();
        steps.push(step.clone());
        self.in_time(self.solver.verifier.verify(self.question, &steps)).await
    }

    /// Runs the tool on a thread that may block. On cancellation, and when the time is up, the sandbox kills what runs
    /// in it; of a call that ran out of time the observation says so.
    async fn execute(&self, decision: &Decision) -> Result<Observation, Broken> {
        let Solver { executor, cancel, .. } = self.solver;
        let end = EndOnDrop(Cancel::default());
        let (executor, decision, switch) = (executor.clone(), decision.clone(), end.0.clone());
        let mut call =
            tokio::task::spawn_blocking(move || lock(&executor).execute(&decision, &switch));
        let cut = async {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = self.time_up() => {}
            }
        };
        let finished = tokio::select! {
            finished = &mut call => finished,
            () = cut => {
                end.0.cancel();
                call.await // the sandbox is empty when this returns
            }
        };
        if cancel.is_cancelled() {
            return Err(SolveError::Interrupted.into());
        }
        Ok(finished.map_err(|_| SolveError::ToolPanicked)??)
    }

    /// What a model says, unless the attempt is cancelled or its time is up first.
    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, ChatError>>,
    ) -> Result<T, Broken> {
        tokio::select! {
            biased;
            () = self.solver.cancel.cancelled() => Err(SolveError::Interrupted.into()),
            result = call => Ok(result?),
            () = self.time_up() => Err(Broken::OutOfTime),
        }
    }

    async fn time_up(&self) {
        match self.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    }

    fn over_budget(&self) -> bool {
        let tokens = self.usage.prompt_tokens + self.usage.completion_tokens;
        self.solver.budget.max_tokens.is_some_and(|most| tokens >= most)
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn warn(&mut self, warnings: &[String], on_event: &mut (dyn FnMut(Event) + Send)) {
        for text in warnings {
            if !self.warned.contains(text) {
                on_event(Event::Warning { text });
                self.warned.push(text.clone());
            }
        }
    }
}

/// What the loop goes on with after a step.
struct Outcome {
    answer: Option<String>,
    sufficient: bool,
}

/// The answer, where `step` gave one.
fn answer(step: &Step) -> Option<String> {
    let decision = step.reply.as_ref().filter(|decision| decision.action == "answer")?;
    step.observation.ok.then(|| decision.action_input.trim().to_owned())
}

fn tools_on_offer(executor: &Executor, conclude: bool) -> Vec<ToolLine> {
    executor
        .toolbox()
        .iter()
        .filter(|tool| !conclude || tool.name() == "answer")
        .map(|tool| ToolLine {
            name: tool.name().to_owned(),
            description: tool.description().to_owned(),
        })
        .collect()
}
