//! `agentflow runs resume`: what the command that made the run does with `--resume`.

use std::path::Path;

use anyhow::{Context, anyhow};
use clap::Parser;
use toml::Table;

use crate::arguments::{Cli, Command};
use crate::eval::{self, Purpose};
use crate::{Failure, train};

pub(super) fn resume(run: &Path) -> Result<(), Failure> {
    let kind = kind(run)?;
    let line = |command: &[&'static str]| {
        let line = ["agentflow"].iter().chain(command).map(|word| std::ffi::OsStr::new(*word));
        Cli::parse_from(line.chain([std::ffi::OsStr::new("--resume"), run.as_os_str()])).command
    };
    match &*kind {
        "eval" => match line(&["eval"]) {
            Command::Eval(args) => eval::run(args.run, Purpose::Measure),
            _ => unreachable!("it is what was written"),
        },
        "collect" => trained(line(&["train", "collect"])),
        "label" => trained(line(&["train", "label"])),
        "sft" => trained(line(&["train", "sft"])),
        "prm" => trained(line(&["train", "prm"])),
        "dapo" => trained(line(&["train", "dapo"])),
        other => Err(Failure::usage(anyhow!(
            "this version cannot go on with a run of kind `{other}`; use the version that began it"
        ))),
    }
}

fn trained(command: Command) -> Result<(), Failure> {
    match command {
        Command::Train { command } => train::run(command),
        _ => unreachable!("it is what was written"),
    }
}

/// What `run.toml` says, or the name of the directory where it says nothing: `<time>-<kind>-<id>`.
pub(crate) fn kind(run: &Path) -> Result<String, Failure> {
    let path = run.join("run.toml");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read `{}`", path.display()))
        .map_err(Failure::usage)?;
    let table: Table = toml::from_str(&text)
        .with_context(|| format!("cannot read `{}`", path.display()))
        .map_err(Failure::usage)?;
    let said = table.get("kind").and_then(|kind| kind.as_str()).map(str::to_owned);
    let named = || {
        let name = run.canonicalize().ok()?.file_name()?.to_string_lossy().into_owned();
        let (rest, _) = name.rsplit_once('-')?;
        rest.splitn(3, '-').nth(2).map(str::to_owned)
    };
    said.or_else(named).ok_or_else(|| {
        Failure::usage(anyhow!(
            "`{}` does not say what kind of run it is; resume it with the command that made it",
            path.display()
        ))
    })
}
