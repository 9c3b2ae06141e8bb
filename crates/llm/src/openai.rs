//! Any server that speaks OpenAI's `/v1/chat/completions`: vLLM, llama.cpp, SGLang, DeepSeek, OpenAI itself.
//!
//! They agree on the core and differ in everything else: whether a schema, thinking or `top_k` can be set at all.
//! We send what we want, and leave out from then on what the server refuses by name, saying so once.
//!
//! Left out on purpose: tool calls (see [`crate::ollama`]), images, several choices in one request.

mod key;
mod wire;

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use async_trait::async_trait;
use futures::stream::BoxStream;
use reqwest::{Response, header::HeaderValue};
use tokio::sync::Semaphore;

pub use key::ApiKey;

use crate::{
    chat::{ChatEvent, ChatModel, ChatReply, ChatRequest, ModelInfo},
    error::{Break, ChatError, Phase, shorten},
    events::{self, Emitter},
    http::{Deadline, Http, Timeouts},
    lines::Lines,
    notices::Notices,
    retry::{self, Attempts, Retry},
};
use wire::{Assembly, Chunk, Field, failure_text};

/// How to talk to one model on one server.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenAiConfig {
    /// Up to and without `/chat/completions`, e.g. `https://api.deepseek.com/v1`.
    pub base_url: String,
    pub model: String,
    /// From the environment; local servers want none.
    pub key: Option<ApiKey>,
    /// Ask for the log-probabilities of the reply's tokens.
    pub logprobs: bool,
    pub timeouts: Timeouts,
    /// Requests under way at once.
    pub concurrency: usize,
    pub retry: Retry,
}

impl OpenAiConfig {
    /// The usual settings: no log-probabilities, four requests at a time.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>, key: Option<ApiKey>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            key,
            logprobs: false,
            timeouts: Timeouts::default(),
            concurrency: 4,
            retry: Retry::default(),
        }
    }
}

/// One model on an OpenAI-compatible server.
#[derive(Debug)]
pub struct OpenAi {
    config: OpenAiConfig,
    info: ModelInfo,
    http: Http,
    authorization: Option<HeaderValue>,
    permits: Semaphore,
    /// What this server does not take.
    refused: Mutex<BTreeSet<Field>>,
    notices: Notices,
}

impl OpenAi {
    /// Without asking the server anything yet.
    ///
    /// # Errors
    /// [`ChatError::BadRequest`] if the configuration cannot work.
    pub fn new(config: OpenAiConfig) -> Result<Self, ChatError> {
        let wrong = |text: &str| ChatError::BadRequest { text: text.to_owned() };
        if config.model.trim().is_empty() {
            return Err(wrong("the model has no name; give the one that the server lists"));
        }
        if config.concurrency == 0 || config.concurrency > Semaphore::MAX_PERMITS {
            return Err(wrong("the concurrency must be at least 1"));
        }
        let advice = "check the address, and that the server runs";
        let base = config.base_url.trim().trim_end_matches('/');
        let base = base.strip_suffix("/chat/completions").unwrap_or(base);
        let http = Http::new(base, "the model server", advice, config.timeouts.clone())?;
        let authorization = config.key.as_ref().map(ApiKey::authorization).transpose()?;
        let info = ModelInfo {
            name: config.model.clone(),
            backend: "openai".to_owned(),
            digest: None,
            adapter: None,
            num_ctx: None,
            prompt_profile: None,
        };
        Ok(Self {
            info,
            http,
            authorization,
            permits: Semaphore::new(config.concurrency),
            refused: Mutex::default(),
            notices: Notices::default(),
            config,
        })
    }

    async fn converse(
        &self,
        request: &ChatRequest,
        emitter: &mut Emitter,
    ) -> Result<ChatReply, ChatError> {
        request.check()?;
        let permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let mut reply = self.accepted(request, emitter).await?;
        drop(permit);
        if !request.think && reply.thinking.is_some() {
            let model = &self.config.model;
            self.notices.once(
                "thought anyway",
                format!("`{model}` thinks although thinking is off; its tokens count, so use another model or server."),
            );
        }
        reply.warnings.extend(self.notices.take());
        if reply.text.trim().is_empty() && reply.thinking.is_some() {
            return Err(ChatError::ThinkingExhausted { reply: Box::new(reply) });
        }
        request.conforming(reply)
    }

