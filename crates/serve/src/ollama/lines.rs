//! A reply as lines of JSON, one an event.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde_json::Value;

use crate::error::ServeError;
use crate::reply::{Event, Replying};

/// Streams `replying`, each event as `line` writes it. What fails before the first event is an error with its status,
/// later it is a line of its own.
pub(super) async fn respond(
    replying: Replying,
    line: impl Fn(Event) -> Value + Send + 'static,
) -> Result<Response, ServeError> {
    let lines = replying.begun().await?.map(move |event| {
        let value = event.map_or_else(|error| error.to_json(), &line);
        Ok::<_, Infallible>(Bytes::from(format!("{value}\n")))
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}
