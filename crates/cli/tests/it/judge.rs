//! `agentflow train label` with a judge: against our own server, and against one that misbehaves.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::agentflow::{Ran, agentflow};
use crate::ollama::{Answer, MODEL, Server};
use crate::serve::Served;

/// Attempts of the bundled planner at three problems.
fn collected() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let collect = ["train", "collect", "-b", "arith", "--limit", "3", "--repeats", "1"];
    let ran = train(dir.path(), &[&collect, &["--backend", "local"][..]].concat());
    assert_eq!(ran.code(), Some(0), "{ran}");
    let run = newest(dir.path(), "collect");
    (dir, run)
}

fn train(dir: &Path, arguments: &[&str]) -> Ran {
    agentflow(arguments).inside(dir).run()
}

/// The last run of `kind` that was made in `dir`.
fn newest(dir: &Path, kind: &str) -> PathBuf {
    let runs = fs::read_dir(dir.join("runs")).expect("there are runs");
    let runs = runs.map(|entry| entry.expect("an entry").path());
    let mut of_kind: Vec<_> =
        runs.filter(|path| path.to_string_lossy().contains(&format!("-{kind}-"))).collect();
    let made =
        |path: &PathBuf| fs::metadata(path.join("run.toml")).and_then(|it| it.modified()).ok();
    of_kind.sort_by_key(made);
    of_kind.pop().expect("a run of that kind")
}

/// The labels of `run`, without the time that each took.
fn labels(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("labels.jsonl")).expect("labels");
    let mut labels: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    labels.iter_mut().for_each(|label| label["wall_ms"] = 0.into());
    labels.sort_by_key(|label| (label["trajectory"].to_string(), label["step"].as_u64()));
    labels
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// Collect, judge through OpenAI's API of our own server, roll out, and agree: the real binary throughout. The weights of
/// the judge are random, so only the grammar keeps it on the scale.
#[test]
fn a_judge_behind_our_own_server_end_to_end() {
    let (dir, run) = collected();
    let dir = dir.path();
    let ran =
        train(dir, &["model", "random", "--shape", "tiny", "--dtype", "f32", "--out", "random"]);
    assert_eq!(ran.code(), Some(0), "{ran}");
    let served = Served::of(&["--model", text(&dir.join("random")), "--name", "random"]);
    let url = format!("{}/v1", served.url);
    let judge =
        [
            &[
                "train",
                "label",
                text(&run),
                "--judge",
                "openai",
                "--model",
                "random",
                "--url",
                &url,
            ][..],
            &["--num-ctx", "4096", "--usd-in", "1", "--usd-out", "2"],
        ]
        .concat();

    let ran = train(dir, &[&judge, &["--agreement", "2", "--json"][..]].concat());
    assert_eq!(ran.code(), Some(0), "{ran}");
    assert!(ran.stderr.contains("estimate: ") && ran.stderr.contains("self-agreement"), "{ran}");
    let judged = newest(dir, "label");
    let all = labels(&judged);
    assert!(all.len() >= 6, "three attempts of two steps and more: {}", all.len());
    for label in &all {
        assert_eq!(
            (&label["by"]["labeller"], &label["by"]["rubric"]),
            (&json!("judge"), &json!("rubric/1+gold"))
        );
        match label["label"].as_f64() {
            Some(value) => {
                assert!((0.0..=1.0).contains(&value), "{label}");
                assert!(label["by"]["scores"]["progress"].is_number(), "{label}");
            }
            None => {
                let cause = label["missing"].as_str().expect("a cause");
                assert!(cause.contains("was to be rated"), "{label}");
                assert!(label["by"]["raw"].is_string(), "{label}");
            }
        }
    }
    assert!(all.iter().any(|label| label["label"].is_number()), "some are rated");
    let report = ran.json();
    let usage = &report["usage"];
    let cost = (usage["prompt_tokens"].as_f64().unwrap()
        + 2.0 * usage["completion_tokens"].as_f64().unwrap())
        / 1e6;
    assert!((report["cost_dollars"].as_f64().unwrap() - cost).abs() < 1e-12, "{report}");
    let agreement: Value =
        serde_json::from_slice(&fs::read(judged.join("agreement.json")).expect("it is kept"))
            .expect("JSON");
    assert_eq!(agreement["rated"].as_u64().unwrap() + agreement["missing"].as_u64().unwrap(), 2);

    // A budget for less than all of it, and then the rest.
    let budget = format!("{:.4}", cost * 0.6);
    let ran = train(dir, &[&judge, &["--concurrency", "1", "--budget-usd", &budget][..]].concat());
    assert_eq!(ran.code(), Some(0), "{ran}");
    assert!(ran.stderr.contains("does not reach further"), "{ran}");
    let stopped = newest(dir, "label");
    let first = labels(&stopped).len();
    assert!((1..all.len()).contains(&first), "{first} of {}", all.len());
    let resume = ["train", "label", "--resume", text(&stopped), "--budget-usd", "100"];
    let ran = train(dir, &resume);
    assert_eq!(ran.code(), Some(0), "{ran}");
    assert_eq!(labels(&stopped), all, "resumed, they are those of the uninterrupted run");

    let roll = ["train", "label", text(&run), "--monte-carlo", "2", "--concurrency", "4"];
    let ran = train(dir, &roll);
    assert_eq!(ran.code(), Some(0), "{ran}");
    let rolled = newest(dir, "label");
    let agree = ["train", "label", "--consensus", text(&judged), text(&rolled)];
    let ran = train(dir, &[&agree[..], &["--margin", "0.4", "--signals", "--json"]].concat());
    assert_eq!(ran.code(), Some(0), "{ran}");
    let summary = ran.json();
    let kept = labels(&newest(dir, "label"));
    assert_eq!(summary["kept"].as_u64(), Some(kept.len() as u64));
    let with_both = all.iter().filter(|label| label["label"].is_number()).count();
    assert_eq!(summary["compared"].as_u64(), Some(with_both as u64));
    for label in &kept {
        let by = &label["by"];
        let (judge, mc) = (by["judge"].as_f64().unwrap(), by["monte_carlo"].as_f64().unwrap());
        assert!((judge - mc).abs() <= 0.4 + 1e-9, "{label}");
        assert!((label["label"].as_f64().unwrap() - (judge + mc) / 2.0).abs() < 1e-12, "{label}");
    }
    let swapped = ["train", "label", "--consensus", text(&rolled), text(&judged)];
    let ran = train(dir, &swapped);
    assert_eq!(ran.code(), Some(2), "{ran}");
    assert!(ran.stderr.contains("give the judge's labels first"), "{ran}");
}

