//! Ollama, over its native `/api/chat`.
//!
//! The server is helpful in ways that ruin a measurement without a word: it thinks unless told not to, cuts the
//! prompt to its context, reloads the model when an option differs, drops a schema it does not understand, sorts
//! the keys of another, and can end a stream in the middle with status 200. Each of these is prevented by what is
//! sent (`wire`), or noticed in what comes back ([`Ollama`]) and reported as an error or a warning.
//!
//! Left out on purpose: native tool calls (a planner's decision is JSON under a schema; `format` and `tools`
//! together do not work), images, and Ollama's `/v1`, which can set neither `think` nor `num_ctx`.

mod catalogue;
mod cut;
mod failure;
mod host;
mod wire;

use async_trait::async_trait;
use futures::stream::BoxStream;
use reqwest::Response;
use serde::{Serialize, Serializer};
use tokio::sync::{OnceCell, Semaphore};

pub use catalogue::{LoadedModel, LocalModel, Probe, Show, probe};
pub use host::Host;

use crate::{
    chat::{ChatEvent, ChatModel, ChatReply, ChatRequest, ModelInfo},
    error::{Break, ChatError, Phase},
    events::{self, Emitter},
    http::{Deadline, Http, Timeouts},
    lines::Lines,
    notices::Notices,
    retry::{self, Attempts, Retry},
    schema,
};
use wire::{Assembly, Body, Line};

const ADVICE: &str = "start it with `ollama serve`, or set `OLLAMA_HOST` to where it runs";

/// How to talk to one model on one server.
///
/// Planner, verifier and memory of a run share one of these: the model is loaded anew for every call that differs
/// in `num_ctx`, `num_batch`, `num_gpu`, `num_thread` or `shift`.
#[derive(Debug, Clone, PartialEq)]
pub struct OllamaConfig {
    pub host: Host,
    /// E.g. `qwen3:8b`.
    pub model: String,
    /// Context window in tokens; the server's own choice depends on the machine's memory.
    pub num_ctx: u32,
    pub num_batch: Option<u32>,
    pub num_gpu: Option<i32>,
    pub num_thread: Option<u32>,
    /// `Some(false)` has the server refuse what does not fit the context, where it would otherwise cut;
    /// `None` leaves it to the server, as its other clients do.
    pub shift: Option<bool>,
    pub keep_alive: KeepAlive,
    pub schema_form: SchemaForm,
    /// Ask for the log-probabilities of the reply's tokens.
    pub logprobs: bool,
    pub timeouts: Timeouts,
    /// Requests under way at once. The server's `OLLAMA_NUM_PARALLEL`: further ones would wait there, without
    /// bound and without a word.
    pub concurrency: usize,
    pub retry: Retry,
}

impl OllamaConfig {
    /// The usual settings: 8192 tokens of context, the model kept for 10 minutes, one request at a time.
    pub fn new(host: Host, model: impl Into<String>) -> Self {
        Self {
            host,
            model: model.into(),
            num_ctx: 8192,
            num_batch: None,
            num_gpu: None,
            num_thread: None,
            shift: None,
            keep_alive: KeepAlive::from("10m"),
            schema_form: SchemaForm::AllOf,
            logprobs: false,
            timeouts: Timeouts::default(),
            concurrency: 1,
            retry: Retry::default(),
        }
    }
}

/// How the schema is written into `format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaForm {
    /// See [`schema::in_order`]: keys keep their order with every model.
    AllOf,
    /// As it is: with exported models the server sorts the keys.
    Plain,
}

/// How long the server keeps the model in memory after a call: seconds, or e.g. `10m`; negative for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepAlive(String);

impl From<&str> for KeepAlive {
    fn from(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

impl Serialize for KeepAlive {
    /// Ollama reads a bare number in a string as an error, not as seconds.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.parse::<i64>() {
            Ok(seconds) => serializer.serialize_i64(seconds),
            Err(_) => serializer.serialize_str(&self.0),
        }
    }
}

/// One model on an Ollama server.
#[derive(Debug)]
pub struct Ollama {
    config: OllamaConfig,
    info: ModelInfo,
    http: Http,
    permits: Semaphore,
    can_think: OnceCell<bool>,
    /// Whether the context that the model runs with has been compared with ours.
    context_checked: OnceCell<()>,
    prompts: cut::Prompts,
    notices: Notices,
}

