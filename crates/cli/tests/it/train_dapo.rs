//! `agentflow train dapo --replay`: against TRL and PEFT, and what it refuses.

use std::fs;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::agentflow::{Agentflow, Ran, agentflow};

fn crates(path: &str) -> String {
    let crates = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    crates.join(path).to_str().expect("a plain path").to_owned()
}

/// The first case of `scripts/golden/dapo_update.py`.
fn golden() -> Value {
    let text = fs::read_to_string(crates("train/tests/golden/dapo_update/cases.json"));
    let cases: Value = serde_json::from_str(&text.expect("golden cases")).expect("JSON");
    cases["cases"][0].clone()
}

/// A place with the golden lines in `rows.jsonl`.
fn place() -> tempfile::TempDir {
    let lines = golden()["lines"].as_array().expect("lines").clone();
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("rows.jsonl"), lines.join("\n") + "\n").expect("writes");
    dir
}

/// The golden update, with `more` arguments, inside `dir`.
fn replay(dir: &Path, more: &[&str]) -> Agentflow {
    let (model, adapter) =
        (crates("model/tests/golden/tied-gqa"), crates("model/tests/golden/lora/all-linear"));
    let arguments = ["train", "dapo", "--replay", "rows.jsonl", "--model", &model];
    let rest = ["--adapter", &adapter, "--out", "out", "--device", "cpu"];
    agentflow(&[&arguments[..], &rest, more].concat()).inside(dir)
}

const OPTIMIZER: [&str; 6] = [
    "--set",
    "optimizer.lr=3e-3",
    "--set",
    "optimizer.beta2=0.99",
    "--set",
    "optimizer.max_grad_norm=0.05",
];

fn metrics(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn updates_match_trl_and_the_adapter_can_be_gone_on_with() {
    let dir = place();
    let ran = replay(dir.path(), &[&OPTIMIZER[..], &["--json"]].concat()).run();
    assert_eq!((ran.code(), ran.stderr.as_str()), (Some(0), ""), "{ran}");
    let (found, golden) = (metrics(&ran), golden());
    assert_eq!(found.len(), 3);
    for (line, wanted) in found.iter().zip(golden["updates"].as_array().expect("updates")) {
        for (name, golden) in [
            ("loss", "loss"),
            ("grad_norm", "grad_norm"),
            ("entropy", "entropy"),
            ("clip_fraction_low", "clip_ratio/low_mean"),
            ("clip_fraction_high", "clip_ratio/high_mean"),
            ("clip_ratio/high_max", "clip_ratio/high_max"),
        ] {
            let (found, wanted) = (line[name].as_f64(), wanted[golden].as_f64());
            let (found, wanted) = (found.expect("a number"), wanted.expect("a number"));
            assert!((found - wanted).abs() < 2e-5 * wanted.abs().max(1.0), "{name}: {line}");
        }
    }
    let config =
        fs::read_to_string(dir.path().join("out/adapter_config.json")).expect("an adapter");
    let config: Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(2), &json!(6)));

    // Once more, from there; and nothing is written over.
    let on = ["--set", "optimizer.lr=1e-4", "--adapter", "out"];
    let again = |out: &str| {
        let model = crates("model/tests/golden/tied-gqa");
        let first = ["train", "dapo", "--replay", "rows.jsonl", "--model", &model, "--out", out];
        agentflow(&[&first[..], &on].concat()).inside(dir.path()).run()
    };
    let ran = again("next");
    assert!(ran.stdout.starts_with("update 1: loss "), "{ran}");
    assert_snapshot!(again("out").to_string(), @r"
    exit code: 2
    ----- stderr -----
    error: --out `out` is not empty; give a new or an empty directory
    ");
}

