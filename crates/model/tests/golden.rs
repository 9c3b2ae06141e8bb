//! Agreement with HF transformers: `scripts/golden/` made every value that is read here.

use std::path::{Path, PathBuf};

use agentflow_llm::{Message, Role};
use agentflow_model::{ChatTemplate, Config, KvCache, Qwen3, Tokenizer, Weights};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

const MODELS: [&str; 3] = ["tied-gqa", "untied-mha", "wide-gqa-bf16"];

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("the golden file is in the repository");
    serde_json::from_str(&text).expect("the golden file is JSON")
}

fn load(name: &str, dtype: DType) -> Qwen3 {
    let dir = golden(name);
    let config_path = dir.join("config.json");
    let text = std::fs::read_to_string(&config_path).expect("config.json");
    let config = Config::from_json(&text, &config_path).expect("a valid configuration");
    let weights = Weights::open(&dir, dtype, &Device::Cpu).expect("valid weights");
    Qwen3::new(&config, &weights).expect("weights that fit the configuration")
}

fn cases(name: &str) -> Vec<Value> {
    json(&golden(name).join("golden.json"))["cases"].as_array().expect("cases").clone()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("token ids")
}

fn rows(value: &Value) -> Vec<Vec<f32>> {
    serde_json::from_value(value.clone()).expect("rows of numbers")
}

fn input(ids: &[u32]) -> Tensor {
    Tensor::new(ids, &Device::Cpu).and_then(|ids| ids.unsqueeze(0)).expect("a row of ids")
}

/// Logits `[T][V]` of `ids`, continuing `cache` where there is one.
fn logits(model: &Qwen3, ids: &[u32], cache: Option<&mut KvCache>) -> Vec<Vec<f32>> {
    let hidden = model.forward(&input(ids), cache).expect("a forward pass");
    let logits = model.logits(&hidden).expect("logits").squeeze(0).expect("one row");
    logits.to_dtype(DType::F32).expect("f32").to_vec2().expect("a matrix")
}

fn largest_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!((a.len(), a[0].len()), (b.len(), b[0].len()));
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn argmax(row: &[f32]) -> u32 {
    let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.expect("a vocabulary").0 as u32
}

#[test]
fn f32_logits_are_those_of_transformers() {
    for name in MODELS {
        let model = load(name, DType::F32);
        for case in cases(name) {
            let found = logits(&model, &ids(&case["ids"]), None);
            let difference = largest_difference(&found, &rows(&case["logits"]));
            assert!(difference < 1e-4, "{name}, {}: off by {difference}", case["name"]);
        }
    }
}

#[test]
fn cached_decoding_equals_a_full_forward() {
    for name in MODELS {
        let model = load(name, DType::F32);
        for case in cases(name) {
            let ids = ids(&case["ids"]);
            let full = logits(&model, &ids, None);
            // In pieces of 1, 2, 3, … tokens: prefill and decoding in every mixture.
            let mut cache = model.new_cache();
            let mut pieces = Vec::new();
            let mut rest = ids.as_slice();
            let mut size = 1;
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(size.min(rest.len()));
                pieces.extend(logits(&model, piece, Some(&mut cache)));
                (rest, size) = (after, size + 1);
            }
            assert_eq!(cache.len(), ids.len());
            let difference = largest_difference(&pieces, &full);
            assert!(difference < 1e-4, "{name}, {}: off by {difference}", case["name"]);
        }
    }
}

#[test]
fn greedy_continuations_are_those_of_transformers() {
    for name in MODELS {
        let model = load(name, DType::F32);
        for case in cases(name) {
            let mut cache = model.new_cache();
            let mut next = ids(&case["ids"]);
            let mut continuation: Vec<u32> = Vec::new();
            for _ in 0..16 {
                let rows = logits(&model, &next, Some(&mut cache));
                next = vec![argmax(rows.last().expect("at least one token"))];
                continuation.extend(&next);
            }
            assert_eq!(continuation, ids(&case["greedy"]), "{name}, {}", case["name"]);
        }
    }
}

#[test]
fn a_batch_of_rows_gives_what_each_row_gives() {
    let model = load("tied-gqa", DType::F32);
    let (a, b) = ([5_u32, 9, 2, 40, 7], [11_u32, 3, 3, 60, 1]);
    let both = Tensor::new(&[a, b], &Device::Cpu).expect("two rows");
    let hidden = model.forward(&both, None).expect("a forward pass");
    let together: Vec<Vec<Vec<f32>>> =
        model.logits(&hidden).and_then(|l| Ok(l.to_vec3()?)).expect("logits");
    for (row, alone) in together.iter().zip([a, b]) {
        assert!(largest_difference(row, &logits(&model, &alone, None)) < 1e-5);
    }
}

/// bf16 rounds differently in every implementation, so only the clear cases are compared.
#[test]
fn bf16_finds_the_same_likeliest_tokens() {
    let model = load("wide-gqa-bf16", DType::BF16);
    let (mut same, mut all) = (0, 0);
    for case in cases("wide-gqa-bf16") {
        let found = logits(&model, &ids(&case["ids"]), None);
        let wanted = ids(&case["bf16"]["argmax"]);
        all += wanted.len();
        same += found.iter().zip(&wanted).filter(|(row, token)| argmax(row) == **token).count();
    }
    assert!(all > 50 && same * 100 >= all * 95, "{same} of {all} positions agree");
}

#[test]
fn chat_templates_render_as_in_transformers() {
    let source = std::fs::read_to_string(golden("chat/qwen3.jinja")).expect("the template");
    let template = ChatTemplate::new(&source, "qwen3").expect("it compiles");
    let cases = json(&golden("chat/cases.json"));
    let mut rendered = 0;
    for case in cases.as_array().expect("cases") {
        let messages = case["messages"].as_array().expect("messages");
        if messages.iter().any(|message| message.get("reasoning_content").is_some()) {
            continue; // our messages carry no thinking of earlier turns
        }
        let messages: Vec<Message> = messages
            .iter()
            .map(|message| Message {
                role: match message["role"].as_str() {
                    Some("system") => Role::System,
                    Some("user") => Role::User,
                    Some("assistant") => Role::Assistant,
                    Some("tool") => Role::Tool,
                    other => panic!("role {other:?}"),
                },
                content: message["content"].as_str().expect("content").to_owned(),
            })
            .collect();
        let think = case["enable_thinking"].as_bool();
        let prompt = case["add_generation_prompt"].as_bool().expect("a flag");
        let text = template.render_with(&messages, think, prompt).expect("it renders");
        assert_eq!(text, case["text"].as_str().expect("text"), "{}", case["name"]);
        rendered += 1;
    }
    assert!(rendered > 20, "only {rendered} cases");
}

#[test]
fn tokens_are_those_of_hf_tokenizers() {
    let path = golden("tokenizer/tokenizer.json");
    let text = std::fs::read_to_string(&path).expect("the tokenizer");
    let tokenizer = Tokenizer::from_json(&text, &path).expect("a valid tokenizer");
    for case in json(&golden("tokenizer/cases.json")).as_array().expect("cases") {
        let text = case["text"].as_str().expect("text");
        let wanted = ids(&case["ids"]);
        assert_eq!(tokenizer.encode(text).expect("it encodes"), wanted, "{}", case["name"]);
        let decoded = case["decoded_without_specials"].as_str().expect("text");
        assert_eq!(tokenizer.decode(&wanted), decoded, "{}", case["name"]);
    }
}
