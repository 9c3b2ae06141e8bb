//! The training pass on random weights: `cargo bench -p agentflow-model --bench training`.
//!
//! 29 million parameters, 8 sequences of 256 tokens end to end, the loss of every token; the whole model and a LoRA adapter of
//! rank 16 on all linear layers, with the layers' activations kept and computed again. Speed in tokens a second, and how far
//! the memory of the process rises above what it had before.

#![allow(clippy::print_stdout)] // a benchmark prints its figures

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use agentflow_model::{
    Adapter, Architecture, Config, LoraConfig, Qwen3, Result, Sequences, Weights, ops,
};
use candle_core::{DType, Device, Tensor, Var};

const SEQUENCES: usize = 8;
const TOKENS: usize = 256;

fn main() -> Result<()> {
    let config = Config {
        architecture: Architecture::Qwen3,
        vocab_size: 8192,
        hidden_size: 512,
        intermediate_size: 1536,
        num_hidden_layers: 8,
        num_attention_heads: 8,
        num_key_value_heads: 4,
        head_dim: 64,
        rms_norm_eps: 1e-6,
        rope_theta: 1e6,
        max_position_embeddings: 512,
        tie_word_embeddings: true,
    };
    let tensors = tensors(&config)?;
    let lora = LoraConfig {
        rank: 16,
        alpha: 32.0,
        targets: vec!["all-linear".to_owned()],
        rslora: false,
        dropout: 0.0,
    };
    let adapter = Adapter::init(&config, &lora, 1, DType::F32, &Device::Cpu)?;
    let frozen = model(&config, tensors.clone())?.with_adapter(&adapter)?;
    measure("lora", &frozen, &adapter.variables())?;
    drop(frozen);

    let variables: BTreeMap<String, Var> = tensors
        .into_iter()
        .map(|(name, tensor)| Ok((name, Var::from_tensor(&tensor)?)))
        .collect::<Result<_>>()?;
    let tensors = variables.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone()));
    measure("full", &model(&config, tensors.collect())?, &variables)
}

fn measure(name: &str, model: &Qwen3, variables: &BTreeMap<String, Var>) -> Result<()> {
    let row = |salt: usize| (0..TOKENS).map(|i| ((i * 37 + salt * 101) % 8000) as u32).collect();
    let rows: Vec<Vec<u32>> = (0..SEQUENCES).map(row).collect();
    let sequences = Sequences::new(&rows)?;
    let tokens = sequences.ids().len();
    let targets = Tensor::new(sequences.ids(), &Device::Cpu)?;
    let weights = Tensor::full(1.0 / tokens as f32, tokens, &Device::Cpu)?;
    let head = |hidden: &Tensor| -> Result<(Tensor, ())> {
        Ok((ops::cross_entropy(&model.logits(hidden)?, &targets, &weights)?, ()))
    };
    for (kind, recompute) in [("recomputed", true), ("kept", false)] {
        let before = memory("VmRSS");
        reset_peak();
        let mut best = 0.0_f64;
        for _ in 0..3 {
            let start = Instant::now();
            model.gradients(&sequences, variables, recompute, head)?;
            best = best.max(tokens as f64 / start.elapsed().as_secs_f64());
        }
        println!("figure training.{name}_{kind} {best:.0} tokens/s");
        let peak = memory("VmHWM").saturating_sub(before);
        println!("figure training.{name}_{kind}_memory {} MiB", peak / 1024);
    }
    Ok(())
}

fn model(config: &Config, tensors: HashMap<String, Tensor>) -> Result<Qwen3> {
    Qwen3::new(config, &Weights::from_tensors(tensors, DType::F32, &Device::Cpu))
}

fn tensors(config: &Config) -> Result<HashMap<String, Tensor>> {
    let Config { hidden_size: hidden, head_dim, intermediate_size: inner, .. } = *config;
    let (queries, keys) =
        (config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim);
    let mut tensors = HashMap::new();
    let mut add = |name: String, shape: &[usize]| -> Result<()> {
        let tensor = match shape {
            &[size] => Tensor::ones(size, DType::F32, &Device::Cpu)?,
            shape => Tensor::randn(0.0f32, 0.02, shape, &Device::Cpu)?,
        };
        tensors.insert(format!("model.{name}.weight"), tensor);
        Ok(())
    };
    add("embed_tokens".to_owned(), &[config.vocab_size, hidden])?;
    add("norm".to_owned(), &[hidden])?;
    for layer in 0..config.num_hidden_layers {
        for (part, shape) in [
            ("input_layernorm", &[hidden][..]),
            ("post_attention_layernorm", &[hidden]),
            ("self_attn.q_proj", &[queries, hidden]),
            ("self_attn.k_proj", &[keys, hidden]),
            ("self_attn.v_proj", &[keys, hidden]),
            ("self_attn.o_proj", &[hidden, queries]),
            ("self_attn.q_norm", &[head_dim]),
            ("self_attn.k_norm", &[head_dim]),
            ("mlp.gate_proj", &[inner, hidden]),
            ("mlp.up_proj", &[inner, hidden]),
            ("mlp.down_proj", &[hidden, inner]),
        ] {
            add(format!("layers.{layer}.{part}"), shape)?;
        }
    }
    Ok(tensors)
}

/// A line of this process's status on Linux, in KiB; 0 elsewhere.
fn memory(key: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Lets the peak of memory start from here.
fn reset_peak() {
    // Where the kernel does not offer it, the peak is that of the whole run.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
