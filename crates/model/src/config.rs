//! `config.json` of a Qwen3 or Qwen2 model, checked.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{ModelError, Result};

/// Which decoder: they differ in how queries and keys are made, and in nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Also Qwen2.5 and what was distilled into it: biases on the query, key and value projections.
    Qwen2,
    /// No biases; queries and keys are RMS-normalised per head.
    Qwen3,
}

impl Architecture {
    /// The `model_type` of config.json, and the `general.architecture` of GGUF.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "qwen2" => Some(Self::Qwen2),
            "qwen3" => Some(Self::Qwen3),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The class that HF transformers calls it.
    pub fn class(self) -> &'static str {
        match self {
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }
}

/// The shape of a decoder, in the names of Hugging Face's `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    #[serde(rename = "model_type")]
    pub architecture: Architecture,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    /// Independent of `hidden_size / num_attention_heads`: Qwen3-0.6B has 128 against 64.
    pub head_dim: usize,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    pub max_position_embeddings: usize,
    pub tie_word_embeddings: bool,
}

impl Config {
    /// Reads and checks `config.json`.
    ///
    /// # Errors
    /// A key that is missing or of the wrong type, numbers that do not fit together, or a variant of the
    /// architecture that this engine does not compute: each is named.
    pub fn from_json(text: &str, path: &Path) -> Result<Self> {
        let invalid = |problem: String| ModelError::Invalid { path: path.to_owned(), problem };
        let unsupported =
            |problem: String| ModelError::Unsupported { path: path.to_owned(), problem };
        let mut json: Value = serde_json::from_str(text).map_err(|e| invalid(e.to_string()))?;

        match json["model_type"].as_str() {
            Some(name) if Architecture::from_name(name).is_some() => {}
            Some(other) => {
                return Err(unsupported(format!(
                    "`model_type` is `{other}`; only `qwen3` and `qwen2` are known"
                )));
            }
            None => return Err(invalid("it has no `model_type`".to_owned())),
        }
        if json["attention_bias"] == true {
            return Err(unsupported("`attention_bias` is true".to_owned()));
        }
        if let Some(activation) = json["hidden_act"].as_str().filter(|name| *name != "silu") {
            return Err(unsupported(format!(
                "`hidden_act` is `{activation}`; only `silu` is known"
            )));
        }
        if json["use_sliding_window"] == true {
            return Err(unsupported("`use_sliding_window` is true".to_owned()));
        }
        let full = |kind: &Value| kind == "full_attention";
        if !json["layer_types"].as_array().is_none_or(|kinds| kinds.iter().all(full)) {
            return Err(unsupported("`layer_types` has others than `full_attention`".to_owned()));
        }
        // Transformers 5 writes `rope_parameters`, older versions `rope_theta` and `rope_scaling`.
        for key in ["rope_parameters", "rope_scaling"] {
            let kind = json[key]["rope_type"].as_str().or(json[key]["type"].as_str());
            if let Some(kind) = kind.filter(|kind| *kind != "default") {
                return Err(unsupported(format!(
                    "`{key}` is of type `{kind}`; only plain RoPE is known"
                )));
            }
        }
        if json["rope_theta"].is_null() {
            json["rope_theta"] = json["rope_parameters"]["rope_theta"].clone();
        }
        if json["head_dim"].is_null() {
            json["head_dim"] =
                match (json["hidden_size"].as_u64(), json["num_attention_heads"].as_u64()) {
                    (Some(hidden), Some(heads @ 1..)) => (hidden / heads).into(),
                    _ => Value::Null,
                };
        }
        if json["tie_word_embeddings"].is_null() {
            json["tie_word_embeddings"] = false.into();
        }
        for key in [
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "max_position_embeddings",
            "rms_norm_eps",
            "rope_theta",
        ] {
            if !json[key].is_number() {
                return Err(invalid(format!("`{key}` is missing or no number")));
            }
        }
        let config: Self = serde_json::from_value(json).map_err(|e| invalid(e.to_string()))?;
        config.check().map_err(invalid)?;
        Ok(config)
    }

    /// The JSON that [`Config::from_json`] and HF transformers read.
    pub fn to_json(&self, dtype: &str, eos_token_id: u32) -> Value {
        let mut json = serde_json::to_value(self).expect("plain numbers serialize");
        json["architectures"] = serde_json::json!([self.architecture.class()]);
        json["hidden_act"] = "silu".into();
        if self.architecture == Architecture::Qwen3 {
            json["attention_bias"] = false.into();
        }
        json["torch_dtype"] = dtype.into();
        json["eos_token_id"] = eos_token_id.into();
        json
    }

    /// Query heads that share one key-value head.
    pub fn group_size(&self) -> usize {
        self.num_attention_heads / self.num_key_value_heads
    }

    /// Numbers that one token adds to the cache of keys and values.
    pub fn kv_numbers_per_token(&self) -> usize {
        2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim
    }

    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (name, size) in sizes {
            if size == 0 {
                return Err(format!("`{name}` is 0"));
            }
        }
        // The longest contexts in use have a million tokens; rotary tables are made for all of them.
        if self.max_position_embeddings > 1 << 22 {
            return Err(format!(
                "`max_position_embeddings` is {}, which cannot be meant",
                self.max_position_embeddings
            ));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(format!(
                "`num_attention_heads` ({}) is not a multiple of `num_key_value_heads` ({})",
                self.num_attention_heads, self.num_key_value_heads
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!(
                "`head_dim` ({}) is odd; rotary embedding needs pairs",
                self.head_dim
            ));
        }
        if !(self.rms_norm_eps > 0.0 && self.rope_theta > 0.0) {
            return Err("`rms_norm_eps` and `rope_theta` must be positive".to_owned());
        }
        Ok(())
    }
}
