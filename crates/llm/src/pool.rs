//! One model behind one or several endpoints: each gets as many requests as it bears.
//!
//! A request goes to the endpoint with the fewest outstanding. How many an endpoint may have is found out while it works
//! (`limit`): more as long as it serves, fewer when it says 429 or 503. One that cannot be reached is left out, tried now
//! and then with a single request, and taken in again when that succeeds (`endpoint`). Failures that can heal are tried
//! again here, at whatever endpoint is open, so the endpoints themselves are best given [`Retry::never`].

mod endpoint;
mod gate;
mod limit;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::Instant;

use crate::chat::{ChatEvent, ChatModel, ChatReply, ChatRequest, ModelInfo};
use crate::error::ChatError;
use crate::events::{self, Emitter};
use crate::retry::Retry;
use endpoint::Effect;
use gate::Gate;

/// How endpoints are shared out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Requests that one endpoint may ever have outstanding.
    pub most: usize,
    /// Attempts of one request, and how long an endpoint is left alone after a failure: `first_wait`, doubling up to
    /// `longest_wait`.
    pub retry: Retry,
    /// For at least this long, a request is tried again however often it failed, and waits while no endpoint is open: a
    /// server that is started anew is back in minutes.
    pub patience: Duration,
}

impl PoolConfig {
    /// The usual retries, and no patience beyond them.
    pub fn new(most: usize) -> Self {
        Self { most, retry: Retry::default(), patience: Duration::ZERO }
    }
}

/// Endpoints that serve the same model, as one model.
pub struct Pool<M> {
    endpoints: Vec<M>,
    gate: Arc<Gate>,
    config: PoolConfig,
}

/// Where one endpoint of a [`Pool`] stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointState {
    /// Requests under way.
    pub outstanding: usize,
    /// How many there may be at the moment.
    pub limit: usize,
    /// Whether it answered when it was last asked.
    pub up: bool,
    /// Requests that were begun here.
    pub begun: u64,
}

impl<M: ChatModel> Pool<M> {
    /// # Errors
    /// [`ChatError::BadRequest`] if there is no endpoint, if none may have a request, or if two serve different models.
    pub fn new(endpoints: Vec<M>, config: PoolConfig) -> Result<Self, ChatError> {
        let wrong = |text: String| Err(ChatError::BadRequest { text });
        let Some(first) = endpoints.first() else {
            return wrong("the pool has no endpoint; give at least one".to_owned());
        };
        if config.most == 0 {
            return wrong("the concurrency must be at least 1".to_owned());
        }
        let weights = |info: &ModelInfo| (info.name.clone(), info.digest.clone());
        let known = weights(first.info());
        if let Some(other) = endpoints.iter().map(|one| weights(one.info())).find(|it| *it != known)
        {
            return wrong(format!(
                "the endpoints serve different models, {} and {}; give only those with the same weights",
                shown(&known),
                shown(&other)
            ));
        }
        let gate = Gate::new(endpoints.len(), &config);
        Ok(Self { endpoints, gate, config })
    }

    /// Where each endpoint stands, in the order in which they were given.
    pub fn states(&self) -> Vec<EndpointState> {
        self.gate.states()
    }

    async fn converse(
        &self,
        request: &ChatRequest,
        emitter: &mut Emitter,
    ) -> Result<ChatReply, ChatError> {
        let given_out = emitter.pieces();
        let mut made = 0;
        let mut failed_since = None;
        loop {
            let slot = self.gate.enter().await?;
            let outcome = ask(&self.endpoints[slot.endpoint()], request, emitter).await;
            let effect = Effect::of(&outcome);
            let news = slot.leave(&outcome);
            let Err(error) = &outcome else { return outcome };
            made += 1;
            let since: Instant = *failed_since.get_or_insert_with(Instant::now);
            let left = made < self.config.retry.attempts || since.elapsed() < self.config.patience;
            // A request that hangs at one server may well be answered by another.
            let can_heal = error.can_heal() || (effect == Effect::Dead && self.gate.any_other_up());
            // Pieces that were given out cannot be taken back.
            if !(left && can_heal && emitter.pieces() == given_out) {
                return outcome;
            }
            // Many requests meet the same failure, and being busy is all in a day's work of many.
            if news && (effect == Effect::Dead || self.config.most == 1) {
                tracing::warn!(attempt = made, %error, "model call failed, trying again");
            } else {
                tracing::debug!(attempt = made, %error, "model call failed, trying again");
            }
        }
    }
}

#[async_trait]
impl<M: ChatModel> ChatModel for Pool<M> {
    fn info(&self) -> &ModelInfo {
        self.endpoints[0].info()
    }

    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        self.converse(request, &mut Emitter::silent()).await
    }

    fn stream(&self, request: ChatRequest) -> BoxStream<'_, Result<ChatEvent, ChatError>> {
        events::events(async move |mut emitter| self.converse(&request, &mut emitter).await)
    }
}

async fn ask(
    model: &impl ChatModel,
    request: &ChatRequest,
    emitter: &mut Emitter,
) -> Result<ChatReply, ChatError> {
    if !emitter.is_streaming() {
        return model.chat(request).await;
    }
    let mut events = model.stream(request.clone());
    while let Some(event) = events.next().await {
        match event? {
            ChatEvent::Text(piece) => emitter.text(&piece),
            ChatEvent::Thinking(piece) => emitter.thinking(&piece),
            ChatEvent::Done(reply) => return Ok(reply),
        }
    }
    Err(ChatError::Engine {
        backend: model.info().backend.clone(),
        reason: "its stream ended without a reply; please report this".to_owned(),
    })
}

fn shown((name, digest): &(String, Option<String>)) -> String {
    match digest {
        Some(digest) => format!("`{name}` ({digest})"),
        None => format!("`{name}`"),
    }
}
