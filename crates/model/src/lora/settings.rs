//! What PEFT's `adapter_config.json` says.

use std::path::Path;

use serde_json::Value;

use crate::error::{ModelError, Result};

/// PEFT's name for models with a score on their last token.
pub(super) const SEQ_CLS: &str = "SEQ_CLS";

/// What of `adapter_config.json` decides the computation.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) rank: usize,
    pub(super) alpha: f64,
    pub(super) rslora: bool,
    pub(super) rank_pattern: Vec<(String, f64)>,
    pub(super) alpha_pattern: Vec<(String, f64)>,
    /// Whether `score.weight` is beside the low-rank pairs.
    pub(super) has_score: bool,
}

impl Settings {
    pub(super) fn from_json(json: &Value, path: &Path) -> Result<Self> {
        let invalid = |problem: String| ModelError::Invalid { path: path.to_owned(), problem };
        let unsupported =
            |problem: String| ModelError::Unsupported { path: path.to_owned(), problem };
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
        // PEFT adds both names to every classifier, whichever of them its model has.
        let is_head = |name: &Value| name == "score" || name == "classifier";
        let saved = json["modules_to_save"].as_array().map_or(&[][..], Vec::as_slice);
        let has_score = saved.iter().any(|name| name == "score") && json["task_type"] == SEQ_CLS;
        let is_known = is_off(&json["modules_to_save"]) || (has_score && saved.iter().all(is_head));
        if !is_known {
            return Err(unsupported(format!(
                "`modules_to_save` is {}; only the `score` of a `{SEQ_CLS}` model is known",
                json["modules_to_save"]
            )));
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
            has_score,
        })
    }

    pub(super) fn rank(&self, module: &str) -> usize {
        matching(&self.rank_pattern, module).map_or(self.rank, |rank| rank as usize)
    }

    /// `α / r`, or `α / √r` with rank-stabilised LoRA (arXiv 2312.03732).
    pub(super) fn scale(&self, module: &str) -> f64 {
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
