//! Bodies of requests: JSON, whatever the content type says, as Ollama reads them.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use crate::error::ServeError;

/// Reads a body; an axum handler takes it as `Result<Bytes, BytesRejection>`, so that refusals have our shape.
///
/// # Errors
/// 400 for an empty body or one that is not JSON of the right form, 413 for one that is too long.
pub(crate) fn read<T: DeserializeOwned>(
    body: Result<Bytes, BytesRejection>,
) -> Result<T, ServeError> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            ServeError::new(StatusCode::PAYLOAD_TOO_LARGE, "the request body is too large")
        }
        status => ServeError::new(status, rejection.body_text()),
    })?;
    if body.trim_ascii().is_empty() {
        return Err(ServeError::bad_request("missing request body"));
    }
    serde_json::from_slice(&body).map_err(|error| ServeError::bad_request(error.to_string()))
}
