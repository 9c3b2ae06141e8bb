//! `POST /api/embed`, and the older `/api/embeddings`.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::wire::nanoseconds;
use crate::body;
use crate::error::ServeError;
use crate::local::normalize;
use crate::server::Shared;

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    model: String,
    input: Option<Value>,
    truncate: Option<bool>,
    dimensions: Option<usize>,
}

/// The older form: one prompt, one vector.
#[derive(Deserialize)]
struct OldBody {
    #[serde(default)]
    model: String,
    #[serde(default)]
    prompt: String,
}

#[derive(Serialize)]
struct Embedded<'a> {
    model: &'a str,
    embeddings: Vec<Vec<f32>>,
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: usize,
}

#[derive(Serialize)]
struct OldEmbedded {
    embedding: Vec<f32>,
}

pub(crate) async fn embed(
    State(shared): State<Arc<Shared>>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ServeError> {
    let started = Instant::now();
    let body: Body = body::read(bytes)?;
    let model = shared.model(&body.model)?;
    let texts = texts(body.input.as_ref())?;
    let _slot = shared.gate.enter().await?;
    let loaded = started.elapsed();
    let (mut vectors, mut tokens) = (Vec::with_capacity(texts.len()), 0);
    for text in texts {
        let embedding = model.embed(&text, body.truncate.unwrap_or(true)).await?;
        tokens += embedding.tokens;
        vectors.push(cut(embedding.vector, body.dimensions));
    }
    Ok(Json(Embedded {
        model: &body.model,
        embeddings: vectors,
        total_duration: nanoseconds(started.elapsed()),
        load_duration: nanoseconds(loaded),
        prompt_eval_count: tokens,
    })
    .into_response())
}

pub(crate) async fn embeddings(
    State(shared): State<Arc<Shared>>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ServeError> {
    let body: OldBody = body::read(bytes)?;
    let model = shared.model(&body.model)?;
    if body.prompt.is_empty() {
        return Ok(Json(OldEmbedded { embedding: Vec::new() }).into_response());
    }
    let _slot = shared.gate.enter().await?;
    let embedding = model.embed(&body.prompt, true).await?;
    Ok(Json(OldEmbedded { embedding: embedding.vector }).into_response())
}

/// One text or several; an empty one alone is none.
pub(crate) fn texts(input: Option<&Value>) -> Result<Vec<String>, ServeError> {
    let wrong = || ServeError::bad_request("invalid input type");
    match input {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => {
            Ok(Some(text.clone()).filter(|t| !t.is_empty()).into_iter().collect())
        }
        Some(Value::Array(texts)) => {
            texts.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

/// The first `dimensions` of a vector, at length 1 again.
pub(crate) fn cut(mut vector: Vec<f32>, dimensions: Option<usize>) -> Vec<f32> {
    if let Some(dimensions) = dimensions.filter(|d| *d > 0 && *d < vector.len()) {
        vector.truncate(dimensions);
        normalize(&mut vector);
    }
    vector
}
