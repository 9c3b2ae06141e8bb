//! An Ollama server that says what a test tells it to, and remembers what it was asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub(crate) const MODEL: &str = "qwen3:8b";

/// How one request for a decision is answered.
#[derive(Clone)]
pub(crate) enum Answer {
    /// With a reply of this content.
    Content(String),
    Status(u16, &'static str),
    /// With status 200 and this body.
    Body(&'static str),
    /// With the first half of a reply, and then the connection is closed.
    Half,
    Silence,
}

/// A decision of the planner.
pub(crate) fn decide(thought: &str, action: &str, input: &str) -> Answer {
    let decision = json!({"thought": thought, "action": action, "action_input": input});
    Answer::Content(decision.to_string())
}

/// Runs `code`, and answers `done`.
pub(crate) fn code_then_done(code: &str) -> Vec<Answer> {
    vec![decide("Run it.", "code", code), decide("That is all.", "answer", "done")]
}

/// A server that has [`MODEL`].
pub(crate) struct Server {
    pub(crate) url: String,
    shared: Arc<Shared>,
    /// Its end closes every connection.
    _runtime: Runtime,
}

struct Shared {
    models: Vec<&'static str>,
    /// Nothing is answered, not even what the server is.
    stuck: bool,
    answers: Vec<Answer>,
    chats: Mutex<Vec<Value>>,
}

impl Server {
    /// Answers the planner with each of `answers` in turn, the last one for ever. Verifiers hear that the results are
    /// not sufficient.
    pub(crate) fn planning(answers: Vec<Answer>) -> Self {
        Self::start(vec![MODEL], false, answers)
    }

    /// A server that has only `models`.
    pub(crate) fn having(models: Vec<&'static str>) -> Self {
        Self::start(models, false, vec![Answer::Status(404, "{\"error\":\"model not found\"}")])
    }

    /// A server that takes connections and never says a word.
    pub(crate) fn stuck() -> Self {
        Self::start(vec![], true, vec![Answer::Silence])
    }

    fn start(models: Vec<&'static str>, stuck: bool, answers: Vec<Answer>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let shared = Arc::new(Shared { models, stuck, answers, chats: Mutex::default() });
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let app = axum::Router::new().fallback(handle).with_state(shared.clone());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { url, shared, _runtime: runtime }
    }

    /// The requests for decisions so far.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.shared.chats.lock().expect("not poisoned").clone()
    }
}

/// Where nobody listens.
pub(crate) fn closed() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

async fn handle(State(shared): State<Arc<Shared>>, uri: Uri, body: Bytes) -> Response {
    if shared.stuck {
        return std::future::pending().await;
    }
    let json = |value: Value| respond(200, value.to_string());
    match uri.path() {
        "/api/version" => json(json!({"version": "0.33.0"})),
        "/api/tags" => {
            let model =
                |name: &&str| json!({"name": name, "digest": "d1ce", "size": 5_200_000_000_u64});
            json(json!({"models": shared.models.iter().map(model).collect::<Vec<_>>()}))
        }
        "/api/show" => json(json!({
            "capabilities": ["completion", "tools", "thinking"],
            "parameters": "temperature 0.6",
            "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40960},
        })),
        "/api/ps" => json(json!({"models": [{"name": MODEL, "context_length": 8192}]})),
        "/api/chat" => {
            chat(&shared, serde_json::from_slice(&body).expect("a request is JSON")).await
        }
        _ => respond(404, "404 page not found"),
    }
}

async fn chat(shared: &Shared, request: Value) -> Response {
    if request["format"].to_string().contains("sufficient") {
        let verdict = json!({"reason": "the planner has not answered yet", "sufficient": false});
        return respond(200, reply(&verdict.to_string()).to_string());
    }
    let answer = {
        let mut chats = shared.chats.lock().expect("not poisoned");
        chats.push(request);
        shared.answers[(chats.len() - 1).min(shared.answers.len() - 1)].clone()
    };
    match answer {
        Answer::Content(content) => respond(200, reply(&content).to_string()),
        Answer::Status(status, body) => respond(status, body),
        Answer::Body(body) => respond(200, body),
        Answer::Half => {
            let whole = reply("{}").to_string();
            let half = Bytes::from(whole[..whole.len() / 2].to_owned());
            let lost = futures::stream::once(async move {
                // What was sent must have left before the connection breaks.
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err(std::io::Error::other("lost"))
            });
            let pieces = futures::StreamExt::chain(futures::stream::iter([Ok(half)]), lost);
            Response::new(Body::from_stream(pieces))
        }
        Answer::Silence => std::future::pending().await,
    }
}

/// A whole reply. The prompt count is above any that these tests ask, as the client suspects a cut prompt below that.
fn reply(content: &str) -> Value {
    json!({
        "model": MODEL,
        "message": {"role": "assistant", "content": content},
        "done": true,
        "done_reason": "stop",
        "prompt_eval_count": 900,
        "eval_count": 25,
    })
}

fn respond(status: u16, body: impl Into<Body>) -> Response {
    Response::builder().status(status).body(body.into()).expect("a response")
}
