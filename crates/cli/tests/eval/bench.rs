//! Runs of the binary, and what they leave.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// `agentflow` with `arguments` in `dir`, where nobody listens for Ollama and no data set can be fetched.
pub(crate) fn agentflow(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentflow"));
    command.args(arguments).current_dir(dir).stdin(Stdio::null());
    command.env("OLLAMA_HOST", "127.0.0.1:9").env("HF_HUB_OFFLINE", "1");
    for name in ["AGENTFLOW_LOG", "AGENTFLOW_PYTHON", "OPENAI_API_KEY"] {
        command.env_remove(name);
    }
    command
}

/// Exit code, stdout and stderr.
pub(crate) fn outcome(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the binary was built");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (status.code(), text(stdout), text(stderr))
}

pub(crate) fn succeeded(command: &mut Command) -> (String, String) {
    let (code, stdout, stderr) = outcome(command);
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    (stdout, stderr)
}

/// The only run directory in `dir`.
pub(crate) fn only_run(dir: &Path) -> PathBuf {
    let runs: Vec<_> = std::fs::read_dir(dir.join("runs")).expect("runs").collect();
    let [Ok(run)] = &runs[..] else { panic!("not one run, but {runs:?}") };
    run.path()
}

pub(crate) fn spawned(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary was built")
}

/// How many whole lines the record of `run` has.
pub(crate) fn kept(run: &Path) -> usize {
    lines(run, "trajectories.jsonl")
}

/// How many whole lines the file `name` of `run` has.
pub(crate) fn lines(run: &Path, name: &str) -> usize {
    let record = std::fs::read(run.join(name)).unwrap_or_default();
    record.iter().filter(|byte| **byte == b'\n').count()
}

pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < Duration::from_secs(240), "not within four minutes: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Every whole line is a sample, and no attempt is there twice.
pub(crate) fn check_record(run: &Path) {
    let record = std::fs::read_to_string(run.join("trajectories.jsonl")).unwrap_or_default();
    let mut seen = BTreeSet::new();
    for line in record.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let sample: Value = serde_json::from_str(line).expect("a whole line is a sample");
        let attempt = (sample["problem_id"].to_string(), sample["eval"]["repeat"].to_string());
        assert!(seen.insert(attempt), "an attempt is there twice: {}", sample["id"]);
    }
}

/// The report of a run without what differs between two runs of the same: its name, and times.
pub(crate) fn report(run: &Path) -> Value {
    let text = std::fs::read_to_string(run.join("report.json")).expect("a report");
    let mut report: Value = serde_json::from_str(&text).expect("a report is JSON");
    report["run"]["run"] = Value::Null;
    report["speed"] = Value::Null;
    report["per_sample"]["wall_s"] = Value::Null;
    report
}

/// The attempts of a run without times, in order.
pub(crate) fn attempts(run: &Path) -> Vec<Value> {
    let record = std::fs::read_to_string(run.join("trajectories.jsonl")).expect("a record");
    let mut attempts: Vec<Value> = record
        .lines()
        .map(|line| {
            let mut sample: Value = serde_json::from_str(line).expect("a sample");
            forget_times(&mut sample);
            sample["run"] = Value::Null;
            sample
        })
        .collect();
    attempts.sort_by_key(|sample| sample["id"].to_string());
    attempts
}

fn forget_times(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|key, _| !key.starts_with("wall_"));
            object.values_mut().for_each(forget_times);
        }
        Value::Array(array) => array.iter_mut().for_each(forget_times),
        _ => {}
    }
}