#[test]
fn a_schema_masks_what_the_grammar_forbids() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let schema = json!({"enum": ["yes", "no"]});
    let generate = json!({"prompt_ids": [5, 6, 7], "max_tokens": 9, "seed": 1, "temperature": 1, "schema": schema});
    fs::write(dir.path().join("ask"), generate.to_string()).expect("writes");
    let ran = agentflow(&["model", "generate", "--input", "ask"]).inside(dir.path()).run();
    let reply = &metrics(&ran)[0];
    let ids = reply["ids"].as_array().expect("ids").len();
    let line = json!({
        "prompt_ids": [[5, 6, 7]], "completion_ids": [reply["ids"]], "completion_mask": [vec![1; ids]],
        "advantages": [1.0], "old_logprobs": [reply["logprobs"]], "schema": schema,
    });
    let update = |line: &Value, out: &str| {
        fs::write(dir.path().join("rows"), line.to_string()).expect("writes");
        let command = ["train", "dapo", "--replay", "rows", "--json", "--out", out];
        let ran = agentflow(&command).inside(dir.path()).run();
        assert_eq!(ran.code(), Some(0), "{ran}");
        metrics(&ran)[0]["log_ratio/abs_max"].as_f64().expect("a number")
    };
    assert!(update(&line, "masked") < 1e-4, "{reply}");
    let mut plain = line.clone();
    plain.as_object_mut().expect("an object").remove("schema");
    assert!(update(&plain, "plain") > 0.1, "{reply}");
}

#[test]
fn what_cannot_be_replayed_is_said() {
    let dir = place();
    let refused = |more: &[&str]| {
        let said = replay(dir.path(), more).run().to_string();
        assert!(!dir.path().join("out").exists(), "{said}");
        said.replace(&crates("model/tests/golden"), "GOLDEN")
    };
    assert_snapshot!(refused(&["--set", "sampling.temperature=0"]), @r"
    exit code: 2
    ----- stderr -----
    error: `sampling.temperature` is 0; it must be positive: without chance, the completions of a group are all the same
    ");
    assert_snapshot!(refused(&["--set", "lora.rank=4"]), @r"
    exit code: 2
    ----- stderr -----
    error: adapter `GOLDEN/lora/all-linear` is another than the run asks for: it has rank 2, and `lora.rank` is 4; change the configuration to go on with it, or start a new one
    ");
    assert_snapshot!(refused(&["--set", "loss.clip_hihg=1"]), @r"
    exit code: 2
    ----- stderr -----
    error: `configs/dapo-replay.toml` with --set: unknown field `clip_hihg`, expected one of `kind`, `aggregation`, `clip_low`, `clip_high`, `delta`, `dual_clip`, `beta`, `kl_bias_correction`, `entropy_coef`, `top_entropy_quantile`
    in `loss`
    hint: did you mean `clip_high`?
    ");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut line = golden()["lines"][0].clone();
        change(&mut line);
        fs::write(dir.path().join("rows.jsonl"), line.to_string()).expect("writes");
        refused(&[])
    };
    assert_snapshot!(with(&|line| line["completion_ids"][3][0] = json!(96)), @r"
    exit code: 1
    ----- stderr -----
    error: update 1: row 3 cannot be used: token 96 is outside the vocabulary of 96; the ids are of another tokenizer
    ");
    assert_snapshot!(with(&|line| line["completion_mask"][1] = json!([1])), @r"
    exit code: 1
    ----- stderr -----
    error: cannot replay `rows.jsonl`: line 1, row 1: `completion_ids` has 8 tokens, but `completion_mask` 1; give one a token
    ");
    assert_snapshot!(with(&|line| line["advantages"][0] = json!(null)), @r"
    exit code: 1
    ----- stderr -----
    error: cannot replay `rows.jsonl`: line 1, row 0: the advantage is not a number; a row without a reward has advantage 0
    ");
    fs::write(dir.path().join("rows.jsonl"), "\n").expect("writes");
    assert_snapshot!(refused(&[]), @r"
    exit code: 1
    ----- stderr -----
    error: cannot replay `rows.jsonl`: line 1 is empty; a line is one update, so remove it
    ");
    let model = ["train", "dapo", "--replay", "rows.jsonl", "--out", "out", "--adapter"];
    let other = crates("model/tests/golden/lora/all-linear");
    fs::write(dir.path().join("rows.jsonl"), golden()["lines"][0].to_string()).expect("writes");
    let said = agentflow(&[&model[..], &[&other]].concat()).inside(dir.path()).run().to_string();
    assert_snapshot!(said.replace(&crates("model/tests/golden"), "GOLDEN"), @r"
    exit code: 1
    ----- stderr -----
    error: adapter `GOLDEN/lora/all-linear` is for another model: it has `model.layers.0.mlp.down_proj` from 48 to 40 numbers, in this model it goes from 512 to 192
    ");
}
