//! `agentflow train prm` and `agentflow prm score`: a run killed in the middle, and scores of recorded decisions.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::agentflow::{Agentflow, Ran, agentflow, soon};

/// A whole configuration of a tiny run.
pub(crate) const CONFIG: &str = include_str!("prm.toml");

/// A folder with a configuration and labels.
pub(crate) struct Workplace(tempfile::TempDir);

impl Workplace {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("prm.toml"), CONFIG).expect("writes");
        let place = Self(dir);
        place.write_labels(&labels());
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write_labels(&self, labels: &[Value]) {
        let text: String = labels.iter().map(|label| format!("{label}\n")).collect();
        fs::write(self.path().join("labels.jsonl"), text).expect("writes");
    }

    pub(crate) fn train(&self, more: &[&str]) -> Agentflow {
        agentflow(&[&["train", "prm", "--config", "prm.toml"], more].concat()).inside(self.path())
    }

    fn agentflow(&self, arguments: &[&str]) -> Agentflow {
        agentflow(arguments).inside(self.path())
    }

    /// The runs that were started here, oldest first.
    fn runs(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path().join("runs")) else { return Vec::new() };
        let mut runs: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        runs.sort_by_key(|run| run.metadata().and_then(|it| it.created()).ok());
        runs
    }

    /// Trains for one update, and gives the directory of the PRM.
    pub(crate) fn trained(&self) -> PathBuf {
        let ran = self.train(&["--set", "schedule.updates=1"]).run();
        assert_eq!(ran.code(), Some(0), "{ran}");
        self.path().join(ran.stdout.trim_end())
    }
}

/// Ten problems with two decisions each.
pub(crate) fn labels() -> Vec<Value> {
    let decision = |problem: usize, step: usize| {
        let (action, label) = [("search", 0.0), ("answer", 1.0)][step];
        json!({
            "schema": "agentflow.label/1", "run": null, "trajectory": format!("t-{problem}"), "step": step,
            "benchmark": "arith", "problem_id": format!("p-{problem}"), "state": format!("s-{problem}"),
            "last": step == 1, "outcome": 1.0,
            "text": format!(
                "<|im_start|>user\nAdd {problem}.<|im_end|>\n<|im_start|>assistant\n{{\"thought\": \"\", \
                 \"action\": \"{action}\", \"action_input\": \"1\"}}<|im_end|>"
            ),
            "prm_prompt": "prm-compact/1", "label": label, "missing": null,
            "by": {"labeller": "consensus", "judge": label, "monte_carlo": label, "margin": 0.1},
            "usage": {"prompt_tokens": 0, "completion_tokens": 0}, "wall_ms": 1
        })
    };
    (0..10).flat_map(|problem| (0..2).map(move |step| decision(problem, step))).collect()
}

/// Lines without what differs from run to run.
fn lines(run: &Path, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join(file)).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole
        .map(|line| {
            let mut value: Value = serde_json::from_str(line).expect("JSON");
            let object = value.as_object_mut().expect("an object");
            object.remove("wall_s");
            object.remove("samples_per_s");
            value
        })
        .collect()
}

/// Killed between two checkpoints, the run ends with the bytes of one that was left alone.
#[test]
fn a_killed_run_is_resumed_to_the_same_bytes() {
    let place = Workplace::new();
    let ran = place.train(&[]).run();
    assert_eq!(ran.code(), Some(0), "{ran}");
    let straight = place.path().join(ran.stdout.trim_end()).parent().expect("a run").to_owned();
    let weights = |run: &Path| fs::read(run.join("model/model.safetensors")).expect("weights");

    let running = place.train(&[]).start();
    let killed = || place.runs().into_iter().find(|run| *run != straight);
    assert!(
        soon(|| killed().is_some_and(|run| lines(&run, "metrics.jsonl").len() >= 4)),
        "no update was made"
    );
    running.signal("KILL");
    assert_eq!(running.wait().code(), None);
    let run = killed().expect("a run directory");
    assert!(!run.join("model").exists(), "it was too fast to be killed");
    let name = run.file_name().and_then(|name| name.to_str()).expect("a name");
    let ran = place.agentflow(&["runs", "resume", name]).run();
    assert_eq!(ran.code(), Some(0), "{ran}");
    for file in ["metrics.jsonl", "evaluations.jsonl"] {
        assert_eq!(lines(&run, file), lines(&straight, file), "{file}");
    }
    assert!(weights(&run) == weights(&straight), "the weights differ");
}

