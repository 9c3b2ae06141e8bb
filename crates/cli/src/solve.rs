//! `agentflow solve`: one question, each step on stderr, the answer on stdout.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentflow_agent::trajectory::Stop;
use agentflow_agent::{Budget, Executor, SolveError, Solver, Trajectory};
use agentflow_tools::{Sandbox, SandboxConfig, Toolbox};
use anyhow::{Context, anyhow};

use crate::Failure;
use crate::arguments::{LoopArgs, SolveArgs};
use crate::backend::{self, Chosen};
use crate::interrupt;
use crate::narrate::Narrator;

/// The longest question that is passed on; a longer one is surely a mistake, and no small model could read it.
const LONGEST_QUESTION: usize = 64 * 1024;

pub(crate) fn run(args: SolveArgs) -> Result<(), Failure> {
    let question = question(&args.question)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    runtime.block_on(solve(args, &question))
}

async fn solve(args: SolveArgs, question: &str) -> Result<(), Failure> {
    let cancel = interrupt::on_ctrl_c();
    let narrator = Narrator::new(args.quiet);
    let chosen = tokio::select! {
        chosen = backend::choose(&args.model, &narrator) => chosen?,
        () = cancel.cancelled() => return Err(Failure::Interrupted),
    };
    let executor = Arc::new(Mutex::new(executor(&args.agent)?));
    let solver = solver(&chosen, executor, &args.agent, cancel);
    let id = format!("solve/{}", args.model.seed);
    let solved = solver.solve(&id, question, &mut |event| narrator.event(&event)).await;
    let trajectory = solved.map_err(|error| match error {
        SolveError::Interrupted => Failure::Interrupted,
        other => Failure::work(other),
    })?;
    if let Some(path) = &args.trace {
        append(path, &trajectory)?;
    }
    print(&trajectory, args.json)
}

/// The solver that the arguments ask for; `eval` uses the same.
pub(crate) fn solver<'a>(
    chosen: &'a Chosen,
    executor: Arc<Mutex<Executor>>,
    args: &LoopArgs,
    cancel: tokio_util::sync::CancellationToken,
) -> Solver<'a> {
    Solver {
        model: &*chosen.model,
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
    let config = SandboxConfig { level: args.sandbox, ..SandboxConfig::default() };
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
            .context("cannot read the question from standard input")?;
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

fn append(path: &Path, trajectory: &Trajectory) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(trajectory).context("cannot serialize the trajectory")?;
    line.push(b'\n');
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(&line))
        .with_context(|| format!("cannot append the trajectory to `{}`", path.display()))?;
    Ok(())
}

fn print(trajectory: &Trajectory, json: bool) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = if json {
        let text = serde_json::to_string_pretty(trajectory).context("cannot serialize the trajectory")?;
        writeln!(out, "{text}")
    } else if let Some(answer) = &trajectory.answer {
        writeln!(out, "{answer}")
    } else {
        Ok(())
    };
    written.context("cannot write to standard output")?;
    match (trajectory.stop, &trajectory.error, &trajectory.answer) {
        (Stop::Failed, Some(error), _) => Err(Failure::work(anyhow!("{error}"))),
        (_, _, None) => Err(Failure::work(anyhow!(
            "no answer after {} steps; allow more with --max-steps, or ask a larger model with --backend ollama",
            trajectory.steps.len()
        ))),
        _ => Ok(()),
    }
}