impl Ollama {
    /// Without asking the server anything yet.
    ///
    /// # Errors
    /// [`ChatError::BadRequest`] if the configuration cannot work.
    pub fn new(config: OllamaConfig) -> Result<Self, ChatError> {
        let wrong = |text: &str| Err(ChatError::BadRequest { text: text.to_owned() });
        if config.model.trim().is_empty() {
            return wrong("the model has no name; give one, e.g. `qwen3:8b`");
        }
        if config.num_ctx == 0 {
            return wrong("`num_ctx` is 0; give the context in tokens, e.g. 8192");
        }
        if config.concurrency == 0 || config.concurrency > Semaphore::MAX_PERMITS {
            return wrong("the concurrency must be at least 1");
        }
        let http = Http::new(&config.host.url(), "Ollama", ADVICE, config.timeouts.clone())?;
        let info = ModelInfo {
            name: config.model.clone(),
            backend: "ollama".to_owned(),
            digest: None,
            adapter: None,
            num_ctx: Some(config.num_ctx),
            prompt_profile: None,
        };
        Ok(Self {
            info,
            http,
            permits: Semaphore::new(config.concurrency),
            can_think: OnceCell::new(),
            context_checked: OnceCell::new(),
            prompts: cut::Prompts::default(),
            notices: Notices::default(),
            config,
        })
    }

    /// Like [`Ollama::new`], but makes sure that the server is up and has the model, and learns the model's digest
    /// and abilities.
    ///
    /// # Errors
    /// [`ChatError::Unreachable`], [`ChatError::ModelMissing`] with the models that are there, and whatever else
    /// keeps the server from answering.
    pub async fn connect(config: OllamaConfig) -> Result<Self, ChatError> {
        let mut ollama = Self::new(config)?;
        let models = ollama.models().await?;
        let Some(local) = catalogue::find(&models, &ollama.config.model) else {
            let names: Vec<String> = models.into_iter().map(|local| local.name).collect();
            return Err(failure::missing(&ollama.http, &ollama.config.model, &names));
        };
        ollama.info.digest = Some(local.digest.clone()).filter(|digest| !digest.is_empty());
        let show = ollama.show(&ollama.config.model).await?;
        ollama.can_think = OnceCell::new_with(Some(show.can_think()));
        ollama.info.prompt_profile = show.prompt_profile().map(str::to_owned);
        if let Some(trained) = show.trained_context()
            && trained < u64::from(ollama.config.num_ctx)
        {
            ollama.notices.once(
                "trained context",
                format!(
                    "The context asked for is {} tokens, but `{}` was trained for {trained}; lower `num_ctx`.",
                    ollama.config.num_ctx, ollama.config.model
                ),
            );
        }
        Ok(ollama)
    }

    /// Loads the model, so that the first question does not wait for it. Nothing else must disconnect meanwhile:
    /// the server gives up loading when its only client goes away.
    ///
    /// # Errors
    /// Like [`ChatModel::chat`].
    pub async fn warm_up(&self) -> Result<(), ChatError> {
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let deadline = Deadline::new(Phase::Reply, self.config.timeouts.reply);
        let response = self.post(&Body::warm_up(&self.config, false), deadline).await?;
        let body = self.http.body(response, deadline).await?;
        self.http.parse::<Line>(&body).map(drop)
    }

    /// A whole call: permit, attempts, a second try where thinking used up the reply, and every check.
    async fn converse(
        &self,
        request: &ChatRequest,
        emitter: &mut Emitter,
    ) -> Result<ChatReply, ChatError> {
        self.check(request)?;
        let mut think = request.think && self.can_think().await;
        if request.think && !think {
            self.notice_cannot_think();
        }
        let permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let mut reply = match self.attempts(request, think, emitter).await {
            Err(error) if think && failure::cannot_think(&error) => {
                self.notice_cannot_think();
                think = false;
                self.attempts(request, think, emitter).await?
            }
            outcome => outcome?,
        };
        if think && reply.text.trim().is_empty() && reply.thinking.is_some() {
            think = false;
            reply = self.without_thinking(request, reply, emitter).await?;
        }
        if reply.text.trim().is_empty() && reply.thinking.is_some() {
            return Err(ChatError::ThinkingExhausted { reply: Box::new(reply) });
        }
        drop(permit);
        self.inspect(request, think, &mut reply).await;
        request.conforming(reply)
    }

    /// Refuses what cannot succeed, before the server spends time on it.
    fn check(&self, request: &ChatRequest) -> Result<(), ChatError> {
        request.check()?;
        if let Some(schema) = &request.schema {
            schema::lint(schema)?;
        }
        let fewest = cut::fewest_tokens(&request.messages);
        if fewest > u64::from(self.config.num_ctx) {
            let text = format!(
                "it has more than {fewest} tokens, and `num_ctx` is {}, so the server would cut it",
                self.config.num_ctx
            );
            return Err(ChatError::ContextTooLong { text });
        }
        Ok(())
    }

