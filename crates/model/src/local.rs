//! The model in this process as a [`ChatModel`]: messages to tokens, and the engine's replies to messages.

use std::sync::{Arc, OnceLock};

use agentflow_llm::{
    ChatError, ChatEvent, ChatModel, ChatReply, ChatRequest, Finish, ModelInfo, Usage,
};
use async_trait::async_trait;
use candle_core::{DType, Device};
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::device::kv_memory;
use crate::engine::{Completion, Engine, Event, Limits, Reply, Request, Sample};
use crate::error::{ModelError, Result};
use crate::grammar::Grammar;
use crate::model_dir::{LoadedModel, ModelFiles};

/// A model in this process. Cheap to clone; calls that run side by side share the engine's passes.
#[derive(Clone)]
pub struct Local {
    inner: Arc<Inner>,
}

struct Inner {
    loaded: LoadedModel,
    engine: Engine,
    info: ModelInfo,
    context: usize,
    /// Made when the first schema comes: it takes half a second for a large vocabulary.
    grammar: OnceLock<Grammar>,
}

impl Local {
    /// Loads a model; `name` is what records call it, `num_ctx` bounds its context below what it was made for.
    ///
    /// # Errors
    /// See [`ModelFiles::load`].
    pub fn load(
        files: &ModelFiles,
        name: &str,
        num_ctx: Option<u32>,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        Ok(Self::new(files.load(dtype, device)?, name, num_ctx))
    }

    /// A model that is loaded already; `name` and `num_ctx` as in [`Local::load`].
    pub fn new(loaded: LoadedModel, name: &str, num_ctx: Option<u32>) -> Self {
        let longest = loaded.model.config().max_position_embeddings;
        let context = num_ctx.map_or(longest, |wanted| longest.min(wanted as usize));
        let info = ModelInfo {
            name: name.to_owned(),
            backend: "local".to_owned(),
            digest: Some(loaded.digest.clone()),
            adapter: loaded.adapter.clone(),
            num_ctx: Some(context as u32),
            prompt_profile: Some(loaded.prompt_profile.clone()),
        };
        let limits = Limits::of_memory(&loaded.model, context, kv_memory(loaded.model.device()));
        let engine = Engine::new(&loaded, context, limits);
        let grammar = OnceLock::new();
        Self { inner: Arc::new(Inner { loaded, engine, info, context, grammar }) }
    }

    /// The engine that makes the replies.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// What was loaded: weights, tokenizer, template.
    pub fn loaded(&self) -> &LoadedModel {
        &self.inner.loaded
    }

    /// Compiles schemas for this model's tokenizer.
    ///
    /// # Errors
    /// If llguidance cannot use the vocabulary.
    pub fn grammar(&self) -> Result<&Grammar> {
        let Inner { loaded, grammar, .. } = &*self.inner;
        if let Some(grammar) = grammar.get() {
            return Ok(grammar);
        }
        let vocab_size = loaded.model.config().vocab_size;
        let made = Grammar::new(loaded.tokenizer.clone(), vocab_size, loaded.stop_ids[0])?;
        Ok(grammar.get_or_init(|| made))
    }

    /// The engine's request for one sample of a chat request.
    ///
    /// # Errors
    /// A template that refuses the messages, a prompt that is too long, or a schema that the grammar refuses.
    pub fn request(&self, request: &ChatRequest) -> Result<Request> {
        let LoadedModel { template, tokenizer, .. } = self.loaded();
        let prompt = template.render(&request.messages, request.think)?;
        self.request_after(tokenizer.encode(&prompt)?, request)
    }

    /// [`Local::request`] after the tokens `prompt`, in place of the messages.
    fn request_after(&self, prompt: Vec<u32>, request: &ChatRequest) -> Result<Request> {
        let context = self.inner.context;
        if prompt.len() >= context {
            return Err(ModelError::ContextTooLong { prompt: prompt.len(), context });
        }
        let constraint = match &request.schema {
            Some(schema) => Some(self.grammar()?.constraint(schema)?),
            None => None,
        };
        let sample = Sample {
            constraint,
            think: request.think,
            stop: request.stop.clone(),
            ..Sample::new(request.sampling.clone(), request.max_tokens)
        };
        Ok(Request::group(prompt, sample, 1))
    }