/// It rates step 1, whatever it is asked.
fn rating() -> Answer {
    let grades = json!({"progress": 4, "correctness": 4, "tool": 3, "input": 4, "novelty": 4});
    let mut reply = json!({"step": 1, "reason": "Right."});
    reply.as_object_mut().unwrap().extend(grades.as_object().unwrap().clone());
    Answer::Content(reply.to_string())
}

#[test]
fn what_the_judge_says_of_another_step_is_missing_and_a_hanging_one_is_left() {
    let (dir, run) = collected();
    let dir = dir.path();
    let judge =
        ["train", "label", text(&run), "--judge", "ollama", "--model", MODEL, "--retries", "1"];
    let stuck = Server::planning(vec![rating(), Answer::Silence]);
    let few = ["--timeout", "1", "--concurrency", "1", "--limit", "1"];
    let ran = agentflow(&[&judge[..], &few].concat()).inside(dir).with(&stuck).run();
    assert_eq!(ran.code(), Some(1), "{ran}");
    assert!(ran.stderr.contains("is tried again") && ran.stderr.contains("go on with:"), "{ran}");
    let labelled = newest(dir, "label");
    let first = labels(&labelled);
    assert_eq!(first.len(), 1, "the one that was rated");
    assert!((first[0]["label"].as_f64().unwrap() - 0.9625).abs() < 1e-12, "{}", first[0]);

    let well = Server::planning(vec![rating()]);
    let resume = ["train", "label", "--resume", text(&labelled)];
    let ran = agentflow(&resume).inside(dir).with(&well).run();
    assert_eq!(ran.code(), Some(0), "{ran}");
    let all = labels(&labelled);
    assert!(all.len() > 1);
    assert_eq!(all[0], first[0], "it is not rated again");
    for label in &all[1..] {
        let step = label["step"].as_u64().unwrap() + 1;
        let cause = format!("it rates step 1, and step {step} was to be rated");
        assert_eq!((&label["label"], &label["missing"]), (&Value::Null, &json!(cause)));
    }
    assert_eq!(well.asked().len(), 2 * (all.len() - 1), "each is asked for twice");
    assert_eq!(well.asked()[0]["options"]["temperature"], 0.0);
}

#[test]
fn a_labeller_is_named_and_its_flags_belong_together() {
    let (dir, run) = collected();
    for (arguments, problem) in [
        (&["train", "label", text(&run)][..], "say who labels"),
        (&["train", "label", text(&run), "--judge", "openai"], "needs --url and --model"),
        (
            &["train", "label", text(&run), "--judge", "local", "--monte-carlo", "2"],
            "cannot be used with",
        ),
        (&["train", "label", text(&run), "--judge", "auto"], "say where it runs"),
        (&["train", "label", text(&run), "--judge", "local"], "it cannot judge"),
        (&["train", "label", text(&run), "--agreement", "2"], "--judge <WHERE>"),
        (
            &["train", "label", text(&run), "--judge", "local", "--budget-usd", "1"],
            "needs the prices",
        ),
        (&["train", "label", "--consensus", text(&run), text(&run)], "has no labels"),
        (
            &["train", "label", "--consensus", "a", "b", "--margin", "2"],
            "a margin is a number from 0 to 1",
        ),
    ] {
        let ran = train(dir.path(), arguments);
        assert_eq!(ran.code(), Some(2), "{ran}");
        assert!(ran.stderr.contains(problem), "{problem}: {ran}");
    }
}
