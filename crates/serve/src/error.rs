//! What goes wrong, as clients are told: `{"error": text}` on Ollama's routes, an object under `/v1`.

use agentflow_llm::ChatError;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A request that failed. As a response it has Ollama's shape; see [`OpenAiError`] for the other.
#[derive(Debug, Clone)]
pub(crate) struct ServeError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl ServeError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// In the words of Ollama, two blanks included: clients look for them.
    pub(crate) fn busy() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "server busy, please try again.  maximum pending requests exceeded",
        )
    }

    pub(crate) fn shutting_down() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down")
    }

    pub(crate) fn no_model(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("model '{name}' not found"))
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({"error": self.message})
    }

    /// As `openai.NewError` of Ollama has it.
    pub(crate) fn to_openai_json(&self) -> Value {
        let kind = match self.status {
            StatusCode::BAD_REQUEST => "invalid_request_error",
            StatusCode::NOT_FOUND => "not_found_error",
            _ => "api_error",
        };
        json!({"error": {"message": self.message, "type": kind, "param": null, "code": null}})
    }
}

impl From<ChatError> for ServeError {
    /// In words by which clients, ours among them, tell the causes apart.
    fn from(error: ChatError) -> Self {
        match error {
            ChatError::BadRequest { text } => Self::bad_request(text),
            ChatError::SchemaRejected { reason } => {
                Self::bad_request(format!("invalid format: {reason}"))
            }
            ChatError::ContextTooLong { text } => {
                Self::bad_request(format!("the prompt is longer than the context length: {text}"))
            }
            ChatError::Overloaded { .. } => Self::busy(),
            ChatError::ModelMissing { .. } => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            ChatError::Engine { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
            // The model is a server behind this one.
            other => Self::new(StatusCode::BAD_GATEWAY, other.to_string()),
        }
    }
}

impl IntoResponse for ServeError {
    fn into_response(self) -> Response {
        (self.status, Json(self.to_json())).into_response()
    }
}

/// A [`ServeError`] in the shape of OpenAI.
pub(crate) struct OpenAiError(pub(crate) ServeError);

impl<E: Into<ServeError>> From<E> for OpenAiError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for OpenAiError {
    fn into_response(self) -> Response {
        (self.0.status, Json(self.0.to_openai_json())).into_response()
    }
}
