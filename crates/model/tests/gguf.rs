//! GGUF files: `scripts/golden/gguf_models.py` made every value that is read here, with the `gguf` package, transformers and
//! llama.cpp.

use std::path::{Path, PathBuf};

use agentflow_llm::{Message, Role};
use agentflow_model::{LoadedModel, ModelFiles};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

const MODELS: [&str; 2] = ["qwen3-k", "qwen2-half"];

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn json(path: &str) -> Value {
    let text = std::fs::read_to_string(golden(path)).expect("the golden file is in the repository");
    serde_json::from_str(&text).expect("the golden file is JSON")
}

fn files(name: &str) -> ModelFiles {
    ModelFiles::open(&golden(&format!("gguf/{name}.gguf"))).expect("a GGUF file")
}

fn load(name: &str, dtype: DType) -> LoadedModel {
    files(name).load(dtype, &Device::Cpu).expect("it loads")
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("token ids")
}

fn numbers(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).expect("numbers")
}

fn last_logits(loaded: &LoadedModel, ids: &[u32]) -> Vec<f32> {
    let ids =
        Tensor::new(ids, &Device::Cpu).and_then(|ids| ids.unsqueeze(0)).expect("a row of ids");
    let hidden = loaded.model.forward(&ids, None).expect("a forward pass");
    let logits = loaded.model.last_logits(&hidden).expect("logits");
    logits.squeeze(0).and_then(|row| row.to_vec1()).expect("a row")
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// What HF transformers calls a tensor of these files.
fn hf_name(name: &str) -> String {
    let Some(rest) = name.strip_prefix("blk.") else {
        return match name {
            "token_embd.weight" => "model.embed_tokens.weight".to_owned(),
            "output_norm.weight" => "model.norm.weight".to_owned(),
            "output.weight" => "lm_head.weight".to_owned(),
            other => panic!("{other}"),
        };
    };
    let (layer, part) = rest.split_once('.').expect("a layer");
    let (module, parameter) = part.rsplit_once('.').expect("a parameter");
    let module = match module {
        "attn_norm" => "input_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        other => panic!("{other}"),
    };
    format!("model.layers.{layer}.{module}.{parameter}")
}

#[test]
fn tensors_are_what_the_gguf_package_makes_of_them() {
    let mut types = std::collections::BTreeSet::new();
    for name in MODELS {
        let weights = files(name).weights(DType::F32, &Device::Cpu).expect("it opens");
        let tensors = &json("gguf/golden.json")[name]["tensors"];
        let tensors = tensors.as_object().expect("tensors");
        assert_eq!(weights.tensors().len(), tensors.len());
        for (own_name, wanted) in tensors {
            let shape: Vec<usize> =
                serde_json::from_value(wanted["shape"].clone()).expect("a shape");
            let tensor = weights.get(&hf_name(own_name), &shape).expect("it is there");
            let values: Vec<f32> =
                tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("numbers");
            let places: Vec<usize> =
                serde_json::from_value(wanted["places"].clone()).expect("places");
            for (place, wanted) in places.iter().zip(numbers(&wanted["values"])) {
                let tolerance = 1e-6 * wanted.abs().max(0.01);
                assert!((values[*place] - wanted).abs() <= tolerance, "{own_name} at {place}");
            }
            let sum: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
            let wanted_sum = wanted["sum_of_squares"].as_f64().expect("a number");
            assert!((sum / wanted_sum - 1.0).abs() < 1e-6, "{own_name}: {sum}, not {wanted_sum}");
            let listed = weights.tensors();
            let listed = listed.iter().find(|info| info.name == *own_name).expect("it is listed");
            assert_eq!(
                (&listed.dtype[..], &listed.shape),
                (wanted["type"].as_str().expect("a type"), &shape)
            );
            types.insert(listed.dtype.clone());
        }
    }
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    assert_eq!(types, ["BF16", "F16", "F32", "Q4_K", "Q6_K", "Q8_0"]);
}

#[test]
fn logits_are_those_of_transformers_and_near_those_of_llama_cpp() {
    for name in MODELS {
        let loaded = load(name, DType::F32);
        for case in json("gguf/golden.json")[name]["cases"].as_array().expect("cases") {
            let found = last_logits(&loaded, &ids(&case["ids"]));
            let difference = largest_difference(&found, &numbers(&case["logits"]));
            assert!(difference < 1e-4, "{name}: off by {difference}");
            // llama.cpp rounds the activations, too: to 8 bits beside quants, to f16 beside halves.
            let difference = largest_difference(&found, &numbers(&case["llama_cpp"]));
            let tolerance = if name == "qwen3-k" { 0.2 } else { 0.05 }; // of logits that deviate by 1.5
            assert!(difference < tolerance, "{name}: {difference} from llama.cpp");
        }
    }
}

#[test]
fn greedy_continuations_are_those_of_transformers() {
    for name in MODELS {
        let loaded = load(name, DType::F32);
        for case in json("gguf/golden.json")[name]["cases"].as_array().expect("cases") {
            let mut sequence = ids(&case["ids"]);
            for wanted in ids(&case["greedy"]) {
                let row = last_logits(&loaded, &sequence);
                let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
                assert_eq!(best.expect("a vocabulary").0 as u32, wanted, "{name}");
                sequence.push(wanted);
            }
        }
    }
}

#[test]
fn half_precision_loads_and_stays_near() {
    let case = &json("gguf/golden.json")["qwen3-k"]["cases"][0];
    let found = last_logits(&load("qwen3-k", DType::BF16), &ids(&case["ids"]));
    assert!(largest_difference(&found, &numbers(&case["logits"])) < 0.3);
}

#[test]
fn text_becomes_the_tokens_of_the_tokenizer_that_the_file_was_made_from() {
    let tokenizer = load("qwen2-half", DType::F32).tokenizer;
    for case in json("tokenizer/cases.json").as_array().expect("cases") {
        let text = case["text"].as_str().expect("text");
        let wanted = ids(&case["ids"]);
        assert_eq!(tokenizer.encode(text).expect("it encodes"), wanted, "{}", case["name"]);
        let decoded = case["decoded_without_specials"].as_str().expect("text");
        assert_eq!(tokenizer.decode(&wanted), decoded, "{}", case["name"]);
    }
}

#[test]
fn template_end_tokens_and_shape_come_from_the_metadata() {
    let loaded = load("qwen3-k", DType::F32);
    let config = loaded.model.config();
    assert_eq!((config.vocab_size, config.head_dim, config.tie_word_embeddings), (405, 16, true));
    assert_eq!((config.rope_theta, config.rms_norm_eps), (500_000.0, 1e-3));
    let qwen2 = load("qwen2-half", DType::F32);
    assert_eq!(
        (qwen2.model.config().head_dim, qwen2.model.config().tie_word_embeddings),
        (4, false)
    );
    let end = |token| loaded.tokenizer.id(token).expect("a token of the file");
    assert_eq!(loaded.stop_ids, [end("<|im_end|>"), end("<|endoftext|>")]);
    assert_eq!(loaded.tokenizer.id("[PAD400]"), None, "padding is no token");

    let messages = [Message { role: Role::User, content: "Hi".to_owned() }];
    let text = loaded.template.render(&messages, false).expect("it renders");
    assert_eq!(
        text,
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    );
}

#[test]
fn a_directory_with_one_gguf_file_stands_for_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let copy = |name: &str| {
        std::fs::copy(golden("gguf/qwen2-half.gguf"), dir.path().join(name)).expect("copies");
    };
    copy("a.gguf");
    let files = ModelFiles::open(dir.path()).expect("a model");
    assert!(files.load(DType::F32, &Device::Cpu).is_ok());
    copy("b.gguf");
    let files = ModelFiles::open(dir.path()).expect("a directory");
    let error = match files.load(DType::F32, &Device::Cpu) {
        Ok(_) => panic!("one of two was taken"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("no `config.json`"), "{error}");
}

/// The complaint about the file with `edit` made to its bytes.
fn complaint(name: &str, edit: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = std::fs::read(golden(&format!("gguf/{name}.gguf"))).expect("the golden file");
    edit(&mut bytes);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, bytes).expect("writes");
    let loaded = ModelFiles::open(&path).and_then(|files| files.load(DType::F32, &Device::Cpu));
    match loaded {
        Ok(_) => panic!("a broken file was loaded"),
        Err(error) => error.to_string(),
    }
}

