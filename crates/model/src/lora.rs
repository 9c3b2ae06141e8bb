//! LoRA adapters (arXiv 2106.09685) as PEFT writes them, applied beside the frozen weights: nothing is merged, so the base
//! stays as it is and one base serves many adapters.
//!
//! Left out on purpose, and refused by name: DoRA, trained biases, whole modules saved beside the adapter, adapters on
//! the embedding or the head, and initialisations that change the base weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{ModelError, Result};
use crate::ops;
use crate::weights::check_header;

const CONFIG_FILE: &str = "adapter_config.json";
const WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// A LoRA adapter for some linear layers of a model.
pub struct Adapter {
    dir: PathBuf,
    /// By the name of the layer, e.g. `model.layers.0.self_attn.q_proj`.
    modules: BTreeMap<String, Lora>,
    digest: String,
}

impl Adapter {
    /// Reads `adapter_config.json` and `adapter_model.safetensors` of a PEFT directory.
    ///
    /// # Errors
    /// A file that is missing or damaged, a setting that is not computed here, or tensors that do not fit the settings;
    /// the message names each.
    pub fn open(dir: &Path, dtype: DType, device: &Device) -> Result<Self> {
        let config_path = dir.join(CONFIG_FILE);
        let text = match std::fs::read_to_string(&config_path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ModelError::NoAdapter { path: dir.to_owned() });
            }
            Err(source) => return Err(ModelError::Read { path: config_path, source }),
        };
        let settings = Settings::from_json(&text, &config_path)?;
        let weights_path = dir.join(WEIGHTS_FILE);
        if !weights_path.exists() {
            return Err(ModelError::NoAdapter { path: dir.to_owned() });
        }
        check_header(&weights_path)?;
        // SAFETY: mapped read-only, as the weights of the model are; see `Weights::open`.
        let file = unsafe { MmapedSafetensors::new(&weights_path) }.map_err(|e| {
            ModelError::Weights { path: weights_path.clone(), problem: e.to_string() }
        })?;
        let mut halves: BTreeMap<String, [Option<Tensor>; 2]> = BTreeMap::new();
        let mut hash = Sha256::new();
        hash.update(&text);
        for (name, view) in file.tensors() {
            let (module, half) = half_of(&name, &weights_path)?;
            hash.update(&name);
            hash.update(view.data());
            // Scaled and rounded once: adapters are small, and usually stored in f32.
            let tensor = file.load(&name, device)?.to_dtype(DType::F32)?;
            halves.entry(module).or_default()[half] = Some(tensor);
        }
        let mut modules = BTreeMap::new();
        for (module, pair) in halves {
            let [Some(a), Some(b)] = pair else {
                return Err(ModelError::Weights {
                    path: weights_path,
                    problem: format!("`{module}` has only one of lora_A and lora_B"),
                });
            };
            let rank = settings.rank(&module);
            if a.dims().first() != Some(&rank) || b.dims().get(1) != Some(&rank) {
                return Err(ModelError::Invalid {
                    path: weights_path,
                    problem: format!(
                        "`{module}` has lora_A {:?} and lora_B {:?}, but {CONFIG_FILE} says rank {rank}",
                        a.dims(),
                        b.dims()
                    ),
                });
            }
            let lora = Lora::new(&a, &b, settings.scale(&module), dtype)?;
            modules.insert(module, lora);
        }
        if modules.is_empty() {
            return Err(ModelError::Invalid {
                path: weights_path,
                problem: "it has no tensors".to_owned(),
            });
        }
        let digest = format!("sha256:{:x}", hash.finalize());
        Ok(Self { dir: dir.to_owned(), modules, digest })
    }

    /// SHA-256 over settings and tensors.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn modules(&self) -> impl Iterator<Item = (&str, &Lora)> {
        self.modules.iter().map(|(module, lora)| (module.as_str(), lora))
    }
}

/// The low-rank pair of one layer.
#[derive(Debug, Clone)]
pub(crate) struct Lora {
    a: Tensor, // [rank, in]
    b: Tensor, // [out, rank], times the scale
}

impl Lora {
    fn new(a: &Tensor, b: &Tensor, scale: f64, dtype: DType) -> candle_core::Result<Self> {
        Ok(Self { a: a.to_dtype(dtype)?, b: (b * scale)?.to_dtype(dtype)? })
    }

    /// Inputs and outputs of the layer that it belongs to.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.a.dims()[1], self.b.dims()[0])
    }

    /// `product + scale · B(A(x))`.
    pub(crate) fn add(&self, x: &Tensor, product: &Tensor) -> candle_core::Result<Tensor> {
        ops::linear_residual(&ops::linear(x, &self.a)?, &self.b, product)
    }

    /// [`Lora::add`] for the engine: a row does not depend on those beside it, and no gradient is tracked.
    pub(crate) fn add_to_rows(&self, x: &Tensor, product: &Tensor) -> candle_core::Result<Tensor> {
        let inner = ops::row_linear(x, &self.a.detach())?;
        ops::row_linear_residual(&inner, &self.b.detach(), product)
    }
}

