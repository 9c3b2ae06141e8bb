//! The part of OpenAI's API that Ollama has too, under `/v1`.

mod chat;
mod embeddings;
mod models;

pub(crate) use chat::chat;
pub(crate) use embeddings::embeddings;
pub(crate) use models::{model, models};
