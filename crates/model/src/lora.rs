//! LoRA adapters (arXiv 2106.09685) as PEFT reads and writes them, applied beside the frozen weights: nothing is merged, so
//! the base stays as it is and one base serves many adapters.
//!
//! A trained adapter ([`Adapter::init`], [`Adapter::trainable`]) consists of variables. A model that has it computes with
//! what they are at that moment, so the engine samples from each update as soon as it is made.
//!
//! Left out on purpose, and refused by name: DoRA, dropout, trained biases, whole modules saved beside the adapter other
//! than a reward model's score, adapters on the embedding or the head, and initialisations that change the base weights.

mod config;
mod merge;
mod save;
mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor, Var};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{ModelError, Result};
use crate::ops;
use crate::weights::check_header;
use settings::Settings;

pub use config::LoraConfig;
pub use save::AdapterTask;

const CONFIG_FILE: &str = "adapter_config.json";
const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// What PEFT puts before the names of the model it wraps.
const PREFIX: &str = "base_model.model.";
const SCORE: &str = "score.weight";

/// A LoRA adapter for some linear layers of a model.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// Where it was read from; nowhere for a new one.
    dir: PathBuf,
    /// `adapter_config.json`
    config: Value,
    /// By the name of the layer, e.g. `model.layers.0.self_attn.q_proj`.
    modules: BTreeMap<String, Lora>,
    score: Option<Tensor>,
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
        let config: Value = serde_json::from_str(&text).map_err(|e| ModelError::Invalid {
            path: config_path.clone(),
            problem: e.to_string(),
        })?;
        let settings = Settings::from_json(&config, &config_path)?;
        let path = dir.join(WEIGHTS_FILE);
        if !path.exists() {
            return Err(ModelError::NoAdapter { path: dir.to_owned() });
        }
        check_header(&path)?;
        // SAFETY: mapped read-only, as the weights of the model are; see `Weights::open`.
        let file = unsafe { MmapedSafetensors::new(&path) }
            .map_err(|e| ModelError::Weights { path: path.clone(), problem: e.to_string() })?;
        let mut halves: BTreeMap<String, [Option<Tensor>; 2]> = BTreeMap::new();
        let mut score = None;
        let mut hash = Sha256::new();
        hash.update(&text);
        for (name, view) in file.tensors() {
            hash.update(&name);
            hash.update(view.data());
            let tensor = file.load(&name, device)?;
            if settings.has_score && name.strip_prefix(PREFIX) == Some(SCORE) {
                score = Some(tensor.to_dtype(DType::F32)?);
                continue;
            }
            let (module, half) = half_of(&name, &path)?;
            halves.entry(module).or_default()[half] = Some(tensor.to_dtype(dtype)?);
        }
        let invalid = |problem: String| ModelError::Invalid { path: path.clone(), problem };
        if settings.has_score && score.is_none() {
            return Err(invalid(format!(
                "it has no `{PREFIX}{SCORE}`, though {CONFIG_FILE} says so"
            )));
        }
        let mut modules = BTreeMap::new();
        for (module, pair) in halves {
            let [Some(a), Some(b)] = pair else {
                let problem = format!("`{module}` has only one of lora_A and lora_B");
                return Err(ModelError::Weights { path, problem });
            };
            let rank = settings.rank(&module);
            if a.dims().first() != Some(&rank) || b.dims().get(1) != Some(&rank) {
                return Err(invalid(format!(
                    "`{module}` has lora_A {:?} and lora_B {:?}, but {CONFIG_FILE} says rank {rank}",
                    a.dims(),
                    b.dims()
                )));
            }
            let scale = settings.scale(&module);
            modules.insert(module, Lora { a, b, scale });
        }
        if modules.is_empty() {
            return Err(invalid("it has no tensors".to_owned()));
        }
        let digest = format!("sha256:{:x}", hash.finalize());
        Ok(Self { dir: dir.to_owned(), config, modules, score, digest })
    }

    /// SHA-256 over settings and tensors as they were opened or initialised; training does not change it.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The name or path of the model that it was trained on, as its settings have it.
    pub fn base(&self) -> Option<&str> {
        self.config["base_model_name_or_path"].as_str()
    }

    /// The head of a reward model, `[labels, hidden]` in f32, where the adapter brings one.
    pub fn score(&self) -> Option<&Tensor> {
        self.score.as_ref()
    }

    /// A copy whose pairs are variables in f32, to train it further.
    pub fn trainable(&self) -> Result<Self> {
        let mut copy = self.clone();
        for lora in copy.modules.values_mut() {
            for half in [&mut lora.a, &mut lora.b] {
                let wide = half.to_dtype(DType::F32)?.detach();
                *half = Var::from_tensor(&wide)?.into_inner();
            }
        }
        Ok(copy)
    }

    /// The variables of a trained adapter, under PEFT's names; none of one that was only opened.
    pub fn variables(&self) -> BTreeMap<String, Var> {
        let tensors = self.tensors().filter(|(_, tensor)| tensor.is_variable());
        tensors.filter_map(|(name, tensor)| Some((name, Var::from_tensor(tensor).ok()?))).collect()
    }

    /// The adapted layers by name, with the rank of each and what it is scaled by: `alpha / rank`, or `alpha / √rank`.
    pub fn shape(&self) -> impl Iterator<Item = (&str, usize, f64)> {
        let modules = self.modules.iter();
        modules.map(|(module, lora)| (module.as_str(), lora.b.dims()[1], lora.scale))
    }

    /// The pairs under PEFT's names: A `[rank, in]`, B `[out, rank]`.
    fn tensors(&self) -> impl Iterator<Item = (String, &Tensor)> {
        self.modules.iter().flat_map(|(module, lora)| {
            let name = |half: &str| format!("{PREFIX}{module}.{half}.weight");
            [(name("lora_A"), &lora.a), (name("lora_B"), &lora.b)]
        })
    }

    pub(crate) fn modules(&self) -> impl Iterator<Item = (&str, &Lora)> {
        self.modules.iter().map(|(module, lora)| (module.as_str(), lora))
    }
}

