//! A Hugging Face model directory, a GGUF file, or a directory's files inside the binary, read and checked as one thing.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::chat_template::ChatTemplate;
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::gguf::{Gguf, is_gguf};
use crate::lora::Adapter;
use crate::manifest::Manifest;
use crate::qwen3::Qwen3;
use crate::tokenizer::Tokenizer;
use crate::weights::{Weights, weight_files};

/// A model with all that is needed to talk to it.
pub struct LoadedModel {
    pub model: Qwen3,
    pub tokenizer: Arc<Tokenizer>,
    pub template: ChatTemplate,
    /// Tokens that end a reply; the first one is the grammar's end token.
    pub stop_ids: Vec<u32>,
    /// Name of the prompt profile that the model was trained with, from `agentflow.json`; `full` without one.
    pub prompt_profile: String,
    /// SHA-256 over configuration, tokenizer, and the head and tail of each weight file.
    pub digest: String,
    /// SHA-256 of the adapter beside the weights.
    pub adapter: Option<String>,
}

impl LoadedModel {
    /// The model with a LoRA adapter beside its weights.
    ///
    /// # Errors
    /// If the adapter is for another model; see [`Qwen3::with_adapter`].
    pub fn with_adapter(self, adapter: &Adapter) -> Result<Self> {
        let model = self.model.with_adapter(adapter)?;
        Ok(Self { model, adapter: Some(adapter.digest().to_owned()), ..self })
    }
}

/// The name of the file that says which prompts a model was trained with.
pub const PROFILE_FILE: &str = "agentflow.json";

