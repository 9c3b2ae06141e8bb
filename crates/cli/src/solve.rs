//! `agentflow solve`: one question, each step on stderr, the answer on stdout.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentflow_agent::trajectory::Stop;
use agentflow_agent::{Budget, Executor, SolveError, Solver, Trajectory};
use agentflow_llm::PoolConfig;
use agentflow_tools::sandbox::printable;
use agentflow_tools::{Limits, Sandbox, SandboxConfig, Toolbox};
use anyhow::{Context, anyhow};

use crate::Failure;
use crate::arguments::{LoopArgs, SolveArgs};
use crate::backend::{self, Chosen};
use crate::interrupt;
use crate::narrate::Narrator;
use crate::output;

/// The longest question that is passed on; a longer one is surely a mistake, and no small model could read it.
const LONGEST_QUESTION: usize = 64 * 1024;

/// Requests to one server at the same time; the loop has one.
const AT_ONCE: usize = 1;

pub(crate) fn run(args: SolveArgs) -> Result<(), Failure> {
    let question = question(&args.question)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    runtime.block_on(solve(args, &question))
}

async fn solve(args: SolveArgs, question: &str) -> Result<(), Failure> {
    let cancel = interrupt::on_ctrl_c();
    let mut narrator = Narrator::new(args.quiet);
    // Now, rather than when there is something to lose.
    let trace = args.trace.as_deref().map(open_trace).transpose()?;
    let chosen = tokio::select! {
        chosen = backend::choose(&args.model, PoolConfig::new(AT_ONCE), &narrator) => chosen?,
        () = cancel.cancelled() => return Err(Failure::Interrupted),
    };
    let executor = Arc::new(Mutex::new(executor(&args.agent)?));
    let solver = solver(&chosen, executor, &args.agent, cancel);
    let id = format!("solve/{}", args.model.seed);
    let solved = solver.solve(&id, question, &mut |event| narrator.event(event)).await;
    let trajectory = solved.map_err(|error| match error {
        SolveError::Interrupted => Failure::Interrupted,
        other => Failure::work(other),
    })?;
    if let Some(text) = reservation(&trajectory) {
        narrator.warning(&text);
    }
    print(&trajectory, args.json)?;
    if let Some(mut file) = trace {
        let mut line =
            serde_json::to_vec(&trajectory).context("cannot serialize the trajectory")?;
        line.push(b'\n');
        // One write, so that two processes do not mix their lines.
        file.write_all(&line).context("cannot append the trajectory to the file of --trace")?;
    }
    outcome(&trajectory)
}

/// The solver that the arguments ask for; `eval` uses the same.
pub(crate) fn solver(
    chosen: &Chosen,
    executor: Arc<Mutex<Executor>>,
    args: &LoopArgs,
    cancel: tokio_util::sync::CancellationToken,
) -> Solver {
    Solver {
        model: chosen.model.clone(),
        executor,
        profile: chosen.profile,
        settings: chosen.settings.clone(),
        verifier: chosen.verifier(),
        budget: Budget {
            max_steps: args.max_steps as usize,
            max_tokens: args.max_total_tokens,
            max_wall: args.max_seconds.map(Duration::from_secs_f64),
        },
        cancel,
    }
}

/// The built-in tools in a sandbox of the level asked for.
pub(crate) fn executor(args: &LoopArgs) -> Result<Executor, Failure> {
    let time = Duration::from_secs_f64(args.tool_timeout);
    let limits = Limits { wall: time, cpu: time, ..Limits::default() };
    let config = SandboxConfig { level: args.sandbox, limits, ..SandboxConfig::default() };
    let sandbox = Sandbox::new(config).map_err(Failure::work)?;
    Ok(Executor::new(Toolbox::built_in(), sandbox))
}

fn question(argument: &str) -> Result<String, Failure> {
    let mut text = argument.to_owned();
    if argument == "-" {
        text.clear();
        // One byte more than allowed is enough to know.
        std::io::stdin()
            .take(LONGEST_QUESTION as u64 + 1)
            .read_to_string(&mut text)
            .context("cannot read the question from standard input")
            .map_err(Failure::usage)?;
    }
    let text = text.trim();
    if text.is_empty() {
        return Err(Failure::usage(anyhow!(
            "the question is empty; write it in quotes: agentflow solve \"What is 15% of 240, then doubled?\""
        )));
    }
    if text.len() > LONGEST_QUESTION {
        return Err(Failure::usage(anyhow!(
            "the question has {} bytes, the most is {LONGEST_QUESTION}; shorten it to what the agent has to read",
            text.len()
        )));
    }
    Ok(text.to_owned())
}

fn open_trace(path: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write the trajectory to `{}`", path.display()))
        .map_err(Failure::usage)
}

fn print(trajectory: &Trajectory, json: bool) -> Result<(), Failure> {
    if json {
        let text =
            serde_json::to_string_pretty(trajectory).context("cannot serialize the trajectory")?;
        return output::print(|out| writeln!(out, "{text}"));
    }
    match &trajectory.answer {
        // A model may write anything, and a terminal must not obey it.
        Some(answer) => output::print(|out| writeln!(out, "{}", printable(answer))),
        None => Ok(()),
    }
}

/// What to know of an answer that the planner did not give of its own accord.
fn reservation(trajectory: &Trajectory) -> Option<String> {
    trajectory.answer.as_ref()?;
    let last = trajectory.steps.last().and_then(|step| step.reply.as_ref());
    let answered = last.is_some_and(|decision| decision.action == "answer");
    let steps = counted(trajectory.steps.len(), "step");
    match trajectory.stop {
        Stop::MaxSteps if answered => {
            Some(format!("the planner had to answer after {steps}; allow more with --max-steps"))
        }
        Stop::MaxSteps => Some(format!(
            "the planner gave no answer in {steps}, so this is the last result; allow more with --max-steps"
        )),
        Stop::Budget => Some(format!(
            "the budget is used up after {steps}, so this is the last result; \
             raise --max-seconds or --max-total-tokens"
        )),
        Stop::Answered | Stop::Failed => None,
    }
}

/// An attempt without an answer is a failure.
fn outcome(trajectory: &Trajectory) -> Result<(), Failure> {
    if let (Stop::Failed, Some(error)) = (trajectory.stop, &trajectory.error) {
        return Err(Failure::work(anyhow!("{error}")));
    }
    if trajectory.answer.is_some() {
        return Ok(());
    }
    let steps = counted(trajectory.steps.len(), "step");
    let model = &trajectory.model.name;
    Err(Failure::work(if trajectory.stop == Stop::Budget {
        anyhow!(
            "no answer: the budget was used up after {steps}; raise --max-seconds or --max-total-tokens"
        )
    } else if trajectory.steps.iter().all(|step| step.reply.is_none()) {
        anyhow!(
            "no answer: in {steps}, no reply of `{model}` could be read as a decision; \
             use a larger model, or see the replies with --json"
        )
    } else {
        anyhow!(
            "no answer after {steps}; allow more with --max-steps, or use a larger model (see --backend)"
        )
    }))
}

/// E.g. `1 step`, `2 steps`.
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
