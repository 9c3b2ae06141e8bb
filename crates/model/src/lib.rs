//! Qwen3 and Qwen2 in candle: weights, adapters, tokenizer, chat template, grammar, sampling; as a `ChatModel` in this
//! process.
//!
//! Start reading at [`Local`] (a reply, token by token) and [`Qwen3`] (one forward pass).

pub mod bundled;
pub mod hub;
pub mod ops;

mod chat_template;
mod completion;
mod config;
mod error;
mod gguf;
mod grammar;
mod kv_cache;
mod local;
mod logprobs;
mod lora;
mod manifest;
mod model_dir;
mod projection;
mod qwen3;
mod sampler;
mod tokenizer;
mod weights;

pub use chat_template::ChatTemplate;
pub use completion::{Completion, CompletionRequest, complete};
pub use config::{Architecture, Config};
pub use error::{ModelError, Result};
pub use grammar::{Constraint, Grammar};
pub use kv_cache::KvCache;
pub use local::Local;
pub use logprobs::completion_logprobs;
pub use lora::Adapter;
pub use manifest::Manifest;
pub use model_dir::{LoadedModel, ModelFiles, PROFILE_FILE};
pub use qwen3::Qwen3;
pub use sampler::{Sampled, Sampler};
pub use tokenizer::Tokenizer;
pub use weights::{TensorInfo, Weights};
