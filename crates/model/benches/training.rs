//! The training pass on random weights: `cargo bench -p agentflow-model --bench training`.
//!
//! 29 million parameters, 8 sequences of 256 tokens end to end, the loss of every token; the whole model and a LoRA adapter of
//! rank 16 on all linear layers, with the layers' activations kept and computed again. Speed in tokens a second, and how far
//! the memory of the process rises above what it had before.

#![allow(clippy::print_stdout)] // a benchmark prints its figures

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use agentflow_model::{
    Adapter, Architecture, Config, LoraConfig, Qwen3, Result, Sequences, Weights,
};
use candle_core::{DType, Device, Tensor, Var};

const SEQUENCES: usize = 8;
const TOKENS: usize = 256;

/// What is trained, and whether the layers are run again.
const CASES: [&str; 4] = ["lora_recomputed", "lora_kept", "full_recomputed", "full_kept"];

fn main() -> Result<()> {
    if let Some(case) = std::env::args().find(|argument| CASES.contains(&argument.as_str())) {
        return measure(&case);
    }
    // Each in a process of its own: what one has freed would hide what the next one takes.
    let this = std::env::current_exe().expect("a running program has a file");
    for case in CASES {
        let status = std::process::Command::new(&this).arg(case).status();
        assert!(status.is_ok_and(|status| status.success()), "{case} failed");
    }
    Ok(())
}

fn measure(case: &str) -> Result<()> {
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
    let (model, variables) = if case.starts_with("lora") {
        let lora = LoraConfig {
            rank: 16,
            alpha: 32.0,
            targets: vec!["all-linear".to_owned()],
            rslora: false,
            dropout: 0.0,
        };
        let adapter = Adapter::init(&config, &lora, 1, DType::F32, &Device::Cpu)?;
        (model(&config, tensors)?.with_adapter(&adapter)?, adapter.variables())
    } else {
        let variables: BTreeMap<String, Var> = tensors
            .into_iter()
            .map(|(name, tensor)| Ok((name, Var::from_tensor(&tensor)?)))
            .collect::<Result<_>>()?;
        let tensors = variables.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone()));
        (model(&config, tensors.collect())?, variables)
    };
    let row = |salt: usize| (0..TOKENS).map(|i| ((i * 37 + salt * 101) % 8000) as u32).collect();
    let rows: Vec<Vec<u32>> = (0..SEQUENCES).map(row).collect();
    let sequences = Sequences::new(&rows)?;
    let tokens = sequences.ids().len();
    let targets = Tensor::new(sequences.ids(), &Device::Cpu)?;
    let before = memory("VmRSS");
    let mut best = 0.0_f64;
    for _ in 0..2 {
        let start = Instant::now();
        model.gradients(&sequences, &variables, case.ends_with("recomputed"), |hidden| {
            let (logprobs, _) = model.token_logprobs(hidden, &targets, 1.0, None)?;
            Ok((logprobs.mean_all()?.neg()?, ()))
        })?;
        best = best.max(tokens as f64 / start.elapsed().as_secs_f64());
    }
    println!("figure training.{case} {best:.0} tokens/s");
    let peak = memory("VmHWM").saturating_sub(before);
    println!("figure training.{case}_memory {} MiB", peak / 1024);
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