    async fn can_think(&self) -> bool {
        // If the server cannot be asked, the chat itself will say why.
        let ask = async || self.show(&self.config.model).await.map(|show| show.can_think());
        self.can_think.get_or_try_init(ask).await.copied().unwrap_or(true)
    }

    fn notice_cannot_think(&self) {
        let model = &self.config.model;
        self.notices.once(
            "cannot think",
            format!("`{model}` cannot think, so it answers at once; switch thinking off, or use a model that can."),
        );
    }

    async fn attempts(
        &self,
        request: &ChatRequest,
        think: bool,
        emitter: &mut Emitter,
    ) -> Result<ChatReply, ChatError> {
        let body = Body::new(&self.config, request, think, emitter.is_streaming());
        let mut attempts = Attempts::new(&self.config.retry);
        let given_out = emitter.pieces();
        loop {
            match self.attempt(&body, emitter).await {
                // Pieces that were given out cannot be taken back.
                Err(error) if emitter.pieces() == given_out && attempts.another(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn attempt(
        &self,
        body: &Body<'_>,
        emitter: &mut Emitter,
    ) -> Result<ChatReply, ChatError> {
        let timeouts = &self.config.timeouts;
        if emitter.is_streaming() {
            let deadline = Deadline::new(Phase::FirstByte, timeouts.first_byte);
            let response = self.post(body, deadline).await?;
            return self.read_stream(response, deadline, emitter).await;
        }
        let deadline = Deadline::new(Phase::Reply, timeouts.reply);
        let response = self.post(body, deadline).await?;
        let reply = self.http.body(response, deadline).await?;
        self.read_whole(&reply, emitter)
    }

    async fn post(&self, body: &Body<'_>, deadline: Deadline) -> Result<Response, ChatError> {
        let response = self.http.send(self.http.post("/api/chat").json(body), deadline).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let wait = retry::retry_after(response.headers());
        // A status without a readable body still tells more than how the body broke.
        let body = self.http.body(response, deadline).await.unwrap_or_default();
        Err(failure::classify(&self.http, &self.config.model, status.as_u16(), &body, wait))
    }

    async fn read_stream(
        &self,
        mut response: Response,
        mut deadline: Deadline,
        emitter: &mut Emitter,
    ) -> Result<ChatReply, ChatError> {
        let mut assembly = Assembly::default();
        let mut lines = Lines::default();
        while let Some(chunk) = self.http.chunk(&mut response, deadline, &assembly.text).await? {
            deadline = Deadline::new(Phase::Idle, self.config.timeouts.idle);
            if lines.push(chunk.as_ref()).is_err() {
                return Err(self.http.bad_reply("a line of it does not end".to_owned()));
            }
            while let Some(line) = lines.next_line() {
                if self.read_line(line, &mut assembly, emitter)? {
                    return finish(assembly);
                }
            }
        }
        match self.read_line(lines.rest(), &mut assembly, emitter) {
            // Cut off inside a line.
            Err(ChatError::BadReply { .. }) if !assembly.is_empty() => finish(assembly),
            Err(error) => Err(error),
            Ok(_) if assembly.is_empty() => Err(self.http.bad_reply("it is empty".to_owned())),
            Ok(_) => finish(assembly),
        }
    }

    /// A body that was not to be streamed; lines are understood too, some proxies stream regardless.
    fn read_whole(&self, body: &str, emitter: &mut Emitter) -> Result<ChatReply, ChatError> {
        let mut assembly = Assembly::default();
        if let Err(whole) = self.read_line(body.trim().as_bytes(), &mut assembly, emitter) {
            let first_line = body.trim().lines().next().unwrap_or_default();
            let is_lines = matches!(whole, ChatError::BadReply { .. })
                && serde_json::from_str::<Line>(first_line).is_ok();
            if !is_lines {
                return Err(whole);
            }
            for line in body.lines() {
                self.read_line(line.as_bytes(), &mut assembly, emitter)?;
            }
        }
        if assembly.is_empty() {
            return Err(self.http.bad_reply("it is empty".to_owned()));
        }
        finish(assembly)
    }

    /// Takes in one line; `true` once it was the last.
    fn read_line(
        &self,
        line: &[u8],
        assembly: &mut Assembly,
        emitter: &mut Emitter,
    ) -> Result<bool, ChatError> {
        if line.trim_ascii().is_empty() {
            return Ok(false);
        }
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| self.http.unreadable(&String::from_utf8_lossy(line), &error))?;
        if let Some(error) = &line.error {
            // The status was 200 already when this went wrong.
            let body = serde_json::json!({ "error": error }).to_string();
            let error = failure::classify(&self.http, &self.config.model, 200, &body, None);
            return Err(match error {
                ChatError::Server { text, .. } => ChatError::BrokenStream {
                    how: Break::ServerError { text },
                    text: std::mem::take(&mut assembly.text),
                },
                error => error,
            });
        }
        if line.message.is_none() && !line.done {
            let problem =
                "it has neither `message` nor `done`, so it is not a chat reply of Ollama";
            return Err(self.http.bad_reply(problem.to_owned()));
        }
        Ok(assembly.push(line, emitter))
    }

    /// Asks again with thinking off, after thinking left nothing for the answer.
    async fn without_thinking(
        &self,
        request: &ChatRequest,
        thought: ChatReply,
        emitter: &mut Emitter,
    ) -> Result<ChatReply, ChatError> {
        tracing::warn!(
            model = self.config.model,
            tokens = thought.usage.completion_tokens,
            "thinking used up the reply, asking again without"
        );
        let mut reply = self.attempts(request, false, emitter).await?;
        reply.usage += thought.usage;
        reply.thinking = thought.thinking;
        reply.warnings.push(format!(
            "Thinking used up all {} tokens, so the answer was asked for again without; raise the token limit, or \
             switch thinking off.",
            thought.usage.completion_tokens
        ));
        Ok(reply)
    }

    /// Adds to the warnings what looks wrong with a reply that came in full.
    async fn inspect(&self, request: &ChatRequest, think: bool, reply: &mut ChatReply) {
        let prompt_tokens = reply.usage.prompt_tokens;
        let retried = request.think != think;
        if !retried && let Some(warning) = self.cut_prompt(request, think, prompt_tokens) {
            reply.warnings.push(warning);
        }
        self.context_checked.get_or_init(|| self.compare_context()).await;
        if !request.think && reply.thinking.is_some() {
            let model = &self.config.model;
            self.notices.once(
                "thought anyway",
                format!("`{model}` thinks although thinking is off; its tokens count, so use another model or tag."),
            );
        }
        if let Some(schema) = &request.schema
            && let Ok(value) = serde_json::from_str(&reply.text)
            && let Err(orders) = schema::check_key_order(schema, &value)
        {
            self.notices.once(
                "key order",
                format!(
                    "With `{}` {orders}; create the model `from` its library model, or with `parser` and \
                     `renderer` set.",
                    self.config.model
                ),
            );
        }
        reply.warnings.extend(self.notices.take());
    }

    fn cut_prompt(&self, request: &ChatRequest, think: bool, read: u64) -> Option<String> {
        let num_ctx = self.config.num_ctx;
        let advice = format!(
            "so it cut the prompt without saying so; raise `num_ctx` (now {num_ctx}) or shorten the prompt."
        );
        let fewest = cut::fewest_tokens(&request.messages);
        if read > 0 && read < fewest {
            return Some(format!(
                "The server read {read} tokens of a prompt that has at least {fewest}, {advice}"
            ));
        }
        // With thinking and a schema, the count is that of a second pass, with the thinking in the prompt.
        if think && request.schema.is_some() {
            return None;
        }
        let longest = self.prompts.note(&request.messages, think, read)?;
        Some(format!(
            "The server read {read} tokens of a prompt that begins with one of {longest}, {advice}"
        ))
    }

    /// Compares the context that the server runs the model with to the one asked for.
    async fn compare_context(&self) {
        let Ok(loaded) = self.loaded().await else { return };
        let runs_with = loaded
            .iter()
            .find(|loaded| catalogue::same_model(&loaded.name, &self.config.model))
            .and_then(|loaded| loaded.context_length);
        if let Some(runs_with) = runs_with.filter(|tokens| *tokens > 0)
            && runs_with < u64::from(self.config.num_ctx)
        {
            self.notices.once(
                "served context",
                format!(
                    "The server runs `{}` with a context of {runs_with} tokens, not the {} asked for, and cuts \
                     longer prompts; lower `num_ctx` to what it can hold, or free memory there.",
                    self.config.model, self.config.num_ctx
                ),
            );
        }
    }
}

fn finish(assembly: Assembly) -> Result<ChatReply, ChatError> {
    let text = assembly.text.clone();
    assembly.finish().ok_or(ChatError::BrokenStream { how: Break::NotDone, text })
}

#[async_trait]
impl ChatModel for Ollama {
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
