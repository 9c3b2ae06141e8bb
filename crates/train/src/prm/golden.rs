//! Goldens of `scripts/golden/prm_scores.py`: transformers' `Qwen3ForSequenceClassification` and torch's AdamW, in f32.

use std::path::{Path, PathBuf};

use agentflow_model::{Config, DtypeChoice, ModelFiles, Placement};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use super::Prm;
use super::config::BatchConfig;
use super::data::Example;
use super::update::Trained;
use crate::adamw::{AdamW, OptimizerConfig};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/prm").join(name)
}

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(directory(name).join("golden.json")).expect("a golden file");
    serde_json::from_str(&text).expect("JSON")
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("ids")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// HF-made directories, one file and shards; transformers' scores of padded batches and of the last token.
#[test]
fn scores_match_transformers() {
    for name in ["one-file", "shards"] {
        let golden = golden(name);
        let rows = golden["rows"].as_array().expect("rows");
        let prm = Prm::open(&directory(name), &Placement::cpu(DtypeChoice::F32)).expect("a PRM");
        let texts: Vec<Vec<u32>> = rows.iter().map(|row| ids(&row["ids"])).collect();
        let scores = prm.scores(&texts).expect("scores");
        for (row, score) in rows.iter().zip(scores) {
            let off = |key: &str| (f64::from(score) - number(&row[key])).abs();
            assert!(off("score") < 1e-5, "{name}: {score} instead of {row}");
            // Where a text ends in the padding id, transformers pools at a token before it; length tells where it ends.
            let ends_in_padding =
                row["ids"].as_array().and_then(|ids| ids.last()) == Some(&golden["pad_token_id"]);
            for side in ["hf_left", "hf_right"] {
                assert_eq!(off(side) < 1e-5, !ends_in_padding, "{name}, {side}: {score}, {row}");
            }
        }
    }
}

/// Five clipped updates, accumulated; in one part, in parts as small as a text, and by two workers.
#[test]
fn updates_match_torch() {
    let dir = directory("one-file");
    let golden = &golden("one-file")["updates"];
    let text = std::fs::read_to_string(dir.join("config.json")).expect("config.json");
    let config = Config::from_json(&text, &dir).expect("a configuration");
    let wanted = candle_core::safetensors::load(dir.join("after.safetensors"), &Device::Cpu)
        .expect("the weights afterwards");
    for (max_tokens, workers, recompute) in [(1000, 1, false), (64, 1, true), (1000, 2, false)] {
        let base = ModelFiles::directory(&dir).expect("a directory");
        let tensors = super::base::tensors(&base, &config, 0, DType::F32, &Device::Cpu);
        let trained = Trained::whole(&config, tensors.expect("the weights"), DType::F32, workers)
            .expect("a model to train");
        let settings = OptimizerConfig {
            lr: 1.0,
            beta1: number(&golden["beta1"]),
            beta2: number(&golden["beta2"]),
            eps: number(&golden["eps"]),
            weight_decay: number(&golden["weight_decay"]),
            max_grad_norm: 1.0,
        };
        let mut optimizer = AdamW::new(settings, &trained.masters).expect("an optimizer");
        let batch = BatchConfig { samples: 6, max_tokens, recompute, workers };
        for update in golden["updates"].as_array().expect("updates") {
            let labels = update["labels"].as_array().expect("labels");
            let rows = update["ids"].as_array().expect("rows");
            let examples: Vec<Example> =
                rows.iter().zip(labels).map(|(row, label)| example(row, label)).collect();
            let examples: Vec<&Example> = examples.iter().collect();
            let computed = trained.gradients(&examples, &batch).expect("gradients");
            let norm =
                optimizer.update(&computed.gradients, number(&update["lr"])).expect("an update");
            trained.refresh().expect("nothing to copy in f32");
            assert!((computed.loss - number(&update["loss"])).abs() < 1e-4, "{}", computed.loss);
            assert!((norm / number(&update["grad_norm"]) - 1.0).abs() < 1e-4, "{norm}");
        }
        for (name, master) in &trained.masters {
            let off = largest_difference(&wanted[name], master.as_tensor());
            assert!(off < 1e-5, "`{name}` is off by {off} with {max_tokens}, {workers}");
        }
    }
}

fn example(row: &Value, label: &Value) -> Example {
    Example {
        ids: ids(row),
        truncated: false,
        label: number(label) as f32,
        problem: 0,
        state: 0,
        last: false,
        place: String::new(),
    }
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    let difference = (a - b).and_then(|it| it.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>());
    difference.expect("the same shape")
}
