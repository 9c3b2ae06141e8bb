//! `agentflow train collect` and `agentflow train label`: offline, killed, interrupted, refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use insta::assert_snapshot;
use serde_json::Value;

use crate::bench::{agentflow, lines, only_run, outcome, spawned, succeeded, until};
use crate::killed::{Random, interrupt};
use crate::refused::planner;

/// Hot enough that a small planner errs now and then.
const COLLECT: [&str; 15] = [
    "train",
    "collect",
    "--limit",
    "8",
    "--repeats",
    "2",
    "--temperature",
    "1.4",
    "--max-tokens",
    "96",
    "--max-steps",
    "3",
    "--concurrency",
    "4",
    "--backend=local",
];

const LABEL: [&str; 6] = ["--monte-carlo", "3", "--temperature", "1.4", "--seed", "11"];

/// A run of `train collect` in `dir`.
fn collected(dir: &Path) -> PathBuf {
    succeeded(&mut agentflow(dir, &COLLECT));
    only_run(dir)
}

/// Labels `run` in `dir`, and gives the run directory of that.
fn labelled(dir: &Path, run: &Path, more: &[&str]) -> PathBuf {
    let run = run.to_str().expect("a path");
    let arguments = [&["train", "label", run], &LABEL[..], more].concat();
    succeeded(&mut agentflow(dir, &arguments));
    only_run(dir)
}

fn records(run: &Path, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join(name)).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).expect("a whole line is JSON")).collect()
}

/// The labels of a run without times, by trajectory and step.
fn labels(run: &Path) -> BTreeMap<(String, u64), Value> {
    let place = |label: &Value| {
        (label["trajectory"].to_string(), label["step"].as_u64().expect("a number"))
    };
    let mut all = BTreeMap::new();
    for mut label in records(run, "labels.jsonl") {
        label["wall_ms"] = Value::Null;
        let before = all.insert(place(&label), label);
        assert!(before.is_none(), "a decision is there twice: {before:?}");
    }
    all
}

fn report(run: &Path) -> Value {
    let text = std::fs::read_to_string(run.join("report.json")).expect("a report");
    let mut report: Value = serde_json::from_str(&text).expect("a report is JSON");
    report["run"]["run"] = Value::Null;
    report["wall_s"] = Value::Null;
    report
}

#[test]
fn collected_trajectories_keep_what_was_drawn() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = collected(dir.path());
    let name = run.file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(name.contains("-collect-"), "{name}");
    let samples = records(&run, "trajectories.jsonl");
    assert_eq!(samples.len(), 16);
    for step in samples.iter().flat_map(|sample| sample["steps"].as_array().expect("steps")) {
        let length = |key: &str| step[key].as_array().map(Vec::len);
        assert!(length("token_ids").is_some_and(|ids| ids > 0), "{step}");
        assert_eq!(length("token_ids"), length("logprobs"), "{step}");
    }
    assert!(samples.iter().all(|sample| sample["benchmark"] == "arith/train"));
    assert!(run.join("report.html").is_file() && run.join("report.md").is_file());
    // It is complete, and `runs resume` knows how to go on with its kind.
    succeeded(&mut agentflow(dir.path(), &["runs", "resume", name]));
    assert_eq!(lines(&run, "trajectories.jsonl"), 16);
}

