//! A solver around scripted models, and what was seen of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentflow_agent::prompt::Profile;
use agentflow_agent::{
    Budget, CallSettings, Event, Executor, SolveError, Solver, Trajectory, Verifier,
};
use agentflow_llm::Sampling;
use agentflow_tools::{Limits, Observation, Sandbox, SandboxConfig, SandboxError, Tool, Toolbox};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::scripted::{Scripted, Turn};

/// Everything a solver needs; tests change what they are about.
pub(crate) struct Bench {
    pub(crate) planner: Scripted,
    /// Without one, the planner decides when to stop.
    pub(crate) judge: Option<Scripted>,
    pub(crate) executor: Arc<Mutex<Executor>>,
    pub(crate) profile: Profile,
    pub(crate) settings: CallSettings,
    pub(crate) budget: Budget,
    pub(crate) cancel: CancellationToken,
}

impl Bench {
    /// Real tools and the full prompts.
    pub(crate) fn new(turns: impl IntoIterator<Item = Turn>) -> Self {
        Self {
            planner: Scripted::new(turns),
            judge: None,
            executor: executor(Toolbox::built_in()),
            profile: Profile::Full,
            settings: CallSettings {
                sampling: Sampling { temperature: 0.5, seed: Some(7), ..Sampling::greedy() },
                think: false,
                max_tokens: 512,
            },
            budget: Budget { max_steps: 8, max_tokens: None, max_wall: None },
            cancel: CancellationToken::new(),
        }
    }

    pub(crate) fn judged(mut self, turns: impl IntoIterator<Item = Turn>) -> Self {
        self.judge = Some(Scripted::new(turns));
        self
    }

    pub(crate) fn max_steps(mut self, max_steps: usize) -> Self {
        self.budget.max_steps = max_steps;
        self
    }

    pub(crate) fn max_tokens(mut self, max_tokens: u64) -> Self {
        self.budget.max_tokens = Some(max_tokens);
        self
    }

    pub(crate) fn max_wall(mut self, milliseconds: u64) -> Self {
        self.budget.max_wall = Some(Duration::from_millis(milliseconds));
        self
    }

    /// Adds `reckon` to the tools, see [`Reckon`].
    pub(crate) fn with_reckon(mut self) -> Self {
        self.executor = executor(Toolbox::built_in().with(Reckon));
        self
    }

    pub(crate) fn solver(&self) -> Solver {
        let settings = self.settings.clone();
        Solver {
            model: Arc::new(self.planner.clone()),
            executor: self.executor.clone(),
            profile: self.profile,
            settings: settings.clone(),
            verifier: match &self.judge {
                Some(judge) => Verifier::Model { model: Arc::new(judge.clone()), settings },
                None => Verifier::Planner,
            },
            budget: self.budget.clone(),
            cancel: self.cancel.clone(),
        }
    }

    /// Solves `question` and writes down the events, one line each.
    pub(crate) async fn watch(
        &self,
        question: &str,
    ) -> (Result<Trajectory, SolveError>, Vec<String>) {
        let solver = self.solver();
        let mut seen = Vec::new();
        let mut write_down = |event: Event| seen.push(line(&event));
        let solved = solver.solve("test/1", question, &mut write_down);
        let solved = tokio::time::timeout(PATIENCE, solved).await.expect("the solver hangs");
        (solved, seen)
    }

    pub(crate) async fn solve(&self, question: &str) -> Trajectory {
        self.watch(question).await.0.expect("nobody interrupts this")
    }
}

/// Far above what any attempt here takes: only a solver that hangs gets there.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn line(event: &Event) -> String {
    match event {
        Event::Decided { index, decision } => format!("step {index}: {}", decision.action),
        Event::Observed { observation: Observation { ok, text, .. } } => {
            format!("{}: {text}", if *ok { "result" } else { "failed" })
        }
        Event::StepDone { index, verdict } => {
            format!("step {index} done, sufficient: {}", verdict.sufficient)
        }
        Event::Warning { text } => format!("warning: {text}"),
    }
}

/// Limits far above the patience of the tests, so that a tool which ends was ended by the agent.
pub(crate) fn executor(toolbox: Toolbox) -> Arc<Mutex<Executor>> {
    let limits = Limits { wall: 2 * PATIENCE, cpu: 2 * PATIENCE, ..Limits::default() };
    let sandbox = Sandbox::new(SandboxConfig { limits, ..SandboxConfig::default() });
    Arc::new(Mutex::new(Executor::new(toolbox, sandbox.expect("python3 is installed"))))
}

/// A tool that takes no time: gives its input back as the result, `fail` as a failure, `break` as a broken sandbox and
/// `panic` as a bug of ours.
struct Reckon;

impl Tool for Reckon {
    fn name(&self) -> &str {
        "reckon"
    }

    fn description(&self) -> &str {
        "Reckon at once."
    }

    fn schema(&self) -> Value {
        json!({ "type": "object", "properties": { "sum": { "type": "string" } }, "required": ["sum"] })
    }

    fn call(&self, arguments: &Value, _: &mut Sandbox) -> Result<Observation, SandboxError> {
        match arguments["sum"].as_str().expect("the toolbox wraps the input") {
            "fail" => Ok(Observation::failed("it did not work")),
            "break" => Err(SandboxError::Start {
                step: "forking".to_owned(),
                source: std::io::Error::other("no more processes"),
            }),
            "panic" => panic!("a bug of ours"),
            sum => Ok(Observation::new(true, sum)),
        }
    }
}
