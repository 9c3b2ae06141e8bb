//! What every language model looks like from above: messages in, a reply out.
//!
//! Start reading at [`ChatModel`]. A backend fills in [`ChatReply`] as far as its server tells; what it noticed
//! but could live with (a cut prompt, keys in another order) stands in [`ChatReply::warnings`], what it could not
//! live with is a [`ChatError`].

use std::{ops::AddAssign, sync::Arc};

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{error::ChatError, schema::validate};

/// A language model that answers conversations.
///
/// Dropping the future or the stream cancels the call: the connection is closed, and the server stops.
#[async_trait]
pub trait ChatModel: Send + Sync {
    /// Which model this is; recorded with every trajectory.
    fn info(&self) -> &ModelInfo;

    /// Answers in one piece.
    ///
    /// With a schema in the request, an `Ok` reply conforms to it: every backend validates, whatever the
    /// server promised.
    ///
    /// # Errors
    /// Typed by cause, see [`ChatError`]. What can heal has been retried already, as often as configured.
    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ChatError>;

    /// Answers piece by piece; the last item of a stream that succeeds is [`ChatEvent::Done`], and an error
    /// ends the stream.
    fn stream(&self, request: ChatRequest) -> BoxStream<'_, Result<ChatEvent, ChatError>>;
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

impl Message {
    /// Standing instructions.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: Role::System, content: content.into() }
    }

    /// What the user says.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Role::User, content: content.into() }
    }

    /// What the model said before.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: Role::Assistant, content: content.into() }
    }

    /// What a tool returned.
    pub fn tool(content: impl Into<String>) -> Self {
        Self { role: Role::Tool, content: content.into() }
    }
}

/// How tokens are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 takes the likeliest token.
    pub temperature: f64,
    /// Keep the likeliest tokens up to this total probability; 1 keeps all.
    pub top_p: f64,
    /// Keep this many of the likeliest tokens; `None` keeps all.
    pub top_k: Option<usize>,
    /// Drop tokens less likely than this fraction of the likeliest; 0 drops none.
    pub min_p: f64,
    /// `None` leaves the seed to the backend, and the reply to chance.
    pub seed: Option<u64>,
}

impl Sampling {
    /// The likeliest token every time.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, top_p: 1.0, top_k: None, min_p: 0.0, seed: None }
    }

    /// The seed as servers take it: llama.cpp keeps 32 bits and draws its own seed when all are set. Seeds below
    /// 2^31 stay as they are, others are folded.
    pub(crate) fn wire_seed(&self) -> Option<u64> {
        self.seed.map(|seed| (seed ^ (seed >> 31) ^ (seed >> 62)) & 0x7fff_ffff)
    }
}

/// One question to a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    pub messages: Vec<Message>,
    /// JSON schema that the reply must conform to, properties in the order in which they are to be written.
    pub schema: Option<Value>,
    /// Whether the model may think before it answers. Always passed on explicitly: left out means *on* to Ollama.
    pub think: bool,
    pub sampling: Sampling,
    /// Upper bound of the reply in tokens, thinking included.
    pub max_tokens: u32,
    /// Texts that end the reply, themselves left out of it.
    pub stop: Vec<String>,
}

impl ChatRequest {
    /// Refuses what no backend can answer.
    ///
    /// # Errors
    /// [`ChatError::BadRequest`] that names the field.
    pub fn check(&self) -> Result<(), ChatError> {
        let Sampling { temperature, top_p, min_p, .. } = self.sampling;
        let problem = if self.messages.is_empty() {
            "it has no messages; give at least one".to_owned()
        } else if self.max_tokens == 0 {
            "`max_tokens` is 0; allow at least 1".to_owned()
        } else if !(temperature.is_finite() && temperature >= 0.0) {
            format!("`temperature` is {temperature}; give 0 or more")
        } else if !(top_p > 0.0 && top_p <= 1.0) {
            format!("`top_p` is {top_p}; give more than 0 and at most 1")
        } else if !(0.0..=1.0).contains(&min_p) {
            format!("`min_p` is {min_p}; give 0 to 1")
        } else {
            return Ok(());
        };
        Err(ChatError::BadRequest { text: problem })
    }

