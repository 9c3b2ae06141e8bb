//! Qwen3 and Qwen2 in candle: weights, adapters, tokenizer, chat template, grammar, sampling; as a `ChatModel` in this
//! process.
//!
//! Start reading at [`Local`] (messages in, a reply out), [`Engine`] (many replies at once, token by token) and [`Qwen3`]
//! (one forward pass).

pub mod bundled;
pub mod hub;
pub mod ops;
pub mod random_model;

mod chat_template;
mod config;
mod device;
mod engine;
mod error;
mod gguf;
mod grammar;
mod kv_arena;
mod kv_cache;
mod local;
mod logprobs;
mod lora;
mod manifest;
mod model_dir;
mod paged_kv;
mod projection;
mod qwen3;
mod sampler;
mod sequences;
mod tensor_file;
mod tokenizer;
mod weight;
mod weights;

pub use chat_template::ChatTemplate;
pub use config::{Architecture, Config};
pub use device::{Card, DeviceChoice, DeviceError, DtypeChoice, Placement};
pub use engine::{
    Completion, Engine, Event, Limits, Reply, Request, Sample, Statistics, Times, Token,
};
pub use error::{ModelError, Result};
pub use grammar::{Constraint, Grammar, TokenMask};
pub use kv_cache::KvCache;
pub use local::{Drawn, Local};
pub use logprobs::{Scored, logprobs};
pub use lora::{Adapter, AdapterTask, LoraConfig};
pub use manifest::Manifest;
pub use model_dir::{LoadedModel, ModelFiles, PROFILE_FILE};
pub use qwen3::Qwen3;
pub use sampler::{Draw, Sampled, Sampler};
pub use sequences::Sequences;
pub use tensor_file::save_tensors;
pub use tokenizer::Tokenizer;
pub use weights::{TensorInfo, Weights};
