//! Labels, bases and models that `agentflow train prm` and `agentflow prm score` cannot use.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::agentflow::agentflow;
use crate::prm::{Workplace, labels};

/// What training says; nothing must be left behind.
fn refused(place: &Workplace, more: &[&str]) -> String {
    let ran = place.train(more).run();
    assert_eq!(ran.stdout, "", "{ran}");
    assert!(!place.path().join("runs").exists(), "{ran}");
    ran.to_string()
}

fn with(change: impl Fn(&mut Vec<Value>)) -> String {
    let place = Workplace::new();
    let mut labels = labels();
    change(&mut labels);
    place.write_labels(&labels);
    refused(&place, &[])
}

#[test]
fn labels_that_are_none() {
    assert_snapshot!(with(Vec::clear), @r"
    exit code: 2
    ----- stderr -----
    error: there is no label in `labels.jsonl`; label a run with `agentflow train label`
    ");
    let unlabelled = with(|labels| labels.iter_mut().for_each(|it| it["label"] = Value::Null));
    assert_snapshot!(unlabelled, @r"
    exit code: 2
    ----- stderr -----
    error: there is no label in `labels.jsonl` (20 decisions have none); label a run with `agentflow train label`
    ");
    assert_snapshot!(with(|labels| labels[4]["label"] = json!(7)), @r"
    exit code: 2
    ----- stderr -----
    error: `labels.jsonl`: line 5 has the label 7; labels are numbers from 0 to 1, so divide them by their maximum
    ");
    assert_snapshot!(refused(&Workplace::new(), &["--set", "data.labels=nowhere.jsonl"]), @r"
    exit code: 2
    ----- stderr -----
    error: cannot read the labels `nowhere.jsonl`: No such file or directory; give a file of labels, or a run that made one
    ");
}

#[test]
fn labels_of_another_text_or_of_several() {
    assert_snapshot!(with(|labels| labels[9]["prm_prompt"] = json!("prm-full/1")), @r"
    exit code: 2
    ----- stderr -----
    error: line 10 of `labels.jsonl` is of the PRM text `prm-full/1`, but line 1 of `labels.jsonl` of `prm-compact/1`; train one PRM for each, or label all runs with one version
    ");
    assert_snapshot!(with(|labels| labels[0]["prm_prompt"] = json!("prm-compact/0")), @r"
    exit code: 2
    ----- stderr -----
    error: line 1 of `labels.jsonl` is of the PRM text `prm-compact/0`, which this version does not make (it makes `prm-full/1`, `prm-compact/1`); label the run again
    ");
}

#[test]
fn labels_of_one_problem() {
    assert_snapshot!(with(|labels| labels.truncate(2)), @r"
    exit code: 2
    ----- stderr -----
    error: all labels are about one problem, `p-0`, so none can be held out; collect and label more problems
    ");
}

#[test]
fn a_window_that_the_base_does_not_have() {
    let larger = ["--set", "model.max_length=2048", "--set", "batch.max_tokens=4096"];
    assert_snapshot!(refused(&Workplace::new(), &larger), @r"
    exit code: 2
    ----- stderr -----
    error: `model.max_length` is 2048; the bundled model reads at most 1024 tokens
    ");
    assert_snapshot!(refused(&Workplace::new(), &["--set", "batch.max_tokens=32"]), @r"
    exit code: 2
    ----- stderr -----
    error: `batch.max_tokens` is 32; it must be at least `model.max_length`
    ");
}

/// Unpacks the bundled planner.
fn unpack(dir: &Path) {
    fs::create_dir(dir).expect("a folder");
    let agentflow_model::ModelFiles::Embedded(files) = agentflow_model::bundled::files() else {
        panic!("it is in the binary")
    };
    for (name, content) in files {
        fs::write(dir.join(name), content).expect("writes");
    }
}

#[test]
fn bases_that_cannot_be_trained() {
    let place = Workplace::new();
    let base = place.path().join("base");
    unpack(&base);
    fs::remove_file(base.join("tokenizer.json")).expect("removes");
    assert_snapshot!(refused(&place, &["--set", "model.base=base"]), @r"
    exit code: 1
    ----- stderr -----
    error: model directory `base` has no `tokenizer.json`; a Hugging Face model directory needs it, so copy or download it again
    ");
    let config = fs::read_to_string(base.join("config.json")).expect("config.json");
    fs::write(base.join("config.json"), config.replace("\"qwen3\"", "\"llama\"")).expect("writes");
    assert_snapshot!(refused(&place, &["--set", "model.base=base"]), @r"
    exit code: 1
    ----- stderr -----
    error: `base/config.json` describes a model this engine does not run: `model_type` is `llama`; only `qwen3` and `qwen2` are known
    ");
}

/// The run ends, says where, and keeps its last checkpoint.
#[test]
fn a_loss_that_is_no_number() {
    let place = Workplace::new();
    let ran = place.train(&["--set", "optimizer.lr=1e38"]).run();
    assert_eq!((ran.code(), ran.stdout.as_str()), (Some(1), ""), "{ran}");
    let said = ran.stderr.lines().last().expect("an error");
    assert!(
        said.starts_with("error: the loss of update 2 is not a number (first in step "),
        "{ran}"
    );
    assert!(said.contains("lower `optimizer.lr` or raise `schedule.warmup`"), "{ran}");
}

#[test]
fn what_is_left_out_or_cut_is_said() {
    let place = Workplace::new();
    let mut labels = labels();
    labels[3]["label"] = Value::Null;
    place.write_labels(&labels);
    let ran = place.train(&["--set", "schedule.updates=1", "--set", "model.max_length=10"]).run();
    assert_eq!(ran.code(), Some(0), "{ran}");
    assert!(
        ran.stderr.contains(
            "; 1 without a label left out; 19 longer than `model.max_length`, their beginning cut off\n"
        ),
        "{ran}"
    );
}

#[test]
fn models_that_are_no_prm_of_this_text() {
    let place = Workplace::new();
    let score = |model: &str, more: &[&str]| {
        fs::write(place.path().join("in.jsonl"), "{\"ids\": [5]}\n").expect("writes");
        let command = [&["prm", "score", "--input", "in.jsonl", "--model", model], more].concat();
        agentflow(&command).inside(place.path()).run()
    };
    unpack(&place.path().join("planner"));
    assert_snapshot!(score("planner", &[]), @r"
    exit code: 1
    ----- stderr -----
    error: `planner/config.json` is no PRM: its architecture is `Qwen3ForCausalLM`, not `Qwen3ForSequenceClassification`; train one with `agentflow train prm`
    ");
    fs::rename(place.trained(), place.path().join("prm")).expect("moves");
    let about = place.path().join("prm/agentflow.json");
    let said = fs::read_to_string(&about).expect("agentflow.json");
    fs::write(&about, said.replace("prm-compact/1", "prm-compact/0")).expect("writes");
    assert_snapshot!(score("prm", &[]), @r"
    exit code: 2
    ----- stderr -----
    error: the PRM `prm` was trained on the text `prm-compact/0`, but what it is to rate is `prm-full/1` or `prm-compact/1`; train one on that text, or use --force to score nevertheless
    ");
    assert_eq!(score("prm", &["--force"]).code(), Some(0));
    fs::remove_file(&about).expect("removes");
    assert_snapshot!(score("prm", &[]), @r"
    exit code: 2
    ----- stderr -----
    error: the PRM `prm` does not say in agentflow.json which text it was trained on (`prm_prompt`), so it is not known to fit `prm-full/1` or `prm-compact/1`; use --force to score nevertheless
    ");
    assert_eq!(score("prm", &["--force"]).code(), Some(0));
}