#[test]
fn dry_run_prints_the_resolved_configuration_and_leaves_nothing() {
    let place = Workplace::new();
    let ran = place.train(&["--dry-run", "--set", "schedule.updates=7"]).run();
    assert_eq!((ran.code(), ran.stderr.as_str()), (Some(0), ""), "{ran}");
    assert!(
        ran.stdout.contains("updates = 7\n") && ran.stdout.contains("labels = [\"labels.jsonl\"]")
    );
    assert!(place.runs().is_empty());
    fs::write(place.path().join("prm.toml"), &ran.stdout).expect("writes");
    assert_eq!(place.train(&["--dry-run"]).run().stdout, ran.stdout);
}

/// With an adapter the run leaves a PEFT directory, and a whole model that scores the same as others do.
#[test]
fn an_adapter_is_trained_and_merged() {
    let place = Workplace::new();
    let lora = "[lora]\nrank = 4\nalpha = 8.0\ntargets = [\"all-linear\"]\n";
    fs::write(place.path().join("prm.toml"), format!("{CONFIG}{lora}")).expect("writes");
    let model = place.trained();
    let run = model.parent().expect("a run");
    let settings = fs::read_to_string(run.join("adapter/adapter_config.json")).expect("settings");
    assert!(settings.contains("\"SEQ_CLS\"") && settings.contains("\"score\""), "{settings}");
    // Beside its base, unpacked from the binary, the adapter gives the scores of the merged model.
    let base = place.path().join("base");
    fs::create_dir(&base).expect("a folder");
    let agentflow_model::ModelFiles::Embedded(files) = agentflow_model::bundled::files() else {
        panic!("it is in the binary")
    };
    for (name, content) in files {
        fs::write(base.join(name), content).expect("writes");
    }
    let settings = settings.replace("\"bundled\"", "\"base\"");
    fs::write(run.join("adapter/adapter_config.json"), settings).expect("writes");
    let scored = |dir: &Path| {
        fs::write(place.path().join("in.jsonl"), "{\"ids\": [5, 6, 7]}\n").expect("writes");
        let dir = dir.to_str().expect("text");
        let ran = place.agentflow(&["prm", "score", "--input", "in.jsonl", "--model", dir]).run();
        assert_eq!(ran.code(), Some(0), "{ran}");
        ran.json()["score"].as_f64().expect("a score")
    };
    let (merged, beside) = (scored(&model), scored(&run.join("adapter")));
    assert!((merged - beside).abs() < 1e-5, "{merged} and {beside}");
}

#[test]
fn lines_are_scored_in_order_and_bad_ones_answered() {
    let place = Workplace::new();
    let model = place.trained();
    let input = "{\"ids\": [5, 6, 7]}\nnope\n\n{\"text\": \"hello\"}\n{\"ids\": [99999]}\n{\"ids\": []}\n\
                 {\"ids\": [1], \"text\": \"a\"}\n{\"ids\": [5, 6, 7]}\n";
    fs::write(place.path().join("in.jsonl"), input).expect("writes");
    let model = model.to_str().expect("text");
    let ran = place.agentflow(&["prm", "score", "--input", "in.jsonl", "--model", model]).run();
    assert_eq!(ran.code(), Some(1), "{ran}");
    let answers: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let is_score: Vec<bool> = answers.iter().map(|answer| answer["score"].is_number()).collect();
    assert_eq!(is_score, [true, false, true, false, false, false, true], "{ran}");
    assert_eq!(answers[0], answers[6]);
    assert!(
        answers[3]["error"].as_str().expect("text").contains("outside the vocabulary"),
        "{ran}"
    );
    assert!(ran.stderr.starts_with("3 texts scored, "), "{ran}");
    assert!(ran.stderr.ends_with("\nerror: 4 of 7 lines failed; their answers say why\n"), "{ran}");
}

