//! The policy as the planner of one attempt sees it, with an ear: each call is kept as the engine made it.

use std::sync::{Mutex, PoisonError};

use agentflow_llm::{ChatError, ChatEvent, ChatModel, ChatReply, ChatRequest, Message, ModelInfo};
use agentflow_model::{Drawn, Local};
use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::Value;

/// One call of the planner.
pub(super) struct Call {
    pub(super) messages: Vec<Message>,
    pub(super) schema: Option<Value>,
    pub(super) drawn: Drawn,
}

/// A model that remembers what it was asked and what tokens it drew. Nothing is read back from text: prompts and completions
/// are the engine's, tokens that the grammar forced are marked.
pub(super) struct Recorder {
    policy: Local,
    calls: Mutex<Vec<Call>>,
}

impl Recorder {
    pub(super) fn new(policy: Local) -> Self {
        Self { policy, calls: Mutex::new(Vec::new()) }
    }

    /// The calls so far, in order.
    pub(super) fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl ChatModel for Recorder {
    fn info(&self) -> &ModelInfo {
        self.policy.info()
    }

    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        let drawn = self.policy.draw(request).await?;
        let reply = Local::reply(request, drawn.completion.clone());
        let (messages, schema) = (request.messages.clone(), request.schema.clone());
        let call = Call { messages, schema, drawn };
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        reply
    }

    fn stream(&self, request: ChatRequest) -> BoxStream<'_, Result<ChatEvent, ChatError>> {
        stream::once(async move { self.chat(&request).await.map(ChatEvent::Done) }).boxed()
    }
}