    /// Leaves out what the server refuses until it takes the request.
    async fn accepted(
        &self,
        request: &ChatRequest,
        emitter: &mut Emitter,
    ) -> Result<ChatReply, ChatError> {
        loop {
            let refused = self.refused().clone();
            let body = wire::body(&self.config, request, emitter.is_streaming(), &refused);
            let error = match self.attempts(&body, emitter).await {
                Ok(mut reply) => {
                    if request.schema.is_some() && refused.contains(&Field::ResponseFormat) {
                        reply.text = wire::unfenced(&reply.text).to_owned();
                    }
                    return Ok(reply);
                }
                Err(error) => error,
            };
            let ChatError::BadRequest { text } = &error else { return Err(error) };
            let Some(field) = Field::named_in(text, &body) else { return Err(error) };
            self.notices.once(field.name(), field.notice(&self.config.model));
            // Another call may have learnt it meanwhile; then this one goes again all the same. Fields are few, and
            // a body without the field is never refused for it: the loop ends.
            self.refused().insert(field);
        }
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, BTreeSet<Field>> {
        self.refused.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn attempts(
        &self,
        body: &serde_json::Value,
        emitter: &mut Emitter,
    ) -> Result<ChatReply, ChatError> {
        let mut attempts = Attempts::new(&self.config.retry);
        let given_out = emitter.pieces();
        loop {
            match self.attempt(body, emitter).await {
                // Pieces that were given out cannot be taken back.
                Err(error) if emitter.pieces() == given_out && attempts.another(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn attempt(
        &self,
        body: &serde_json::Value,
        emitter: &mut Emitter,
    ) -> Result<ChatReply, ChatError> {
        let timeouts = &self.config.timeouts;
        let mut assembly = Assembly::default();
        if emitter.is_streaming() {
            let deadline = Deadline::new(Phase::FirstByte, timeouts.first_byte);
            let response = self.post(body, deadline).await?;
            self.read_stream(response, deadline, &mut assembly, emitter).await?;
        } else {
            let deadline = Deadline::new(Phase::Reply, timeouts.reply);
            let response = self.post(body, deadline).await?;
            let reply = self.http.body(response, deadline).await?;
            self.read_chunk(&reply, &mut assembly, emitter)?;
        }
        let text = assembly.text.clone();
        assembly.finish().ok_or(ChatError::BrokenStream { how: Break::NotDone, text })
    }

    async fn post(
        &self,
        body: &serde_json::Value,
        deadline: Deadline,
    ) -> Result<Response, ChatError> {
        let mut request = self.http.post("/chat/completions").json(body);
        if let Some(authorization) = &self.authorization {
            request = request.header(reqwest::header::AUTHORIZATION, authorization);
        }
        let response = self.http.send(request, deadline).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let wait = retry::retry_after(response.headers());
        let body = self.http.body(response, deadline).await.unwrap_or_default();
        Err(self.classify(status.as_u16(), &body, wait))
    }

    async fn read_stream(
        &self,
        mut response: Response,
        mut deadline: Deadline,
        assembly: &mut Assembly,
        emitter: &mut Emitter,
    ) -> Result<(), ChatError> {
        let mut lines = Lines::default();
        let mut is_event_stream = false;
        while let Some(chunk) = self.http.chunk(&mut response, deadline, &assembly.text).await? {
            deadline = Deadline::new(Phase::Idle, self.config.timeouts.idle);
            if lines.push(chunk.as_ref()).is_err() {
                return Err(self.http.bad_reply("a line of it does not end".to_owned()));
            }
            while let Some(line) = lines.next_line() {
                // Events of one line are all that these servers send; comments keep the connection alive.
                is_event_stream |= line.starts_with(b":");
                let Some(data) = line.strip_prefix(b"data:") else { continue };
                is_event_stream = true;
                let data = String::from_utf8_lossy(data);
                if data.trim() == "[DONE]" {
                    assembly.end();
                    return Ok(());
                }
                self.read_chunk(&data, assembly, emitter)?;
            }
        }
        if is_event_stream {
            return Ok(());
        }
        let rest = String::from_utf8_lossy(lines.rest());
        // Not a stream: a whole reply all the same, or something else altogether.
        self.read_chunk(&rest, assembly, emitter)
    }

    fn read_chunk(
        &self,
        data: &str,
        assembly: &mut Assembly,
        emitter: &mut Emitter,
    ) -> Result<(), ChatError> {
        let chunk: Chunk = self.http.parse(data)?;
        if let Some(error) = &chunk.error {
            let text = self.hide_key(&shorten(&failure_text(&error.to_string()), 400));
            let how = Break::ServerError { text };
            return Err(ChatError::BrokenStream { how, text: std::mem::take(&mut assembly.text) });
        }
        if chunk.choices.is_none() {
            return Err(self.http.bad_reply("it has no `choices`".to_owned()));
        }
        assembly.push(chunk, emitter);
        Ok(())
    }

    /// Names the error that came with `status` and `body`.
    fn classify(&self, status: u16, body: &str, retry_after: Option<Duration>) -> ChatError {
        let text = self.hide_key(&shorten(&failure_text(body), 400));
        let lower = text.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        let url = self.http.shown().to_owned();
        match status {
            401 | 403 => {
                let advice = match self.config.key {
                    Some(_) => "check that the key is valid for this server and model",
                    None => "it wants a key; set it in the environment, e.g. `OPENAI_API_KEY`",
                };
                ChatError::Unauthorized { url, text, advice: advice.to_owned() }
            }
            404 if lower.contains("model") => ChatError::ModelMissing {
                model: self.config.model.clone(),
                server: format!("the model server at `{url}`"),
                advice: format!("see what it has at `{url}/models`"),
            },
            404 | 405 => self.http.bad_reply(format!(
                "it knows no `/chat/completions` (status {status}); the address may lack `/v1`"
            )),
            // Neither heals by waiting.
            402 | 429 if has(&["quota", "balance", "billing"]) => {
                ChatError::Server { status, text }
            }
            429 | 503 | 529 => ChatError::Overloaded { text, retry_after },
            400..500
                if has(&[
                    "context length",
                    "context_length",
                    "context size",
                    "maximum context",
                ]) =>
            {
                ChatError::ContextTooLong { text }
            }
            400..500
                if has(&[
                    "invalid schema",
                    "invalid_json_schema",
                    "failed to parse grammar",
                    "schema conversion",
                ]) =>
            {
                ChatError::SchemaRejected { reason: text }
            }
            400..500 => ChatError::BadRequest { text },
            _ => ChatError::Server { status, text },
        }
    }

    /// Servers quote the key they refuse.
    fn hide_key(&self, text: &str) -> String {
        self.config.key.as_ref().map_or_else(|| text.to_owned(), |key| key.hidden_in(text))
    }
}

#[async_trait]
impl ChatModel for OpenAi {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        self.converse(request, &mut Emitter::silent()).await
    }

    fn stream(&self, request: ChatRequest) -> BoxStream<'_, Result<ChatEvent, ChatError>> {
        events::events(async move |mut emitter| self.converse(&request, &mut emitter).await)
    }
}
