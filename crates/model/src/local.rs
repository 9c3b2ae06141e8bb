//! The model in this process as a [`ChatModel`]: template, forward passes, grammar, sampling, stop.

use std::sync::{Arc, OnceLock};

use agentflow_llm::{
    ChatError, ChatEvent, ChatModel, ChatReply, ChatRequest, Finish, ModelInfo, Usage,
};
use async_trait::async_trait;
use candle_core::{DType, Device, Tensor};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;

use crate::error::{ModelError, Result};
use crate::grammar::{Constraint, Grammar};
use crate::kv_cache::KvCache;
use crate::model_dir::{LoadedModel, ModelFiles};
use crate::sampler::Sampler;
use crate::tokenizer::Utf8Stream;

/// A Qwen3 model in this process. Cheap to clone; calls may run side by side.
#[derive(Clone)]
pub struct Local {
    inner: Arc<Inner>,
}

struct Inner {
    loaded: LoadedModel,
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
        let loaded = files.load(dtype, device)?;
        let longest = loaded.model.config().max_position_embeddings;
        let context = num_ctx.map_or(longest, |wanted| longest.min(wanted as usize));
        let info = ModelInfo {
            name: name.to_owned(),
            backend: "local".to_owned(),
            digest: Some(loaded.digest.clone()),
            adapter: None,
            num_ctx: Some(context as u32),
            prompt_profile: Some(loaded.prompt_profile.clone()),
        };
        Ok(Self { inner: Arc::new(Inner { loaded, info, context, grammar: OnceLock::new() }) })
    }

    /// What was loaded, for those who need more of the model than its replies.
    pub fn loaded(&self) -> &LoadedModel {
        &self.inner.loaded
    }

    /// As [`ChatModel::stream`], continuing the tokens `prompt` in place of `request.messages`.
    pub fn stream_ids(
        &self,
        prompt: Vec<u32>,
        request: ChatRequest,
    ) -> BoxStream<'static, std::result::Result<ChatEvent, ChatError>> {
        self.stream_with(request, move |_, _| Ok(prompt))
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
        let prompt = self.inner.prompt(request)?;
        self.generate_from(prompt, request, on_event)
    }

    fn generate_from(
        &self,
        prompt: Vec<u32>,
        request: &ChatRequest,
        on_event: &mut dyn FnMut(ChatEvent) -> bool,
    ) -> Result<ChatReply> {
        let mut reply = Reply::new(&self.inner, request, prompt)?;
        while reply.finish.is_none() {
            let Some(event) = reply.next_token()? else { continue };
            if !on_event(event) {
                break;
            }
        }
        reply.into_chat_reply(on_event)
    }

    /// Streams the reply to the tokens that `prompt` makes of the request.
    fn stream_with(
        &self,
        request: ChatRequest,
        prompt: impl FnOnce(&Inner, &ChatRequest) -> Result<Vec<u32>> + Send + 'static,
    ) -> BoxStream<'static, std::result::Result<ChatEvent, ChatError>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let model = self.clone();
        // Forward passes would block the runtime's threads. A dropped stream closes the channel, which ends the loop.
        tokio::task::spawn_blocking(move || {
            let result = prompt(&model.inner, &request).and_then(|prompt| {
                model.generate_from(prompt, &request, &mut |event| sender.send(Ok(event)).is_ok())
            });
            let _ = sender.send(finished(&request, result).map(ChatEvent::Done));
        });
        futures::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|event| (event, receiver))
        })
        .boxed()
    }
}

impl Inner {
    /// The tokens of the rendered messages.
    fn prompt(&self, request: &ChatRequest) -> Result<Vec<u32>> {
        let LoadedModel { tokenizer, template, .. } = &self.loaded;
        tokenizer.encode(&template.render(&request.messages, request.think)?)
    }

    fn grammar(&self) -> Result<&Grammar> {
        if let Some(grammar) = self.grammar.get() {
            return Ok(grammar);
        }
        let vocab_size = self.loaded.model.config().vocab_size;
        let end = self.loaded.stop_ids[0];
        let grammar = Grammar::new(self.loaded.tokenizer.clone(), vocab_size, end)?;
        Ok(self.grammar.get_or_init(|| grammar))
    }
}

/// One reply in the making.
struct Reply<'a> {
    inner: &'a Inner,
    request: &'a ChatRequest,
    sampler: Sampler,
    constraint: Option<Constraint>,
    cache: KvCache,
    logits: Tensor, // [1, V] f32, of the token to come
    prompt_tokens: usize,
    phase: Phase,
    ids: Vec<u32>,
    logprobs: Vec<f32>,
    stream: Utf8Stream,
    thinking: String,
    text: String,
    finish: Option<Finish>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Free text up to this token, `</think>`.
    Thinking {
        end: u32,
    },
    Text,
}

impl<'a> Reply<'a> {
    fn new(inner: &'a Inner, request: &'a ChatRequest, prompt: Vec<u32>) -> Result<Self> {
        let LoadedModel { model, tokenizer, .. } = &inner.loaded;
        if prompt.len() >= inner.context {
            return Err(ModelError::ContextTooLong {
                prompt: prompt.len(),
                context: inner.context,
            });
        }
        let constraint = match &request.schema {
            Some(schema) => Some(inner.grammar()?.constraint(schema)?),
            None => None,
        };
        let phase = match tokenizer.id("</think>") {
            Some(end) if request.think => Phase::Thinking { end },
            _ => Phase::Text,
        };
        let mut cache = model.new_cache();
        let ids = Tensor::new(prompt.as_slice(), model.device())?.unsqueeze(0)?;
        let logits = model.last_logits(&model.forward(&ids, Some(&mut cache))?)?;
        Ok(Self {
            inner,
            request,
            sampler: Sampler::new(&request.sampling),
            constraint,
            cache,
            logits,
            prompt_tokens: prompt.len(),
            phase,
            ids: Vec::new(),
            logprobs: Vec::new(),
            stream: Utf8Stream::default(),
            thinking: String::new(),
            text: String::new(),
            finish: (request.max_tokens == 0).then_some(Finish::Length),
        })
    }

