//! `agentflow tools`: the tools of the planner, for a person or a script.

use std::fmt::Write;
use std::io::Read;
use std::time::Duration;

use agentflow_tools::{Limits, Sandbox, SandboxConfig, Toolbox};
use anyhow::{Context, anyhow};
use serde_json::{Value, json};

use crate::Failure;
use crate::arguments::{ToolCallArgs, ToolsCommand};
use crate::{interrupt, output};

pub(crate) fn run(command: ToolsCommand) -> Result<(), Failure> {
    match command {
        ToolsCommand::List { json } => list(json),
        ToolsCommand::Call(args) => call(&args),
    }
}

fn list(json: bool) -> Result<(), Failure> {
    let mut text = String::new();
    for tool in Toolbox::built_in().iter() {
        if json {
            let line = json!({
                "name": tool.name(), "description": tool.description(), "schema": tool.schema(),
            });
            let _ = writeln!(text, "{line}");
        } else {
            let _ = writeln!(text, "{:<8} {}", tool.name(), tool.description().replace('\n', " "));
        }
    }
    output::print(|out| out.write_all(text.as_bytes()))
}

/// One call. What the code does wrong is the result of the call, not a failure of this command.
fn call(args: &ToolCallArgs) -> Result<(), Failure> {
    let toolbox = Toolbox::built_in();
    if toolbox.get(&args.tool).is_none() {
        let names = toolbox.names().join("`, `");
        return Err(Failure::usage(anyhow!(
            "there is no tool `{}`; choose one of `{names}`",
            args.tool
        )));
    }
    let input = input(args)?;
    let mut limits = Limits::default();
    if let Some(seconds) = args.timeout {
        // Processor time too: whoever allows more time means work, not sleep.
        limits.wall = Duration::from_secs_f64(seconds);
        limits.cpu = limits.wall;
    }
    let config = SandboxConfig { level: args.sandbox, limits, ..SandboxConfig::default() };
    let mut sandbox = Sandbox::new(config).map_err(Failure::work)?;
    let level = sandbox.level();
    let cancel = sandbox.cancel();
    interrupt::then(move || cancel.cancel())?;
    let text = if args.json && args.tool == "code" {
        let run = sandbox.run(&input).map_err(Failure::work)?;
        let result = json!({
            "ok": run.ok, "stdout": run.stdout, "error": run.error, "end": run.end.to_string(),
            "wall_ms": run.wall_ms, "truncated": run.truncated, "level": level,
        });
        format!("{result}\n")
    } else {
        let input = Value::from(input);
        let observation = toolbox.call(&args.tool, &input, &mut sandbox).map_err(Failure::work)?;
        if args.json {
            let result = json!({
                "ok": observation.ok, "text": observation.text, "truncated": observation.truncated,
                "wall_ms": observation.wall_ms,
            });
            format!("{result}\n")
        } else {
            format!("{}\n", observation.text)
        }
    };
    output::print(|out| out.write_all(text.as_bytes()))?;
    if sandbox.cancel().is_cancelled() { Err(Failure::Interrupted) } else { Ok(()) }
}

/// The text for the tool: the argument, a file, or standard input for `-`.
fn input(args: &ToolCallArgs) -> Result<String, Failure> {
    match (&args.input, &args.file) {
        (Some(text), _) if text != "-" => Ok(text.clone()),
        (_, Some(path)) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read `{}`", path.display()))
            .map_err(Failure::usage),
        _ => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
            Ok(text)
        }
    }
}
