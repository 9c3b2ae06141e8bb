//! A server with OpenAI's API that says what a test tells it to, and remembers what it was asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentflow_agent::CallSettings;
use agentflow_llm::{OpenAi, OpenAiConfig, Retry, Sampling, Timeouts};
use agentflow_train::label::judge::{Judge, Rubric};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header::RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What is answered.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Content(&'static str),
    /// As OpenAI says that the model would not answer.
    Refusal(&'static str),
    /// Cut by the token limit.
    Cut(&'static str),
    Busy,
    TooLong,
    /// Nothing comes at all.
    Silence,
}

pub(crate) struct Server {
    url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    answers: Vec<Answer>,
    asked: Mutex<Vec<Value>>,
}

impl Server {
    /// Gives `answers` in turn, the last one for ever.
    pub(crate) async fn start(answers: &[Answer]) -> Self {
        let shared = Arc::new(Shared { answers: answers.to_vec(), asked: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let app = axum::Router::new()
            .route("/v1/chat/completions", post(answer))
            .with_state(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("serves") });
        Self { url, shared, task }
    }

    /// The bodies of all requests.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.shared.asked.lock().expect("not poisoned").clone()
    }

    pub(crate) fn judge(&self, model: &str) -> Judge {
        let config = OpenAiConfig {
            timeouts: Timeouts { reply: Duration::from_millis(300), ..Timeouts::default() },
            retry: Retry { first_wait: Duration::from_millis(1), ..Retry::default() },
            ..OpenAiConfig::new(&self.url, model, None)
        };
        Judge {
            model: Arc::new(OpenAi::new(config).expect("a client")),
            rubric: Rubric::default(),
            settings: settings(),
            most_prompt_tokens: 6000,
        }
    }
}

pub(crate) fn settings() -> CallSettings {
    let sampling = Sampling { seed: Some(0), ..Sampling::greedy() };
    CallSettings { sampling, think: false, max_tokens: 512 }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, Json(body): Json<Value>) -> Response {
    let answer = {
        let mut asked = shared.asked.lock().expect("not poisoned");
        asked.push(body);
        shared.answers[(asked.len() - 1).min(shared.answers.len() - 1)]
    };
    let reply = |message: Value, finish: &str| {
        Json(json!({
            "choices": [{"message": message, "finish_reason": finish}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20},
        }))
        .into_response()
    };
    let fail = |status: StatusCode, text: &str| {
        (status, Json(json!({"error": {"message": text}}))).into_response()
    };
    match answer {
        Answer::Content(text) => reply(json!({"role": "assistant", "content": text}), "stop"),
        Answer::Refusal(text) => reply(json!({"content": null, "refusal": text}), "stop"),
        Answer::Cut(text) => reply(json!({"content": text}), "length"),
        Answer::Busy => {
            let mut busy = fail(StatusCode::TOO_MANY_REQUESTS, "slow down");
            busy.headers_mut().insert(RETRY_AFTER, 0.into());
            busy
        }
        Answer::TooLong => {
            fail(StatusCode::BAD_REQUEST, "This model's maximum context length is 4096 tokens")
        }
        Answer::Silence => std::future::pending().await,
    }
}
