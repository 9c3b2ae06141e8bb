//! A reply as lines of JSON, one an event.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::Serialize;

use crate::error::ServeError;
use crate::reply::{Event, Replying};

/// Streams `replying`, each event as `line` writes it. What fails before the first event is an error with its status,
/// later it is a line of its own.
pub(super) async fn respond(
    replying: Replying,
    line: impl Fn(Event) -> String + Send + 'static,
) -> Result<Response, ServeError> {
    let lines = replying.begun().await?.map(move |event| {
        let line = event.map_or_else(|error| json(&error.to_json()), &line);
        Ok::<_, Infallible>(Bytes::from(line))
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// `value` on a line.
pub(super) fn json(value: &impl Serialize) -> String {
    let mut line = serde_json::to_string(value).expect("texts and numbers serialize");
    line.push('\n');
    line
}
