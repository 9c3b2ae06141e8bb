//! What is done with runs that were recorded: `eval compare`, `eval rescore`, `eval export`, `runs`.

use std::fs;
use std::path::Path;

use agentflow_eval::arith::{self, Split};
use serde_json::{Value, json};

use crate::agentflow::{Ran, agentflow};

const GREEDY: &str = include_str!("../../../eval/tests/fixtures/greedy.jsonl");
const WARM: &str = include_str!("../../../eval/tests/fixtures/warm.jsonl");

/// A run directory with these recorded trajectories. `misread` of its answers were read as none.
fn record(runs: &Path, name: &str, trajectories: &str, misread: usize) {
    let run = runs.join(name);
    fs::create_dir_all(&run).expect("a directory");
    fs::write(run.join("run.toml"), "seed = 0\n").expect("writes");
    let mut first = Value::Null;
    let lines: Vec<String> = (0_u64..)
        .zip(trajectories.lines())
        .map(|(index, line)| {
            let mut sample: Value = serde_json::from_str(line).expect("a recorded trajectory");
            let gold = arith::problem(0, Split::TestPhrasing, index).answer.to_string();
            let read = sample["answer"].as_str().filter(|_| index >= misread as u64).map(str::to_owned);
            let outcome = match &read {
                None => "no_answer",
                Some(read) if *read == gold => "right",
                Some(_) => "wrong",
            };
            let verdict = json!({
                "outcome": outcome, "gold_read": gold, "pred_read": read, "how": "whole answer, exact",
            });
            let gold = json!({ "kind": "math", "answer": gold });
            sample["eval"] = json!({ "repeat": 0, "gold": gold, "tags": {}, "verdict": verdict });
            first = sample.clone();
            format!("{sample}\n")
        })
        .collect();
    fs::write(run.join("trajectories.jsonl"), lines.concat()).expect("writes");
    let info = json!({
        "run": name, "benchmark": "arith/test-phrasing", "dataset": null, "model": first["model"],
        "sampling": first["sampling"], "prompts": first["prompts"], "max_steps": 8,
        "problems": lines.len(), "repeats": 1, "choices_seed": null, "version": "0.1.0",
        "commit": "unknown", "prices": null,
    });
    fs::write(run.join("eval.json"), info.to_string()).expect("writes");
}

fn done(runs: &Path, arguments: &[&str]) -> Ran {
    let runs = runs.to_str().expect("UTF-8");
    let ran = agentflow(&[arguments, &["--runs", runs]].concat()).run();
    assert_eq!((ran.code(), ran.stderr.as_str()), (Some(0), ""), "{ran}");
    ran
}

#[test]
fn runs_are_compared_by_name() {
    let root = tempfile::tempdir().expect("a directory");
    record(root.path(), "20261121-100000-eval-aaaaa", GREEDY, 0);
    record(root.path(), "20261121-110000-eval-bbbbb", WARM, 0);
    let names = ["20261121-100000-eval-aaaaa", "20261121-110000-eval-bbbbb"];
    let told = done(root.path(), &["eval", "compare", names[0], names[1]]);
    assert!(
        told.stdout.contains("no evidence of a difference: 1 gained, 4 lost, p = 0.38"),
        "{told}"
    );
    let json = done(root.path(), &["eval", "compare", names[0], names[1], "--json"]);
    let found: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(found["schema"], "agentflow.comparison/1");
    assert_eq!((&found["kind"], &found["p_value"]), (&json!("paired"), &json!(0.375)));
}

#[test]
fn published_figures_need_no_run() {
    let root = tempfile::tempdir().expect("a directory");
    let row = |name: &str| format!("published:agentflow-pro/aime24/{name}");
    let told = done(root.path(), &["eval", "compare", &row("before"), &row("after")]);
    assert!(
        told.stdout.contains("no evidence of a difference: 5 gained, 6 lost, p = 1.00"),
        "{told}"
    );
    let listed = agentflow(&["eval", "published"]).run();
    assert!(listed.stdout.contains("published:agentflow-pro/gpqa/after"), "{listed}");
}

