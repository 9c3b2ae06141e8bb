//! `agentflow serve`, used by `agentflow solve` as by any client of Ollama.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::agentflow::{agentflow, soon};

/// A server on a free port, killed at the end of its test.
pub(crate) struct Served {
    child: Child,
    pub(crate) url: String,
}

impl Served {
    /// Of the bundled planner.
    fn start() -> Self {
        Self::of(&[])
    }

    /// Of the model that `arguments` name.
    pub(crate) fn of(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agentflow"));
        command
            .args(["serve", "--port", "0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built with its tests");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let line = lines.next().expect("it says where it is").expect("text");
        let url = line.split(['|', ' ', ',']).find(|word| word.starts_with("http://"));
        let url = url.unwrap_or_else(|| panic!("no address in `{line}`")).to_owned();
        // What it says further is read, so that it can say it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }

    fn signal(&self, name: &str) {
        let arguments = [format!("-{name}"), self.child.id().to_string()];
        let kill = Command::new("kill").args(arguments).status();
        assert!(kill.expect("`kill` is everywhere").success());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the same question leaves behind: all but times, where the model ran, and what only the engine tells.
fn essence(mut trajectory: Value) -> Value {
    for key in ["model", "wall_s"] {
        trajectory[key].take();
    }
    for step in trajectory["steps"].as_array_mut().expect("steps") {
        for key in ["token_ids", "logprobs", "wall_ms"] {
            step[key].take();
        }
        step["observation"]["wall_ms"].take();
    }
    trajectory
}

#[test]
fn solving_over_the_wire_is_solving_here() {
    let served = Served::start();
    for question in [
        "What is 15% of 240, then doubled?",
        "A shop sells 14 boxes of 36 pens. How many pens is that?",
    ] {
        let solve = |model: &[&str]| {
            let arguments = [&["solve", question, "--json", "--num-ctx", "1024"], model].concat();
            let ran = agentflow(&arguments).run();
            assert_eq!(ran.code(), Some(0), "{ran}");
            // Also the detectors of the client are content.
            assert!(!ran.stderr.contains("warning"), "{ran}");
            ran.json()
        };
        let here = solve(&["--backend", "local"]);
        let there =
            solve(&["--backend", "ollama", "--url", &served.url, "--model", "tiny-planner"]);
        assert_eq!(there["model"]["backend"], "ollama");
        assert_eq!(essence(there), essence(here));
    }
}

/// What `auto` finds where `OLLAMA_HOST` points here.
#[test]
fn auto_takes_it_for_an_ollama() {
    let served = Served::start();
    let ran = agentflow(&["solve", "What is 12% of 350?", "--num-ctx", "1024"])
        .env("OLLAMA_HOST", &served.url)
        .run();
    assert_eq!((ran.code(), ran.stdout.as_str()), (Some(0), "42\n"), "{ran}");
    assert!(ran.stderr.contains("model: tiny-planner:latest on Ollama"), "{ran}");
}

#[test]
fn signals_end_it_cleanly() {
    for signal in ["INT", "TERM"] {
        let mut served = Served::start();
        served.signal(signal);
        assert!(
            soon(|| served.child.try_wait().expect("a child can be asked").is_some()),
            "{signal}"
        );
        assert!(served.child.wait().expect("it has ended").success(), "{signal}");
    }
}

#[test]
fn what_cannot_be_served_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let ran = agentflow(&["serve", "--port", &port]).run();
    assert_eq!(ran.code(), Some(1), "{ran}");
    assert!(ran.stderr.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{ran}");
    assert!(ran.stderr.contains("choose another with --port"), "{ran}");
    let ran = agentflow(&["serve", "--port", "0", "--model", "nowhere"]).run();
    assert_eq!(ran.code(), Some(1), "{ran}");
    assert!(ran.stderr.contains("no model directory at `nowhere`"), "{ran}");
    let ran = agentflow(&["serve", "--host", "here"]).run();
    assert_eq!(ran.code(), Some(2), "{ran}");
}
