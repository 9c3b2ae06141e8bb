//! What the server asks of a model, beyond chatting.

use agentflow_llm::{ChatError, ChatEvent, ChatRequest};
use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::Serialize;
use serde_json::{Map, Value};

/// A model that can be served. Only [`ServedModel::stream`] must be there; a request for what is not is refused.
#[async_trait]
pub trait ServedModel: Send + Sync {
    /// What it is, as clients are told.
    fn card(&self) -> &Card;

    /// The tokens of `prompt`; `None` where the model does not tell.
    ///
    /// # Errors
    /// A prompt that the template refuses.
    async fn tokens(&self, prompt: &Prompt) -> Result<Option<Vec<u32>>, ChatError> {
        let _ = prompt;
        Ok(None)
    }

    /// Replies piece by piece, as [`agentflow_llm::ChatModel::stream`] does. Dropping the stream ends the reply.
    fn stream(&self, job: Job) -> BoxStream<'_, Result<ChatEvent, ChatError>>;

    /// A text as one vector of length 1; a text that is too long is cut if `truncate` says so.
    ///
    /// # Errors
    /// If the model embeds nothing, or the text is too long.
    async fn embed(&self, text: &str, truncate: bool) -> Result<Embedding, ChatError> {
        let _ = (text, truncate);
        Err(unsupported(self.card(), "embeddings"))
    }

    /// Log-probabilities of `completion` after `prompt`, each with the `top` likeliest tokens of its place.
    ///
    /// # Errors
    /// If the model does not tell.
    async fn score(
        &self,
        prompt: &[u32],
        completion: &[u32],
        top: usize,
    ) -> Result<Vec<ScoredToken>, ChatError> {
        let _ = (prompt, completion, top);
        Err(unsupported(self.card(), "logprobs"))
    }
}

/// The refusal of what `model` cannot do, in Ollama's words.
pub(crate) fn unsupported(model: &Card, what: &str) -> ChatError {
    ChatError::BadRequest { text: format!("{:?} does not support {what}", model.name) }
}

/// What a model is.
#[derive(Debug, Clone)]
pub struct Card {
    /// Without a tag, e.g. `tiny-planner`.
    pub name: String,
    /// E.g. `sha256:…`.
    pub digest: String,
    /// E.g. `qwen3`.
    pub family: String,
    pub parameters: u64,
    /// How most of the weights are held, e.g. `F32` or `Q4_K`.
    pub dtype: String,
    /// Bytes of the weights in memory.
    pub size: u64,
    /// Tokens of prompt and reply together, as it is served.
    pub context_length: u32,
    pub embedding_length: u32,
    /// Its chat template, in Jinja.
    pub template: String,
    pub thinks: bool,
    pub calls_tools: bool,
    /// Metadata under GGUF's keys, e.g. `qwen3.block_count`.
    pub info: Map<String, Value>,
}

/// What is to be continued.
#[derive(Debug, Clone)]
pub enum Prompt {
    Chat(Conversation),
    /// Text as it is, with no template around it.
    Raw(String),
}

/// What the chat template renders.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    pub messages: Vec<ChatMessage>,
    /// Definitions as clients send them: `{"type": "function", "function": {…}}`.
    pub tools: Vec<Value>,
    pub think: bool,
}

/// One turn, in the fields that templates read.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ChatMessage {
    pub role: String,
    pub content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Value>,
    /// The tool that `content` is from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// One reply to be generated.
#[derive(Debug, Clone)]
pub struct Job {
    pub prompt: Prompt,
    /// The tokens of the prompt, where the model told them.
    pub tokens: Option<Vec<u32>>,
    /// How to reply; its messages are empty, for the prompt stands above.
    pub request: ChatRequest,
}

/// A text as a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// Of length 1.
    pub vector: Vec<f32>,
    pub tokens: usize,
}

/// A token of a reply with its log-probability, under the plain distribution: temperature 1 and no grammar, as
/// llama.cpp gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredToken {
    pub token: Token,
    /// The likeliest tokens in its place, likeliest first.
    pub top: Vec<Token>,
}

/// A token and its log-probability in nats.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub bytes: Vec<u8>,
    pub logprob: f32,
}