/// The low-rank pair of one layer.
#[derive(Debug, Clone)]
pub(crate) struct Lora {
    a: Tensor, // [rank, in]
    b: Tensor, // [out, rank]
    scale: f64,
}

impl Lora {
    /// Inputs and outputs of the layer that it belongs to.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.a.dims()[1], self.b.dims()[0])
    }

    /// `product + B(scale · A(x))`, in the dtype of `x`, whichever the pair is stored in.
    pub(crate) fn add(&self, x: &Tensor, product: &Tensor) -> candle_core::Result<Tensor> {
        let (a, b) = (self.a.to_dtype(x.dtype())?, self.b.to_dtype(x.dtype())?);
        let inner = self.scaled(ops::linear(x, &a)?)?;
        ops::linear_residual(&inner, &b, product)
    }

    /// [`Lora::add`] for the engine: a row does not depend on those beside it, and no gradient is tracked.
    pub(crate) fn add_to_rows(&self, x: &Tensor, product: &Tensor) -> candle_core::Result<Tensor> {
        let half = |half: &Tensor| half.detach().to_dtype(x.dtype());
        let inner = self.scaled(ops::row_linear(x, &half(&self.a)?)?)?;
        ops::row_linear_residual(&inner, &half(&self.b)?, product)
    }

    /// The scale goes to the smallest operand: `B` may be a variable, and must stay what the optimizer made it.
    fn scaled(&self, inner: Tensor) -> candle_core::Result<Tensor> {
        if self.scale == 1.0 { Ok(inner) } else { inner.affine(self.scale, 0.0) }
    }
}

/// Splits `base_model.model.<module>.lora_A.weight` into the module and 0 for A, 1 for B.
fn half_of(name: &str, path: &Path) -> Result<(String, usize)> {
    let module = name.strip_prefix(PREFIX).unwrap_or(name);
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
