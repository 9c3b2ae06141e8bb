//! The nodes of the loop: plan, execute, verify. Each takes the attempt over and hands it on, also where it fails.

use std::sync::{Mutex, MutexGuard, PoisonError};

use agentflow_flow::{Context, Next, StepError};
use agentflow_llm::{ChatError, Usage};
use agentflow_tools::{Cancel, Observation};
use tokio::time::Instant;

use crate::attempt::{Acted, Attempt, Decided, Ended};
use crate::broken::Why;
use crate::event::Event;
use crate::executor::Executor;
use crate::planner::{Planned, Planner};
use crate::prompt::{PlannerPrompt, State, ToolLine};
use crate::solver::Solver;
use crate::trajectory::{Decision, Step, Stop, Verdict};
use crate::verifier::Judged;

/// What the nodes work with; the run is provided with it.
///
/// The time limit is kept here, and not by the deadline of the run: what runs at that moment is dropped by a run, but
/// here a tool call that was cut is an observation, and its step is worth keeping.
pub(crate) struct Means {
    pub(crate) solver: Solver,
    pub(crate) deadline: Option<Instant>,
}

/// Asks the planner what to do next.
pub(crate) async fn plan(cx: Context, mut attempt: Attempt) -> Result<Decided, StepError> {
    let (means, started) = (cx.need::<Means>()?, Instant::now());
    let mut planned = match means.plan(&attempt).await {
        Ok(planned) => planned,
        Err(why) => return Err(attempt.breaks(why)),
    };
    attempt.usage += planned.usage;
    attempt.warn(std::mem::take(&mut planned.warnings), &cx);
    if let Ok(decision) = planned.decision.clone() {
        cx.progress(Event::Decided { index: attempt.memory.steps().len(), decision });
    }
    Ok(Decided { attempt, planned, took: started.elapsed() })
}

/// Carries the decision out.
pub(crate) async fn execute(cx: Context, decided: Decided) -> Result<Acted, StepError> {
    let (means, started) = (cx.need::<Means>()?, Instant::now());
    let Decided { attempt, planned, took } = decided;
    let Planned { prompt, decision, reply, usage, .. } = planned;
    let observed = match &decision {
        Ok(decision) => means.execute(decision.clone()).await,
        Err(problem) => {
            Ok(Observation::failed(format!("the planner's reply could not be read: {problem}")))
        }
    };
    let observation = match observed {
        Ok(observation) => observation,
        Err(why) => return Err(attempt.breaks(why)),
    };
    cx.progress(Event::Observed { observation: observation.clone() });
    let step = Step {
        index: attempt.memory.steps().len(),
        prompt,
        raw: reply.text,
        reply: decision.ok(),
        thinking: reply.thinking,
        token_ids: reply.token_ids,
        logprobs: reply.logprobs,
        observation,
        verdict: Verdict { sufficient: false, reason: "the verifier gave no verdict".to_owned() },
        label: None,
        prm_score: None,
        usage,
        wall_ms: 0,
    };
    Ok(Acted { attempt, step, took: took + started.elapsed() })
}

/// Judges and remembers the step.
pub(crate) async fn verify(cx: Context, acted: Acted) -> Result<Next<Attempt, Ended>, StepError> {
    let (means, started) = (cx.need::<Means>()?, Instant::now());
    let Acted { mut attempt, step, took } = acted;
    let answer = answer(&step);
    attempt.memory.push(step);
    let judged = means.judge(&attempt, answer.is_some()).await;
    // The step was done, so it is kept, also where the verifier fails.
    let judged = judged.map(|Judged { verdict, usage, warnings }| {
        attempt.usage += usage;
        attempt.warn(warnings, &cx);
        (verdict, usage)
    });
    let step = attempt.memory.last_mut().expect("it was just remembered");
    let failed = match judged {
        Ok((verdict, usage)) => {
            step.verdict = verdict;
            step.usage += usage;
            None
        }
        Err(why) => Some(why),
    };
    step.wall_ms = (took + started.elapsed()).as_millis() as u64;
    let (index, verdict) = (step.index, step.verdict.clone());
    cx.progress(Event::StepDone { index, verdict });
    if let Some(why) = failed {
        return Err(attempt.breaks(why));
    }
    if answer.is_some() {
        let forced = means.was_last(&attempt) && !attempt.conclude;
        let stop = if forced { Stop::MaxSteps } else { Stop::Answered };
        return Ok(Next::Done(attempt.ends(stop, answer)));
    }
    if means.was_last(&attempt) {
        return Ok(Next::Done(attempt.ends_early(Stop::MaxSteps)));
    }
    attempt.look_back();
    Ok(Next::Again(attempt))
}

