use std::time::Duration;

use super::broker::{Clock, Outcome, watch};
use super::cancel::Cancel;
use super::interpreter::Interpreter;
use super::limits::Limits;
use super::output::Output;
use super::python_run::{End, PythonRun};
use super::task::{RunId, Said, Task};
use super::{Containment, SandboxError};

/// What all runs of a sandbox share.
pub(super) struct Settings<'a> {
    pub(super) containment: &'a Containment,
    pub(super) interpreter: &'a Interpreter,
    pub(super) limits: &'a Limits,
    pub(super) import_guard: bool,
    pub(super) cancel: &'a Cancel,
}

/// One snippet in one interpreter.
pub(super) fn one(settings: &Settings, code: &str) -> Result<PythonRun, SandboxError> {
    let (outcome, id) = start(settings, &[code], Clock::Run)?;
    let (stdout, truncated) = outcome.stdout.text();
    let mut report = outcome.report.as_slice();
    // One report and nothing after it, or none at all: the code may have written there as well.
    let said = Said::read(&mut report, &id).filter(|_| report.is_empty());
    let error = match (&outcome.end, said) {
        (End::Exit(0), Some(Said { code: 0, error: None, .. })) => None,
        (End::Exit(code), Some(said)) if *code == said.code => {
            Some(said.error.unwrap_or_else(|| broken(&outcome)))
        }
        (End::Exit(_), _) => Some(broken(&outcome)),
        (end, _) => Some(limit(end, settings.limits)),
    };
    Ok(PythonRun {
        ok: error.is_none(),
        stdout,
        error,
        end: outcome.end,
        wall_ms: milliseconds(outcome.wall),
        truncated,
    })
}

/// All snippets in as few interpreters as they leave alive.
pub(super) fn batch(
    settings: &Settings,
    snippets: &[&str],
) -> Result<Vec<PythonRun>, SandboxError> {
    let mut runs = Vec::with_capacity(snippets.len());
    while runs.len() < snippets.len() {
        let (outcome, id) = start(settings, &snippets[runs.len()..], Clock::Report)?;
        let mut report = outcome.report.as_slice();
        while let Some(said) = Said::read(&mut report, &id) {
            runs.push(run_of(said, settings.limits));
        }
        if runs.len() < snippets.len() {
            // The next one ended the interpreter.
            let error = match &outcome.end {
                End::Exit(_) => broken(&outcome),
                end => limit(end, settings.limits),
            };
            runs.push(PythonRun {
                ok: false,
                stdout: String::new(),
                error: Some(error),
                wall_ms: 0,
                truncated: false,
                end: outcome.end,
            });
        }
    }
    Ok(runs)
}

fn start(
    settings: &Settings,
    snippets: &[&str],
    clock: Clock,
) -> Result<(Outcome, RunId), SandboxError> {
    let batch = clock == Clock::Report;
    let task = Task {
        snippets,
        batch,
        filters: settings.containment.filters(),
        interpreter: settings.interpreter,
        limits: settings.limits,
        import_guard: settings.import_guard,
    };
    let (file, id) = task.write().map_err(SandboxError::start("writing the task"))?;
    let cpu_s = settings.limits.cpu_s().saturating_mul(snippets.len() as u64);
    let (mut process, pipes) = settings.containment.start(file, settings.limits, cpu_s)?;
    let outcome = watch(process.as_mut(), pipes, settings.limits, cpu_s, clock, settings.cancel)?;
    Ok((outcome, id))
}

/// A batch's report, in the form of a run.
fn run_of(said: Said, limits: &Limits) -> PythonRun {
    let mut printed = Output::new(limits.output_bytes);
    printed.push(&said.printed);
    let (stdout, truncated) = printed.text();
    PythonRun {
        ok: said.error.is_none(),
        stdout,
        error: said.error,
        end: End::Exit(said.code),
        wall_ms: said.wall_ms,
        truncated,
    }
}

/// For an interpreter that ended by itself, but not by our runner's hand.
fn broken(outcome: &Outcome) -> String {
    let (said, _) = outcome.stderr.text();
    let said = said.trim();
    let end = &outcome.end;
    if said.is_empty() {
        format!("the interpreter ended early ({end}), so there is no result")
    } else {
        format!("the interpreter ended early ({end}), so there is no result: {said}")
    }
}

/// The limit that ended the run, with its value.
fn limit(end: &End, limits: &Limits) -> String {
    match end {
        End::Timeout => {
            format!("timeout: the code ran longer than {} and was stopped", seconds(limits.wall))
        }
        End::Cpu => {
            let cpu_s = limits.cpu_s();
            format!("cpu: the code used more than {cpu_s} s of processor time and was stopped")
        }
        End::Memory => format!(
            "memory: the machine ran out of memory (the code may use {} MiB) and the code was stopped",
            limits.memory_mib
        ),
        End::Output => {
            format!(
                "output: the code printed more than {} bytes and was stopped",
                limits.flood_bytes()
            )
        }
        End::Files => {
            format!("files: the code wrote more than {} MiB and was stopped", limits.file_mib)
        }
        End::Processes => {
            format!("processes: the code started more than {} and was stopped", limits.processes)
        }
        End::Signal(name) => format!("signal:{name}: the interpreter crashed"),
        End::Cancelled => "cancelled: the run was interrupted".to_owned(),
        End::Exit(code) => format!("exit:{code}"),
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
