use std::io;
use std::path::PathBuf;

use super::Level;

/// The sandbox itself failed; what the code did wrong is never one of these.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// There is no Python on this machine.
    #[error(
        "python3 was not found (looked on `PATH`: {looked}); install Python {LEAST_PYTHON} or newer, \
         or set `AGENTFLOW_PYTHON` to its path"
    )]
    NoPython {
        /// The folders of `PATH`.
        looked: String,
    },

    /// The interpreter that was asked for, or found, is none that we can use.
    #[error(
        "`{path}` cannot be used as Python: {reason}; install Python {LEAST_PYTHON} or newer, \
         or set `AGENTFLOW_PYTHON` to its path"
    )]
    BadPython {
        /// As it was given or found.
        path: PathBuf,
        /// What happened when it was asked about itself.
        reason: String,
    },

    /// This machine cannot contain code as well as was asked for.
    #[error(
        "sandbox level `{level}` does not work here: {reason}; \
         see `agentflow doctor`, or allow a lower level with `--sandbox auto`"
    )]
    Unavailable {
        /// The level asked for.
        level: Level,
        /// Which layer failed, and how.
        reason: String,
    },

    /// A level that worked when it was tried failed now.
    #[error("cannot start Python in the sandbox: {step}")]
    Start {
        /// The step of the set-up.
        step: String,
        /// What the kernel said.
        source: io::Error,
    },

    /// The interpreter died before it got to the code.
    #[error("Python ended inside the sandbox before it could run anything ({end}): {said}")]
    Runner {
        /// How it ended.
        end: String,
        /// Its last words on standard error.
        said: String,
    },
}

/// Oldest version that the runner is written for.
pub(super) const LEAST_PYTHON: &str = "3.8";

impl SandboxError {
    pub(super) fn start(step: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let step = step.into();
        move |source| Self::Start { step, source }
    }
}