/// What of `adapter_config.json` decides the computation.
struct Settings {
    rank: usize,
    alpha: f64,
    rslora: bool,
    rank_pattern: Vec<(String, f64)>,
    alpha_pattern: Vec<(String, f64)>,
}

impl Settings {
    fn from_json(text: &str, path: &Path) -> Result<Self> {
        let invalid = |problem: String| ModelError::Invalid { path: path.to_owned(), problem };
        let unsupported =
            |problem: String| ModelError::Unsupported { path: path.to_owned(), problem };
        let json: Value = serde_json::from_str(text).map_err(|e| invalid(e.to_string()))?;
        if json["peft_type"] != "LORA" {
            return Err(unsupported(format!(
                "`peft_type` is {}; only \"LORA\" is known",
                json["peft_type"]
            )));
        }
        let is_off = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text == "none",
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        for key in [
            "use_dora",
            "bias",
            "modules_to_save",
            "lora_bias",
            "fan_in_fan_out",
            "trainable_token_indices",
            "target_parameters",
            "layer_replication",
            "megatron_config",
            "use_qalora",
            "alora_invocation_tokens",
            "use_bdlora",
            "kasa_config",
            "arrow_config",
            "monteclora_config",
            "velora_config",
        ] {
            if !is_off(&json[key]) {
                return Err(unsupported(format!(
                    "`{key}` is {}; merge such an adapter into its model with PEFT's `merge_and_unload`",
                    json[key]
                )));
            }
        }
        // These subtract what the adapter starts with from the base weights.
        let changes_base = |kind: &&str| {
            ["pissa", "olora", "loftq", "corda", "lora_ga"].iter().any(|one| kind.starts_with(one))
        };
        if let Some(kind) = json["init_lora_weights"].as_str().filter(changes_base) {
            return Err(unsupported(format!(
                "`init_lora_weights` is `{kind}`, which changes the base weights; \
                 let PEFT save it as a plain adapter (`path_initial_model_for_weight_conversion`)"
            )));
        }
        let rank = json["r"].as_u64().filter(|rank| *rank > 0);
        let rank =
            rank.ok_or_else(|| invalid("`r` is missing or no positive number".to_owned()))?;
        let alpha = json["lora_alpha"].as_f64();
        let alpha =
            alpha.ok_or_else(|| invalid("`lora_alpha` is missing or no number".to_owned()))?;
        let pattern = |key: &str| -> Result<Vec<(String, f64)>> {
            let entries = json[key].as_object().into_iter().flatten();
            let entry = |(name, value): (&String, &Value)| {
                // PEFT matches regular expressions; plain names are what people write.
                let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._".contains(c));
                match value.as_f64() {
                    Some(value) if plain => Ok((name.clone(), value)),
                    Some(_) => Err(unsupported(format!(
                        "`{key}` has the pattern `{name}`; only plain names of layers are known"
                    ))),
                    None => Err(invalid(format!("`{key}` of `{name}` is no number"))),
                }
            };
            entries.map(entry).collect()
        };
        Ok(Self {
            rank: rank as usize,
            alpha,
            rslora: json["use_rslora"] == true,
            rank_pattern: pattern("rank_pattern")?,
            alpha_pattern: pattern("alpha_pattern")?,
        })
    }

    fn rank(&self, module: &str) -> usize {
        matching(&self.rank_pattern, module).map_or(self.rank, |rank| rank as usize)
    }

    /// `α / r`, or `α / √r` with rank-stabilised LoRA (arXiv 2312.03732).
    fn scale(&self, module: &str) -> f64 {
        let alpha = matching(&self.alpha_pattern, module).unwrap_or(self.alpha);
        let rank = self.rank(module) as f64;
        alpha / if self.rslora { rank.sqrt() } else { rank }
    }
}

/// The first entry whose name is `module`, or its end behind a dot; PEFT's `get_pattern_key`.
fn matching(pattern: &[(String, f64)], module: &str) -> Option<f64> {
    let fits = |name: &str| {
        module.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    pattern.iter().find(|(name, _)| fits(name)).map(|(_, value)| *value)
}

/// Splits `base_model.model.<module>.lora_A.weight` into the module and 0 for A, 1 for B.
fn half_of(name: &str, path: &Path) -> Result<(String, usize)> {
    let module = name.strip_prefix("base_model.model.").unwrap_or(name);
    let halves = [".lora_A.weight", ".lora_B.weight"];
    halves
        .iter()
        .enumerate()
        .find_map(|(half, end)| Some((module.strip_suffix(end)?.to_owned(), half)))
        .ok_or_else(|| ModelError::Unsupported {
            path: path.to_owned(),
            problem: format!(
                "tensor `{name}` is neither a lora_A nor a lora_B of a linear layer; \
                 merge such an adapter into its model with PEFT's `merge_and_unload`"
            ),
        })
}
