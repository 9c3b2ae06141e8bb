//! `GET /v1/models` and `/v1/models/{model}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::error::OpenAiError;
use crate::ollama::created;
use crate::server::{Shared, tagged};

pub(crate) async fn models(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let data: Vec<Value> =
        shared.models.iter().map(|model| entry(&tagged(&model.card().name), &shared)).collect();
    Json(json!({"object": "list", "data": data}))
}

pub(crate) async fn model(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, OpenAiError> {
    shared.model(&name)?;
    Ok(Json(entry(&name, &shared)))
}

fn entry(name: &str, shared: &Shared) -> Value {
    json!({"id": name, "object": "model", "created": created(shared), "owned_by": "library"})
}