    /// Samples one token; gives the text that became complete by it.
    fn next_token(&mut self) -> Result<Option<ChatEvent>> {
        let logits = self.logits.squeeze(0)?.to_vec1::<f32>()?;
        let constraint = self.constraint.as_mut().filter(|_| self.phase == Phase::Text);
        let sampled = match constraint {
            None => self.sampler.sample(&logits, None)?,
            Some(constraint) => {
                let mask = constraint.mask()?;
                let sampled = self.sampler.sample(&logits, Some(&mask))?;
                if !self.inner.loaded.stop_ids.contains(&sampled.token) {
                    constraint.accept(sampled.token)?;
                }
                sampled
            }
        };
        self.ids.push(sampled.token);
        self.logprobs.push(sampled.logprob);
        if self.inner.loaded.stop_ids.contains(&sampled.token) {
            self.finish = Some(Finish::Stop);
            return Ok(None);
        }
        let event = self.take(sampled.token)?;
        if self.finish.is_none() {
            let full = self.prompt_tokens + self.ids.len() >= self.inner.context;
            if full || self.ids.len() >= self.request.max_tokens as usize {
                self.finish = Some(Finish::Length);
            } else {
                self.advance(&[sampled.token])?;
            }
        }
        Ok(event)
    }

    /// Adds a token to thinking or text.
    fn take(&mut self, token: u32) -> Result<Option<ChatEvent>> {
        let tokenizer = &self.inner.loaded.tokenizer;
        match self.phase {
            Phase::Thinking { end } if token == end => {
                self.thinking.push_str(&self.stream.finish());
                self.phase = Phase::Text;
                Ok(None)
            }
            Phase::Thinking { .. } => {
                let piece = self.stream.push(tokenizer.bytes(token));
                self.thinking.push_str(&piece);
                Ok((!piece.is_empty()).then_some(ChatEvent::Thinking(piece)))
            }
            Phase::Text => {
                let piece = self.stream.push(tokenizer.bytes(token));
                self.text.push_str(&piece);
                let stop = self.request.stop.iter().filter(|stop| !stop.is_empty());
                if let Some(at) = stop.filter_map(|stop| self.text.find(stop.as_str())).min() {
                    self.text.truncate(at);
                    self.finish = Some(Finish::Stop);
                    return Ok(None);
                }
                Ok((!piece.is_empty()).then_some(ChatEvent::Text(piece)))
            }
        }
    }

    fn advance(&mut self, ids: &[u32]) -> Result<()> {
        let model = &self.inner.loaded.model;
        let ids = Tensor::new(ids, model.device())?.unsqueeze(0)?;
        self.logits = model.last_logits(&model.forward(&ids, Some(&mut self.cache))?)?;
        Ok(())
    }

    fn into_chat_reply(mut self, on_event: &mut dyn FnMut(ChatEvent) -> bool) -> Result<ChatReply> {
        let rest = self.stream.finish();
        if !rest.is_empty() && self.phase == Phase::Text {
            on_event(ChatEvent::Text(rest.clone()));
            self.text.push_str(&rest);
        }
        let thinking = self.thinking.trim().trim_start_matches("<think>").trim().to_owned();
        let text = if thinking.is_empty() { self.text } else { self.text.trim_start().to_owned() };
        Ok(ChatReply {
            text,
            thinking: (!thinking.is_empty()).then_some(thinking),
            finish: self.finish.unwrap_or(Finish::Length),
            usage: Usage {
                prompt_tokens: self.prompt_tokens as u64,
                completion_tokens: self.ids.len() as u64,
            },
            token_ids: Some(self.ids),
            logprobs: Some(self.logprobs),
            warnings: Vec::new(),
        })
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
        Err(engine_error("the generation thread ended without a reply"))
    }

    fn stream(
        &self,
        request: ChatRequest,
    ) -> BoxStream<'_, std::result::Result<ChatEvent, ChatError>> {
        self.stream_with(request, Inner::prompt)
    }
}

/// Checks a finished reply against its schema, and types the error.
fn finished(
    request: &ChatRequest,
    result: Result<ChatReply>,
) -> std::result::Result<ChatReply, ChatError> {
    let reply = result.map_err(|error| match error {
        ModelError::ContextTooLong { prompt, context } => ChatError::ContextTooLong {
            text: format!("it has {prompt} tokens, the model's context is {context}"),
        },
        ModelError::Schema(reason) => ChatError::SchemaRejected { reason },
        other => engine_error(other),
    })?;
    if request.schema.is_some() && reply.text.is_empty() && reply.thinking.is_some() {
        return Err(ChatError::ThinkingExhausted { reply: Box::new(reply) });
    }
    request.conforming(reply)
}

fn engine_error(reason: impl ToString) -> ChatError {
    ChatError::Engine { backend: "local".to_owned(), reason: reason.to_string() }
}
