use std::fmt;

use serde::{Deserialize, Serialize};

/// One finished run of Python.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PythonRun {
    /// It ended by itself, without an error.
    pub ok: bool,
    /// What it printed, standard error included; head and tail only when `truncated`. Not cleaned: see
    /// [`observe`](crate::observe) for text that may go to a terminal.
    pub stdout: String,
    /// Why it failed: an exception with its last line first and the lines of the code it came through, or the limit that
    /// ended it, with its value.
    pub error: Option<String>,
    /// How the process ended, by the kernel's word and the broker's clock, never by the code's own.
    pub end: End,
    /// Wall-clock time, in milliseconds.
    pub wall_ms: u64,
    /// Whether the middle of the output was left out.
    pub truncated: bool,
}

/// How a run's process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// By itself, with this code: 0 after success, 1 after an exception, else what the code chose.
    Exit(i32),
    /// Killed: out of wall-clock time.
    Timeout,
    /// Killed: out of processor time.
    Cpu,
    /// Killed by the kernel: the machine, or the control group we are in, is out of memory. (An allocation beyond the
    /// run's own limit is a `MemoryError` that the code can catch.)
    Memory,
    /// Killed: it went on printing, far beyond what is kept.
    Output,
    /// Killed: its files grew beyond the limit.
    Files,
    /// Killed: it started too many processes.
    Processes,
    /// Crashed by this signal, e.g. `SEGV`.
    Signal(String),
    /// Killed: somebody called [`Cancel::cancel`](super::Cancel::cancel).
    Cancelled,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit:{code}"),
            Self::Timeout => f.write_str("timeout"),
            Self::Cpu => f.write_str("cpu"),
            Self::Memory => f.write_str("memory"),
            Self::Output => f.write_str("output"),
            Self::Files => f.write_str("files"),
            Self::Processes => f.write_str("processes"),
            Self::Signal(name) => write!(f, "signal:{name}"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}