#[test]
fn what_cannot_be_compared_is_bad_usage() {
    let root = tempfile::tempdir().expect("a directory");
    record(root.path(), "mine", GREEDY, 0);
    let runs = root.path().to_str().expect("UTF-8");
    for (operand, message) in [
        ("published:agentflow-pro/aime24", "is of benchmark `arith/test-phrasing`"),
        ("published:nobody/aime24", "nothing is published under `nobody`"),
        ("nowhere", "no run at `nowhere`"),
    ] {
        let ran = agentflow(&["eval", "compare", "mine", operand, "--runs", runs]).run();
        assert_eq!(ran.code(), Some(2), "{ran}");
        assert!(ran.stderr.contains(message), "{ran}");
    }
}

#[test]
fn a_run_is_rescored_and_its_reports_are_written() {
    let root = tempfile::tempdir().expect("a directory");
    record(root.path(), "mine", GREEDY, 3);
    let told = done(root.path(), &["eval", "rescore", "mine"]);
    // Of the three answers that were not read, the first is wrong; the others were judged by another reader.
    let first =
        "arith/test-phrasing/0/0#1: no answer -> wrong (gold 4654; read nothing, now 302510";
    assert!(told.stdout.starts_with(first), "{told}");
    assert!(
        told.stdout
            .contains("3 of 20 verdicts changed, 17 more were read otherwise; now 15 of 20 right"),
        "{told}"
    );
    let run = root.path().join("mine");
    for file in ["report.json", "report.md", "report.html", "trajectories.before-rescore-1.jsonl"] {
        assert!(run.join(file).is_file(), "{file}");
    }
    let again = done(root.path(), &["eval", "rescore", "mine", "--json"]);
    let found: Value = serde_json::from_str(&again.stdout).expect("JSON");
    assert_eq!((&found["changed"], &found["backup"]), (&json!([]), &Value::Null));
}

#[test]
fn a_run_is_exported_for_inspect() {
    let root = tempfile::tempdir().expect("a directory");
    record(root.path(), "20261121-100000-eval-aaaaa", GREEDY, 0);
    let name = "20261121-100000-eval-aaaaa";
    let told = done(root.path(), &["eval", "export", "--inspect", name]);
    let path = told.stdout.lines().next().expect("a path");
    assert!(path.ends_with("_arith-test-phrasing_aaaaa.json"), "{path}");
    let written = fs::read_to_string(path).expect("reads");
    let printed = done(root.path(), &["eval", "export", "--inspect", name, "--out", "-"]).stdout;
    assert_eq!(printed, written);
    let log: Value = serde_json::from_str(&written).expect("JSON");
    assert_eq!((&log["version"], log["samples"].as_array().map(Vec::len)), (&json!(2), Some(20)));
}

#[test]
fn runs_are_listed_and_shown() {
    let root = tempfile::tempdir().expect("a directory");
    assert_eq!(done(root.path(), &["runs", "list"]).stdout, "");
    record(root.path(), "20261121-100000-eval-aaaaa", GREEDY, 0);
    done(root.path(), &["eval", "rescore", "20261121-100000-eval-aaaaa"]);
    let listed = done(root.path(), &["runs", "list"]).stdout;
    assert_eq!(
        listed,
        "20261121-100000-eval-aaaaa  finished          20 of 20   75.0 %  arith/test-phrasing  tiny-planner\n"
    );
    let line = done(root.path(), &["runs", "list", "--json"]).stdout;
    let run: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&run["state"], &run["accuracy"]), (&json!("finished"), &json!(0.75)));
    let shown = done(root.path(), &["runs", "show", "20261121-100000-eval-aaaaa"]).stdout;
    assert!(shown.contains("**75.0 %** (15/20)"), "{shown}");
    let json = done(root.path(), &["runs", "show", "20261121-100000-eval-aaaaa", "--json"]).stdout;
    let shown: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(shown["report"]["schema"], "agentflow.report/1");
}
