//! The engine on random weights: `cargo bench -p agentflow-model --bench engine` (figures in tokens a second).
//!
//! A small model with few layers, so that it runs in seconds, but with Qwen3's vocabulary of 151,936, where grammars,
//! logits and sampling cost what they cost at full size. Its tokenizer is made up: bytes, and words of two to four letters.

#![allow(clippy::print_stdout)] // a benchmark prints its figures

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentflow_llm::Sampling;
use agentflow_model::ops::{Packed, Quants};
use agentflow_model::{
    Architecture, Completion, Config, Engine, Grammar, Limits, ModelFiles, Qwen3, Request, Sample,
    Tokenizer, Weights, ops,
};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use serde_json::{Map, Value, json};

const VOCABULARY: usize = 151_936;
const END: u32 = VOCABULARY as u32 - 1;

fn main() {
    let model = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    match model {
        Some(path) => stored_model(Path::new(&path)),
        None => random_models(),
    }
}

/// A model from disk, with its weights as they are stored: `cargo bench … --bench engine -- MODEL`.
fn stored_model(path: &Path) {
    let start = Instant::now();
    let loaded = ModelFiles::open(path).and_then(|files| files.load_packed()).expect("a model");
    println!("figure stored.load {:.2} s", start.elapsed().as_secs_f64());
    let (model, tokenizer) = (loaded.model, loaded.tokenizer);
    for batch in [1, 16] {
        let rate = best(3, || decode(&model, &tokenizer, prompt(512), batch, 40));
        println!("figure stored.decode_batch_{batch} {rate:.1} tokens/s");
    }
    let rate = best(3, || prefill(&model, &tokenizer));
    println!("figure stored.prefill_512 {rate:.1} tokens/s");
}

/// Tokens a second of one prompt of 512.
fn prefill(model: &Qwen3, tokenizer: &Arc<Tokenizer>) -> f64 {
    let engine = engine(model, tokenizer, Limits::default());
    let start = Instant::now();
    run(&engine, Request::group(prompt(512), Sample::new(sampling(), 1), 1));
    512.0 / start.elapsed().as_secs_f64()
}

fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|i| 1000 + i * 7 % 5000).collect()
}

fn random_models() {
    let small = Config {
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
        max_position_embeddings: 4096,
        tie_word_embeddings: true,
    };
    let large_vocabulary = Config { vocab_size: VOCABULARY, ..small.clone() };
    let tokenizer = Arc::new(tokenizer());

    for rows in [1, 16, 512] {
        products(rows);
    }

    let model = random_model(&small);
    for batch in [1, 16] {
        let rate = best(3, || decode(&model, &tokenizer, vec![5; 16], batch, 64));
        println!("figure engine.decode_batch_{batch} {rate:.1} tokens/s");
    }
    let time = |share_prefixes: bool, group_size: usize, max_tokens: u32| {
        let fastest = (0..3)
            .map(|_| {
                let limits = Limits { share_prefixes, ..Limits::default() };
                let engine = engine(&model, &tokenizer, limits);
                let sample = Sample::new(sampling(), max_tokens);
                let start = Instant::now();
                run(&engine, Request::group(prompt(512), sample, group_size));
                (start.elapsed(), engine.statistics().prefilled_tokens)
            })
            .min();
        fastest.unwrap_or_default()
    };
    let (once, _) = time(true, 1, 1);
    println!("figure engine.prefill_512 {:.0} tokens/s", 512.0 / once.as_secs_f64());
    let ((shared, shared_tokens), (apart, apart_tokens)) = (time(true, 8, 32), time(false, 8, 32));
    println!("figure engine.group_8_shared {:.3} s", shared.as_secs_f64());
    println!("figure engine.group_8_apart {:.3} s", apart.as_secs_f64());
    println!("figure engine.group_8_shared_prefilled {shared_tokens} tokens");
    println!("figure engine.group_8_apart_prefilled {apart_tokens} tokens");
    let ratio = apart.as_secs_f64() / shared.as_secs_f64();
    println!("figure engine.group_8_apart_vs_shared {ratio:.2} x");

    let model = random_model(&large_vocabulary);
    let start = Instant::now();
    let grammar = Grammar::new(tokenizer.clone(), VOCABULARY, END).expect("a vocabulary");
    println!("figure engine.grammar_setup {:.2} s", start.elapsed().as_secs_f64());
    // One long string: a choice at every token, and nothing forced that would hide the cost of masks.
    let schema = json!({"type": "object", "properties": {"text": {"type": "string"}},
        "required": ["text"], "additionalProperties": false});
    let constraint = grammar.constraint(&schema).expect("a schema");
    let per_pass = |constrained: bool| {
        let engine = engine(&model, &tokenizer, Limits::default());
        let sample = Sample {
            constraint: constrained.then(|| constraint.clone()),
            // Hot: hardly a string ends early, and what ends is counted by what it made.
            ..Sample::new(Sampling { temperature: 3.0, ..sampling() }, 64)
        };
        let request = Request::group(prompt(16), sample, 16);
        let completions = run(&engine, request);
        let (passes, decode) = (engine.statistics().passes, longest_decode(&completions));
        (decode.as_secs_f64() / passes as f64, mean_length(&completions))
    };
    let (mut free, mut constrained) = (f64::MAX, f64::MAX);
    let mut lengths = (0.0, 0.0);
    for _ in 0..4 {
        let (time, length) = per_pass(false);
        (free, lengths.0) = (free.min(time), length);
        let (time, length) = per_pass(true);
        (constrained, lengths.1) = (constrained.min(time), length);
    }
    println!("figure engine.pass_batch_16_free {:.2} ms", free * 1e3);
    println!("figure engine.pass_batch_16_grammar {:.2} ms", constrained * 1e3);
    println!("figure engine.mean_length_free {:.1} tokens", lengths.0);
    println!("figure engine.mean_length_grammar {:.1} tokens", lengths.1);
    println!("figure engine.grammar_overhead {:.1} %", (constrained / free - 1.0) * 100.0);
}