/// Where the files of a model are.
pub enum ModelFiles {
    Directory(PathBuf),
    Gguf(PathBuf),
    /// `(name, content)` of each file.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

impl ModelFiles {
    /// A model directory or a GGUF file. A directory that holds nothing but one GGUF file stands for that file.
    ///
    /// # Errors
    /// If there is neither.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_file() {
            return match is_gguf(path) {
                true => Ok(Self::Gguf(path.to_owned())),
                false => Err(ModelError::NoGguf { path: path.to_owned() }),
            };
        }
        let directory = Self::directory(path)?;
        if path.join("config.json").exists() {
            return Ok(directory);
        }
        let entries = std::fs::read_dir(path)
            .map_err(|source| ModelError::Read { path: path.to_owned(), source })?;
        let mut files = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|file| file.extension().is_some_and(|end| end == "gguf"));
        match (files.next(), files.next()) {
            (Some(file), None) => Ok(Self::Gguf(file)),
            _ => Ok(directory),
        }
    }

    /// A model directory.
    ///
    /// # Errors
    /// If there is no such directory.
    pub fn directory(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(ModelError::NoDirectory { path: path.to_owned() });
        }
        Ok(Self::Directory(path.to_owned()))
    }

    /// Reads everything; weights are converted to `dtype` on `device`.
    ///
    /// # Errors
    /// A file that is missing, damaged, or does not belong to the others; the message names it.
    pub fn load(&self, dtype: DType, device: &Device) -> Result<LoadedModel> {
        self.load_with(|| self.weights(dtype, device))
    }

    /// Reads everything for inference on the CPU: computed in f32, with matrices as the files store them where they can
    /// be multiplied so (bf16, f16, and `Q8_0`, `Q4_K` and `Q6_K` of GGUF files), which takes a fraction of the memory and of the time.
    /// No gradient goes through them.
    ///
    /// # Errors
    /// As [`ModelFiles::load`].
    pub fn load_packed(&self) -> Result<LoadedModel> {
        self.load_with(|| Ok(self.weights(DType::F32, &Device::Cpu)?.packed()))
    }

    fn load_with(&self, weights: impl FnOnce() -> Result<Weights>) -> Result<LoadedModel> {
        let manifest = self.manifest()?;
        let template = manifest.template.ok_or_else(|| ModelError::Template {
            place: self.place(),
            problem: "there is none; put it in chat_template.jinja, or under `chat_template` in \
                      tokenizer_config.json (base models have none: use the instruct model)"
                .to_owned(),
        })?;
        Ok(LoadedModel {
            model: Qwen3::new(&manifest.config, &weights()?)?,
            tokenizer: manifest.tokenizer,
            template,
            stop_ids: manifest.stop_ids,
            prompt_profile: manifest.prompt_profile,
            digest: self.digest()?,
            adapter: None,
        })
    }

    /// The named tensors, not yet read.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub fn weights(&self, dtype: DType, device: &Device) -> Result<Weights> {
        match self {
            Self::Directory(dir) => Weights::open(dir, dtype, device),
            Self::Gguf(path) => Ok(Weights::from_gguf(Gguf::open(path)?, dtype, device)),
            Self::Embedded(_) => {
                let bytes = self.embedded("model.safetensors").unwrap_or_default();
                Weights::from_bytes(bytes, &self.place(), dtype, device)
            }
        }
    }

    /// The files that hold the tensors; none for a model in the binary.
    ///
    /// # Errors
    /// If one is missing.
    pub fn weight_files(&self) -> Result<Vec<PathBuf>> {
        match self {
            Self::Directory(dir) => weight_files(dir),
            Self::Gguf(path) => Ok(vec![path.clone()]),
            Self::Embedded(_) => Ok(Vec::new()),
        }
    }

    /// Everything but the weights, checked.
    ///
    /// # Errors
    /// As [`ModelFiles::load`]; a missing chat template is none.
    pub fn manifest(&self) -> Result<Manifest> {
        if let Self::Gguf(path) = self {
            return Gguf::open(path)?.manifest();
        }
        let config_text = self.require("config.json")?;
        let config = Config::from_json(&config_text, &self.path("config.json"))?;
        let tokenizer_text = self.require("tokenizer.json")?;
        let tokenizer = Tokenizer::from_json(&tokenizer_text, &self.path("tokenizer.json"))?;
        if tokenizer.token_bytes().len() > config.vocab_size {
            return Err(ModelError::Invalid {
                path: self.path("tokenizer.json"),
                problem: format!(
                    "it has {} tokens, but `vocab_size` in config.json is {}",
                    tokenizer.token_bytes().len(),
                    config.vocab_size
                ),
            });
        }
        let tokenizer_config = self.json("tokenizer_config.json")?.unwrap_or_default();
        let template = self.template(&tokenizer_config)?;
        let stop_ids = self.stop_ids(&config_text, &tokenizer_config, &tokenizer)?;
        let prompt_profile = self.json(PROFILE_FILE)?.unwrap_or_default()["prompt_profile"]
            .as_str()
            .unwrap_or("full")
            .to_owned();
        Ok(Manifest { config, tokenizer: Arc::new(tokenizer), template, stop_ids, prompt_profile })
    }

    fn template(&self, tokenizer_config: &Value) -> Result<Option<ChatTemplate>> {
        let source = match (self.read("chat_template.jinja")?, &tokenizer_config["chat_template"]) {
            (Some(file), _) => file.into_owned(),
            (None, Value::String(inside)) => inside.clone(),
            (None, Value::Array(named)) => named
                .iter()
                .find(|entry| entry["name"] == "default")
                .and_then(|entry| entry["template"].as_str())
                .unwrap_or_default()
                .to_owned(),
            (None, _) => String::new(),
        };
        (!source.is_empty()).then(|| ChatTemplate::new(&source, &self.place())).transpose()
    }

    /// Ids of the tokens that end a reply: the tokenizer's end token first, then those of the generation settings.
    fn stop_ids(
        &self,
        config_text: &str,
        tokenizer_config: &Value,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>> {
        let eos = &tokenizer_config["eos_token"];
        let name = eos.as_str().or(eos["content"].as_str());
        let mut ids: Vec<u32> = name.and_then(|name| tokenizer.id(name)).into_iter().collect();
        let generation = self.json("generation_config.json")?.unwrap_or_default();
        let config: Value = serde_json::from_str(config_text).unwrap_or_default();
        for value in [&generation["eos_token_id"], &config["eos_token_id"]] {
            let listed = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            for id in listed.iter().filter_map(Value::as_u64) {
                if !ids.contains(&(id as u32)) {
                    ids.push(id as u32);
                }
            }
        }
        if ids.is_empty() {
            return Err(ModelError::Invalid {
                path: self.path("config.json"),
                problem:
                    "no end token: neither `eos_token_id` here or in generation_config.json, nor \
                          `eos_token` in tokenizer_config.json"
                        .to_owned(),
            });
        }
        Ok(ids)
    }

    /// SHA-256 over configuration, tokenizer, and the head and tail of each weight file.
    ///
    /// # Errors
    /// A file that is missing or cannot be read.
    pub fn digest(&self) -> Result<String> {
        let mut hash = Sha256::new();
        if !matches!(self, Self::Gguf(_)) {
            hash.update(self.require("config.json")?.as_ref());
            hash.update(self.require("tokenizer.json")?.as_ref());
            hash.update(self.embedded("model.safetensors").unwrap_or_default());
        }
        for file in self.weight_files()? {
            hash_ends(&file, &mut hash)
                .map_err(|source| ModelError::Read { path: file, source })?;
        }
        Ok(format!("sha256:{:x}", hash.finalize()))
    }

    /// What messages call it: the path.
    pub fn place(&self) -> String {
        match self {
            Self::Directory(path) | Self::Gguf(path) => path.display().to_string(),
            Self::Embedded(_) => "the bundled model".to_owned(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Directory(dir) => dir.join(name),
            Self::Gguf(path) => path.clone(),
            Self::Embedded(_) => Path::new("the bundled model").join(name),
        }
    }

    fn embedded(&self, name: &str) -> Option<&'static [u8]> {
        match self {
            Self::Directory(_) | Self::Gguf(_) => None,
            Self::Embedded(files) => {
                files.iter().find(|(file, _)| *file == name).map(|(_, content)| *content)
            }
        }
    }

    /// The text of one file beside the weights, e.g. `tokenizer_config.json`; `None` where there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Cow<'static, str>>> {
        let invalid = |problem: String| ModelError::Invalid { path: self.path(name), problem };
        match self {
            Self::Embedded(_) => self
                .embedded(name)
                .map(|bytes| std::str::from_utf8(bytes).map(Cow::Borrowed))
                .transpose()
                .map_err(|e| invalid(e.to_string())),
            Self::Gguf(_) => Ok(None), // nothing lies beside it
            Self::Directory(dir) => match std::fs::read_to_string(dir.join(name)) {
                Ok(text) => Ok(Some(Cow::Owned(text))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(ModelError::Read { path: dir.join(name), source }),
            },
        }
    }

    fn require(&self, name: &str) -> Result<Cow<'static, str>> {
        self.read(name)?.ok_or_else(|| ModelError::MissingFile {
            dir: PathBuf::from(self.place()),
            file: name.to_owned(),
        })
    }

    fn json(&self, name: &str) -> Result<Option<Value>> {
        let Some(text) = self.read(name)? else { return Ok(None) };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|e| ModelError::Invalid { path: self.path(name), problem: e.to_string() })
    }
}

/// Adds length, first and last MiB of a file: enough to tell models apart without reading 16 GB.
fn hash_ends(path: &Path, hash: &mut Sha256) -> std::io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    const END: u64 = 1 << 20;
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    hash.update(length.to_le_bytes());
    let mut ends = Vec::new();
    (&mut file).take(END).read_to_end(&mut ends)?;
    file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
    file.take(END).read_to_end(&mut ends)?;
    hash.update(&ends);
    Ok(())
}
