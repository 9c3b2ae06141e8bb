//! `agentflow model`, on the tiny models that the engine is tested with.

use std::fs;
use std::path::PathBuf;

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::agentflow::{Agentflow, agentflow};

fn golden(path: &str) -> String {
    let models = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden");
    models.join(path).to_str().expect("a plain path").to_owned()
}

/// `agentflow` with `arguments`, and `lines` in a file that `--input` names.
fn on_lines(arguments: &[&str], lines: &str) -> (tempfile::TempDir, Agentflow) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("lines"), lines).expect("writes");
    let command = [arguments, &["--input", "lines"]].concat();
    let ran = agentflow(&command).inside(dir.path());
    (dir, ran)
}

fn answers(arguments: &[&str], lines: &[Value]) -> Vec<Value> {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    let (_dir, command) = on_lines(arguments, &lines.join("\n"));
    let ran = command.run();
    assert_eq!((ran.code(), ran.stderr.as_str()), (Some(0), ""), "{ran}");
    ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn inspect_says_what_a_gguf_file_is() {
    let path = golden("gguf/qwen3-k.gguf");
    let ran = agentflow(&["model", "inspect", &path]).run();
    assert_snapshot!(ran.stdout.replace(&path, "FILE"), @r"
    model         FILE
    format        GGUF
    architecture  qwen3 (Qwen3ForCausalLM)
    parameters    153.6 K in 13 tensors
    stored as     F32 800, Q4_K 124.2 K, Q6_K 12.3 K, Q8_0 16.4 K; 114.0 kB on disk
    shape         1 × 256, heads 2 × 16, key-value heads 1, feed-forward 32, tied head
    context       256 tokens
    tokenizer     400 tokens in a vocabulary of 405
    ends with     <|im_end|> 397, <|endoftext|> 395
    template      yes
    profile       full
    digest        sha256:16f131a04599c866c4ee6e77a9163018defa74ad93ea704edce39eacd6444363
    memory        weights 614.5 kB in f32, 307.3 kB in bf16 or f16; cache 128 B a token in f32, 1.05 MB for 8192
    computes      on cpu in f32
    ");
    let ran = agentflow(&["model", "inspect", &path, "--json"]).run();
    let said: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(said["config"]["head_dim"], 16);
    assert_eq!(said["config"]["model_type"], "qwen3");
    assert_eq!(said["stop"][0]["token"], "<|im_end|>");
    assert_eq!(said["memory"]["cache_per_token_f32"], 2 * 16 * 4);
    let stored: u64 =
        said["stored"].as_object().expect("types").values().filter_map(Value::as_u64).sum();
    assert_eq!(said["parameters"], stored);
}

#[test]
fn inspect_knows_the_bundled_planner() {
    let ran = agentflow(&["model", "inspect", "--json"]).run();
    let said: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!((&said["prompt_profile"], &said["file_bytes"]), (&json!("compact"), &Value::Null));
}

#[test]
fn render_gives_text_and_ids_and_names_bad_lines() {
    let path = golden("gguf/qwen2-half.gguf");
    let good = json!({"messages": [{"role": "user", "content": "Hi"}], "think": false});
    let lines = format!("{good}\n{{\"messages\": 3}}\nno JSON\n\n{good}\n");
    let (_dir, command) = on_lines(&["model", "render", "--model", &path], &lines);
    let ran = command.run();
    assert_eq!(ran.code(), Some(1));
    assert!(ran.stderr.contains("2 of 4 lines failed"), "{ran}");
    let said: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(said.len(), 4);
    assert!(said[1]["error"].is_string() && said[2]["error"].is_string(), "{ran}");
    let text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
    assert_eq!(said[0]["text"], text);
    assert_eq!(said[0], said[3]);
    let open = json!({"messages": [{"role": "user", "content": "Hi"}], "think": true});
    let said = answers(&["model", "render", "--model", &path], &[open]);
    assert_eq!(said[0]["text"], "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

#[test]
fn logprobs_are_those_of_the_sampled_tokens() {
    let path = golden("gguf/qwen2-half.gguf");
    let ask =
        |seed| json!({"prompt_ids": [5, 6, 7], "max_tokens": 12, "temperature": 1.0, "seed": seed});
    let generated = answers(&["model", "generate", "--model", &path], &[ask(1), ask(2), ask(1)]);
    assert_eq!(generated[0], generated[2]);
    assert_ne!(generated[0]["ids"], generated[1]["ids"]);
    let lines: Vec<Value> = generated
        .iter()
        .map(|one| json!({"prompt_ids": [5, 6, 7], "completion_ids": one["ids"]}))
        .collect();
    let scored = answers(&["model", "logprobs", "--model", &path], &lines);
    for (generated, scored) in generated.iter().zip(&scored) {
        let numbers = |value: &Value| -> Vec<f64> {
            value.as_array().expect("a list").iter().filter_map(Value::as_f64).collect()
        };
        let (sampled, found) = (numbers(&generated["logprobs"]), numbers(&scored["logprobs"]));
        assert_eq!(sampled.len(), found.len());
        assert!(sampled.iter().zip(&found).all(|(a, b)| (a - b).abs() < 1e-4));
        let sum = scored["sum"].as_f64().expect("a number");
        assert!((sum - found.iter().sum::<f64>()).abs() < 1e-5);
    }
    let cold =
        answers(&["model", "logprobs", "--model", &path, "--temperature", "0.5"], &lines[..1]);
    assert_ne!(cold[0]["sum"], scored[0]["sum"]);
}

#[test]
fn generate_satisfies_a_schema() {
    let path = golden("gguf/qwen2-half.gguf");
    let schema = json!({
        "type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
        "additionalProperties": false,
    });
    let line = json!({"prompt_ids": [5], "max_tokens": 40, "temperature": 1.5, "schema": schema});
    let said = answers(&["model", "generate", "--model", &path], &[line]);
    assert_eq!(said[0]["finish"], "stop");
    let text: Value = serde_json::from_str(said[0]["text"].as_str().expect("text")).expect("JSON");
    assert!(text["ok"].is_boolean());
}

#[test]
fn an_adapter_for_another_model_is_named() {
    let (model, adapter) = (golden("gguf/qwen2-half.gguf"), golden("lora/all-linear"));
    let (_dir, command) =
        on_lines(&["model", "logprobs", "--model", &model, "--adapter", &adapter], "");
    let ran = command.run();
    assert_eq!(ran.code(), Some(1));
    assert!(ran.stderr.contains("is for another model"), "{ran}");
    let ran = agentflow(&["solve", "hi", "--backend", "ollama", "--adapter", &adapter]).run();
    assert_eq!(ran.code(), Some(2));
    assert!(ran.stderr.contains("--backend local"), "{ran}");
}

/// A Hub with one model of one GGUF file.
async fn hub(request: Request) -> Response {
    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    match request.uri().path() {
        "/api/models/tiny/model/revision/main" => {
            format!(r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "tiny.gguf"}}]}}"#)
                .into_response()
        }
        path if path == format!("/tiny/model/resolve/{COMMIT}/tiny.gguf") => {
            let content = fs::read(golden("gguf/qwen2-half.gguf")).expect("the golden file");
            let headers =
                [("etag", "\"abc\"".to_owned()), ("x-linked-size", content.len().to_string())];
            let body = if request.method() == Method::HEAD { Vec::new() } else { content };
            (headers, body).into_response()
        }
        _ => (StatusCode::NOT_FOUND, [("x-error-code", "RepoNotFound")]).into_response(),
    }
}