    /// Generates one reply, giving its pieces to `on_event` until it returns false; then the rest is not generated.
    ///
    /// # Errors
    /// A prompt that is too long, a schema that the grammar refuses, or a failed computation.
    pub fn generate(
        &self,
        request: &ChatRequest,
        on_event: &mut dyn FnMut(ChatEvent) -> bool,
    ) -> Result<ChatReply> {
        let (mut reply, prompt_tokens) = self.start(self.request(request)?)?;
        let mut partial = Partial { prompt_tokens, ..Partial::default() };
        while let Some(event) = reply.next_blocking() {
            match event {
                Event::Done(completion) => return Ok(chat_reply(*completion)),
                Event::Failed(error) => return Err(error),
                other => {
                    if let Some(event) = partial.take(other)
                        && !on_event(event)
                    {
                        return Ok(partial.into_reply());
                    }
                }
            }
        }
        Err(unfinished())
    }

    /// What the engine makes of a chat request, with the very tokens: for training, which must not encode anything again.
    ///
    /// # Errors
    /// As [`ChatModel::chat`], but for replies that break their schema: see [`Local::reply`].
    pub async fn draw(&self, request: &ChatRequest) -> std::result::Result<Drawn, ChatError> {
        let (model, request) = (self.clone(), request.clone());
        let task = tokio::task::spawn_blocking(move || {
            let made = model.request(&request)?;
            let prompt = made.prompt.clone();
            Ok((prompt, model.start(made)?.0))
        });
        let (prompt, reply) = task.await.map_err(engine_error)?.map_err(chat_error)?;
        let completion = reply.completion().await.map_err(chat_error)?;
        Ok(Drawn { prompt, completion })
    }

    /// The reply that [`ChatModel::chat`] gives where the engine drew `completion`.
    ///
    /// # Errors
    /// If it breaks the schema of `request`, or is nothing but thinking.
    pub fn reply(
        request: &ChatRequest,
        completion: Completion,
    ) -> std::result::Result<ChatReply, ChatError> {
        finished(request, Ok(chat_reply(completion)))
    }

    /// As [`ChatModel::stream`], after the tokens `prompt` in place of `request.messages`.
    pub fn stream_ids(
        &self,
        prompt: Vec<u32>,
        request: ChatRequest,
    ) -> BoxStream<'static, std::result::Result<ChatEvent, ChatError>> {
        self.stream_of(request, move |model, request| model.request_after(prompt, request))
    }

    /// The events of the reply to what `made` makes of `request`.
    fn stream_of(
        &self,
        request: ChatRequest,
        made: impl FnOnce(&Self, &ChatRequest) -> Result<Request> + Send + 'static,
    ) -> BoxStream<'static, std::result::Result<ChatEvent, ChatError>> {
        let model = self.clone();
        let starting = async move {
            // Templates, tokens and grammars would hold up the runtime's threads.
            let task = tokio::task::spawn_blocking(move || {
                let reply = made(&model, &request).and_then(|made| model.start(made));
                (reply, request)
            });
            let (reply, request) = match task.await {
                Ok(started) => started,
                Err(error) => return stream::iter([Err(engine_error(error))]).boxed(),
            };
            match reply {
                Ok((reply, _)) => events(reply, request).boxed(),
                Err(error) => {
                    stream::iter([finished(&request, Err(error)).map(ChatEvent::Done)]).boxed()
                }
            }
        };
        stream::once(starting).flatten().boxed()
    }

    /// The reply to come, and the tokens of its prompt.
    fn start(&self, request: Request) -> Result<(Reply, usize)> {
        let prompt_tokens = request.prompt.len();
        let mut replies = self.inner.engine.submit(request)?;
        Ok((replies.pop().ok_or_else(unfinished)?, prompt_tokens))
    }
}

/// A completion, and the tokens that it was drawn after.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    pub prompt: Vec<u32>,
    pub completion: Completion,
}

fn unfinished() -> ModelError {
    ModelError::EngineStopped("a reply was left unfinished".to_owned())
}

/// What has come of a reply.
#[derive(Default)]
struct Partial {
    prompt_tokens: usize,
    ids: Vec<u32>,
    logprobs: Vec<f32>,
    thinking: String,
    text: String,
}

