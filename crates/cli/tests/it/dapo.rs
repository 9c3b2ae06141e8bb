//! `agentflow train dapo`: whole runs on the bundled planner, one killed in the middle, and what cannot be run.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::agentflow::{Agentflow, Ran, agentflow, soon};
use crate::prm::Workplace;

/// A whole configuration of a tiny run.
const CONFIG: &str = include_str!("dapo.toml");

/// Drops groups without a signal.
const DYNAMIC_SAMPLING: &str = "[dynamic_sampling]\nsignal = { kind = \"outcome\", right = 1.0 }\nmax_refills = 1\n\
    surplus = \"discard\"\noversample = 1.0\ncontrol_share = 0.0\nseed = 1\n";

fn place(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("dapo.toml"), config).expect("writes");
    dir
}

/// The run inside `dir`, with each of `set`.
fn train(dir: &Path, set: &[&str]) -> Agentflow {
    let mut arguments = vec!["train", "dapo", "--config", "dapo.toml", "--device", "cpu"];
    set.iter().for_each(|pair| arguments.extend(["--set", *pair]));
    agentflow(&arguments).inside(dir)
}

/// The directory of a run that printed where its adapter is.
fn finished(dir: &Path, ran: &Ran) -> PathBuf {
    assert_eq!(ran.code(), Some(0), "{ran}");
    dir.join(ran.stdout.trim_end()).parent().expect("a run").to_owned()
}

/// Whole lines, without the times in them.
fn lines(run: &Path, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join(file)).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole
        .map(|line| {
            let mut value: Value = serde_json::from_str(line).expect("JSON");
            let object = value.as_object_mut().expect("an object");
            object.remove("step_time");
            object.remove("wall_s");
            if let Some(rollout) = object.get_mut("rollout").and_then(Value::as_object_mut) {
                rollout.remove("wall_s");
                rollout.remove("tokens_per_s");
            }
            value
        })
        .collect()
}

fn runs(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir.join("runs")) else { return Vec::new() };
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn last(run: &Path) -> Vec<u8> {
    fs::read(run.join("last/adapter_model.safetensors")).expect("an adapter")
}

/// Two updates with both rewards leave all that a run should, and the adapter works.
#[test]
fn two_updates_from_outcome_and_prm_run_end_to_end() {
    let rewards = Workplace::new();
    let prm = rewards.trained();
    let dir = place(CONFIG);
    let prm = format!("reward.prm_model={}", prm.to_str().expect("text"));
    let ran = train(dir.path(), &["reward.prm=0.5", &prm]).run();
    let run = finished(dir.path(), &ran);
    let metrics = lines(&run, "metrics.jsonl");
    assert_eq!(metrics.len(), 2, "{ran}");
    for (line, update) in metrics.iter().zip(1..) {
        assert_eq!((&line["update"], &line["applied"]), (&json!(update), &json!(true)), "{line}");
        let rollout = &line["rollout"];
        assert_eq!((&rollout["attempts"], &rollout["failed"]), (&json!(6), &json!(0)), "{line}");
        assert!(rollout["prm"].as_f64().is_some_and(|prm| (0.0..=1.0).contains(&prm)), "{line}");
        // Sampler and trainer compute the same, also after an update, whose prompts are computed anew.
        let gap = line["sampling/sampling_logp_difference/max"].as_f64().expect("a number");
        assert!(gap < 1e-3, "{line}");
    }
    let norms = metrics.iter().map(|line| line["grad_norm"].as_f64().expect("a number"));
    assert!(norms.sum::<f64>() > 0.0, "nothing was learnt");
    let evaluated: Vec<Value> =
        lines(&run, "evaluations.jsonl").iter().map(|it| it["update"].clone()).collect();
    assert_eq!(evaluated, [json!(0), json!(2)]);
    let samples = lines(&run, "samples.jsonl");
    assert_eq!(samples.len(), 2 * 3, "an attempt a line, of one group an update");
    let decision = &samples[0]["decisions"][0];
    assert!(decision["reply"].is_string() && decision["advantage"].is_number(), "{decision}");
    assert!(run.join("tensorboard/train").is_dir() && run.join("best").is_dir());

    let adapter = run.join("adapter");
    let settings = fs::read_to_string(adapter.join("adapter_config.json")).expect("settings");
    assert!(settings.contains("\"CAUSAL_LM\""), "{settings}");
    let adapter = adapter.to_str().expect("text");
    let asked = ["solve", "What is 15% of 240?", "--backend", "local", "--adapter", adapter];
    let ran = agentflow(&asked).inside(dir.path()).run();
    assert_eq!(ran.code(), Some(0), "{ran}");
}

/// Killed between two checkpoints, the run ends with the bytes of one that was left alone.
#[test]
fn a_killed_run_is_resumed_to_the_same_bytes() {
    let dir = place(CONFIG);
    let updates = ["schedule.updates=4"];
    let straight = finished(dir.path(), &train(dir.path(), &updates).run());
    let running = train(dir.path(), &updates).start();
    let killed = || runs(dir.path()).into_iter().find(|run| *run != straight);
    for update in 1..=3 {
        let made = || killed().is_some_and(|run| lines(&run, "metrics.jsonl").len() >= update);
        assert!(soon(made), "update {update} was not made");
    }
    running.signal("KILL");
    assert_eq!(running.wait().code(), None);
    let run = killed().expect("a run directory");
    assert!(!run.join("last").exists(), "it was too fast to be killed");
    let name = run.file_name().and_then(|name| name.to_str()).expect("a name");
    let ran = agentflow(&["runs", "resume", name]).inside(dir.path()).run();
    assert_eq!(ran.code(), Some(0), "{ran}");
    for file in ["metrics.jsonl", "evaluations.jsonl", "samples.jsonl"] {
        assert_eq!(lines(&run, file), lines(&straight, file), "{file}");
    }
    assert!(last(&run) == last(&straight), "the weights differ");
}