#[test]
fn every_readable_decision_of_a_trajectory_with_an_outcome_has_a_label() {
    let (source, dir) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("another"));
    let run = collected(source.path());
    let arguments = [&["train", "label", run.to_str().expect("a path")], &LABEL[..]].concat();
    let (stdout, stderr) = succeeded(&mut agentflow(dir.path(), &arguments));
    let labelled = only_run(dir.path());
    let labels = labels(&labelled);

    let mut readable = BTreeSet::new();
    for sample in records(&run, "trajectories.jsonl") {
        let steps = sample["steps"].as_array().expect("steps");
        for (index, step) in steps.iter().enumerate().filter(|(_, step)| !step["reply"].is_null()) {
            let place = (sample["id"].to_string(), index as u64);
            let label = &labels[&place];
            assert_eq!(label["problem_id"], sample["problem_id"]);
            assert_eq!(label["outcome"], sample["score"]);
            assert_eq!(label["last"], index + 1 == steps.len());
            let text = label["text"].as_str().expect("text");
            let thought = step["reply"]["thought"].to_string();
            assert!(text.ends_with("<|im_end|>") && text.contains(&thought.replace("<|", "< |")));
            let value = label["label"].as_f64().expect("each has one");
            if index + 1 == steps.len() {
                assert_eq!(label["label"], sample["score"], "what ended it is worth the outcome");
                assert_eq!(label["by"]["rollouts"], 0);
            } else {
                assert_eq!(label["by"]["rollouts"], 3);
                let right = label["by"]["right"].as_f64().expect("a number");
                assert_eq!(value, right / 3.0);
            }
            readable.insert(place);
        }
    }
    assert_eq!(labels.len(), readable.len());
    let values: BTreeSet<String> =
        labels.values().map(|label| label["label"].to_string()).collect();
    assert!(values.len() > 1, "all labels are the same, which shows nothing: {values:?}");

    let report = report(&labelled);
    assert_eq!(report["labelled"], labels.len());
    assert_eq!(report["partial"], false);
    let bins = report["histogram"].as_array().expect("bins");
    assert_eq!(bins.iter().filter_map(Value::as_u64).sum::<u64>(), labels.len() as u64);
    assert_eq!(report["last"]["right"]["mean"], 1.0);
    assert_eq!(report["last"]["not_right"]["mean"], 0.0);
    let spent: u64 =
        labels.values().filter_map(|it| it["usage"]["completion_tokens"].as_u64()).sum();
    assert_eq!(report["usage"]["completion_tokens"], spent);
    let counted = format!("labelled        {:>7}  mean 0.", labels.len());
    assert!(stdout.contains(&counted), "{stdout}");
    assert!(stderr.contains("to be labelled"), "{stderr}");
    let (listed, _) = succeeded(&mut agentflow(dir.path(), &["runs", "list"]));
    let progress = format!("{0} of {0}", labels.len());
    assert!(listed.contains("finished") && listed.contains(&progress), "{listed}");
}

#[test]
fn a_label_depends_on_its_state_and_not_on_the_work_around_it() {
    let source = tempfile::tempdir().expect("a directory");
    let run = collected(source.path());
    let [one, many, few] = [
        ["--concurrency=1", "--retries=2"],
        ["--concurrency=24", "--retries=0"],
        ["--concurrency=5", "--sample=5"],
    ]
    .map(|more| {
        let dir = tempfile::tempdir().expect("a directory");
        let labelled = labelled(dir.path(), &run, &more);
        (labels(&labelled), report(&labelled))
    });
    assert_eq!(one, many);
    let trajectories: BTreeSet<&String> = few.0.keys().map(|(trajectory, _)| trajectory).collect();
    assert_eq!(trajectories.len(), 5);
    for (place, label) in &few.0 {
        let all = &one.0[place];
        assert_eq!((&label["label"], &label["by"]), (&all["label"], &all["by"]), "{place:?}");
    }
}

/// What the survivors of a run that was killed again and again wrote is what one process writes in one go.
#[test]
fn kills_leave_the_labels_as_they_are() {
    let source = tempfile::tempdir().expect("a directory");
    let run = collected(source.path());
    let whole = tempfile::tempdir().expect("a directory");
    let whole = (labelled(whole.path(), &run, &["--concurrency=4"]), whole);

    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut kills = 0;
    while kills < 15 {
        let dir = tempfile::tempdir().expect("a directory");
        let run = run.to_str().expect("a path");
        let arguments = [&["train", "label", run, "--concurrency=4"], &LABEL[..]].concat();
        let mut running = spawned(&mut agentflow(dir.path(), &arguments));
        until("there is a run", || {
            std::fs::read_dir(dir.path().join("runs"))
                .is_ok_and(|runs| runs.flatten().any(|run| run.path().join("run.toml").exists()))
        });
        let killed = only_run(dir.path());
        let resume = ["train", "label", "--resume", killed.to_str().expect("a path")];
        loop {
            // At once, while it starts, or a moment after some more labels were kept.
            let wanted = lines(&killed, "labels.jsonl") + random.below(4);
            let mut ended = random.below(6) == 0;
            while !ended && lines(&killed, "labels.jsonl") < wanted {
                ended = running.try_wait().expect("a child").is_some();
                std::thread::sleep(Duration::from_micros(500));
            }
            std::thread::sleep(Duration::from_micros(random.below(30_000) as u64));
            if running.try_wait().expect("a child").is_some() || kills >= 15 {
                break;
            }
            running.kill().expect("it can be killed");
            running.wait().expect("it is dead");
            kills += 1;
            labels(&killed);
            running = spawned(&mut agentflow(dir.path(), &resume));
        }
        let status = running.wait().expect("it ends");
        assert!(status.success(), "after {kills} kills: {status}");
        assert_eq!(labels(&killed), labels(&whole.0), "after {kills} kills");
        assert_eq!(report(&killed), report(&whole.0), "after {kills} kills");
    }
}

