//! Runs the binary, and shows what it said.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::ollama::Server;

/// Far longer than any command of these tests takes: one that takes it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);
/// Longest wait for what is to happen soon.
const PATIENCE: Duration = Duration::from_secs(20);

/// One command line of the binary.
pub(crate) struct Agentflow {
    command: Command,
    /// Texts that differ from run to run, and what stands for them.
    volatile: Vec<(String, &'static str)>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    volatile: Vec<(String, &'static str)>,
}

/// A run under way.
pub(crate) struct Running {
    child: Child,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
    volatile: Vec<(String, &'static str)>,
}

/// `agentflow` with `arguments`, and no Ollama but one that a test names.
pub(crate) fn agentflow(arguments: &[&str]) -> Agentflow {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentflow"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in [
        "AGENTFLOW_LOG",
        "AGENTFLOW_PYTHON",
        "DEEPSEEK_API_KEY",
        "HF_HOME",
        "HF_HUB_CACHE",
        "HF_HUB_OFFLINE",
        "HF_TOKEN",
        "NO_COLOR",
        "OPENAI_API_KEY",
    ] {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", "http://127.0.0.1:9");
    // Nobody listens on the discard port; a test that meant to name a server fails at once.
    command.env("OLLAMA_HOST", "127.0.0.1:9");
    Agentflow { command, volatile: Vec::new() }
}

impl Agentflow {
    /// Uses `server`, by `OLLAMA_HOST`.
    pub(crate) fn with(mut self, server: &Server) -> Self {
        self.command.env("OLLAMA_HOST", &server.url);
        self.hiding(&server.url, "http://SERVER")
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    pub(crate) fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self
    }

    /// Works in `dir`, which messages call `DIR`.
    pub(crate) fn inside(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self.hiding(dir.to_str().expect("temporary paths are text"), "DIR")
    }

    /// Shows `volatile` as `name`.
    pub(crate) fn hiding(mut self, volatile: &str, name: &'static str) -> Self {
        self.volatile.push((volatile.to_owned(), name));
        self
    }

    pub(crate) fn start(mut self) -> Running {
        let mut child = self.command.spawn().expect("the binary was built with its tests");
        Running {
            stdout: collect(child.stdout.take()),
            stderr: collect(child.stderr.take()),
            child,
            volatile: self.volatile,
        }
    }

    pub(crate) fn run(self) -> Ran {
        self.start().wait()
    }
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends the signal `name`, e.g. `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let kill =
            Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status();
        assert!(kill.expect("`kill` is everywhere").success(), "it is over already");
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_some()
    }

    /// Waits for the end, but not for ever.
    pub(crate) fn wait(mut self) -> Ran {
        let started = Instant::now();
        while !self.is_over() {
            if started.elapsed() > HANGS_AFTER {
                let _ = self.child.kill();
                let said = self.stderr.join().unwrap_or_default();
                panic!("it hangs; so far it said on stderr:\n{said}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ran {
            status: self.child.wait().expect("it has ended"),
            stdout: self.stdout.join().expect("its output is text"),
            stderr: self.stderr.join().expect("its output is text"),
            volatile: self.volatile,
        }
    }
}

impl Ran {
    /// The exit code; a signal has none.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The trajectory that `--json` printed.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in\n{self}"))
    }
}

/// As the snapshots show it: exit code and both streams, what is volatile replaced.
impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code() {
            Some(code) => writeln!(f, "exit code: {code}")?,
            None => writeln!(f, "{}", self.status)?,
        }
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                let replace =
                    |text: String, (volatile, name): &(String, &str)| text.replace(volatile, name);
                let text = self.volatile.iter().fold(without_numbers_of_errors(text), replace);
                write!(f, "----- {name} -----\n{text}")?;
            }
        }
        Ok(())
    }
}

/// `text` without the numbers that each system has of its own for the same error.
fn without_numbers_of_errors(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(')').map_or(part, |(_, rest)| rest))
}

/// Whether `holds` comes true within a generous time.
pub(crate) fn soon(mut holds: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// Reads all of `pipe` on a thread, so that a full one never stops the process.
fn collect(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_string(&mut text).expect("output is UTF-8");
        }
        text
    })
}