/// Every readable decision gets its score, and nothing else of a line changes.
#[test]
fn a_run_is_scored_into_a_copy() {
    let place = Workplace::new();
    let model = place.trained();
    let run = place.path().join("runs/recorded");
    fs::create_dir_all(&run).expect("a folder");
    fs::write(run.join("run.toml"), "kind = \"eval\"\n").expect("writes");
    let trajectory = recorded("compact/1");
    // The last line was torn.
    let text = format!("{trajectory}\n{trajectory}\n{{\"sch");
    fs::write(run.join("trajectories.jsonl"), text).expect("writes");
    let score = |more: &[&str]| -> Ran {
        let model = model.to_str().expect("text");
        let command = [&["prm", "score", "recorded", "--model", model], more].concat();
        place.agentflow(&command).run()
    };
    let ran = score(&[]);
    assert_eq!(
        (ran.code(), ran.stdout.as_str()),
        (Some(0), "runs/recorded/trajectories.prm.jsonl\n"),
        "{ran}"
    );
    assert!(ran.stderr.contains("4 decisions of 2 trajectories scored, "), "{ran}");
    assert!(ran.stderr.contains("; 2 steps without a readable decision have no score"), "{ran}");
    let copy = fs::read_to_string(run.join("trajectories.prm.jsonl")).expect("the copy");
    let copies: Vec<Value> =
        copy.lines().map(|it| serde_json::from_str(it).expect("JSON")).collect();
    assert_eq!(copies.len(), 2);
    assert_eq!(copies[0], copies[1]);
    let mut without = copies[0].clone();
    for (step, has_score) in [true, false, true].into_iter().enumerate() {
        assert_eq!(without["steps"][step]["prm_score"].is_number(), has_score, "{step}");
        without["steps"][step]["prm_score"] = Value::Null;
    }
    assert_eq!(without, trajectory);
    assert_ne!(copies[0]["steps"][0]["prm_score"], copies[0]["steps"][2]["prm_score"]);

    // Made with the other prompts, it has another text.
    fs::write(run.join("trajectories.jsonl"), format!("{}\n", recorded("full/1"))).expect("writes");
    let ran = score(&["--out", "other.jsonl"]);
    assert_eq!((ran.code(), ran.stdout.as_str()), (Some(2), ""), "{ran}");
    assert!(
        ran.stderr.contains(
            "was trained on the text `prm-compact/1`, but what it is to rate is `prm-full/1`"
        ),
        "{ran}"
    );
    assert!(!place.path().join("other.jsonl").exists());
    assert_eq!(score(&["--out", "other.jsonl", "--force"]).code(), Some(0));
    assert!(place.path().join("other.jsonl").exists());
}

/// Three steps; the reply of the second could not be read.
fn recorded(prompts: &str) -> Value {
    let step = |index: usize, reply: Value| {
        json!({
            "index": index, "prompt": [{"role": "user", "content": "What is 2 plus 3?"}], "reply": reply,
            "raw": "", "thinking": null, "token_ids": [1, 2], "logprobs": [-0.1, -0.25],
            "observation": {"ok": true, "text": "5", "truncated": false, "wall_ms": 3},
            "verdict": {"sufficient": index == 2, "reason": ""}, "label": null, "prm_score": null,
            "usage": {"prompt_tokens": 5, "completion_tokens": 2}, "wall_ms": 10
        })
    };
    let decision = |action: &str| json!({"thought": "", "action": action, "action_input": "2 + 3"});
    json!({
        "schema": "agentflow.trajectory/1", "id": "one", "run": null, "question": "What is 2 plus 3?",
        "gold": "5", "benchmark": "arith", "problem_id": "arith-1",
        "model": {"name": "tiny-planner", "backend": "local", "digest": null, "adapter": null},
        "sampling": {"temperature": 0.0, "top_p": 1.0, "seed": 0, "think": false, "num_ctx": null},
        "prompts": prompts, "sandbox": "strong",
        "steps": [step(0, decision("code")), step(1, Value::Null), step(2, decision("answer"))],
        "answer": "5", "stop": "answered", "error": null, "score": 1.0,
        "usage": {"prompt_tokens": 15, "completion_tokens": 6}, "wall_s": 0.5, "eval": {"extra": "kept"}
    })
}