/// Replaces the first occurrence of `old` by `new`, which must be as long.
fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    assert_eq!(old.len(), new.len());
    let at = bytes.windows(old.len()).position(|window| window == old).expect("it is there");
    bytes[at..at + new.len()].copy_from_slice(new);
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    let llama = complaint("qwen3-k", |bytes| {
        replace(bytes, b"\x05\0\0\0\0\0\0\0qwen3", b"\x05\0\0\0\0\0\0\0llama");
    });
    assert!(llama.contains("`general.architecture` is `llama`"), "{llama}");
    let pre = complaint("qwen3-k", |bytes| {
        replace(bytes, b"\x05\0\0\0\0\0\0\0qwen2", b"\x05\0\0\0\0\0\0\0tekke");
    });
    assert!(pre.contains("`tokenizer.ggml.pre` is `tekke`"), "{pre}");
    // The type of a tensor stands behind its two dimensions: 12 is Q4_K, 23 is IQ4_XS.
    let kind = complaint("qwen3-k", |bytes| {
        let name = b"blk.0.attn_q.weight";
        let at = bytes.windows(name.len()).position(|window| window == name).expect("the tensor");
        bytes[at + name.len() + 4 + 16] = 23;
    });
    assert!(kind.contains("`blk.0.attn_q.weight` is of type IQ4_XS"), "{kind}");
    let missing = complaint("qwen3-k", |bytes| {
        replace(bytes, b"blk.0.ffn_up.weight", b"blk.9.ffn_up.weight");
    });
    assert!(missing.contains("no tensor `model.layers.0.mlp.up_proj.weight`"), "{missing}");
}

#[test]
fn damaged_files_are_named_and_never_panic() {
    let length =
        std::fs::metadata(golden("gguf/qwen2-half.gguf")).expect("it is there").len() as usize;
    for cut in [4, 20, 300, 5_000, length / 2, length - 1] {
        let message = complaint("qwen2-half", |bytes| bytes.truncate(cut));
        assert!(message.contains("damaged") && message.contains("model.gguf"), "{cut}: {message}");
    }
    let text = complaint("qwen2-half", |bytes| *bytes = b"not a model".to_vec());
    assert!(text.contains("it is a file, but not GGUF"), "{text}");
    let version = complaint("qwen2-half", |bytes| bytes[4] = 1);
    assert!(version.contains("version is 1"), "{version}");

    // Any byte of the header may be wrong: an error or another model, never a crash.
    let original = std::fs::read(golden("gguf/qwen2-half.gguf")).expect("the golden file");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("model.gguf");
    for place in (4..original.len().min(16_000)).step_by(37) {
        let mut bytes = original.clone();
        bytes[place] ^= 0xff;
        std::fs::write(&path, bytes).expect("writes");
        drop(ModelFiles::open(&path).and_then(|files| files.load(DType::F32, &Device::Cpu)));
    }
}