/// The answer, where `step` gave one.
fn answer(step: &Step) -> Option<String> {
    let decision = step.reply.as_ref().filter(|decision| decision.action == "answer")?;
    step.observation.ok.then(|| decision.action_input.trim().to_owned())
}

impl Means {
    async fn plan(&self, attempt: &Attempt) -> Result<Planned, Why> {
        if self.over_budget(attempt.usage) {
            return Err(Why::OutOfBudget);
        }
        let Solver { model, executor, profile, settings, budget, .. } = &self.solver;
        let steps = attempt.memory.steps();
        // After the last step, `answer` is the only action on offer; that answer is one more.
        let conclude = attempt.conclude || steps.len() >= budget.max_steps;
        let tools = tools_on_offer(&lock(executor), conclude);
        let planner = Planner {
            model: &**model,
            prompt: PlannerPrompt { profile: *profile },
            settings: settings.clone(),
        };
        let state = State {
            question: &attempt.question,
            steps,
            tools: &tools,
            max_steps: budget.max_steps,
        };
        self.in_time(planner.plan(&state)).await
    }

    /// Runs the tool on a thread that may block. When the time is up, the sandbox kills what runs in it, and the
    /// observation says so.
    async fn execute(&self, decision: Decision) -> Result<Observation, Why> {
        let end = EndOnDrop(Cancel::default());
        let (executor, switch) = (self.solver.executor.clone(), end.0.clone());
        let mut call =
            tokio::task::spawn_blocking(move || lock(&executor).execute(&decision, &switch));
        let finished = tokio::select! {
            finished = &mut call => finished,
            () = self.time_up() => {
                end.0.cancel();
                call.await // the sandbox is empty when this returns
            }
        };
        Ok(finished.map_err(|_| Why::ToolPanicked)??)
    }

    /// The verdict on the last step; a model is asked only where its word can change what happens next.
    async fn judge(&self, attempt: &Attempt, answered: bool) -> Result<Judged, Why> {
        let steps = attempt.memory.steps();
        if answered {
            return Ok(Judged::unasked(true, "the planner answered"));
        }
        if self.was_last(attempt) {
            return Ok(Judged::unasked(false, "there are no more steps"));
        }
        if self.over_budget(attempt.usage) {
            return Ok(Judged::unasked(false, "the budget is used up"));
        }
        if steps.last().is_some_and(|step| !step.observation.ok) {
            return Ok(Judged::unasked(false, "a step that failed settles nothing"));
        }
        self.in_time(self.solver.verifier.verify(&attempt.question, steps)).await
    }

    /// What a model says, unless the time is up first.
    async fn in_time<T>(&self, call: impl Future<Output = Result<T, ChatError>>) -> Result<T, Why> {
        tokio::select! {
            biased;
            result = call => Ok(result?),
            () = self.time_up() => Err(Why::OutOfBudget),
        }
    }

    async fn time_up(&self) {
        match self.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }

    fn over_budget(&self, used: Usage) -> bool {
        let tokens = used.prompt_tokens + used.completion_tokens;
        self.solver.budget.max_tokens.is_some_and(|most| tokens >= most)
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Whether the step remembered last is the one after all that are allowed.
    fn was_last(&self, attempt: &Attempt) -> bool {
        attempt.memory.steps().len() > self.solver.budget.max_steps
    }
}

/// Ends a tool call when it is dropped; by then the call is over, or nobody waits for it any more.
struct EndOnDrop(Cancel);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// A tool that panicked left nothing half-done in here: every call starts from fresh processes.
pub(crate) fn lock(executor: &Mutex<Executor>) -> MutexGuard<'_, Executor> {
    executor.lock().unwrap_or_else(PoisonError::into_inner)
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
