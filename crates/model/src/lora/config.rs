//! New adapters.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Adapter, Lora};
use crate::config::Config;
use crate::error::{ModelError, Result};

/// The linear layers of a block, as HF transformers names them.
const TARGETS: [(&str, &str); 7] = [
    ("self_attn", "q_proj"),
    ("self_attn", "k_proj"),
    ("self_attn", "v_proj"),
    ("self_attn", "o_proj"),
    ("mlp", "gate_proj"),
    ("mlp", "up_proj"),
    ("mlp", "down_proj"),
];
/// PEFT's word for all of them.
const ALL_LINEAR: &str = "all-linear";

/// What a new adapter is like; the `lora` section of a training configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    pub rank: usize,
    pub alpha: f64,
    /// Of `q_proj`, `k_proj`, `v_proj`, `o_proj`, `gate_proj`, `up_proj` and `down_proj`, in every block; or `all-linear` alone.
    pub targets: Vec<String>,
    /// Scale by `alpha / √rank` (arXiv 2312.03732), not by `alpha / rank`.
    #[serde(default)]
    pub rslora: bool,
    /// Only 0: with dropout, the policy that is trained is not the one that was sampled.
    #[serde(default)]
    pub dropout: f64,
}

impl LoraConfig {
    /// The adapted layers of a block, each once, in the order of the model.
    ///
    /// # Errors
    /// A setting that cannot be; the message names its key.
    fn targets(&self) -> Result<Vec<(usize, &'static str, &'static str)>> {
        let refused = |key: &'static str, problem: String| Err(ModelError::Lora { key, problem });
        if self.rank == 0 {
            return refused("rank", "is 0; give a positive number, e.g. 16".to_owned());
        }
        if !self.alpha.is_finite() {
            return refused("alpha", format!("is {}; give a number, e.g. 32", self.alpha));
        }
        if self.dropout != 0.0 {
            return refused("dropout", format!("is {}; only 0 is computed here", self.dropout));
        }
        let is_all = |name: &String| name == ALL_LINEAR;
        let known = |name: &&String| TARGETS.iter().any(|(_, target)| target == name);
        if let Some(name) = self.targets.iter().find(|name| !known(name) && !is_all(name)) {
            let names = TARGETS.map(|(_, target)| target).join("`, `");
            return refused(
                "targets",
                format!("has `{name}`; use `{ALL_LINEAR}`, or any of `{names}`"),
            );
        }
        if self.targets.is_empty() {
            return refused(
                "targets",
                format!("is empty; use `{ALL_LINEAR}` to adapt every layer"),
            );
        }
        let wanted = |target: &str| self.targets.iter().any(|name| is_all(name) || name == target);
        let all = TARGETS.iter().enumerate();
        Ok(all
            .filter(|(_, (_, target))| wanted(target))
            .map(|(index, (part, target))| (index, *part, *target))
            .collect())
    }

    fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }
}

impl Adapter {
    /// A new adapter for a model of `config`, whose pairs are variables: A uniform in `±1/√in` (PEFT's
    /// `kaiming_uniform_(a=√5)`), B zero, so that at first it changes nothing.
    ///
    /// The numbers of a layer depend on `seed` and the layer alone, not on what else is adapted. `dtype` is that of the
    /// variables, F32 for an optimizer's sake; the model may compute in another.
    ///
    /// # Errors
    /// A setting of `lora` that cannot be; the message names it.
    pub fn init(
        config: &Config,
        lora: &LoraConfig,
        seed: u64,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let targets = lora.targets()?;
        let mut modules = BTreeMap::new();
        for layer in 0..config.num_hidden_layers {
            for &(index, part, target) in &targets {
                let (inputs, outputs) = sizes(config, target);
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream((layer * TARGETS.len() + index) as u64);
                let bound = 1.0 / (inputs as f32).sqrt();
                let count = lora.rank * inputs;
                let a: Vec<f32> = (0..count).map(|_| rng.random_range(-bound..bound)).collect();
                let a = Tensor::from_vec(a, (lora.rank, inputs), device)?.to_dtype(dtype)?;
                let b = Tensor::zeros((outputs, lora.rank), dtype, device)?;
                let pair = Lora {
                    a: Var::from_tensor(&a)?.into_inner(),
                    b: Var::from_tensor(&b)?.into_inner(),
                    scale: lora.scale(),
                };
                modules.insert(format!("model.layers.{layer}.{part}.{target}"), pair);
            }
        }
        let targets: Vec<&str> = targets.into_iter().map(|(_, _, target)| target).collect();
        let config = peft_config(lora, &targets);
        let digest = Sha256::digest(format!("{config} {seed}"));
        let digest = format!("sha256:{digest:x}");
        Ok(Self { dir: PathBuf::from("(new)"), config, modules, score: None, digest })
    }
}

/// Inputs and outputs of a layer.
fn sizes(config: &Config, target: &str) -> (usize, usize) {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    match target {
        "q_proj" => (hidden, queries),
        "o_proj" => (queries, hidden),
        "gate_proj" | "up_proj" => (hidden, inner),
        "down_proj" => (inner, hidden),
        _ => (hidden, keys),
    }
}

/// `adapter_config.json` as PEFT 0.21 reads it; what belongs to one copy of the adapter is filled in when it is written.
fn peft_config(lora: &LoraConfig, targets: &[&str]) -> Value {
    let is_whole = lora.alpha.fract() == 0.0 && lora.alpha.abs() < 1e9;
    let alpha = if is_whole { json!(lora.alpha as i64) } else { json!(lora.alpha) };
    json!({
        "peft_type": "LORA",
        "peft_version": "0.21.0",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": null,
        "revision": null,
        "inference_mode": true,
        "r": lora.rank,
        "lora_alpha": alpha,
        "lora_dropout": lora.dropout,
        "target_modules": targets,
        "bias": "none",
        "fan_in_fan_out": false,
        "use_rslora": lora.rslora,
        "use_dora": false,
        "modules_to_save": null,
        "init_lora_weights": true,
        "rank_pattern": {},
        "alpha_pattern": {},
        "layers_to_transform": null,
        "layers_pattern": null,
        "exclude_modules": null,
    })
}
