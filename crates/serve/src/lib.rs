//! Ollama's HTTP API, and the part of OpenAI's that Ollama has, over a model of ours: what was just trained works with
//! every client at once.
//!
//! Start reading at [`Server`] (slots, queue, routes, the end) and [`ServedModel`] (what a model must be able to do).
//! A request takes one road: its body becomes an ask (`ollama/`, `openai/`), waits for a slot (`gate`), is generated
//! (`reply`), and goes out as lines or events. Nothing is batched here: replies run side by side, and the model
//! batches them.
//!
//! Left out on purpose: pulling, creating and deleting models, images, `suffix`, `/v1/completions` and `/v1/responses`.
//! `docs/serve.md` says where the wire departs from Ollama's, and why.

mod any_chat;
mod body;
mod error;
mod gate;
mod local;
mod model;
mod ollama;
mod openai;
mod options;
mod origin;
mod pieces;
mod reply;
mod server;
mod tool_calls;

pub use any_chat::AnyChat;
pub use model::{
    Card, ChatMessage, Conversation, Embedding, Job, Prompt, ScoredToken, ServedModel, Token,
};
pub use server::{Limits, Server};