#[test]
fn ctrl_c_leaves_a_partial_report_and_says_how_to_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let source = tempfile::tempdir().expect("another");
    let run = collected(source.path());
    let run = run.to_str().expect("a path");
    let arguments = ["train", "label", run, "--monte-carlo", "200", "--concurrency", "2"];
    let mut running = spawned(&mut agentflow(dir.path(), &arguments));
    until("there are labels", || {
        dir.path().join("runs").exists() && lines(&only_run(dir.path()), "labels.jsonl") >= 1
    });
    interrupt(&running);
    let mut stderr = String::new();
    let mut pipe = running.stderr.take().expect("piped");
    std::io::Read::read_to_string(&mut pipe, &mut stderr).expect("text");
    assert_eq!(running.wait().expect("it ends").code(), Some(130), "{stderr}");
    let labelled = only_run(dir.path());
    let partial = report(&labelled);
    assert_eq!(partial["partial"], true);
    assert_eq!(partial["labelled"], lines(&labelled, "labels.jsonl"));
    let name = labelled.file_name().and_then(|name| name.to_str()).expect("a name");
    let advice = format!("go on with: agentflow train label --resume runs/{name}");
    assert!(stderr.contains(&advice), "{stderr}");

    // The rest would be labelled in another way.
    let more = ["train", "label", "--resume", name, "--monte-carlo", "2"];
    let (code, _, stderr) = outcome(&mut agentflow(dir.path(), &more));
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("\n  monte_carlo.rollouts: was 200, is 2\n"), "{stderr}");
    let before = lines(&labelled, "labels.jsonl");
    let mut resumed = spawned(&mut agentflow(dir.path(), &["runs", "resume", name]));
    until("it goes on", || lines(&labelled, "labels.jsonl") > before);
    resumed.kill().expect("it can be killed");
    resumed.wait().expect("it is dead");
}

/// Exit code and stderr, `names` replaced.
fn refusal(dir: &Path, names: &[(&Path, &str)], arguments: &[&str]) -> String {
    let (code, stdout, stderr) = outcome(&mut agentflow(dir, arguments));
    let text = format!("exit code {}\n{stdout}{stderr}", code.unwrap_or(-1));
    let hide = |text: String, (path, name): &(&Path, &str)| {
        text.replace(path.to_str().expect("a path"), name)
    };
    names.iter().fold(text, hide)
}

