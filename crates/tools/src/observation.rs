use serde::{Deserialize, Serialize};

use crate::sandbox::{End, PythonRun, printable};

/// What a call gave back, as the policy reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Whether the call did what was asked.
    pub ok: bool,
    /// Plain text: no control characters but newline and tab. Of a failure, the reason comes first.
    pub text: String,
    /// Whether the middle of a long output was left out; the text says how many bytes.
    pub truncated: bool,
    /// Wall-clock time, in milliseconds.
    pub wall_ms: u64,
}

impl Observation {
    /// An observation that took no time worth counting.
    pub fn new(ok: bool, text: impl AsRef<str>) -> Self {
        Self { ok, text: printable(text.as_ref()), truncated: false, wall_ms: 0 }
    }

    /// A call that the policy got wrong, or that cannot be served.
    pub fn failed(text: impl AsRef<str>) -> Self {
        Self::new(false, text)
    }
}

/// The observation of a Python run: what it printed or, of a failure, the error's last line first.
///
/// [`Sandbox::run`](crate::Sandbox::run) and [`Sandbox::run_batch`](crate::Sandbox::run_batch) both end here, so that
/// what a policy is trained on reads like what it will meet.
pub fn observe(run: &PythonRun) -> Observation {
    let printed = run.stdout.trim_end();
    let text = match &run.error {
        None if run.ok && printed.is_empty() => {
            "(no output; print the result, or end with an expression)".to_owned()
        }
        None if run.ok => printed.to_owned(),
        None if printed.is_empty() => fallback(&run.end),
        None => format!("{}\noutput before that:\n{printed}", fallback(&run.end)),
        Some(error) if printed.is_empty() => error.clone(),
        Some(error) => format!("{error}\noutput before that:\n{printed}"),
    };
    Observation {
        ok: run.ok,
        text: printable(&text),
        truncated: run.truncated,
        wall_ms: run.wall_ms,
    }
}

/// For a run that failed without a word of its own.
fn fallback(end: &End) -> String {
    format!("the run failed: {end}")
}
