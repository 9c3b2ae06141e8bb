//! A tiny base model, rows for it, and what can be read off a trainer.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agentflow_model::{Adapter, Config, Qwen3, Weights};
use agentflow_train::dapo::{DapoConfig, Row, Trainer};
use agentflow_train::policy::loss::Credit;
use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) const VOCABULARY: u32 = 96;

/// One update after the other at a constant rate, without guards.
pub(crate) const CONFIG: &str = r#"
seed = 3
[lora]
rank = 3
alpha = 6
targets = ["all-linear"]
[sampling]
temperature = 0.7
max_tokens = 16
plain_logprobs = false
[loss]
kind = "dapo"
aggregation = "token_mean"
clip_low = 0.2
clip_high = 0.28
beta = 0.0
kl_bias_correction = true
entropy_coef = 0.0
top_entropy_quantile = 1.0
[overlong]
filter_truncated = true
[batch]
updates_per_rollout = 1
micro_batch_tokens = 1000
workers = 1
recompute = true
[optimizer]
lr = 1e-2
beta1 = 0.9
beta2 = 0.99
eps = 1e-8
weight_decay = 0.0
max_grad_norm = 1.0
[schedule]
kind = "constant"
updates = 100
warmup = 0
floor = 0.0
"#;

pub(crate) fn config() -> DapoConfig {
    toml::from_str(CONFIG).expect("a complete configuration")
}

pub(crate) fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden").join(name)
}

pub(crate) fn base_tensors() -> BTreeMap<String, Tensor> {
    let file = golden("tied-gqa/model.safetensors");
    candle_core::safetensors::load(file, &Device::Cpu).expect("weights").into_iter().collect()
}

/// `tied-gqa`: two layers, 40 wide.
pub(crate) fn base() -> Qwen3 {
    base_over(base_tensors())
}

/// The same over given tensors, which it shares.
pub(crate) fn base_over(tensors: BTreeMap<String, Tensor>) -> Qwen3 {
    let path = golden("tied-gqa/config.json");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let config = Config::from_json(&text, &path).expect("a configuration");
    let weights = Weights::from_tensors(tensors.into_iter().collect(), DType::F32, &Device::Cpu);
    Qwen3::new(&config, &weights).expect("a model")
}

pub(crate) fn trainer(config: DapoConfig) -> Trainer {
    Trainer::new(&base(), None, None, config).expect("a trainer")
}

/// A trainer whose adapter already does something.
pub(crate) fn trainer_underway(config: DapoConfig) -> Trainer {
    let trainer = trainer(config);
    stir(trainer.adapter(), 0.1, 7);
    trainer
}

/// Gives every B of an adapter random numbers up to `size`.
pub(crate) fn stir(adapter: &Adapter, size: f32, seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for (name, variable) in adapter.variables() {
        if name.ends_with("lora_B.weight") {
            let count = variable.elem_count();
            let values: Vec<f32> = (0..count).map(|_| random.random_range(-size..size)).collect();
            let tensor = Tensor::from_vec(values, variable.shape(), &Device::Cpu);
            variable.set(&tensor.expect("a tensor")).expect("the same shape");
        }
    }
}

/// `groups` of three rows with ragged completions, of which some tokens were forced and one row is truncated.
pub(crate) fn rows(groups: u64, seed: u64) -> Vec<Row> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut rows = Vec::new();
    for group in 0..groups {
        let prompt: Vec<u32> = ids(&mut random, 3..12);
        for index in 0..3 {
            let completion = ids(&mut random, 2..16);
            let sampled = (0..completion.len()).map(|token| token % 4 != 2).collect();
            rows.push(Row {
                prompt: prompt.clone().into(),
                sampled,
                completion,
                sampled_logprobs: None,
                old_logprobs: None,
                reference_logprobs: None,
                grammar: None,
                temperature: 0.7,
                truncated: group == 1 && index == 1,
                group,
                advantage: Credit::Row(random.random_range(-1.5..1.5)),
                reward: Some(random.random_range(0.0..1.0)),
            });
        }
    }
    rows
}

fn ids(random: &mut ChaCha8Rng, lengths: std::ops::Range<usize>) -> Vec<u32> {
    let length = random.random_range(lengths);
    (0..length).map(|_| random.random_range(0..VOCABULARY)).collect()
}

/// Every number of an adapter, by name.
pub(crate) fn weights(trainer: &Trainer) -> BTreeMap<String, Vec<f32>> {
    let values = trainer.adapter().variables().into_iter().map(|(name, variable)| {
        let flat = variable.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
        (name, flat.expect("f32 values"))
    });
    values.collect()
}

/// The largest difference between two adapters.
pub(crate) fn distance(a: &BTreeMap<String, Vec<f32>>, b: &BTreeMap<String, Vec<f32>>) -> f32 {
    assert!(a.keys().eq(b.keys()), "adapters of different layers");
    let pairs = a.values().flatten().zip(b.values().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
