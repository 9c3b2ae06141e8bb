//! Golden: three updates by TRL's loss, PEFT's adapter and torch's AdamW in float64, `scripts/golden/dapo_update.py`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agentflow_model::Adapter;
use agentflow_train::adamw::OptimizerConfig;
use agentflow_train::dapo::{DapoConfig, Trainer, UpdateMetrics, replay};
use agentflow_train::policy::loss::LossConfig;
use candle_core::{DType, Device};
use serde::Deserialize;
use serde_json::Value;

use crate::models::{base, config, distance, golden, weights};

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    loss: LossConfig,
    optimizer: OptimizerConfig,
    temperature: f64,
    lines: Vec<Value>,
    updates: Vec<BTreeMap<String, f64>>,
}

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dapo_update")
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(place().join("cases.json")).expect("golden cases");
    serde_json::from_str::<Cases>(&text).expect("golden cases").cases
}

impl Case {
    /// With little room in a micro-batch, so that windows are cut.
    fn config(&self) -> DapoConfig {
        let mut config = config();
        config.lora = None;
        config.loss = self.loss.clone();
        config.optimizer = self.optimizer.clone();
        config.sampling.temperature = self.temperature;
        config.batch.micro_batch_tokens = 30;
        config
    }

    fn trainer(&self) -> Trainer {
        let adapter = Adapter::open(&golden("lora/all-linear"), DType::F32, &Device::Cpu);
        let adapter = adapter.expect("an adapter that PEFT wrote");
        Trainer::new(&base(), Some(&adapter), None, self.config()).expect("a trainer")
    }
}

fn reference(name: &str, update: usize) -> BTreeMap<String, Vec<f32>> {
    let file = place().join(format!("{name}-{update}.safetensors"));
    let tensors = candle_core::safetensors::load(file, &Device::Cpu).expect("weights by torch");
    let flat = tensors.into_iter().map(|(name, tensor)| {
        let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
        (name, values.expect("f32 values"))
    });
    flat.collect()
}

fn assert_close(place: &str, found: f64, wanted: f64) {
    let bound = 2e-5 * wanted.abs().max(1.0);
    assert!((found - wanted).abs() <= bound, "{place}: {found} instead of {wanted}");
}

fn assert_same(place: &str, found: &UpdateMetrics, wanted: &BTreeMap<String, f64>) {
    assert!(found.applied && found.micro_batches > 1, "{place}: {found:?}");
    for (name, &wanted) in wanted {
        let found = match name.as_str() {
            "loss" => found.loss,
            "grad_norm" => found.grad_norm,
            _ => found.values.get(name).copied(),
        };
        assert_close(&format!("{place}, {name}"), found.expect("a number"), wanted);
    }
}

#[test]
fn three_updates_match_trl_and_peft() {
    for case in cases() {
        let mut trainer = case.trainer();
        let lines: Vec<String> = case.lines.iter().map(Value::to_string).collect();
        let windows = replay::windows(&lines.join("\n"), case.temperature).expect("golden lines");
        let start = weights(&trainer);
        for (index, (mut rows, wanted)) in windows.into_iter().zip(&case.updates).enumerate() {
            trainer.prepare(&mut rows, false).expect("reference log-probs");
            let metrics = trainer.update(&rows).expect("an update");
            let place = format!("{}, update {}", case.name, index + 1);
            // TRL counts rows without a token as not clipped under `gspo`; the golden window has one of six.
            let mut wanted = wanted.clone();
            if case.loss.kind == agentflow_train::policy::loss::LossKind::Gspo {
                let means = wanted.iter_mut().filter(|(name, _)| name.ends_with("_mean"));
                means.for_each(|(_, share)| *share *= 6.0 / 5.0);
            }
            assert_same(&place, &metrics, &wanted);
            if index != 1 {
                let reference = reference(&case.name, index + 1);
                let moved = distance(&start, &reference);
                let missed = distance(&weights(&trainer), &reference);
                assert!(missed < 1e-5 && moved > 50.0 * missed, "{place}: {missed} of {moved}");
            }
        }
    }
}

/// Each line alone, from the same adapter: a wrong version of any part is another number.
#[test]
fn a_wrong_setting_is_another_update() {
    let case = &cases()[0];
    let update = |change: fn(&mut DapoConfig)| {
        let mut config = case.config();
        change(&mut config);
        let adapter = Adapter::open(&golden("lora/all-linear"), DType::F32, &Device::Cpu);
        let adapter = adapter.expect("an adapter");
        let mut trainer = Trainer::new(&base(), Some(&adapter), None, config).expect("a trainer");
        let temperature = trainer.config().sampling.temperature;
        let line = case.lines[1].to_string();
        let rows = replay::windows(&line, temperature).expect("a line").remove(0);
        trainer.update(&rows).expect("an update");
        weights(&trainer)
    };
    let right = update(|_| {});
    let wrong: [fn(&mut DapoConfig); 5] = [
        |config| config.sampling.temperature = 0.9,
        |config| config.loss.clip_high = 0.2,
        |config| config.loss.clip_low = Some(0.3),
        |config| config.optimizer.weight_decay = 0.1,
        |config| config.optimizer.lr *= 1.01,
    ];
    for (index, change) in wrong.into_iter().enumerate() {
        assert!(distance(&right, &update(change)) > 1e-5, "change {index} makes no difference");
    }
}
