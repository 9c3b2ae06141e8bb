//! The server: which models it has, how many replies run, its routes, and its end.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use agentflow_model::Local;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::error::{OpenAiError, ServeError};
use crate::gate::Gate;
use crate::local::ServedLocal;
use crate::model::ServedModel;
use crate::origin::{self, HostCheck};
use crate::{ollama, openai};

/// How much is taken on at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Replies under way; those share the model's batches.
    pub concurrency: usize,
    /// Requests that wait; further ones are answered 503.
    pub queue: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
}

impl Default for Limits {
    /// A queue as long as Ollama's, `OLLAMA_MAX_QUEUE`.
    fn default() -> Self {
        Self { concurrency: 16, queue: 512, body_bytes: 8 << 20 }
    }
}

/// Models behind Ollama's API. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) models: Vec<Arc<dyn ServedModel>>,
    pub(crate) gate: Gate,
    pub(crate) limits: Limits,
    pub(crate) started: Timestamp,
    /// Cancelled when replies have to end now.
    pub(crate) ending: CancellationToken,
}

impl Server {
    /// A server of any models; the names on their cards are to be distinct.
    pub fn new(models: Vec<Arc<dyn ServedModel>>, limits: Limits) -> Self {
        let gate = Gate::new(limits.concurrency, limits.queue);
        let (started, ending) = (Timestamp::now(), CancellationToken::new());
        Self { shared: Arc::new(Shared { models, gate, limits, started, ending }) }
    }

    /// A server of one model of our own engine, which clients call `name`.
    pub fn of_local(model: Local, name: &str, limits: Limits) -> Self {
        Self::new(vec![Arc::new(ServedLocal::new(model, name))], limits)
    }

    /// Answers on `listener` until `shutdown`: then nobody new is let in, replies under way have `grace` to end, and
    /// those that have not are cut off with an error.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
        grace: Duration,
    ) -> io::Result<()> {
        let hosts = HostCheck { loopback: listener.local_addr()?.ip().is_loopback() };
        // Tokens are small packets that somebody waits for.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let leaving = CancellationToken::new();
        let closing = {
            let (shared, leaving) = (self.shared.clone(), leaving.clone());
            async move {
                shutdown.await;
                shared.gate.close();
                leaving.cancel();
            }
        };
        let serving =
            axum::serve(listener, self.routes(hosts)).with_graceful_shutdown(closing).into_future();
        let too_long = async {
            leaving.cancelled().await;
            tokio::time::sleep(grace).await;
            self.shared.ending.cancel();
            // For the last lines to go out.
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        tokio::select! {
            ended = serving => ended,
            () = too_long => Ok(()),
        }
    }

    /// Replies under way, and requests that wait for one.
    pub fn load(&self) -> (usize, usize) {
        (self.shared.gate.taken(), self.shared.gate.waiting())
    }

    fn routes(&self, hosts: HostCheck) -> Router {
        Router::new()
            .route("/", get(async || "Ollama is running"))
            .route("/api/version", get(ollama::version))
            .route("/api/tags", get(ollama::tags))
            .route("/api/ps", get(ollama::ps))
            .route("/api/show", post(ollama::show))
            .route("/api/chat", post(ollama::chat))
            .route("/api/generate", post(ollama::generate))
            .route("/api/embed", post(ollama::embed))
            .route("/api/embeddings", post(ollama::embeddings))
            .route("/v1/models", get(openai::models))
            .route("/v1/models/{model}", get(openai::model))
            .route("/v1/chat/completions", post(openai::chat))
            .route("/v1/embeddings", post(openai::embeddings))
            .fallback(no_such_page)
            .method_not_allowed_fallback(no_such_method)
            .layer(DefaultBodyLimit::max(self.shared.limits.body_bytes))
            .layer(middleware::from_fn_with_state(hosts, origin::check))
            .with_state(self.shared.clone())
    }
}

impl Shared {
    /// The model called `name`; without a tag `:latest` is meant, and case does not matter.
    ///
    /// # Errors
    /// 404 in Ollama's words.
    pub(crate) fn model(&self, name: &str) -> Result<Arc<dyn ServedModel>, ServeError> {
        let wanted = untagged(name.trim());
        let named = |model: &&Arc<dyn ServedModel>| {
            untagged(&model.card().name).eq_ignore_ascii_case(wanted)
        };
        self.models.iter().find(named).cloned().ok_or_else(|| ServeError::no_model(name))
    }
}

/// `name` without the tag that it has anyway.
pub(crate) fn untagged(name: &str) -> &str {
    name.strip_suffix(":latest").unwrap_or(name)
}

/// `name` with its tag.
pub(crate) fn tagged(name: &str) -> String {
    match name.rsplit('/').next() {
        Some(last) if last.contains(':') => name.to_owned(),
        _ => format!("{name}:latest"),
    }
}

async fn no_such_page(request: Request) -> Response {
    let path = request.uri().path();
    let message = format!("{path} is not served here; see docs/serve.md for what is");
    refuse(path, ServeError::new(StatusCode::NOT_FOUND, message))
}

async fn no_such_method(request: Request) -> Response {
    let path = request.uri().path();
    let message = format!("{path} does not take {}", request.method());
    refuse(path, ServeError::new(StatusCode::METHOD_NOT_ALLOWED, message))
}

/// An error in the shape that belongs to `path`.
pub(crate) fn refuse(path: &str, error: ServeError) -> Response {
    match path.starts_with("/v1/") {
        true => OpenAiError(error).into_response(),
        false => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_tag_means_latest() {
        assert_eq!(untagged("m:latest"), "m");
        assert_eq!(untagged("m:8b"), "m:8b");
        assert_eq!(tagged("m"), "m:latest");
        assert_eq!(tagged("host:5000/me/m"), "host:5000/me/m:latest");
        assert_eq!(tagged("m:8b"), "m:8b");
    }
}
