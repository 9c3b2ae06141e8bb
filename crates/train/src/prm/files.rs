//! The directory of a trained PRM, as `AutoModelForSequenceClassification` of HF transformers reads it.

use std::collections::BTreeMap;
use std::path::Path;

use agentflow_eval::{RunDirError, write_atomically};
use agentflow_model::{Architecture, Config, ModelError, ModelFiles, PROFILE_FILE, save_tensors};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::PrmError;

/// The padding token of Qwen's tokenizers, and of ours. No PRM text ends in it.
const PAD: &str = "<|endoftext|>";
/// The token that PRM texts end in.
const END: &str = "<|im_end|>";

/// What `agentflow.json` in the directory of a PRM says of it. One that others made says nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Version of the text that it rates, e.g. `prm-full/1`.
    pub prm_prompt: Option<String>,
    /// Tokens of a text that are read, and the end that is left out of a longer one.
    pub max_length: Option<usize>,
    pub truncation_side: Option<String>,
    /// What it was trained from, and the hash of the labels it was trained on.
    pub base: Option<String>,
    pub labels: Option<String>,
    /// The update whose weights these are.
    pub update: Option<u64>,
    /// On held-out problems: mean absolute error, that of the mean label, and how often the better of two decisions in a
    /// state has the higher score.
    pub held_out_mae: Option<f64>,
    pub baseline_mae: Option<f64>,
    pub pairwise_accuracy: Option<f64>,
}

impl About {
    pub(super) fn read(dir: &Path) -> Result<Self, PrmError> {
        let path = dir.join(PROFILE_FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map_err(|e| ModelError::Invalid { path, problem: e.to_string() }.into()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ModelError::Read { path, source }.into()),
        }
    }
}

/// The class that HF transformers calls a classifier on this decoder.
pub(super) fn class_of(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Qwen2 => "Qwen2ForSequenceClassification",
        Architecture::Qwen3 => "Qwen3ForSequenceClassification",
    }
}

/// Writes weights, configuration, tokenizer and chat template of the base, and `about`, into `dir`.
pub(super) fn save(
    base: &ModelFiles,
    config: &Config,
    tensors: &BTreeMap<String, Tensor>,
    about: &About,
    dir: &Path,
) -> Result<(), PrmError> {
    let io = |source| RunDirError::Io { action: "create", path: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(io)?;
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
    ] {
        if let Some(content) = base.read(name)? {
            write_atomically(&dir.join(name), content.as_bytes())?;
        }
    }
    save_tensors(&dir.join("model.safetensors"), tensors)?;
    save_about(about, dir)?;
    // Last: a directory without it is no model.
    let config = config_json(base, config)?;
    Ok(write_atomically(&dir.join("config.json"), format!("{config:#}\n").as_bytes())?)
}

/// Writes `agentflow.json`.
pub(super) fn save_about(about: &About, dir: &Path) -> Result<(), PrmError> {
    let about = serde_json::to_value(about).expect("plain numbers and texts serialize");
    Ok(write_atomically(&dir.join(PROFILE_FILE), format!("{about:#}\n").as_bytes())?)
}

/// The base's `config.json`, turned into that of a regression model with one output.
fn config_json(base: &ModelFiles, config: &Config) -> Result<Value, PrmError> {
    let text = base.read("config.json")?.unwrap_or_default();
    let mut json: Value = serde_json::from_str(&text).unwrap_or_default();
    json["architectures"] = json!([class_of(config.architecture)]);
    // transformers takes the number of outputs from this map.
    json["id2label"] = json!({"0": "LABEL_0"});
    json["label2id"] = json!({"LABEL_0": 0});
    json["problem_type"] = "regression".into();
    json["pad_token_id"] = pad_id(base)?.into();
    // Old readers know one, new ones the other.
    json["dtype"] = "float32".into();
    json["torch_dtype"] = "float32".into();
    if let Some(object) = json.as_object_mut() {
        object.remove("num_labels");
        object.remove("transformers_version");
    }
    Ok(json)
}

/// The id that HF transformers pads with and looks past when it pools: never the one that PRM texts end in.
pub(super) fn pad_id(base: &ModelFiles) -> Result<u32, PrmError> {
    let tokenizer = base.manifest()?.tokenizer;
    let settings: Value = base
        .read("tokenizer_config.json")?
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let pad = &settings["pad_token"];
    let named = pad.as_str().or(pad["content"].as_str());
    [Some(PAD), named]
        .into_iter()
        .flatten()
        .filter(|token| *token != END)
        .find_map(|token| tokenizer.id(token))
        .ok_or_else(|| PrmError::NoPadding { base: base.place() })
}
