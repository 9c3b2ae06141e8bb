//! Small models of random weights, which several test files run.

#![allow(dead_code)] // each test file uses a part of it

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentflow_llm::Sampling;
use agentflow_model::{
    Architecture, Completion, Config, Engine, Grammar, Limits, Qwen3, Request, Sample, Tokenizer,
    Weights,
};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

pub(crate) const VOCABULARY: usize = 512;

/// Hidden size, heads, key heads, head width, width of the MLP, layers, tied or not: none of them alike, and some no
/// multiple of a register. The second is a Qwen2 model: biases, and no norms of queries and keys.
pub(crate) const SHAPES: [(usize, usize, usize, usize, usize, usize, bool); 4] = [
    (32, 4, 2, 16, 48, 2, true),
    (40, 6, 2, 8, 72, 3, false),
    (64, 2, 2, 32, 100, 2, true),
    (24, 5, 1, 24, 33, 1, false),
];

pub(crate) fn config(shape: usize) -> Config {
    let (hidden, heads, kv_heads, head_dim, inner, layers, tied) = SHAPES[shape];
    Config {
        architecture: if shape == 1 { Architecture::Qwen2 } else { Architecture::Qwen3 },
        vocab_size: VOCABULARY,
        hidden_size: hidden,
        intermediate_size: inner,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: kv_heads,
        head_dim,
        rms_norm_eps: 1e-6,
        rope_theta: 10000.0,
        max_position_embeddings: 512,
        tie_word_embeddings: tied,
    }
}

/// Numbers spread over -1..1 that depend on nothing but `salt`.
pub(crate) fn noise(salt: u64) -> impl FnMut() -> f32 {
    let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// A model whose logits are far from uniform.
pub(crate) fn model(config: &Config, salt: u64, dtype: DType) -> Qwen3 {
    let weights = Weights::from_tensors(tensors(config, salt, dtype), dtype, &Device::Cpu);
    Qwen3::new(config, &weights).expect("every tensor is there")
}

/// The tensors of [`model`].
pub(crate) fn tensors(config: &Config, salt: u64, dtype: DType) -> HashMap<String, Tensor> {
    let mut next = noise(salt);
    let mut tensors = HashMap::new();
    let mut add = |name: &str, shape: &[usize], scale: f32, middle: f32| {
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| middle + scale * next()).collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor");
        tensors.insert(name.to_owned(), tensor.to_dtype(dtype).expect("a cast"));
    };
    let Config { hidden_size: hidden, head_dim, intermediate_size: inner, .. } = *config;
    let (queries, keys) =
        (config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim);
    add("model.embed_tokens.weight", &[config.vocab_size, hidden], 0.8, 0.0);
    if !config.tie_word_embeddings {
        add("lm_head.weight", &[config.vocab_size, hidden], 0.8, 0.0);
    }
    add("model.norm.weight", &[hidden], 0.1, 1.0);
    for layer in 0..config.num_hidden_layers {
        let scale = 1.7 / (hidden as f32).sqrt();
        for (part, shape, scale, middle) in [
            ("input_layernorm", vec![hidden], 0.1, 1.0),
            ("post_attention_layernorm", vec![hidden], 0.1, 1.0),
            ("self_attn.q_proj", vec![queries, hidden], scale, 0.0),
            ("self_attn.k_proj", vec![keys, hidden], scale, 0.0),
            ("self_attn.v_proj", vec![keys, hidden], scale, 0.0),
            ("self_attn.o_proj", vec![hidden, queries], scale, 0.0),
            ("self_attn.q_norm", vec![head_dim], 0.1, 1.0),
            ("self_attn.k_norm", vec![head_dim], 0.1, 1.0),
            ("mlp.gate_proj", vec![inner, hidden], scale, 0.0),
            ("mlp.up_proj", vec![inner, hidden], scale, 0.0),
            ("mlp.down_proj", vec![hidden, inner], scale, 0.0),
        ] {
            let is_qwen2 = config.architecture == Architecture::Qwen2;
            if !(is_qwen2 && part.ends_with("_norm")) {
                add(&format!("model.layers.{layer}.{part}.weight"), &shape, scale, middle);
            }
            if is_qwen2
                && ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"].contains(&part)
            {
                add(&format!("model.layers.{layer}.{part}.bias"), &shape[..1], 0.3, 0.0);
            }
        }
    }
    tensors
}

pub(crate) fn tokenizer() -> Arc<Tokenizer> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer/tokenizer.json");
    let text = std::fs::read_to_string(PathBuf::from(&path)).expect("the golden tokenizer");
    Arc::new(Tokenizer::from_json(&text, &path).expect("a valid tokenizer"))
}

pub(crate) fn end_id(tokenizer: &Tokenizer) -> u32 {
    tokenizer.id("<|im_end|>").expect("the golden tokenizer has it")
}

pub(crate) fn engine(model: &Qwen3, limits: Limits) -> Engine {
    let tokenizer = tokenizer();
    let end = end_id(&tokenizer);
    Engine::from_parts(model.clone(), tokenizer, vec![end], 512, limits)
}

pub(crate) fn grammar() -> Grammar {
    let tokenizer = tokenizer();
    let end = end_id(&tokenizer);
    Grammar::new(tokenizer, VOCABULARY, end).expect("a vocabulary for grammars")
}

pub(crate) fn sampling(temperature: f64, seed: u64) -> Sampling {
    Sampling { temperature, top_p: 1.0, top_k: None, min_p: 0.0, seed: Some(seed) }
}

/// A prompt of ordinary tokens.
pub(crate) fn prompt(length: usize, salt: u64) -> Vec<u32> {
    let mut next = noise(salt);
    (0..length).map(|_| 100 + ((next() + 1.0) * 150.0) as u32).collect()
}

pub(crate) fn complete(engine: &Engine, requests: Vec<Request>) -> Vec<Vec<Completion>> {
    let replies: Vec<_> =
        requests.into_iter().map(|request| engine.submit(request).expect("it fits")).collect();
    replies
        .into_iter()
        .map(|replies| replies.into_iter().map(|reply| reply.wait().expect("a reply")).collect())
        .collect()
}

pub(crate) fn planner_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "thought": {"type": "string"},
            "action": {"type": "string", "enum": ["think", "search", "code", "answer"]},
            "action_input": {"type": "string"},
        },
        "required": ["thought", "action", "action_input"],
        "additionalProperties": false,
    })
}

/// Requests of every kind: lengths around the blocks, common beginnings, groups, grammars, truncations, stop texts.
pub(crate) fn mixture() -> Vec<Request> {
    let planner = grammar().constraint(&planner_schema()).expect("a schema");
    let common = prompt(40, 7);
    [1, 2, 15, 16, 17, 33, 70, 150]
        .into_iter()
        .enumerate()
        .map(|(i, length)| {
            let mut tokens = if i % 2 == 0 { common.clone() } else { Vec::new() };
            tokens.extend(prompt(length, i as u64));
            let mut sample = Sample::new(sampling([1.0, 0.6, 1.4][i % 3], 11), 12 + i as u32 * 3);
            sample.constraint = (i % 3 == 1).then(|| planner.clone());
            match i {
                2 => sample.sampling.top_p = 0.8,
                3 => sample.sampling.top_k = Some(20),
                5 => sample.sampling.min_p = 0.05,
                6 => sample.stop = vec!["e".to_owned(), "and".to_owned()],
                7 => sample.sampling = Sampling::greedy(),
                _ => {}
            }
            Request::group(tokens, sample, 1 + i % 4)
        })
        .collect()
}
