//! Weights as checkpoints store them, and LoRA adapters beside them: `scripts/golden/qwen2.py` and `lora.py` made every
//! value that is read here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use agentflow_model::{Adapter, Config, Qwen3, Weights, logprobs};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

const VARIANTS: [&str; 3] = ["qwen2-tied-f16", "qwen2-untied-bf16", "qwen3-untied-f16"];

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("the golden file is in the repository");
    serde_json::from_str(&text).expect("the golden file is JSON")
}

fn load(dir: &Path, dtype: DType) -> agentflow_model::Result<Qwen3> {
    let path = dir.join("config.json");
    let config = Config::from_json(&std::fs::read_to_string(&path).expect("it is there"), &path)?;
    Qwen3::new(&config, &Weights::open(dir, dtype, &Device::Cpu)?)
}

fn logits(model: &Qwen3, ids: &[u32]) -> Vec<Vec<f32>> {
    let ids =
        Tensor::new(ids, &Device::Cpu).and_then(|ids| ids.unsqueeze(0)).expect("a row of ids");
    let hidden = model.forward(&ids, None).expect("a forward pass");
    let logits = model.logits(&hidden).expect("logits").squeeze(0).expect("one row");
    logits.to_dtype(DType::F32).expect("f32").to_vec2().expect("a matrix")
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("token ids")
}