    /// Passes on a reply that conforms to the schema of this request.
    ///
    /// # Errors
    /// [`ChatError::SchemaViolated`], with the reply inside.
    pub fn conforming(&self, reply: ChatReply) -> Result<ChatReply, ChatError> {
        let Some(schema) = &self.schema else { return Ok(reply) };
        match validate(schema, &reply.text) {
            Ok(_) => Ok(reply),
            Err(violation) => Err(ChatError::SchemaViolated { violation, reply: Box::new(reply) }),
        }
    }
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// It was done, or wrote a stop text.
    Stop,
    /// `max_tokens` were used up, or the context was full.
    Length,
    /// It would not answer, or a filter of the server cut the reply; from servers that say so.
    Refused,
}

/// Tokens read and written, as the backend counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
    }
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatReply {
    pub text: String,
    /// What the model thought first, kept apart from the answer.
    pub thinking: Option<String>,
    pub finish: Finish,
    pub usage: Usage,
    /// Ids of the completion's tokens, from backends that give them.
    pub token_ids: Option<Vec<u32>>,
    /// Natural-log probability of each completion token when it was drawn, from backends that give them.
    pub logprobs: Option<Vec<f32>>,
    /// What was noticed and could be lived with; each a full sentence that says what to do.
    pub warnings: Vec<String>,
}

/// A piece of a reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatEvent {
    /// The next piece of the thinking.
    Thinking(String),
    /// The next piece of the text.
    Text(String),
    /// The whole reply; nothing follows.
    Done(ChatReply),
}

/// Which model answers, and where it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// As the backend names it, e.g. `qwen3:8b`.
    pub name: String,
    /// `ollama`, `openai`, `local` or `replay`.
    pub backend: String,
    /// Content digest of the weights, where the backend tells.
    pub digest: Option<String>,
    /// Adapter on top of the base weights.
    pub adapter: Option<String>,
    /// Context window in tokens that was asked for.
    pub num_ctx: Option<u32>,
    /// Prompts that the model was trained on, where it knows no others.
    #[serde(default)]
    pub prompt_profile: Option<String>,
}

#[async_trait]
impl<M: ChatModel + ?Sized> ChatModel for Arc<M> {
    fn info(&self) -> &ModelInfo {
        (**self).info()
    }

    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        (**self).chat(request).await
    }

    fn stream(&self, request: ChatRequest) -> BoxStream<'_, Result<ChatEvent, ChatError>> {
        (**self).stream(request)
    }
}

#[async_trait]
impl<M: ChatModel + ?Sized> ChatModel for Box<M> {
    fn info(&self) -> &ModelInfo {
        (**self).info()
    }

    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        (**self).chat(request).await
    }

    fn stream(&self, request: ChatRequest) -> BoxStream<'_, Result<ChatEvent, ChatError>> {
        (**self).stream(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_that_fit_stay_and_others_do_not_become_random() {
        let wire = |seed| Sampling { seed: Some(seed), ..Sampling::greedy() }.wire_seed().unwrap();
        assert_eq!([wire(0), wire(7), wire((1 << 31) - 1)], [0, 7, (1 << 31) - 1]);
        assert!(wire(u64::MAX) < 1 << 31);
        assert_ne!(wire(1 << 40), wire(1 << 41));
    }

    #[test]
    fn a_request_nobody_can_answer_is_refused() {
        let good = ChatRequest {
            messages: vec![Message::user("hi")],
            schema: None,
            think: false,
            sampling: Sampling::greedy(),
            max_tokens: 1,
            stop: vec![],
        };
        assert_eq!(good.check(), Ok(()));
        type Spoil = fn(&mut ChatRequest);
        let bad: [(&str, Spoil); 5] = [
            ("messages", |r| r.messages.clear()),
            ("max_tokens", |r| r.max_tokens = 0),
            ("temperature", |r| r.sampling.temperature = f64::NAN),
            ("top_p", |r| r.sampling.top_p = 0.0),
            ("min_p", |r| r.sampling.min_p = -0.1),
        ];
        for (field, spoil) in bad {
            let mut request = good.clone();
            spoil(&mut request);
            assert!(request.check().unwrap_err().to_string().contains(field), "{field}");
        }
    }
}
