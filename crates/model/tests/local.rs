//! The engine as a `ChatModel`, on a small model of random weights: what must hold whatever the weights say.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use agentflow_llm::{ChatError, ChatEvent, ChatModel, ChatRequest, Finish, Message, Sampling};
use agentflow_model::{Local, ModelFiles};
use candle_core::{DType, Device, Tensor};
use futures::StreamExt;
use serde_json::{Value, json};

const VOCABULARY: usize = 512;

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn config() -> Value {
    json!({
        "model_type": "qwen3", "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 512, "tie_word_embeddings": true,
    })
}

/// A model directory with the golden tokenizer and weights that make every token about equally likely.
fn model_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(golden("tokenizer").join(file), dir.path().join(file))
            .expect("a golden file");
    }
    std::fs::write(dir.path().join("config.json"), config().to_string()).expect("writes");
    let mut tensors = HashMap::new();
    let mut add = |name: String, shape: &[usize]| {
        // Any fixed numbers will do, as long as they are not all alike.
        let size: usize = shape.iter().product();
        let salt = name.bytes().map(u32::from).sum::<u32>();
        let value = |i: usize| ((i as f32 * 0.731 + salt as f32).sin() * 43_758.547).fract() * 0.3;
        let values: Vec<f32> = (0..size).map(value).collect();
        tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor"));
    };
    add("model.embed_tokens.weight".to_owned(), &[VOCABULARY, 32]);
    add("model.norm.weight".to_owned(), &[32]);
    for layer in 0..2 {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        for (part, shape) in [
            ("input_layernorm", vec![32]),
            ("post_attention_layernorm", vec![32]),
            ("self_attn.q_proj", vec![64, 32]),
            ("self_attn.k_proj", vec![32, 32]),
            ("self_attn.v_proj", vec![32, 32]),
            ("self_attn.o_proj", vec![32, 64]),
            ("self_attn.q_norm", vec![16]),
            ("self_attn.k_norm", vec![16]),
            ("mlp.gate_proj", vec![48, 32]),
            ("mlp.up_proj", vec![48, 32]),
            ("mlp.down_proj", vec![32, 48]),
        ] {
            add(name(part), &shape);
        }
    }
    candle_core::safetensors::save(&tensors, dir.path().join("model.safetensors")).expect("saves");
    dir
}

fn load(dir: &Path) -> agentflow_model::Result<Local> {
    Local::load(&ModelFiles::directory(dir)?, "random", None, DType::F32, &Device::Cpu)
}

fn request(seed: u64) -> ChatRequest {
    ChatRequest {
        messages: vec![Message::user("What is 2 + 2?")],
        schema: None,
        think: false,
        sampling: Sampling {
            temperature: 1.0,
            top_p: 1.0,
            top_k: None,
            min_p: 0.0,
            seed: Some(seed),
        },
        max_tokens: 40,
        stop: Vec::new(),
    }
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "verdict": {"type": "string", "enum": ["go on", "stop here"]},
            "sufficient": {"type": "boolean"},
        },
        "required": ["verdict", "sufficient"],
        "additionalProperties": false,
    })
}

#[tokio::test]
async fn whatever_the_weights_say_the_reply_keeps_to_its_schema() {
    let dir = model_dir();
    let model = load(dir.path()).expect("a valid model");
    let mut verdicts = std::collections::HashSet::new();
    for seed in 0..20 {
        let reply = model.chat(&ChatRequest { schema: Some(schema()), ..request(seed) }).await;
        let reply = reply.expect("the schema is finite");
        let value: Value = serde_json::from_str(&reply.text).expect("JSON");
        assert_eq!(reply.finish, Finish::Stop);
        // Spaced as Python's json.dumps, keys in schema order.
        let wanted = format!(
            "{{\"verdict\": {}, \"sufficient\": {}}}",
            value["verdict"], value["sufficient"]
        );
        assert_eq!(reply.text, wanted);
        verdicts.insert(reply.text);
    }
    assert!(verdicts.len() > 1, "a grammar leaves the choice to the model");
}

