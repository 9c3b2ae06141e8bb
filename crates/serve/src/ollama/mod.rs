//! Ollama's routes. Field names, defaults and texts follow `api/types.go` and `server/routes.go` of Ollama 0.33.

mod chat;
mod embed;
mod generate;
mod lines;
mod models;
mod wire;

pub(crate) use chat::chat;
pub(crate) use embed::{cut, embed, embeddings, texts};
pub(crate) use generate::generate;
pub(crate) use models::{created, ps, show, tags, version};
pub(crate) use wire::{logprobs, schema, think, top_logprobs};
