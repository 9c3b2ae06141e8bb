//! A model server that says what a test tells it to, and remembers what it was asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use agentflow_llm::{
    ChatModel, ChatReply, ChatRequest, Message, Ollama, OllamaConfig, Retry, Sampling, Timeouts,
};
use axum::{body::Body, extract::State, response::Response};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpListener, task::JoinHandle};

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
}

/// What is answered.
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    chunks: Vec<Vec<u8>>,
    ending: Ending,
}

#[derive(Clone, Copy, PartialEq)]
enum Ending {
    Clean,
    /// The connection breaks.
    Lost,
    /// Nothing more comes.
    Hang,
    /// Nothing comes at all, not even the status.
    Silence,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![], chunks: vec![body.into()], ending: Ending::Clean }
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, body.to_string())
    }

    /// One JSON object a line, each sent by itself.
    pub(crate) fn lines(lines: &[Value]) -> Self {
        let chunks = lines.iter().map(|line| format!("{line}\n").into_bytes()).collect();
        Self { chunks, ..Self::new(200, "") }
    }

    /// Server-sent events, as OpenAI's API streams them.
    pub(crate) fn events(events: &[Value]) -> Self {
        let chunks = events.iter().map(|event| format!("data: {event}\n\n").into_bytes()).collect();
        Self { chunks, ..Self::new(200, "") }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn then(mut self, chunk: impl Into<Vec<u8>>) -> Self {
        self.chunks.push(chunk.into());
        self
    }

    /// The same bytes, `size` at a time.
    pub(crate) fn in_chunks_of(mut self, size: usize) -> Self {
        self.chunks = self.chunks.concat().chunks(size).map(<[u8]>::to_vec).collect();
        self
    }

    pub(crate) fn then_lost(self) -> Self {
        Self { ending: Ending::Lost, ..self }
    }

    pub(crate) fn then_hang(self) -> Self {
        Self { ending: Ending::Hang, ..self }
    }

    pub(crate) fn silence() -> Self {
        Self { ending: Ending::Silence, ..Self::new(200, "") }
    }

    async fn respond(self) -> Response {
        if self.ending == Ending::Silence {
            std::future::pending::<()>().await;
        }
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        // A pause between chunks, so that they are not joined on their way.
        let chunks = stream::iter(self.chunks).then(async |chunk| {
            tokio::task::yield_now().await;
            Ok::<_, std::io::Error>(chunk)
        });
        let end = match self.ending {
            Ending::Hang => stream::pending().boxed(),
            Ending::Lost => stream::once(async {
                // What was sent must have left before the connection breaks.
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err(std::io::Error::other("lost"))
            })
            .boxed(),
            Ending::Clean | Ending::Silence => stream::empty().boxed(),
        };
        response.body(Body::from_stream(chunks.chain(end))).expect("a response")
    }
}

type Script = dyn Fn(&Asked, usize) -> Answer + Send + Sync;

struct Shared {
    script: Box<Script>,
    asked: Mutex<Vec<Asked>>,
}

pub(crate) struct Server {
    pub(crate) url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Server {
    /// `script` gets each request and how many came to the same path before it.
    pub(crate) async fn start(
        script: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared { script: Box::new(script), asked: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let app = axum::Router::new().fallback(handle).with_state(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("serves") });
        Self { url, shared, task }
    }

    /// Answers `/api/chat` with each of `answers` in turn, the last one for ever; knows no other page.
    pub(crate) async fn chats(answers: Vec<fn() -> Answer>) -> Self {
        Self::start(move |asked, before| match asked.path.as_str() {
            "/api/chat" | "/v1/chat/completions" => answers[before.min(answers.len() - 1)](),
            _ => Answer::new(404, "404 page not found"),
        })
        .await
    }

    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.shared.asked.lock().expect("not poisoned");
        asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }

    pub(crate) fn chats_asked(&self) -> Vec<Value> {
        self.asked("/api/chat").into_iter().map(|asked| asked.body).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: axum::http::Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let asked = Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        authorization: parts
            .headers
            .get("authorization")
            .map(|value| value.to_str().expect("text").to_owned()),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let answer = {
        let mut all = shared.asked.lock().expect("not poisoned");
        let mut before: HashMap<&str, usize> = HashMap::new();
        for asked in all.iter() {
            *before.entry(&asked.path).or_default() += 1;
        }
        let before = before.get(asked.path.as_str()).copied().unwrap_or(0);
        let answer = (shared.script)(&asked, before);
        all.push(asked);
        answer
    };
    answer.respond().await
}

/// A server below HTTP: takes a connection, says `bytes`, closes it.
pub(crate) async fn raw(bytes: &'static [u8]) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let task = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 65536];
            let _ = tokio::io::AsyncReadExt::read(&mut socket, &mut request).await;
            let _ = socket.write_all(bytes).await;
        }
    });
    (url, task)
}

/// Settings for tests: no patience.
pub(crate) fn config(url: &str) -> OllamaConfig {
    OllamaConfig {
        timeouts: impatient(),
        retry: Retry::never(),
        ..OllamaConfig::new(url.parse().expect("an address"), "qwen3:8b")
    }
}

pub(crate) fn impatient() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(5),
        first_byte: Duration::from_millis(200),
        idle: Duration::from_millis(200),
        reply: Duration::from_millis(400),
    }
}

/// As many attempts, at once.
pub(crate) fn eager(attempts: u32) -> Retry {
    Retry { attempts, first_wait: Duration::ZERO, longest_wait: Duration::from_secs(1) }
}

pub(crate) fn ollama(server: &Server) -> Ollama {
    Ollama::new(config(&server.url)).expect("a configuration that works")
}

pub(crate) fn request(question: &str) -> ChatRequest {
    ChatRequest {
        messages: vec![Message::user(question)],
        schema: None,
        think: false,
        sampling: Sampling::greedy(),
        max_tokens: 64,
        stop: vec![],
    }
}

/// A request for `{"thought": …, "action": …}`.
pub(crate) fn planner_request() -> ChatRequest {
    let schema = json!({
        "type": "object",
        "properties": {"thought": {"type": "string"}, "action": {"type": "string", "enum": ["code", "answer"]}},
        "required": ["thought", "action"]
    });
    ChatRequest { schema: Some(schema), ..request("Plan.") }
}

/// A reply of Ollama in one piece.
pub(crate) fn whole(content: &str) -> Value {
    json!({"model": "qwen3:8b", "message": {"role": "assistant", "content": content},
           "done": true, "done_reason": "stop", "prompt_eval_count": 20, "eval_count": 5})
}

/// A piece of a streamed reply of Ollama.
pub(crate) fn piece(content: &str) -> Value {
    json!({"model": "qwen3:8b", "message": {"role": "assistant", "content": content}, "done": false})
}

pub(crate) async fn ask(server: &Server) -> ChatReply {
    ollama(server).chat(&request("hi")).await.expect("a reply")
}
