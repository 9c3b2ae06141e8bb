//! Language models behind one trait: Ollama, OpenAI-compatible servers, and recordings.
//!
//! Start reading at [`ChatModel`]. The agent writes [`Message`]s and reads a [`ChatReply`]; which server answered,
//! and what it got wrong on the way, stays in here.
//!
//! - [`ollama`]: the native API, with a detector for each thing it does silently.
//! - [`openai`]: vLLM, llama.cpp, DeepSeek, OpenAI: whatever speaks `/v1/chat/completions`.
//! - [`pool`]: several endpoints as one model, each with as many requests as it bears.
//! - [`replay`]: exchanges recorded to a file, and played back.
//! - [`schema`]: the JSON schemas of replies, and whether a reply keeps to them.
//! - [`retry`]: trying again, where that can help.

pub mod chat;
pub mod error;
mod events;
mod http;
mod lines;
mod notices;
pub mod ollama;
pub mod openai;
pub mod pool;
pub mod replay;
pub mod retry;
pub mod schema;
mod think_tags;

pub use chat::{
    ChatEvent, ChatModel, ChatReply, ChatRequest, Finish, Message, ModelInfo, Role, Sampling, Usage,
};
pub use error::{Break, ChatError, Phase, ReplayError};
pub use http::Timeouts;
pub use ollama::{Ollama, OllamaConfig};
pub use openai::{ApiKey, OpenAi, OpenAiConfig};
pub use pool::{EndpointState, Pool, PoolConfig};
pub use replay::{Recorder, Replay};
pub use retry::Retry;
pub use schema::SchemaViolation;
