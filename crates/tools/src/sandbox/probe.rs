use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use super::cancel::Cancel;
use super::interpreter::Interpreter;
use super::limits::Limits;
use super::report::{Missing, Report};
use super::run::{self, Settings};
use super::{Containment, Level, LevelWanted, SandboxError};

/// What was found out about this machine and one interpreter.
pub(super) struct Probed {
    pub(super) interpreter: Interpreter,
    pub(super) containment: Containment,
    pub(super) report: Report,
}

/// The best of the wanted levels that works here, with the interpreter at `python`. Asked once per program.
pub(super) fn probe(wanted: LevelWanted, python: &Path) -> Result<Arc<Probed>, SandboxError> {
    type Known = HashMap<(LevelWanted, PathBuf), Arc<Probed>>;
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    // Held throughout: two threads would do the same work. Nothing in there is left half done by a panic.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (wanted, python.to_owned());
    if let Some(probed) = known.get(&key) {
        return Ok(Arc::clone(probed));
    }
    let probed = Arc::new(find(wanted, &Interpreter::ask(python)?)?);
    known.insert(key, Arc::clone(&probed));
    Ok(probed)
}

fn find(wanted: LevelWanted, interpreter: &Interpreter) -> Result<Probed, SandboxError> {
    let mut refused = Vec::new();
    for level in wanted.candidates() {
        match Containment::new(level, interpreter).and_then(|it| try_out(it, interpreter)) {
            Ok(containment) => {
                let (layers, mut missing) = containment.layers();
                missing.extend(refused);
                let report = Report {
                    level,
                    python: interpreter.executable.clone(),
                    python_version: interpreter.version(),
                    packages: interpreter.packages.clone(),
                    layers,
                    missing,
                };
                return Ok(Probed { interpreter: interpreter.clone(), containment, report });
            }
            Err(error) => refused.push(Missing { name: level_name(level), reason: reason(&error) }),
        }
    }
    // The last one is the least that was asked for; of a single level it is the only one.
    let level = wanted.candidates().last().copied().unwrap_or(Level::Strong);
    let reasons: Vec<_> = refused.into_iter().map(|refused| refused.reason).collect();
    Err(SandboxError::Unavailable { level, reason: reasons.join("; ") })
}

/// Does it, instead of asking whether it could be done: on some systems only the last step of many is refused.
fn try_out(
    containment: Containment,
    interpreter: &Interpreter,
) -> Result<Containment, SandboxError> {
    // A cold disk is slow to load a first interpreter.
    let limits = Limits { wall: Duration::from_secs(30), ..Limits::default() };
    let settings = Settings {
        containment: &containment,
        interpreter,
        limits: &limits,
        import_guard: true,
        cancel: &Cancel::default(),
    };
    let run = run::one(&settings, "6 * 7")?;
    if run.ok && run.stdout == "42\n" {
        return Ok(containment);
    }
    Err(SandboxError::Runner {
        end: run.end.to_string(),
        said: run.error.unwrap_or_else(|| format!("6 * 7 gave `{}`", run.stdout.trim())),
    })
}

/// The error with its cause, in one line.
fn reason(error: &SandboxError) -> String {
    match error {
        SandboxError::Start { step, source } => format!("{step}: {source}"),
        SandboxError::Unavailable { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::None => "level none",
        Level::Basic => "level basic",
        Level::Medium => "level medium",
        Level::Strong => "level strong",
    }
}
