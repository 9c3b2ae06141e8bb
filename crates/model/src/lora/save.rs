//! Adapters as PEFT reads them.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Tensor};
use serde_json::{Value, json};

use super::settings::SEQ_CLS;
use super::{Adapter, CONFIG_FILE, PREFIX, SCORE, WEIGHTS_FILE};
use crate::error::{ModelError, Result};
use crate::tensor_file::{save_tensors, write_atomically};

/// What the model under an adapter is for; PEFT's `task_type`.
#[derive(Debug, Clone, Copy)]
pub enum AdapterTask<'a> {
    CausalLm,
    /// A score on the last token; `score`, `[labels, hidden]`, is saved beside the pairs where it was trained with them.
    SequenceClassification {
        score: Option<&'a Tensor>,
    },
}

impl Adapter {
    /// Writes `adapter_config.json` and `adapter_model.safetensors` into `dir`, which need not exist; `base` is the name or
    /// path under which PEFT finds the base model.
    ///
    /// Each file appears whole or not at all, the settings last.
    ///
    /// # Errors
    /// A file that cannot be written; the message names it.
    pub fn save(&self, dir: &Path, base: &str, task: AdapterTask<'_>) -> Result<()> {
        let failed = |source| ModelError::Write { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut tensors: BTreeMap<String, Tensor> =
            self.tensors().map(|(name, tensor)| (name, tensor.detach())).collect();
        let mut config = self.config.clone();
        config["base_model_name_or_path"] = base.into();
        config["inference_mode"] = true.into();
        config["task_type"] = "CAUSAL_LM".into();
        config["modules_to_save"] = Value::Null;
        if let AdapterTask::SequenceClassification { score } = task {
            config["task_type"] = SEQ_CLS.into();
            if let Some(score) = score {
                config["modules_to_save"] = json!(["score"]);
                tensors.insert(format!("{PREFIX}{SCORE}"), score.detach().to_dtype(DType::F32)?);
            }
        }
        save_tensors(&dir.join(WEIGHTS_FILE), &tensors)?;
        write_atomically(&dir.join(CONFIG_FILE), format!("{config:#}\n").as_bytes())
    }
}
