//! The loop: plan, execute, verify, remember, until there is an answer or nothing left to spend.
//!
//! It ends when the planner answers. When the verifier finds the results sufficient, when steps run out, or when the
//! planner repeats itself, the planner is asked once more with `answer` as the only action. When the budget is gone, no
//! model is asked again, and the last computed result is the answer.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use agentflow_llm::{ChatError, ChatModel, Usage};
use agentflow_tools::{Observation, SandboxError};
use tokio_util::sync::CancellationToken;

use crate::executor::Executor;
use crate::memory::Memory;
use crate::planner::{CallSettings, Planned, Planner};
use crate::prompt::{PlannerPrompt, Profile, State, ToolLine};
use crate::trajectory::{
    Decision, ModelRecord, SCHEMA, SamplingRecord, Step, Stop, Trajectory, Verdict,
};
use crate::verifier::Verifier;

/// Same step, same result, this often in a row: the planner is stuck and has to answer.
const MAX_REPEATS: usize = 2;

/// What one question may cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    pub max_steps: usize,
    /// Prompt and completion tokens of all calls together; `None` for no limit.
    pub max_tokens: Option<u64>,
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
    #[error("{0}")]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Solve(#[from] SolveError),
}

impl Solver<'_> {
    /// Solves one question and gives the record, also of an attempt that failed (`stop` says so).
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
            started,
            memory: Memory::default(),
            usage: Usage::default(),
            warned: Vec::new(),
        };
        let sandbox = self.executor().sandbox().report().level.to_string();
        let (stop, answer, error) = match attempt.run(on_event).await {
            Ok((stop, answer)) => (stop, answer, None),
            Err(Broken::Solve(error)) => return Err(error),
            Err(error) => (Stop::Failed, None, Some(error.to_string())),
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

/// One question being solved.
struct Attempt<'a> {
    solver: &'a Solver<'a>,
    question: &'a str,
    started: Instant,
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
            let out_of_steps = self.memory.steps().len() >= self.solver.budget.max_steps;
            let step = self.step(conclude || out_of_steps, on_event).await?;
            let answer = step
                .reply
                .as_ref()
                .filter(|decision| decision.action == "answer" && step.observation.ok)
                .map(|decision| decision.action_input.trim().to_owned());
            conclude = step.verdict.sufficient;
            on_event(Event::StepDone { step: &step });
            self.memory.push(step);
            match answer {
                Some(answer) if out_of_steps => return Ok((Stop::MaxSteps, Some(answer))),
                Some(answer) => return Ok((Stop::Answered, Some(answer))),
                // Asked to answer and did not: what was computed last has to do.
                None if out_of_steps => return Ok((Stop::MaxSteps, self.memory.last_result())),
                None => conclude |= self.memory.repeats() >= MAX_REPEATS,
            }
        }
    }

    /// Plans, executes and verifies one step; with `conclude`, `answer` is the only action on offer.
    async fn step(
        &mut self,
        conclude: bool,
        on_event: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Step, Broken> {
        let started = Instant::now();
        let index = self.memory.steps().len();
        let tools = tools_on_offer(&self.solver.executor(), conclude);
        let planned = self.plan(&tools).await?;
        self.warn(&planned.reply.warnings, on_event);
        let observation = match &planned.decision {
            Ok(decision) => {
                on_event(Event::Decided { index, decision });
                self.execute(decision).await?
            }
            Err(problem) => Observation::failed(format!("the planner's reply could not be read: {problem}")),
        };
        on_event(Event::Observed { observation: &observation });
        let Planned { prompt, decision, reply, usage } = planned;
        let mut step = Step {
            index,
            prompt,
            raw: reply.text,
            reply: decision.ok(),
            thinking: reply.thinking,
            token_ids: reply.token_ids,
            logprobs: reply.logprobs,
            observation,
            verdict: Verdict { sufficient: true, reason: "the planner answered".to_owned() },
            label: None,
            prm_score: None,
            usage,
            wall_ms: 0,
        };
        self.usage += usage;
        let answered = step.reply.as_ref().is_some_and(|decision| decision.action == "answer");
        if !answered {
            let usage = self.verify(&mut step).await?;
            step.usage += usage;
            self.usage += usage;
        }
        step.wall_ms = started.elapsed().as_millis() as u64;
        Ok(step)
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
        self.unless_cancelled(planner.plan(&state)).await
    }

    /// Writes the verdict into `step`; gives what it cost.
    async fn verify(&self, step: &mut Step) -> Result<Usage, Broken> {
        let mut steps = self.memory.steps().to_vec();
        steps.push(step.clone());
        let verdict = self.solver.verifier.verify(self.question, &steps);
        let (verdict, usage) = self.unless_cancelled(verdict).await?;
        // A failed step settles nothing, whatever the judge says.
        let sufficient = verdict.sufficient && step.observation.ok;
        step.verdict = Verdict { sufficient, ..verdict };
        Ok(usage)
    }

    /// Runs the tool on a thread that may block; on cancellation the sandbox kills what runs in it.
    async fn execute(&self, decision: &Decision) -> Result<Observation, Broken> {
        let Solver { executor, cancel, .. } = self.solver;
        let kill = self.solver.executor().sandbox().cancel();
        let (executor, decision) = (executor.clone(), decision.clone());
        let mut call = tokio::task::spawn_blocking(move || lock(&executor).execute(&decision));
        let finished = tokio::select! {
            finished = &mut call => finished,
            () = cancel.cancelled() => {
                kill.cancel();
                call.await // the sandbox is empty when this returns
            }
        };
        if cancel.is_cancelled() {
            return Err(SolveError::Interrupted.into());
        }
        Ok(finished.map_err(|_| SolveError::ToolPanicked)??)
    }

    async fn unless_cancelled<T>(
        &self,
        call: impl Future<Output = Result<T, ChatError>>,
    ) -> Result<T, Broken> {
        tokio::select! {
            () = self.solver.cancel.cancelled() => Err(SolveError::Interrupted.into()),
            result = call => Ok(result?),
        }
    }

    fn over_budget(&self) -> bool {
        let Budget { max_tokens, max_wall, .. } = self.solver.budget;
        let tokens = self.usage.prompt_tokens + self.usage.completion_tokens;
        max_tokens.is_some_and(|most| tokens >= most)
            || max_wall.is_some_and(|most| self.started.elapsed() >= most)
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