impl Partial {
    fn take(&mut self, event: Event) -> Option<ChatEvent> {
        match event {
            Event::Token(token) => {
                self.ids.push(token.id);
                self.logprobs.push(token.logprob);
                None
            }
            Event::Thinking(piece) => {
                self.thinking.push_str(&piece);
                Some(ChatEvent::Thinking(piece))
            }
            Event::Text(piece) => {
                self.text.push_str(&piece);
                Some(ChatEvent::Text(piece))
            }
            Event::Done(_) | Event::Failed(_) => None,
        }
    }

    fn into_reply(self) -> ChatReply {
        let Self { prompt_tokens, ids, logprobs, thinking, text } = self;
        let usage =
            Usage { prompt_tokens: prompt_tokens as u64, completion_tokens: ids.len() as u64 };
        reply_of(thinking, text, Finish::Length, usage, ids, logprobs)
    }
}

fn chat_reply(completion: Completion) -> ChatReply {
    let (ids, logprobs) = (completion.ids(), completion.logprobs());
    let Completion { thinking, text, finish, prompt_tokens, .. } = completion;
    let usage = Usage { prompt_tokens: prompt_tokens as u64, completion_tokens: ids.len() as u64 };
    reply_of(thinking, text, finish, usage, ids, logprobs)
}

fn reply_of(
    thinking: String,
    text: String,
    finish: Finish,
    usage: Usage,
    ids: Vec<u32>,
    logprobs: Vec<f32>,
) -> ChatReply {
    let thinking = thinking.trim().trim_start_matches("<think>").trim().to_owned();
    let text = if thinking.is_empty() { text } else { text.trim_start().to_owned() };
    ChatReply {
        text,
        thinking: (!thinking.is_empty()).then_some(thinking),
        finish,
        usage,
        token_ids: Some(ids),
        logprobs: Some(logprobs),
        warnings: Vec::new(),
    }
}

#[async_trait]
impl ChatModel for Local {
    fn info(&self) -> &ModelInfo {
        &self.inner.info
    }

    async fn chat(&self, request: &ChatRequest) -> std::result::Result<ChatReply, ChatError> {
        let mut events = self.stream(request.clone());
        while let Some(event) = events.next().await {
            if let ChatEvent::Done(reply) = event? {
                return Ok(reply);
            }
        }
        Err(engine_error(unfinished()))
    }

    fn stream(
        &self,
        request: ChatRequest,
    ) -> BoxStream<'_, std::result::Result<ChatEvent, ChatError>> {
        self.stream_of(request, Self::request)
    }
}

/// The events of a reply, in the words of [`ChatModel::stream`]. Dropped, they free the reply's row.
fn events(
    reply: Reply,
    request: ChatRequest,
) -> impl stream::Stream<Item = std::result::Result<ChatEvent, ChatError>> {
    stream::unfold(Some((reply, request)), |state| async move {
        let (mut reply, request) = state?;
        loop {
            let end = match reply.next().await {
                Some(Event::Token(_)) => continue,
                Some(Event::Thinking(piece)) => {
                    return Some((Ok(ChatEvent::Thinking(piece)), Some((reply, request))));
                }
                Some(Event::Text(piece)) => {
                    return Some((Ok(ChatEvent::Text(piece)), Some((reply, request))));
                }
                Some(Event::Done(completion)) => Ok(chat_reply(*completion)),
                Some(Event::Failed(error)) => Err(error),
                None => Err(unfinished()),
            };
            return Some((finished(&request, end).map(ChatEvent::Done), None));
        }
    })
}

/// Checks a finished reply against its schema, and types the error.
fn finished(
    request: &ChatRequest,
    result: Result<ChatReply>,
) -> std::result::Result<ChatReply, ChatError> {
    let reply = result.map_err(chat_error)?;
    if request.schema.is_some() && reply.text.is_empty() && reply.thinking.is_some() {
        return Err(ChatError::ThinkingExhausted { reply: Box::new(reply) });
    }
    request.conforming(reply)
}

fn chat_error(error: ModelError) -> ChatError {
    match error {
        ModelError::ContextTooLong { prompt, context } => ChatError::ContextTooLong {
            text: format!("it has {prompt} tokens, the model's context is {context}"),
        },
        ModelError::Schema(reason) => ChatError::SchemaRejected { reason },
        other => engine_error(other),
    }
}

fn engine_error(reason: impl ToString) -> ChatError {
    ChatError::Engine { backend: "local".to_owned(), reason: reason.to_string() }
}