#[tokio::test]
async fn a_reply_cut_by_its_limit_is_a_violation_with_the_reply_inside() {
    let dir = model_dir();
    let model = load(dir.path()).expect("a valid model");
    let cut = ChatRequest { schema: Some(schema()), max_tokens: 3, ..request(1) };
    match model.chat(&cut).await {
        Err(ChatError::SchemaViolated { reply, .. }) => {
            assert_eq!(reply.finish, Finish::Length);
            assert_eq!(reply.usage.completion_tokens, 3);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_schema_the_grammar_cannot_express_is_refused_with_the_reason() {
    let dir = model_dir();
    let model = load(dir.path()).expect("a valid model");
    let refused = json!({"type": "object", "not": {"required": ["a"]}});
    match model.chat(&ChatRequest { schema: Some(refused), ..request(1) }).await {
        Err(ChatError::SchemaRejected { reason }) => assert!(reason.contains("not"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_seed_decides_every_token() {
    let dir = model_dir();
    let model = load(dir.path()).expect("a valid model");
    let again = load(dir.path()).expect("a valid model");
    let first = model.chat(&request(3)).await.expect("a reply");
    assert_eq!(first, again.chat(&request(3)).await.expect("a reply"));
    assert_ne!(first.token_ids, model.chat(&request(4)).await.expect("a reply").token_ids);
}

#[tokio::test]
async fn calls_side_by_side_do_not_disturb_each_other() {
    let dir = model_dir();
    let model = load(dir.path()).expect("a valid model");
    let requests: Vec<_> = (0..6).map(request).collect();
    let together =
        futures::future::join_all(requests.iter().map(|request| model.chat(request))).await;
    for (request, reply) in requests.iter().zip(together) {
        assert_eq!(reply.expect("a reply"), model.chat(request).await.expect("a reply"));
    }
}

#[tokio::test]
async fn the_pieces_of_a_stream_are_the_reply() {
    let dir = model_dir();
    let model = load(dir.path()).expect("a valid model");
    let mut text = String::new();
    let mut done = None;
    let mut stream = model.stream(request(5));
    while let Some(event) = stream.next().await {
        match event.expect("no error") {
            ChatEvent::Text(piece) => text.push_str(&piece),
            ChatEvent::Thinking(piece) => panic!("thinking `{piece}` was not asked for"),
            ChatEvent::Done(reply) => done = Some(reply),
        }
    }
    let reply = done.expect("a last event");
    assert_eq!(text, reply.text);
    let ids = reply.token_ids.expect("the engine gives token ids");
    assert_eq!(ids.len(), reply.logprobs.expect("and log-probabilities").len());
    assert_eq!(ids.len() as u64, reply.usage.completion_tokens);
}

/// Sampler and scorer must agree: log-probabilities of the sampled tokens come out again from one full forward pass.
#[test]
fn logprobs_are_those_of_a_full_forward_pass() {
    let dir = model_dir();
    let files = ModelFiles::directory(dir.path()).expect("a directory");
    let loaded = files.load(DType::F32, &Device::Cpu).expect("a valid model");
    let model = load(dir.path()).expect("a valid model");
    for temperature in [1.0, 0.7] {
        let mut request = request(8);
        request.sampling.temperature = temperature;
        let reply = model.generate(&request, &mut |_| true).expect("a reply");
        let prompt = loaded.template.render(&request.messages, false).expect("renders");
        let prompt = loaded.tokenizer.encode(&prompt).expect("encodes");
        let completion = reply.token_ids.expect("ids");
        let all: Vec<u32> = prompt.iter().chain(&completion).copied().collect();
        let input =
            Tensor::new(all.as_slice(), &Device::Cpu).and_then(|t| t.unsqueeze(0)).expect("a row");
        let hidden = loaded.model.forward(&input, None).expect("a forward pass");
        let logits: Vec<Vec<f32>> = loaded
            .model
            .logits(&hidden)
            .and_then(|l| Ok(l.squeeze(0)?.to_vec2()?))
            .expect("logits");
        for (index, (token, logprob)) in
            completion.iter().zip(reply.logprobs.expect("logprobs")).enumerate()
        {
            let row = &logits[prompt.len() - 1 + index];
            let scaled = |logit: &f32| f64::from(*logit) / temperature;
            let total: f64 = row.iter().map(|logit| scaled(logit).exp()).sum();
            let wanted = scaled(&row[*token as usize]) - total.ln();
            assert!(
                (f64::from(logprob) - wanted).abs() < 1e-5,
                "token {index}: {logprob} and {wanted}"
            );
        }
    }
}

#[tokio::test]
async fn a_stop_text_ends_the_reply_and_is_left_out() {
    let dir = model_dir();
    let model = load(dir.path()).expect("a valid model");
    let free = model.chat(&request(5)).await.expect("a reply");
    let stop: String = free.text.chars().skip(4).take(2).collect();
    let stopped =
        model.chat(&ChatRequest { stop: vec![stop.clone()], ..request(5) }).await.expect("a reply");
    assert_eq!(stopped.finish, Finish::Stop);
    let until = free.text.find(&stop).expect("it is in the free reply");
    assert_eq!(stopped.text, free.text[..until]);
}

#[tokio::test]
async fn a_prompt_longer_than_the_context_is_refused_with_both_numbers() {
    let dir = model_dir();
    let model = load(dir.path()).expect("a valid model");
    let long = ChatRequest { messages: vec![Message::user("7 ".repeat(2000))], ..request(1) };
    match model.chat(&long).await {
        Err(ChatError::ContextTooLong { text }) => {
            assert!(text.contains("context is 512"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn generation_stops_when_nobody_listens() {
    let dir = model_dir();
    let model = load(dir.path()).expect("a valid model");
    let mut pieces = 0;
    let reply = model
        .generate(&request(2), &mut |_| {
            pieces += 1;
            pieces < 3
        })
        .expect("what was made so far");
    assert!(reply.usage.completion_tokens < 40, "{:?}", reply.usage);
}

/// The message of loading `dir`, which must fail.
fn complaint(dir: &Path) -> String {
    match load(dir) {
        Ok(_) => panic!("a broken model was loaded"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_way_a_model_directory_is_broken_is_named() {
    assert!(
        complaint(Path::new("/nowhere/at/all")).contains("no model directory at `/nowhere/at/all`")
    );

    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let dir = model_dir();
        std::fs::remove_file(dir.path().join(file)).expect("it was there");
        assert!(
            complaint(dir.path()).contains(&format!("has no `{file}`")),
            "{}",
            complaint(dir.path())
        );
    }

    let edit = |key: &str, value: Value| {
        let dir = model_dir();
        let mut config = config();
        config[key] = value;
        std::fs::write(dir.path().join("config.json"), config.to_string()).expect("writes");
        complaint(dir.path())
    };
    assert!(edit("model_type", "llama".into()).contains("`model_type` is `llama`"));
    assert!(edit("hidden_size", Value::Null).contains("hidden_size"));
    assert!(edit("num_key_value_heads", 3.into()).contains("not a multiple"));
    assert!(edit("head_dim", 15.into()).contains("odd"));
    assert!(edit("rope_scaling", json!({"rope_type": "yarn"})).contains("yarn"));
    assert!(edit("vocab_size", 300.into()).contains("`vocab_size` in config.json is 300"));
    let wrong_shape = edit("intermediate_size", 64.into());
    assert!(
        wrong_shape.contains("mlp.gate_proj") && wrong_shape.contains("[64, 32]"),
        "{wrong_shape}"
    );
    let missing_layer = edit("num_hidden_layers", 3.into());
    assert!(missing_layer.contains("no tensor `model.layers.2."), "{missing_layer}");

    let dir = model_dir();
    let weights = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&weights).expect("reads");
    for length in [0, 5, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&weights, &bytes[..length]).expect("writes");
        let message = complaint(dir.path());
        assert!(
            message.contains("damaged") && message.contains("model.safetensors"),
            "{length}: {message}"
        );
    }

    let dir = model_dir();
    std::fs::write(dir.path().join("tokenizer.json"), "{\"model\": 3}").expect("writes");
    assert!(complaint(dir.path()).contains("tokenizer.json"));

    let dir = model_dir();
    let index = json!({"weight_map": {"a": "model-00001-of-00002.safetensors"}});
    std::fs::write(dir.path().join("model.safetensors.index.json"), index.to_string())
        .expect("writes");
    assert!(complaint(dir.path()).contains("has no `model-00001-of-00002.safetensors`"));
    let index = json!({"weight_map": {"a": "../model.safetensors"}});
    std::fs::write(dir.path().join("model.safetensors.index.json"), index.to_string())
        .expect("writes");
    assert!(complaint(dir.path()).contains("not a plain file name"));
}