/// The engine's matrix product beside the one of training, which is faster for many rows but gives a row other bits
/// when other rows come and go.
fn products(rows: usize) {
    let random = |shape: (usize, usize)| {
        let tensor = Tensor::rand(-1.0f32, 1.0, shape, &Device::Cpu);
        tensor.expect("a tensor")
    };
    let (x, weight) = (random((rows, 1024)), random((3072, 1024)));
    let work = 2.0 * rows as f64 * 1024.0 * 3072.0;
    let rate = |product: fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>| {
        best(20, || {
            let start = Instant::now();
            std::hint::black_box(product(&x, &weight)).expect("shapes that agree");
            work / start.elapsed().as_secs_f64() / 1e9
        })
    };
    let (ours, general) = (rate(ops::row_linear), rate(ops::linear));
    println!("figure engine.product_{rows}_rows {ours:.1} GFLOP/s");
    println!("figure engine.general_product_{rows}_rows {general:.1} GFLOP/s");
    println!("figure engine.product_{rows}_rows_vs_general {:.2} x", ours / general);
    let half = weight.to_dtype(DType::BF16).expect("a cast");
    let print = |name: &str, bytes: usize, product: &dyn Fn() -> candle_core::Result<Tensor>| {
        let rate = best(20, || {
            let start = Instant::now();
            std::hint::black_box(product()).expect("shapes that agree");
            1.0 / start.elapsed().as_secs_f64()
        });
        println!("figure engine.product_{rows}_rows_{name} {:.1} GFLOP/s", work * rate / 1e9);
        let bandwidth = bytes as f64 * rate / 1e9;
        println!("figure engine.product_{rows}_rows_{name}_weights {bandwidth:.1} GB/s");
        let ratio = work * rate / 1e9 / ours;
        println!("figure engine.product_{rows}_rows_{name}_vs_f32 {ratio:.2} x");
    };
    print("bf16", 2 * 1024 * 3072, &|| ops::row_linear(&x, &half));
    for (name, quants, dtype) in [
        ("q8_0", Quants::Q8_0, GgmlDType::Q8_0),
        ("q4_k", Quants::Q4K, GgmlDType::Q4K),
        ("q6_k", Quants::Q6K, GgmlDType::Q6K),
    ] {
        let blocks = QTensor::quantize(&weight, dtype).expect("whole blocks");
        let blocks = blocks.data().expect("its bytes");
        let packed = Packed::new(quants, &blocks, 3072, 1024).expect("whole blocks");
        print(name, packed.size(), &|| packed.linear(&x));
    }
}

fn best(times: usize, mut f: impl FnMut() -> f64) -> f64 {
    (0..times).map(|_| f()).fold(0.0, f64::max)
}

/// Tokens a second of the decode phase alone.
fn decode(
    model: &Qwen3,
    tokenizer: &Arc<Tokenizer>,
    prompt: Vec<u32>,
    batch: usize,
    tokens: u32,
) -> f64 {
    let engine = engine(model, tokenizer, Limits::default());
    let sample = Sample::new(sampling(), tokens);
    let completions = run(&engine, Request::group(prompt, sample, batch));
    let made: usize = completions.iter().map(|completion| completion.tokens.len() - 1).sum();
    made as f64 / longest_decode(&completions).as_secs_f64()
}

