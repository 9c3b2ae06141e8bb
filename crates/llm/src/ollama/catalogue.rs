//! What an Ollama server has and runs: version, models, and what a model can do.

use std::time::Duration;

use reqwest::RequestBuilder;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{ADVICE, Host, Ollama, failure};
use crate::{
    error::{ChatError, Phase},
    http::{Deadline, Http, Timeouts},
    retry,
};

/// How long a question about the server itself may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long [`probe`] waits; a local server answers in milliseconds.
const PROBE_WITHIN: Duration = Duration::from_secs(1);

/// A model that a server has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LocalModel {
    /// With its tag, e.g. `qwen3:8b`.
    pub name: String,
    #[serde(default)]
    pub digest: String,
    /// Bytes on disk.
    #[serde(default)]
    pub size: u64,
    /// What it can do, e.g. `completion`, `thinking`; empty from servers that do not tell.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// What `/api/show` tells of a model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Show {
    /// What it can do, e.g. `completion`, `thinking`; `None` from servers that do not tell.
    pub capabilities: Option<Vec<String>>,
    /// Default options, as text, one a line.
    #[serde(default)]
    pub parameters: String,
    /// Metadata of the weights; keys are `<architecture>.<field>`.
    #[serde(default)]
    pub model_info: Map<String, Value>,
}

impl Show {
    /// Whether it can be asked to think; yes where the server does not tell.
    pub fn can_think(&self) -> bool {
        self.capabilities.as_ref().is_none_or(|able| able.iter().any(|one| one == "thinking"))
    }

    /// Name of the prompts that it was trained on, from models that know no others: ours carry it as metadata.
    pub fn prompt_profile(&self) -> Option<&str> {
        self.model_info.get("agentflow.prompt_profile")?.as_str()
    }

    /// Context in tokens that it was trained for.
    pub fn trained_context(&self) -> Option<u64> {
        self.model_info
            .iter()
            .find(|(key, _)| key.ends_with(".context_length"))
            .and_then(|(_, value)| value.as_u64())
    }
}

/// A model in the server's memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LoadedModel {
    pub name: String,
    /// Context in tokens that it runs with; `None` from servers that do not tell.
    pub context_length: Option<u64>,
}

/// A server that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub version: String,
    pub models: Vec<LocalModel>,
}

impl Probe {
    /// Whether `model` is there; a name without tag means `:latest`, as everywhere in Ollama.
    pub fn has(&self, model: &str) -> bool {
        find(&self.models, model).is_some()
    }
}

/// Asks the server at `host` what it is and has, without patience: for choosing a backend.
///
/// # Errors
/// Why it cannot be used: unreachable, silent, or no Ollama.
pub async fn probe(host: &Host) -> Result<Probe, ChatError> {
    let timeouts = Timeouts { connect: PROBE_WITHIN, ..Timeouts::default() };
    let http = Http::new(&host.url(), "Ollama", ADVICE, timeouts)?;
    let version = version(&http, PROBE_WITHIN).await?;
    let models = models(&http, PROBE_WITHIN).await?;
    Ok(Probe { version, models })
}

impl Ollama {
    /// The server's version, e.g. `0.33.0`.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub async fn version(&self) -> Result<String, ChatError> {
        version(&self.http, self.answer_within()).await
    }

    /// The models that the server has.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub async fn models(&self) -> Result<Vec<LocalModel>, ChatError> {
        models(&self.http, self.answer_within()).await
    }

    /// What the server knows of `model`.
    ///
    /// # Errors
    /// [`ChatError::ModelMissing`], or if the server cannot be asked.
    pub async fn show(&self, model: &str) -> Result<Show, ChatError> {
        let request = self.http.post("/api/show").json(&json!({"model": model}));
        ask(&self.http, request, model, self.answer_within()).await
    }

    /// The models in the server's memory.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub async fn loaded(&self) -> Result<Vec<LoadedModel>, ChatError> {
        #[derive(Deserialize)]
        struct Loaded {
            models: Vec<LoadedModel>,
        }
        let request = self.http.get("/api/ps");
        Ok(ask::<Loaded>(&self.http, request, "", PROBE_WITHIN).await?.models)
    }

    /// No longer than a reply may take: whoever is impatient is so from the first question on.
    fn answer_within(&self) -> Duration {
        ANSWER_WITHIN.min(self.http.timeouts.reply)
    }
}

/// The entry for `model` among `models`.
pub(super) fn find<'a>(models: &'a [LocalModel], model: &str) -> Option<&'a LocalModel> {
    models.iter().find(|local| same_model(&local.name, model))
}

/// Whether both name the same model.
pub(super) fn same_model(one: &str, other: &str) -> bool {
    let tagged = |name: &str| {
        let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
        if has_tag { name.to_owned() } else { format!("{name}:latest") }
    };
    tagged(one).eq_ignore_ascii_case(&tagged(other))
}

async fn version(http: &Http, within: Duration) -> Result<String, ChatError> {
    #[derive(Deserialize)]
    struct Version {
        version: String,
    }
    Ok(ask::<Version>(http, http.get("/api/version"), "", within).await?.version)
}

async fn models(http: &Http, within: Duration) -> Result<Vec<LocalModel>, ChatError> {
    #[derive(Deserialize)]
    struct Tags {
        /// Old servers send `null` for none.
        models: Option<Vec<LocalModel>>,
    }
    Ok(ask::<Tags>(http, http.get("/api/tags"), "", within).await?.models.unwrap_or_default())
}

async fn ask<T: DeserializeOwned>(
    http: &Http,
    request: RequestBuilder,
    model: &str,
    within: Duration,
) -> Result<T, ChatError> {
    let deadline = Deadline::new(Phase::Reply, within);
    let response = http.send(request, deadline).await?;
    let status = response.status();
    let wait = retry::retry_after(response.headers());
    let body = http.body(response, deadline).await?;
    if !status.is_success() {
        return Err(failure::classify(http, model, status.as_u16(), &body, wait));
    }
    http.parse(&body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_tag_means_latest() {
        assert!(same_model("qwen3", "qwen3:latest"));
        assert!(same_model("Qwen3:8B", "qwen3:8b"));
        assert!(same_model("host:5000/me/m", "host:5000/me/m:latest"));
        assert!(!same_model("qwen3:8b", "qwen3"));
    }
}