#[test]
fn a_model_on_the_hub_is_fetched_once_and_then_works_offline() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    runtime.spawn(async move { axum::serve(listener, axum::Router::new().fallback(hub)).await });

    let cache = tempfile::tempdir().expect("a temporary directory");
    let cache = cache.path().to_str().expect("a plain path");
    let inspect =
        |name| agentflow(&["model", "inspect", name, "--json"]).env("HF_HUB_CACHE", cache);
    let ran = inspect("tiny/model").env("HF_HUB_OFFLINE", "1").run();
    assert_eq!(ran.code(), Some(1));
    assert!(ran.stderr.contains("HF_HUB_OFFLINE"), "{ran}");
    let ran = inspect("tiny/model").env("HF_ENDPOINT", &url).run();
    assert_eq!(ran.code(), Some(0), "{ran}");
    assert!(ran.stderr.contains("fetching tiny/model from the Hugging Face Hub"), "{ran}");
    let again = inspect("tiny/model").env("HF_HUB_OFFLINE", "1").run();
    assert_eq!((again.code(), again.stderr.as_str(), again.stdout), (Some(0), "", ran.stdout));
    let ran = inspect("tiny/nothing").env("HF_ENDPOINT", &url).run();
    assert_snapshot!(ran.stderr.replace(&url, "http://HUB"), @"error: no directory or file `tiny/nothing` here, so the Hub was asked: there is no model `tiny/nothing` at http://HUB, or it is private; check the name, or set `HF_TOKEN` to a token that may read it");
}
