//! `agentflow model inspect`: what a model is, without loading it.

use std::collections::BTreeMap;
use std::fmt::Write;

use agentflow_model::{Config, Manifest, ModelFiles, Placement};
use anyhow::Context;
use candle_core::{DType, Device};
use serde::Serialize;

use crate::arguments::InspectArgs;
use crate::{Failure, output, placement};

/// What is said of a model, in the order in which it is printed.
#[derive(Serialize)]
struct Inspection {
    model: String,
    format: &'static str,
    architecture: &'static str,
    class: &'static str,
    config: Config,
    tensors: usize,
    parameters: u64,
    /// Parameters stored in each type.
    stored: BTreeMap<String, u64>,
    /// Length of the files that hold weights; unknown inside the binary.
    file_bytes: Option<u64>,
    tokens: usize,
    /// Tokens that end a reply.
    stop: Vec<Stop>,
    chat_template: bool,
    prompt_profile: String,
    digest: String,
    memory: Memory,
    /// Where it would compute, and in what.
    device: String,
    dtype: &'static str,
}

#[derive(Serialize)]
struct Stop {
    id: u32,
    token: Option<String>,
}

/// Bytes that a run needs.
#[derive(Serialize)]
struct Memory {
    weights_f32: u64,
    weights_half: u64,
    /// Of the cache of keys and values, for each token of each sequence.
    cache_per_token_f32: u64,
    cache_per_token_half: u64,
}

pub(super) fn run(args: &InspectArgs) -> Result<(), Failure> {
    let files = super::files(args.model.as_deref())?;
    let inspection = inspect(&files, &placement::choose(&args.placement)?)?;
    if args.json {
        let text = serde_json::to_string_pretty(&inspection).context("cannot write JSON")?;
        return output::print(|out| writeln!(out, "{text}"));
    }
    output::print(|out| out.write_all(inspection.text().as_bytes()))
}

fn inspect(files: &ModelFiles, placement: &Placement) -> Result<Inspection, Failure> {
    let manifest = files.manifest().map_err(Failure::work)?;
    let weights = files.weights(DType::F32, &Device::Cpu).map_err(Failure::work)?;
    let tensors = weights.tensors();
    let mut stored = BTreeMap::new();
    for tensor in &tensors {
        let numbers: usize = tensor.shape.iter().product();
        *stored.entry(tensor.dtype.clone()).or_default() += numbers as u64;
    }
    let parameters = stored.values().sum();
    let lengths = files.weight_files().map_err(Failure::work)?.into_iter().map(|file| {
        let metadata = std::fs::metadata(&file);
        Ok(metadata.with_context(|| format!("cannot read `{}`", file.display()))?.len())
    });
    let lengths = lengths.collect::<anyhow::Result<Vec<u64>>>()?;
    let Manifest { config, tokenizer, template, stop_ids, prompt_profile } = manifest;
    let cached = config.kv_numbers_per_token() as u64;
    let stop = stop_ids.into_iter().map(|id| Stop { id, token: tokenizer.token(id) });
    Ok(Inspection {
        model: files.place(),
        format: match files {
            ModelFiles::Directory(_) => "Hugging Face directory",
            ModelFiles::Gguf(_) => "GGUF",
            ModelFiles::Embedded(_) => "Hugging Face directory in the binary",
        },
        architecture: config.architecture.name(),
        class: config.architecture.class(),
        tensors: tensors.len(),
        parameters,
        stored,
        file_bytes: (!lengths.is_empty()).then(|| lengths.iter().sum()),
        tokens: tokenizer.len(),
        stop: stop.collect(),
        chat_template: template.is_some(),
        prompt_profile,
        digest: files.digest().map_err(Failure::work)?,
        memory: Memory {
            weights_f32: 4 * parameters,
            weights_half: 2 * parameters,
            cache_per_token_f32: 4 * cached,
            cache_per_token_half: 2 * cached,
        },
        device: placement.to_string(),
        dtype: placement.dtype.as_str(),
        config,
    })
}

impl Inspection {
    fn text(&self) -> String {
        let Config {
            hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, ..
        } = &self.config;
        let stored: Vec<String> = self
            .stored
            .iter()
            .map(|(dtype, numbers)| format!("{dtype} {}", count(*numbers)))
            .collect();
        let stop: Vec<String> = self
            .stop
            .iter()
            .map(|stop| format!("{} {}", stop.token.as_deref().unwrap_or("?"), stop.id))
            .collect();
        let file =
            self.file_bytes.map_or(String::new(), |length| format!("; {} on disk", bytes(length)));
        let memory = &self.memory;
        let rows = [
            ("model", self.model.clone()),
            ("format", self.format.to_owned()),
            ("architecture", format!("{} ({})", self.architecture, self.class)),
            ("parameters", format!("{} in {} tensors", count(self.parameters), self.tensors)),
            ("stored as", format!("{}{file}", stored.join(", "))),
            (
                "shape",
                format!(
                    "{num_hidden_layers} × {hidden_size}, heads {num_attention_heads} × {}, key-value heads {}, \
                     feed-forward {intermediate_size}, {} head",
                    self.config.head_dim,
                    self.config.num_key_value_heads,
                    if self.config.tie_word_embeddings { "tied" } else { "own" }
                ),
            ),
            ("context", format!("{} tokens", self.config.max_position_embeddings)),
            (
                "tokenizer",
                format!("{} tokens in a vocabulary of {}", self.tokens, self.config.vocab_size),
            ),
            ("ends with", stop.join(", ")),
            ("template", if self.chat_template { "yes" } else { "none: a base model" }.to_owned()),
            ("profile", self.prompt_profile.clone()),
            ("digest", self.digest.clone()),
            (
                "memory",
                format!(
                    "weights {} in f32, {} in bf16 or f16; cache {} a token in f32, {} for 8192",
                    bytes(memory.weights_f32),
                    bytes(memory.weights_half),
                    bytes(memory.cache_per_token_f32),
                    bytes(8192 * memory.cache_per_token_f32)
                ),
            ),
            ("computes", format!("on {} in {}", self.device, self.dtype)),
        ];
        let mut text = String::new();
        for (name, value) in rows {
            let _ = writeln!(text, "{name:<13} {value}");
        }
        text
    }
}

fn count(number: u64) -> String {
    scaled(number, ["", " K", " M", " G"])
}

fn bytes(number: u64) -> String {
    scaled(number, [" B", " kB", " MB", " GB"])
}

/// Three or four digits and a unit.
fn scaled(number: u64, units: [&str; 4]) -> String {
    let step = [1_000_000_000, 1_000_000, 1_000].iter().position(|step| number >= *step);
    match step {
        None => format!("{number}{}", units[0]),
        Some(index) => {
            let value = number as f64 / 1000_f64.powi(3 - index as i32);
            let decimals = if value < 10.0 { 2 } else { 1 };
            format!("{value:.decimals$}{}", units[3 - index])
        }
    }
}
