//! What there is: `/api/version`, `/api/tags`, `/api/ps`, `/api/show`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body;
use crate::error::ServeError;
use crate::model::Card;
use crate::server::{Shared, tagged};

/// The version of Ollama whose wire this is: clients compare it with the one that brought what they need.
const OLLAMA: &str = "0.33.0";

/// When a model that stays for ever leaves memory.
const NEVER: &str = "2318-01-01T00:00:00Z";

pub(crate) async fn version() -> Json<Value> {
    Json(json!({"version": OLLAMA, "agentflow": env!("CARGO_PKG_VERSION")}))
}

pub(crate) async fn tags(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let models: Vec<Value> = shared
        .models
        .iter()
        .map(|model| {
            let card = model.card();
            let mut entry = entry(card);
            entry["modified_at"] = json!(shared.started.to_string());
            entry["capabilities"] = json!(capabilities(card));
            entry
        })
        .collect();
    Json(json!({"models": models}))
}

pub(crate) async fn ps(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let models: Vec<Value> = shared
        .models
        .iter()
        .map(|model| {
            let mut entry = entry(model.card());
            entry["expires_at"] = json!(NEVER);
            entry["size_vram"] = json!(0);
            entry["context_length"] = json!(model.card().context_length);
            entry
        })
        .collect();
    Json(json!({"models": models}))
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    model: String,
    /// What `model` was called once.
    #[serde(default)]
    name: String,
}

pub(crate) async fn show(
    State(shared): State<Arc<Shared>>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ServeError> {
    let body: Body = body::read(bytes)?;
    let name = if body.model.is_empty() { body.name } else { body.model };
    if name.is_empty() {
        return Err(ServeError::bad_request("model is required"));
    }
    let model = shared.model(&name)?;
    let card = model.card();
    let modelfile = format!(
        "# Served by agentflow {}; there is no file to build it from.\nFROM {}\n",
        env!("CARGO_PKG_VERSION"),
        card.name
    );
    Ok(Json(json!({
        "modelfile": modelfile,
        "parameters": format!("{:30} {}", "num_ctx", card.context_length),
        "template": card.template,
        "details": details(card),
        "model_info": card.info,
        "capabilities": capabilities(card),
        "modified_at": shared.started.to_string(),
    })))
}

/// When the model came here: the start of the server, for it holds no store of models.
pub(crate) fn created(shared: &Shared) -> i64 {
    let started: Timestamp = shared.started;
    started.as_second()
}

fn entry(card: &Card) -> Value {
    let name = tagged(&card.name);
    let digest = card.digest.strip_prefix("sha256:").unwrap_or(&card.digest);
    json!({
        "name": name,
        "model": name,
        "size": card.size,
        "digest": digest,
        "details": details(card),
    })
}

fn details(card: &Card) -> Value {
    json!({
        "parent_model": "",
        "format": "safetensors",
        "family": card.family,
        "families": [card.family],
        "parameter_size": size(card.parameters),
        "quantization_level": card.dtype,
        "context_length": card.context_length,
        "embedding_length": card.embedding_length,
    })
}

fn capabilities(card: &Card) -> Vec<&'static str> {
    let mut capabilities = vec!["completion"];
    if card.calls_tools {
        capabilities.push("tools");
    }
    if card.thinks {
        capabilities.push("thinking");
    }
    capabilities
}

/// A number of parameters as Ollama writes it, e.g. `8.2B`.
fn size(parameters: u64) -> String {
    let number = parameters as f64;
    match parameters {
        0..1_000 => parameters.to_string(),
        1_000..1_000_000 => format!("{:.2}K", number / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2}M", number / 1e6),
        _ => format!("{:.1}B", number / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let sizes = [999, 1_500, 1_900_000, 596_049_920, 8_190_735_360].map(size);
        assert_eq!(sizes, ["999", "1.50K", "1.90M", "596.05M", "8.2B"]);
    }
}
