//! Shared by the sandbox tests: sandboxes of each level that this machine has, and the Python they run.
#![allow(dead_code)] // each test file uses its part

use std::time::Duration;

use agentflow_tools::{Level, LevelWanted, Limits, Sandbox, SandboxConfig, SandboxError};

/// Limits that make a test quick.
pub(crate) fn quick() -> Limits {
    Limits { wall: Duration::from_secs(2), ..Limits::default() }
}

/// The best sandbox here, with default limits.
pub(crate) fn sandbox() -> Sandbox {
    Sandbox::new(SandboxConfig::default()).expect("python3 is installed, see the message")
}

/// One for each of `levels` that works here; one that does not is named on stderr.
pub(crate) fn sandboxes(levels: &[Level], limits: &Limits, import_guard: bool) -> Vec<Sandbox> {
    let config = |level| SandboxConfig {
        level: LevelWanted::Exactly(level),
        limits: limits.clone(),
        python: None,
        import_guard,
    };
    let mut sandboxes = Vec::new();
    for level in levels {
        match Sandbox::new(config(*level)) {
            Ok(sandbox) => sandboxes.push(sandbox),
            Err(error @ SandboxError::Unavailable { .. }) => say(&format!("SKIPPED: {error}")),
            Err(error) => panic!("{error}"),
        }
    }
    sandboxes
}

/// On stderr even when the test passes, which the test harness would keep to itself.
pub(crate) fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Names `package` on stderr if the sandboxed Python has none of it.
pub(crate) fn has(sandbox: &Sandbox, package: &str) -> bool {
    let there = sandbox.report().packages.iter().any(|name| name == package);
    if !there {
        say(&format!("SKIPPED: {package} is not installed (`pip install sympy numpy mpmath`)"));
    }
    there
}