#[test]
fn problems_of_a_test_set_are_not_collected() {
    let dir = tempfile::tempdir().expect("a directory");
    let refused = |more: &[&str]| {
        refusal(dir.path(), &[], &[&["train", "collect", "--backend", "local"], more].concat())
    };
    assert_snapshot!(refused(&["--split", "test"]), @r"
    exit code 2
    error: `arith/test` is for testing, and what is collected is for training; take --split train
    ");
    assert_snapshot!(refused(&["-b", "aime24"]), @r"
    exit code 2
    error: `aime24` is for testing, and what is collected is for training; take one with the role `train`, see `agentflow eval list`
    ");
    let problem = r#"{"id": "a", "question": "What is 12% of 350?", "answer": "42"}"#;
    std::fs::write(dir.path().join("mine.jsonl"), problem).expect("writes");
    assert_snapshot!(refused(&["-b", "mine.jsonl"]), @r"
    exit code 2
    error: `mine` is for testing, and what is collected is for training; if no test set has any of its problems, say so with --training-data
    ");
    assert!(!dir.path().join("runs").exists(), "what is refused leaves nothing");

    let mine = ["train", "collect", "--backend=local", "-b", "mine.jsonl", "--training-data"];
    succeeded(&mut agentflow(dir.path(), &mine));
    let run = only_run(dir.path());
    let name = run.to_str().expect("a path");
    succeeded(&mut agentflow(dir.path(), &["train", "collect", "--resume", name]));
    let other = ["eval", "--resume", name];
    assert_snapshot!(refusal(dir.path(), &[(&run, "RUN")], &other), @r"
    exit code 2
    error: `RUN` is a run of kind `collect`; go on with it by: agentflow runs resume RUN
    ");
    // And its labels can be had.
    let elsewhere = tempfile::tempdir().expect("a directory");
    let labelled = labelled(elsewhere.path(), &run, &[]);
    assert!(!labels(&labelled).is_empty());
}

#[test]
fn what_cannot_be_labelled_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = collected(dir.path());
    let path = run.to_str().expect("a path");
    let refused = |more: &[&str]| {
        refusal(dir.path(), &[(&run, "RUN")], &[&["train", "label"], more].concat())
    };
    assert_snapshot!(refused(&["nothing", "--monte-carlo", "2"]), @r"
    exit code 2
    error: no run at `nothing` nor at `runs/nothing`; `agentflow runs list` shows what there is
    ");
    assert_snapshot!(refused(&[path]), @r"
    exit code 2
    error: say who labels: --monte-carlo K goes on K times from the state after each decision, --judge WHERE has a stronger model rate it, and --consensus keeps that on which two such runs agree
    ");
    let both = refused(&[path, "--monte-carlo", "2", "--judge", "ollama"]);
    assert!(both.contains("cannot be used with"), "{both}");
    assert_snapshot!(refused(&[path, "--monte-carlo", "0"]), @r"
    exit code 2
    error: invalid value '0' for '--monte-carlo <K>': 0 is not in 1..=1024

    For more information, try '--help'.
    ");
    assert_snapshot!(refused(&[path, path, "--monte-carlo", "2"]), @r"
    exit code 2
    error: run `RUN` is named twice; each decision is labelled once
    ");
    assert_snapshot!(refused(&[path, "--monte-carlo", "2", "--sample", "1000"]), @r"
    exit code 2
    error: there are 16 trajectories, fewer than the 1000 of the sample; take them all
    ");

    let samples = run.join("trajectories.jsonl");
    let text = std::fs::read_to_string(&samples).expect("reads");
    std::fs::write(&samples, "").expect("writes");
    assert_snapshot!(refused(&[path, "--monte-carlo", "2"]), @r"
    exit code 2
    error: run `RUN` has no trajectory with an outcome; go on with it by `agentflow runs resume RUN`, or label another
    ");
    std::fs::write(&samples, text.replace("compact/1", "compact/99")).expect("writes");
    let unknown = refused(&[path, "--monte-carlo", "2"]);
    assert!(
        unknown.contains("was made with prompts `compact/99`, which this version"),
        "{unknown}"
    );
    std::fs::write(&samples, &text).expect("writes");

    let record = std::fs::read_to_string(run.join("run.toml")).expect("reads");
    let other = record.replace("kind = \"collect\"", "kind = \"sft\"");
    std::fs::write(run.join("run.toml"), other).expect("writes");
    assert_snapshot!(refused(&[path, "--monte-carlo", "2"]), @r"
    exit code 2
    error: run `RUN` is of kind `sft`, which has no trajectories; label one of `agentflow train collect`
    ");
    let tested = record.replace("role = \"train\"", "role = \"test\"");
    std::fs::write(run.join("run.toml"), tested).expect("writes");
    assert_snapshot!(refused(&[path, "--monte-carlo", "2"]), @r"
    exit code 2
    error: run `RUN` is of `arith/train`, which is for testing; labels are for training, so label a run of `agentflow train collect`
    ");
    std::fs::write(run.join("run.toml"), &record).expect("writes");
    only_run(dir.path());
}

#[test]
fn another_policy_is_named() {
    let (source, dir) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("another"));
    let run = collected(source.path());
    let weights = planner(dir.path()).join("model.safetensors");
    let mut bytes = std::fs::read(&weights).expect("weights");
    *bytes.last_mut().expect("bytes") ^= 1;
    std::fs::write(&weights, bytes).expect("writes");
    let run = run.to_str().expect("a path");
    let arguments = ["train", "label", run, "--monte-carlo=1", "--model=planner", "--limit=2"];
    let (_, stderr) = succeeded(&mut agentflow(dir.path(), &arguments));
    assert!(stderr.contains("was made by `tiny-planner` (sha256:"), "{stderr}");
    assert!(stderr.contains("and is gone on with by `planner` (sha256:"), "{stderr}");
}
