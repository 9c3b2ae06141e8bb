//! Python, contained. One run is one fresh process, which has no network, no secret and no file but its own.
//!
//! Layers, from the code outwards. Each is a file of its own; a level has those that this machine allows:
//!
//! | layer | file | keeps in |
//! |---|---|---|
//! | import guard | `runner.py` | nothing: it tells the model what may be imported |
//! | seccomp | `linux/seccomp.rs` | other programs, processes, sockets, odd corners of the kernel |
//! | limits | `rlimits.rs` | memory, processor time, file sizes, descriptors |
//! | capabilities | `linux/privileges.rs` | setuid programs, and what root may do |
//! | Landlock | `linux/landlock.rs` | reading and writing files, also without namespaces |
//! | namespaces | `linux/namespaces.rs` | the sight of files, processes, users and networks |
//! | environment | `worker.rs` | keys, terminals, descriptors |
//! | broker | `broker.rs`, `linux/holder.rs` | time, output, and whatever would stay behind |
//!
//! [`Level::Strong`] is all of them; [`Level::Medium`] all but namespaces; [`Level::Basic`] what any Unix has.
//!
//! A run passes broker → holder (process 1 of its namespace) → worker, which becomes Python with `runner.py`. That gets
//! its task on descriptor 3 and reports on 4. The report is a claim, because the code owns the interpreter; how the
//! process ended and how long it took are facts, from the kernel and the broker's clock.
//!
//! For tests of the layers below, `AGENTFLOW_IMPORT_GUARD=off` turns the import guard off.

mod broker;
mod cancel;
mod error;
mod interpreter;
mod level;
mod limits;
#[cfg(target_os = "linux")]
mod linux;
mod output;
#[cfg(any(test, not(target_os = "linux")))]
mod portable;
mod printable;
mod probe;
mod python_run;
mod report;
mod rlimits;
mod run;
mod scratch;
mod task;
mod worker;

#[cfg(target_os = "linux")]
use linux::Containment;
#[cfg(not(target_os = "linux"))]
use portable::Containment;

use std::env;
use std::path::PathBuf;
use std::sync::Arc;

pub use cancel::Cancel;
pub use error::SandboxError;
pub use level::{Level, LevelWanted, UnknownLevel};
pub use limits::Limits;
pub use printable::printable;
pub use python_run::{End, PythonRun};
pub use report::{Layer, Missing, Report};

use probe::Probed;

/// What a sandbox is asked for.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// How well to contain the code.
    pub level: LevelWanted,
    /// What one run may use.
    pub limits: Limits,
    /// The interpreter; else `AGENTFLOW_PYTHON`, else `python3` on `PATH`.
    pub python: Option<PathBuf>,
    /// Whether the code is told which modules it may import. Off only to test the layers below.
    #[doc(hidden)]
    pub import_guard: bool,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            level: LevelWanted::Auto,
            limits: Limits::default(),
            python: None,
            import_guard: true,
        }
    }
}

/// Runs Python code, contained.
pub struct Sandbox {
    probed: Arc<Probed>,
    limits: Limits,
    import_guard: bool,
    cancel: Cancel,
}

impl Sandbox {
    /// Finds the interpreter, and the best level that works here by running something in it. Both are remembered for the
    /// life of this program, so a second sandbox costs nothing.
    ///
    /// # Errors
    /// If there is no usable Python, or the level asked for cannot be had.
    pub fn new(config: SandboxConfig) -> Result<Self, SandboxError> {
        let python = config.python.map_or_else(interpreter::locate, Ok)?;
        let guard_off = env::var_os("AGENTFLOW_IMPORT_GUARD").is_some_and(|value| value == "off");
        Ok(Self {
            probed: probe::probe(config.level, &python)?,
            limits: config.limits,
            import_guard: config.import_guard && !guard_off,
            cancel: Cancel::default(),
        })
    }

    /// The level in force.
    pub fn level(&self) -> Level {
        self.probed.report.level
    }

    /// What is in force here, and what is not, with the reason.
    pub fn report(&self) -> &Report {
        &self.probed.report
    }

    /// What one run may use.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The switch that ends a running call, to be kept by whoever listens to ctrl-c.
    pub fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    /// Makes `cancel` the switch, so that several sandboxes can share one.
    pub fn set_cancel(&mut self, cancel: Cancel) {
        self.cancel = cancel;
    }

    /// Runs `code` in a fresh interpreter of its own. What the code does wrong is in the result.
    ///
    /// # Errors
    /// If the sandbox itself fails.
    pub fn run(&mut self, code: &str) -> Result<PythonRun, SandboxError> {
        run::one(&self.settings(), code)
    }

    /// Runs snippets that we wrote ourselves one after the other in one contained interpreter, each with fresh names:
    /// well under a millisecond each, against tens for [`run`](Self::run), with the same results. One that ends the
    /// interpreter costs a new one. The limits on time hold for each snippet.
    ///
    /// Not for code of a model: a snippet can change what the later ones see.
    ///
    /// # Errors
    /// If the sandbox itself fails.
    pub fn run_batch(
        &mut self,
        snippets: &[impl AsRef<str>],
    ) -> Result<Vec<PythonRun>, SandboxError> {
        let snippets: Vec<&str> = snippets.iter().map(AsRef::as_ref).collect();
        run::batch(&self.settings(), &snippets)
    }

    fn settings(&self) -> run::Settings<'_> {
        run::Settings {
            containment: &self.probed.containment,
            interpreter: &self.probed.interpreter,
            limits: &self.limits,
            import_guard: self.import_guard,
            cancel: &self.cancel,
        }
    }
}