/// Ctrl-c leaves a checkpoint, and the run goes on from there.
#[test]
fn ctrl_c_writes_a_checkpoint() {
    let dir = place(CONFIG);
    let running = train(dir.path(), &["schedule.updates=500", "checkpoint.every=1000"]).start();
    let begun = || runs(dir.path()).first().map(|run| lines(run, "metrics.jsonl").len());
    assert!(soon(|| begun() >= Some(1)), "no update was made");
    running.signal("INT");
    let ran = running.wait();
    assert_eq!(ran.code(), Some(130), "{ran}");
    assert!(ran.stderr.contains("agentflow train dapo --resume runs/"), "{ran}");
    let run = runs(dir.path()).remove(0);
    let made = lines(&run, "metrics.jsonl").len();
    let checkpoint = run.join(format!("checkpoint/update-{made:06}/state.json"));
    let state: Value =
        serde_json::from_slice(&fs::read(checkpoint).expect("a checkpoint")).expect("JSON");
    assert_eq!(state["outer"]["position"], json!(2 * made), "two problems an update");
}

/// At its own temperature the planner gets these problems right, every time: nothing to learn, and a refill finds no other.
#[test]
fn groups_that_are_all_right_are_dropped_and_refilled() {
    let dir = place(&format!("{CONFIG}{DYNAMIC_SAMPLING}"));
    let calm = ["sampling.temperature=0.1", "sampling.max_tokens=160", "rollout.problems=1"];
    let ran = train(dir.path(), &calm).run();
    assert_eq!(ran.code(), Some(1), "{ran}");
    let told = "rollout 1: 0 of 1 groups carry a signal after 2 rounds (2 all_right)";
    assert!(ran.stderr.contains(told), "{ran}");
    assert!(ran.stderr.contains("3 rollouts in a row had no group to learn from"), "{ran}");
}

#[test]
fn dry_run_prints_configuration_memory_and_time_and_leaves_nothing() {
    let dir = place(CONFIG);
    let ran = agentflow(&["train", "dapo", "--config", "dapo.toml", "--dry-run"]);
    let ran = ran.inside(dir.path()).run();
    assert_eq!((ran.code(), ran.stderr.as_str()), (Some(0), ""), "{ran}");
    for told in ["group_size = 3\n", "# Memory, at most:\n", "#   peak ", "# Time: "] {
        assert!(ran.stdout.contains(told), "{told}: {ran}");
    }
    assert!(runs(dir.path()).is_empty());
    fs::write(dir.path().join("dapo.toml"), &ran.stdout).expect("writes");
    let again = agentflow(&["train", "dapo", "--config", "dapo.toml", "--dry-run"]);
    assert_eq!(again.inside(dir.path()).run().stdout, ran.stdout);
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_is_written() {
    let dir = place(CONFIG);
    let cases: [(&[&str], &str); 8] = [
        (
            &["rollout.split=test"],
            "`arith/test/77` is for testing, and `rollout.benchmark` is trained on",
        ),
        (&["rollout.benchmark=aime24"], "`aime24` is for testing"),
        (&["rollout.group_size=1"], "`rollout.group_size` is 1; it must be at least 2"),
        (&["reward.prm=1.0"], "name its directory in `reward.prm_model`"),
        (&["reward.outcome=0.0"], "so nothing would be learnt"),
        (&["rollout.grup_size=3"], "did you mean `group_size`?"),
        (&["rollout.mode=step"], "unknown variant `step`, expected `flow`"),
        (&["eval.problems=40"], "none is left to learn from; hold out fewer"),
    ];
    for (set, told) in cases {
        let ran = train(dir.path(), set).run();
        assert_eq!(ran.code(), Some(2), "{ran}");
        assert!(ran.stderr.contains(told), "{told}: {ran}");
    }
    let by_prm = DYNAMIC_SAMPLING
        .replace("kind = \"outcome\", right = 1.0", "kind = \"spread\", threshold = 0.001");
    let asks = place(&format!("{CONFIG}{by_prm}"));
    let ran = train(asks.path(), &[]).run();
    assert!(ran.stderr.contains("`dynamic_sampling.signal` asks the PRM"), "{ran}");
    assert!(runs(dir.path()).is_empty() && runs(asks.path()).is_empty());
}

#[test]
fn a_prm_of_another_text_is_refused() {
    let rewards = Workplace::new();
    let prm = rewards.trained();
    let about = prm.join("agentflow.json");
    let text = fs::read_to_string(&about).expect("it says what it reads");
    fs::write(&about, text.replace("prm-compact/1", "prm-full/1")).expect("writes");
    let dir = place(CONFIG);
    let prm = format!("reward.prm_model={}", prm.to_str().expect("text"));
    let ran = train(dir.path(), &["reward.prm=1.0", &prm]).run();
    assert_eq!(ran.code(), Some(2), "{ran}");
    assert!(ran.stderr.contains("was trained on the text `prm-full/1`"), "{ran}");
    assert!(runs(dir.path()).is_empty());
}
