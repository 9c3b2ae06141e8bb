//! `agentflow eval`: problems as JSON lines, and a measured run with its directory.

use std::fs;
use std::io::{BufRead, BufReader};

use serde_json::Value;

use crate::agentflow::{Ran, agentflow};
use crate::ollama::{Answer, Server, decide};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn problems(arguments: &[&str]) -> Ran {
    let ran = agentflow(&[&["eval", "problems"], arguments].concat()).run();
    assert_eq!((ran.code(), ran.stderr.as_str()), (Some(0), ""), "{ran}");
    ran
}

#[test]
fn problems_are_json_lines_with_answers() {
    let ran = problems(&["--limit", "5"]);
    let problems = lines(&ran.stdout);
    assert_eq!(problems.len(), 5);
    for problem in &problems {
        assert!(problem["id"].is_string() && problem["question"].is_string(), "{problem}");
        assert!(problem["answer"].is_i64(), "{problem}");
    }
}

#[test]
fn problems_are_decided_by_seed_and_split() {
    let first = problems(&["--limit", "20"]).stdout;
    assert_eq!(first, problems(&["--limit", "20"]).stdout);
    assert!(first.starts_with(&problems(&["--limit", "3"]).stdout));
    let questions = |text: &str| {
        lines(text).iter().map(|problem| problem["question"].clone()).collect::<Vec<_>>()
    };
    for others in [["--seed", "1"], ["--split", "train"], ["--split", "test-phrasing"]] {
        let other = problems(&[&["--limit", "20"][..], &others].concat()).stdout;
        let (first, other) = (questions(&first), questions(&other));
        assert!(other.iter().all(|question| !first.contains(question)), "{others:?}");
    }
    assert_eq!(problems(&["--limit", "0"]).stdout, "");
}

/// `agentflow eval problems | head -1`
#[test]
fn a_closed_pipe_ends_the_printing() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let running = agentflow(&["eval", "problems", "--limit", "1000000"]).stdout(writer).start();
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a first problem");
    drop(reader);
    let ran = running.wait();
    assert_eq!((ran.code(), ran.stderr.as_str()), (Some(0), ""), "{ran}");
    assert_eq!(lines(&line).len(), 1);
}

/// A planner that always says 4 is right where the answer is 4.
#[test]
fn a_run_is_scored_and_leaves_its_directory() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Server::planning(vec![decide("Easy.", "answer", "4")]);
    let run = |more: &[&str]| {
        let arguments = ["eval", "-b", "arith", "--limit", "12", "--seed", "5"];
        agentflow(&[&arguments, more].concat()).with(&server).inside(dir.path()).run()
    };
    let right = lines(&problems(&["--limit", "12"]).stdout)
        .iter()
        .filter(|problem| problem["answer"] == 4)
        .count();

    let ran = run(&["--json"]);
    assert_eq!(ran.code(), Some(0), "{ran}");
    let report = ran.json();
    assert_eq!(report["counts"]["samples"], 12);
    assert_eq!(report["counts"]["right"], right);
    assert_eq!(report["run"]["model"]["name"], "qwen3:8b");
    let path = ran
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("run "))
        .expect("it names its directory");
    let path = dir.path().join(path);
    let read = |name: &str| {
        fs::read_to_string(path.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let trajectories = lines(&read("trajectories.jsonl"));
    assert_eq!(trajectories.len(), 12);
    assert!(trajectories.iter().all(|one| one["gold"].is_string() && one["score"].is_number()));
    assert_eq!(serde_json::from_str::<Value>(&read("report.json")).expect("JSON"), report);
    assert!(read("report.md").starts_with("# arith/test"));
    assert!(read("report.html").starts_with("<!"));
    let record = read("run.toml");
    for part in [
        "kind = \"eval\"",
        "version = ",
        "commit = ",
        "argv = ",
        "seed = 5",
        "limit = 12",
        "max_steps = 8",
    ] {
        assert!(record.contains(part), "no `{part}` in {record}");
    }

    let table = run(&[]).stdout;
    let figure = table.lines().last().expect("a last line");
    assert_eq!(figure, format!("figure arith.test {:.1} %", 100.0 * right as f64 / 12.0));
}

#[test]
fn a_run_whose_model_fails_ends_with_the_reason() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Server::having(vec!["qwen3:8b"]);
    let arguments = ["eval", "--limit", "3", "--retries", "1"];
    let ran = agentflow(&arguments).with(&server).inside(dir.path()).run();
    assert_eq!(ran.code(), Some(1), "{ran}");
    assert!(ran.stdout.contains("failed               3\n"), "{ran}");
    assert!(ran.stderr.contains("is tried again: "), "{ran}");
    assert!(ran.stderr.contains("error: every attempt failed: "), "{ran}");
    assert!(ran.stderr.contains("`ollama pull qwen3:8b`"), "{ran}");
}

/// One of them is busy at first, and gets its share when it no longer is: half a second later, well before the other could
/// have answered all.
#[test]
fn attempts_are_shared_out_over_servers() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let answer = || decide("Easy.", "answer", "4");
    let ready = Server::planning(vec![answer()]);
    let busy = Server::planning(vec![Answer::Status(503, "{\"error\":\"busy\"}"), answer()]);
    let mut arguments = vec!["eval", "--limit", "400", "--concurrency", "4", "--retries", "0"];
    arguments.extend(["--backend", "ollama", "--model", "qwen3:8b", "--json"]);
    arguments.extend(["--url", &ready.url, "--url", &busy.url]);
    let ran = agentflow(&arguments).inside(dir.path()).run();
    assert_eq!(ran.code(), Some(0), "{ran}");
    let counts = &ran.json()["counts"];
    assert_eq!((&counts["samples"], &counts["failed"]), (&Value::from(400), &Value::from(0)));
    let (ready, busy) = (ready.asked().len(), busy.asked().len());
    assert_eq!(ready + busy, 401);
    assert!(ready >= 5 && busy >= 5, "{ready} and {busy}");
}
