//! `POST /v1/embeddings`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body;
use crate::error::{OpenAiError, ServeError};
use crate::ollama::{cut, texts};
use crate::server::Shared;

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    model: String,
    input: Option<Value>,
    dimensions: Option<usize>,
    encoding_format: Option<String>,
}

pub(crate) async fn embeddings(
    State(shared): State<Arc<Shared>>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, OpenAiError> {
    let body: Body = body::read(bytes)?;
    let model = shared.model(&body.model)?;
    let as_base64 = match body.encoding_format.as_deref().unwrap_or("float") {
        "float" => false,
        "base64" => true,
        other => {
            return Err(ServeError::bad_request(format!(
                "Invalid value for 'encoding_format' = {other}. Supported values: ['float', 'base64']."
            ))
            .into());
        }
    };
    let texts = match &body.input {
        Some(Value::String(text)) => vec![text.clone()],
        input => texts(input.as_ref())?,
    };
    if texts.is_empty() {
        return Err(ServeError::bad_request("invalid input").into());
    }
    let _slot = shared.gate.enter().await?;
    let (mut data, mut tokens) = (Vec::with_capacity(texts.len()), 0);
    for (index, text) in texts.iter().enumerate() {
        let embedding = model.embed(text, true).await?;
        tokens += embedding.tokens;
        let vector = cut(embedding.vector, body.dimensions);
        let vector = if as_base64 { json!(base64(&vector)) } else { json!(vector) };
        data.push(json!({"object": "embedding", "index": index, "embedding": vector}));
    }
    Ok(Json(json!({
        "object": "list",
        "data": data,
        "model": body.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })))
}

/// Numbers as little-endian bytes, in base64.
fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes)
}