fn longest_decode(completions: &[Completion]) -> Duration {
    completions.iter().map(|completion| completion.times.decode).max().unwrap_or_default()
}

fn mean_length(completions: &[Completion]) -> f64 {
    let tokens: usize = completions.iter().map(|completion| completion.tokens.len()).sum();
    tokens as f64 / completions.len() as f64
}

fn run(engine: &Engine, request: Request) -> Vec<Completion> {
    let replies = engine.submit(request).expect("it fits");
    replies.into_iter().map(|reply| reply.wait().expect("a reply")).collect()
}

fn engine(model: &Qwen3, tokenizer: &Arc<Tokenizer>, limits: Limits) -> Engine {
    Engine::from_parts(model.clone(), tokenizer.clone(), vec![END], 4096, limits)
}

fn sampling() -> Sampling {
    Sampling { temperature: 1.0, top_p: 1.0, top_k: None, min_p: 0.0, seed: Some(1) }
}

/// A byte-level tokenizer of [`VOCABULARY`] tokens.
fn tokenizer() -> Tokenizer {
    let mut vocabulary = Map::new();
    let mut merges = Vec::new();
    let mut add = |token: String| {
        let id = vocabulary.len();
        vocabulary.entry(token).or_insert(id.into());
        vocabulary.len()
    };
    // GPT-2's letters for bytes: printable ones stand for themselves, others follow from U+0100 on.
    let printable = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let other = (0u32..256).filter(|byte| !printable(byte)).count() as u32;
    let letters = (0u32..256).filter(printable).chain(0x100..0x100 + other);
    letters.filter_map(char::from_u32).for_each(|letter| {
        add(letter.to_string());
    });
    let alphabet: Vec<char> = "etaoinshrdlcumwfgypbvkjxqz".chars().collect();
    let mut words: Vec<String> = alphabet.iter().map(char::to_string).collect();
    words.extend(alphabet.iter().map(|letter| format!("Ġ{letter}")));
    for letter in &alphabet {
        merges.push(json!(["Ġ", letter.to_string()]));
        add(format!("Ġ{letter}"));
    }
    'full: for _ in 0..3 {
        let mut longer = Vec::new();
        for word in &words {
            for letter in &alphabet {
                merges.push(json!([word, letter.to_string()]));
                let token = format!("{word}{letter}");
                longer.push(token.clone());
                if add(token) == VOCABULARY - 1 {
                    break 'full;
                }
            }
        }
        words = longer;
    }
    assert_eq!(vocabulary.len(), VOCABULARY - 1, "the last one is the end token");
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [{"id": END, "content": "<|end|>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": Value::Object(vocabulary), "merges": merges},
    });
    Tokenizer::from_json(&json.to_string(), Path::new("tokenizer.json")).expect("a tokenizer")
}

fn random_model(config: &Config) -> Qwen3 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut tensors = HashMap::new();
    let mut add = |name: &str, shape: &[usize], scale: f32, middle: f32| {
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            middle + scale * ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor");
        tensors.insert(name.to_owned(), tensor);
    };
    let Config { hidden_size: hidden, head_dim, intermediate_size: inner, .. } = *config;
    let (queries, keys) =
        (config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim);
    add("model.embed_tokens.weight", &[config.vocab_size, hidden], 0.03, 0.0);
    add("model.norm.weight", &[hidden], 0.0, 1.0);
    for layer in 0..config.num_hidden_layers {
        for (part, shape, scale, middle) in [
            ("input_layernorm", vec![hidden], 0.0, 1.0),
            ("post_attention_layernorm", vec![hidden], 0.0, 1.0),
            ("self_attn.q_proj", vec![queries, hidden], 0.03, 0.0),
            ("self_attn.k_proj", vec![keys, hidden], 0.03, 0.0),
            ("self_attn.v_proj", vec![keys, hidden], 0.03, 0.0),
            ("self_attn.o_proj", vec![hidden, queries], 0.03, 0.0),
            ("self_attn.q_norm", vec![head_dim], 0.0, 1.0),
            ("self_attn.k_norm", vec![head_dim], 0.0, 1.0),
            ("mlp.gate_proj", vec![inner, hidden], 0.03, 0.0),
            ("mlp.up_proj", vec![inner, hidden], 0.03, 0.0),
            ("mlp.down_proj", vec![hidden, inner], 0.03, 0.0),
        ] {
            add(&format!("model.layers.{layer}.{part}.weight"), &shape, scale, middle);
        }
    }
    let weights = Weights::from_tensors(tensors, DType::F32, &Device::Cpu);
    Qwen3::new(config, &weights).expect("every tensor is there")
}