fn rows(value: &Value) -> Vec<Vec<f32>> {
    serde_json::from_value(value.clone()).expect("rows of numbers")
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
fn every_way_of_storing_weights_gives_the_logits_of_transformers() {
    for name in VARIANTS {
        let dir = golden("variants").join(name);
        let model = load(&dir, DType::F32).expect("it loads");
        for case in json(&dir.join("golden.json"))["cases"].as_array().expect("cases") {
            let difference =
                largest_difference(&logits(&model, &ids(&case["ids"])), &rows(&case["logits"]));
            assert!(difference < 1e-4, "{name}: off by {difference}");
        }
    }
}

#[test]
fn cached_decoding_continues_as_transformers_does() {
    for name in VARIANTS {
        let dir = golden("variants").join(name);
        let model = load(&dir, DType::F32).expect("it loads");
        for case in json(&dir.join("golden.json"))["cases"].as_array().expect("cases") {
            let mut cache = model.new_cache();
            let mut next = ids(&case["ids"]);
            let mut continuation: Vec<u32> = Vec::new();
            for _ in 0..12 {
                let input = Tensor::new(&next[..], &Device::Cpu).and_then(|ids| ids.unsqueeze(0));
                let hidden = model.forward(&input.expect("ids"), Some(&mut cache)).expect("a pass");
                let last = model.last_logits(&hidden).and_then(|l| Ok(l.to_vec2::<f32>()?));
                next = vec![argmax(&last.expect("logits")[0])];
                continuation.extend(&next);
            }
            assert_eq!(continuation, ids(&case["greedy"]), "{name}");
        }
    }
}

/// Half precision rounds differently in every implementation: only near the f32 values, not equal to them.
#[test]
fn half_precision_stays_near_the_f32_logits() {
    for (dtype, tolerance) in [(DType::F16, 0.05), (DType::BF16, 0.4)] {
        for name in VARIANTS {
            let dir = golden("variants").join(name);
            let model = load(&dir, dtype).expect("it loads");
            for case in json(&dir.join("golden.json"))["cases"].as_array().expect("cases") {
                let difference =
                    largest_difference(&logits(&model, &ids(&case["ids"])), &rows(&case["logits"]));
                assert!(difference < tolerance, "{name} in {dtype:?}: off by {difference}");
                assert!(difference > 0.0, "{name} is not computed in {dtype:?}");
            }
        }
    }
}

#[test]
fn tensors_are_listed_as_they_are_stored() {
    let listed = |name: &str| {
        let weights = Weights::open(&golden("variants").join(name), DType::F32, &Device::Cpu);
        weights.expect("it opens").tensors()
    };
    let tensors = listed("qwen2-untied-bf16");
    let bias = tensors.iter().find(|t| t.name == "model.layers.1.self_attn.k_proj.bias");
    let bias = bias.expect("shards are listed together");
    assert_eq!((bias.dtype.as_str(), bias.shape.as_slice()), ("BF16", &[8][..]));
    assert!(tensors.iter().any(|tensor| tensor.name == "lm_head.weight"));
    assert!(!listed("qwen2-tied-f16").iter().any(|tensor| tensor.name == "lm_head.weight"));
}

#[test]
fn a_qwen2_without_its_biases_and_a_sliding_window_are_refused() {
    let dir = golden("variants/qwen2-tied-f16");
    let mut config = json(&dir.join("config.json"));
    config["model_type"] = "qwen3".into();
    let path = Path::new("config.json");
    let as_qwen3 = Config::from_json(&config.to_string(), path).expect("a valid configuration");
    let weights = Weights::open(&dir, DType::F32, &Device::Cpu).expect("it opens");
    let error = Qwen3::new(&as_qwen3, &weights).expect_err("it has no norms").to_string();
    assert!(error.contains("no tensor `model.layers.0.self_attn.q_norm.weight`"), "{error}");

    config["layer_types"] = json!(["full_attention", "sliding_attention"]);
    let error = Config::from_json(&config.to_string(), path).expect_err("refused").to_string();
    assert!(error.contains("`layer_types`"), "{error}");
}

/// The log-probs of `completion` after `prompt`.
fn completion_logprobs(
    model: &Qwen3,
    prompt: &[u32],
    completion: &[u32],
    temperature: f64,
) -> agentflow_model::Result<Vec<f32>> {
    let ids = [prompt, completion].concat();
    let completion_mask: Vec<bool> = (0..ids.len()).map(|at| at >= prompt.len()).collect();
    let scored = logprobs(model, &ids, &completion_mask, temperature, None)?;
    Ok(scored.iter().map(|scored| scored.logprob).collect())
}

#[test]
fn logprobs_of_completions_are_those_of_transformers() {
    let mut compared = 0;
    for name in ["tied-gqa", "untied-mha", "wide-gqa-bf16"] {
        let model = load(&golden(name), DType::F32).expect("it loads");
        for case in json(&golden(name).join("golden.json"))["cases"].as_array().expect("cases") {
            for (temperature, wanted) in case["logprobs"].as_object().expect("temperatures") {
                let temperature = temperature.parse().expect("a number");
                let (prompt, completion) = (ids(&case["ids"]), ids(&case["completion"]));
                let found = completion_logprobs(&model, &prompt, &completion, temperature);
                let found = found.expect("they are computed");
                let wanted: Vec<f32> = serde_json::from_value(wanted.clone()).expect("numbers");
                let difference = largest_difference(&[found], &[wanted]);
                assert!(difference < 1e-4, "{name} at {temperature}: off by {difference}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 24);
}

#[test]
fn logprobs_do_not_depend_on_the_chunks_they_are_computed_in() {
    let model = load(&golden("tied-gqa"), DType::F32).expect("it loads");
    let tokens: Vec<u32> = (0..100).map(|i| i * 7 % 96).collect();
    let whole = completion_logprobs(&model, &tokens[..1], &tokens[1..], 0.8).expect("computed");
    let later = completion_logprobs(&model, &tokens[..80], &tokens[80..], 0.8).expect("computed");
    assert_eq!(whole.len(), 99);
    assert!(largest_difference(&[whole[79..].to_vec()], &[later]) < 1e-5);
    let error = completion_logprobs(&model, &[1], &[96], 1.0).expect_err("no such token");
    assert!(error.to_string().contains("token 96 is outside"), "{error}");
    assert!(completion_logprobs(&model, &[], &[1], 1.0).is_err());
    assert!(completion_logprobs(&model, &[1], &[], 1.0).expect("nothing").is_empty());
}

fn adapter(dir: &Path) -> agentflow_model::Result<Adapter> {
    Adapter::open(dir, DType::F32, &Device::Cpu)
}

/// Of the last `count` tokens, by the arithmetic of the engine.
fn engine_logprobs(model: &Qwen3, ids: &[u32], count: usize) -> Vec<f32> {
    let (prompt, completion) = ids.split_at(ids.len() - count);
    completion_logprobs(model, prompt, completion, 1.0).expect("computed")
}

/// Of the last tokens, where each row of logits but the last predicts one.
fn logprobs_of(logits: &[Vec<f32>], ids: &[u32]) -> Vec<f32> {
    let tokens = &ids[ids.len() + 1 - logits.len()..];
    let rows = logits.iter().zip(tokens);
    rows.map(|(row, token)| {
        let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
        (f64::from(row[*token as usize]) - sum.ln()) as f32
    })
    .collect()
}

#[test]
fn adapters_give_the_logits_of_peft_and_leave_the_base_alone() {
    let base = load(&golden("tied-gqa"), DType::F32).expect("it loads");
    let values = json(&golden("lora/golden.json"));
    let ids = ids(&values["ids"]);
    let before = logits(&base, &ids);
    let mut digests = Vec::new();
    for (name, last) in values["last_logits"].as_object().expect("adapters") {
        let adapter = adapter(&golden("lora").join(name)).expect("it opens");
        let adapted = base.with_adapter(&adapter).expect("it fits");
        let (found, wanted) = (logits(&adapted, &ids), rows(last));
        let difference = largest_difference(&found[found.len() - wanted.len()..], &wanted);
        assert!(difference < 1e-4, "{name}: off by {difference}");
        assert!(largest_difference(&found, &before) > 1.0, "{name} changes nothing");
        assert!(
            largest_difference(
                &[engine_logprobs(&adapted, &ids, wanted.len() - 1)],
                &[logprobs_of(&wanted, &ids)]
            ) < 1e-4
        );
        digests.push(adapter.digest().to_owned());
    }
    assert_eq!(logits(&base, &ids), before);
    assert_ne!(digests[0], digests[1]);
}

#[test]
fn adapters_that_are_not_computed_here_are_refused_by_name() {
    let error = |result: agentflow_model::Result<Adapter>| match result {
        Ok(_) => panic!("the adapter was accepted"),
        Err(error) => error.to_string(),
    };
    let dora = error(adapter(&golden("lora/dora")));
    assert!(dora.contains("`use_dora` is true") && dora.contains("merge_and_unload"), "{dora}");
    assert!(error(adapter(Path::new("/nowhere"))).contains("no adapter at `/nowhere`"));

    let edited = |key: &str, value: Value| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let source = golden("lora/all-linear");
        let mut config = json(&source.join("adapter_config.json"));
        config[key] = value;
        std::fs::write(dir.path().join("adapter_config.json"), config.to_string()).expect("writes");
        std::fs::copy(
            source.join("adapter_model.safetensors"),
            dir.path().join("adapter_model.safetensors"),
        )
        .expect("copies");
        adapter(dir.path())
    };
    assert!(edited("alpha_pattern", json!({})).is_ok());
    assert!(edited("modules_to_save", json!([])).is_ok());
    for (key, value) in [
        ("peft_type", json!("IA3")),
        ("bias", json!("all")),
        ("modules_to_save", json!(["score"])),
        ("fan_in_fan_out", json!(true)),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("rank_pattern", json!({"layers\\.[0-9]+\\.q_proj": 4})),
        ("r", json!("two")),
        ("lora_alpha", Value::Null),
    ] {
        let message = error(edited(key, value));
        assert!(message.contains(&format!("`{key}`")), "{key}: {message}");
    }
    let message = error(edited("r", json!(3)));
    assert!(message.contains("rank 3") && message.contains("[2, "), "{message}");
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let small = load(&golden("variants/qwen3-untied-f16"), DType::F32).expect("it loads");
    let all = adapter(&golden("lora/all-linear")).expect("it opens");
    let error = small.with_adapter(&all).expect_err("another size").to_string();
    assert!(error.contains("from 48 to 40") && error.contains("from 20 to 16"), "{error}");

    let dir = tempfile::tempdir().expect("a temporary directory");
    let tensor =
        |rows, columns| Tensor::zeros((rows, columns), DType::F32, &Device::Cpu).expect("zeros");
    let save = |names: [&str; 2]| {
        let tensors = HashMap::from([(names[0], tensor(2, 16)), (names[1], tensor(32, 2))]);
        let path = dir.path().join("adapter_model.safetensors");
        candle_core::safetensors::save(&tensors, path).expect("saves");
        std::fs::copy(
            golden("lora/all-linear/adapter_config.json"),
            dir.path().join("adapter_config.json"),
        )
        .expect("copies");
        adapter(dir.path())
    };
    let head = "base_model.model.lm_head";
    let on_head = save([&format!("{head}.lora_A.weight"), &format!("{head}.lora_B.weight")]);
    let error = small.with_adapter(&on_head.expect("it opens")).expect_err("refused").to_string();
    assert!(error.contains("`lm_head`"), "{error}");
    let error = match save([&format!("{head}.lora_A.weight"), &format!("{head}.bias")]) {
        Ok(_) => panic!("a bias was accepted"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("lm_head.bias"), "{error}");
}
