//! What can be wrong with a model directory, a prompt or a schema.

use std::path::PathBuf;

pub type Result<T> = std::result::Result<T, ModelError>;

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error(
        "no model directory at `{path}`; give a directory with config.json, tokenizer.json and *.safetensors, or a GGUF file"
    )]
    NoDirectory { path: PathBuf },
    #[error(
        "`{path}` is no model: it is a file, but not GGUF; give a GGUF file or a model directory"
    )]
    NoGguf { path: PathBuf },
    #[error(
        "no adapter at `{path}`; give a PEFT directory with adapter_config.json and adapter_model.safetensors"
    )]
    NoAdapter { path: PathBuf },
    #[error(
        "adapter `{adapter}` is for another model: it has `{module}` from {found_inputs} to {found_outputs} numbers, {problem}"
    )]
    Adapter {
        adapter: PathBuf,
        module: String,
        found_inputs: usize,
        found_outputs: usize,
        problem: String,
    },
    #[error("`lora.{key}` {problem}")]
    Lora { key: &'static str, problem: String },
    #[error(
        "model directory `{dir}` has no `{file}`; a Hugging Face model directory needs it, so copy or download it again"
    )]
    MissingFile { dir: PathBuf, file: String },
    #[error("cannot read `{path}`: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write `{path}`: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("`{path}` is not empty; give a new or an empty directory")]
    Occupied { path: PathBuf },
    #[error("`{path}` is not valid: {problem}")]
    Invalid { path: PathBuf, problem: String },
    #[error("`{path}` describes a model this engine does not run: {problem}")]
    Unsupported { path: PathBuf, problem: String },
    #[error(
        "weights file `{path}` is damaged ({problem}); it is probably a partial download, so fetch it again"
    )]
    Weights { path: PathBuf, problem: String },
    #[error(
        "the weights in `{place}` have no tensor `{name}`; the configuration does not belong to them, or a shard is missing"
    )]
    MissingTensor { place: String, name: String },
    #[error(
        "tensor `{name}` in `{place}` has shape {found:?}, but the configuration asks for {wanted:?}; \
         it does not belong to these weights"
    )]
    Shape { place: String, name: String, found: Vec<usize>, wanted: Vec<usize> },
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    #[error("chat template of `{place}`: {problem}")]
    Template { place: String, problem: String },
    #[error("the grammar refuses this JSON schema: {0}")]
    Schema(String),
    #[error(
        "the prompt has {prompt} tokens, more than the model's context of {context}; shorten the question or the memory"
    )]
    ContextTooLong { prompt: usize, context: usize },
    #[error(
        "every token has probability zero or is not a number after {tokens} tokens; the weights are damaged, or the grammar allows nothing"
    )]
    NothingToSample { tokens: usize },
    #[error("the token sequence cannot be used: {0}")]
    Sequence(String),
    #[error(
        "the request needs keys and values of {needed} tokens, more than the engine's {limit}; lower `max_tokens` or raise the limit"
    )]
    TooLarge { needed: usize, limit: usize },
    #[error("a pass through the model failed for every reply in it: {0}")]
    Pass(String),
    #[error("the engine has stopped ({0}); load the model again")]
    EngineStopped(String),
    #[error("tensor computation failed: {0}")]
    Candle(#[from] candle_core::Error),
}
