//! Ollama's routes with the bundled planner.

use agentflow_llm::{ChatModel, ChatRequest, Message, Sampling, schema};
use serde_json::{Value, json};

use crate::server::{MODEL, Running, planner, planning};

const QUESTION: &str = "Question: What is 12% of 350?";

fn chat(options: Value) -> Value {
    let messages = json!([{"role": "user", "content": QUESTION}]);
    json!({"model": MODEL, "messages": messages, "stream": false, "options": options})
}

fn with(mut body: Value, key: &str, value: Value) -> Value {
    body[key] = value;
    body
}

fn greedy(num_predict: i64) -> Value {
    json!({"temperature": 0, "num_predict": num_predict})
}

fn text(line: &Value) -> &str {
    line["message"]["content"].as_str().or(line["response"].as_str()).expect("a text")
}

fn decision() -> Value {
    json!({
        "type": "object",
        "properties": {
            "thought": {"type": "string"},
            "action": {"enum": ["code", "answer"]},
            "action_input": {"type": "string"}
        },
        "required": ["thought", "action", "action_input"],
        "additionalProperties": false
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_are_the_whole_with_counts_and_times() {
    let server = planning().await;
    let whole = server.ask("/api/chat", chat(greedy(12))).await;
    let lines = server.lines("/api/chat", with(chat(greedy(12)), "stream", json!(true))).await;
    let (last, pieces) = lines.split_last().unwrap();
    assert!(pieces.len() > 3, "{lines:?}");
    assert_eq!(pieces.iter().map(text).collect::<String>(), text(&whole));
    assert!(pieces.iter().all(|line| line["done"] == false && line["done_reason"].is_null()));
    for end in [&whole, last] {
        assert_eq!((&end["done"], &end["done_reason"]), (&json!(true), &json!("length")));
        assert_eq!((&end["model"], &end["eval_count"]), (&json!(MODEL), &json!(12)));
        for key in ["total_duration", "prompt_eval_duration", "eval_duration", "prompt_eval_count"]
        {
            assert!(end[key].as_u64().is_some_and(|n| n > 0), "{key}: {end}");
        }
        let sum = ["load_duration", "prompt_eval_duration", "eval_duration"]
            .map(|key| end[key].as_u64().unwrap_or(0));
        assert!(sum.iter().sum::<u64>() <= end["total_duration"].as_u64().unwrap(), "{end}");
        let created = end["created_at"].as_str().unwrap();
        assert!(created.parse::<jiff::Timestamp>().is_ok(), "{created}");
    }
}

/// Chat, generate and a raw prompt are one model: what the template makes of the question is written out here.
#[tokio::test(flavor = "multi_thread")]
async fn chat_generate_and_raw_say_the_same() {
    let server = planning().await;
    let chat = server.ask("/api/chat", chat(greedy(20))).await;
    let generate = |prompt: String, raw: bool| json!({"model": "Tiny-Planner:latest", "prompt": prompt, "raw": raw, "stream": false, "options": greedy(20)});
    let generated = server.ask("/api/generate", generate(QUESTION.into(), false)).await;
    let rendered = format!("<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n");
    let raw = server.ask("/api/generate", generate(rendered, true)).await;
    assert_eq!((text(&chat), text(&chat)), (text(&generated), text(&raw)));
    assert_eq!(chat["prompt_eval_count"], raw["prompt_eval_count"]);
    assert_eq!(generated["model"], "Tiny-Planner:latest");
    // What was said can be gone on with.
    assert!(raw["context"].is_null());
    let context = generated["context"].clone();
    let more = with(generate("Go on.".into(), false), "context", context.clone());
    let more = server.ask("/api/generate", more).await;
    let read = more["prompt_eval_count"].as_u64().unwrap();
    assert!(read > context.as_array().unwrap().len() as u64, "{more}");
}

#[tokio::test(flavor = "multi_thread")]
async fn system_is_read_first() {
    let server = planning().await;
    let options = greedy(20);
    let messages = json!([
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}
    ]);
    let chat = with(chat(options.clone()), "messages", messages);
    let generate = json!({
        "model": MODEL, "system": "Be brief.", "prompt": QUESTION, "stream": false, "options": options
    });
    let (chat, generate) =
        (server.ask("/api/chat", chat).await, server.ask("/api/generate", generate).await);
    assert_eq!(chat["prompt_eval_count"], generate["prompt_eval_count"]);
    assert_eq!(text(&chat), text(&generate));
}

#[tokio::test(flavor = "multi_thread")]
async fn seeds_repeat_and_differ() {
    let server = planning().await;
    let hot = |seed: u64| {
        chat(json!({"temperature": 3, "top_k": 0, "top_p": 1, "seed": seed, "num_predict": 12}))
    };
    let first = server.ask("/api/chat", hot(1)).await;
    assert_eq!(text(&first), text(&server.ask("/api/chat", hot(1)).await));
    assert_ne!(text(&first), text(&server.ask("/api/chat", hot(2)).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_text_ends_the_reply_streamed_or_not() {
    let server = planning().await;
    let free = server.ask("/api/chat", chat(greedy(30))).await;
    // From inside a token to inside another.
    let middle = text(&free).len() / 2;
    let stop = &text(&free)[middle..middle + 4];
    let before = &text(&free)[..text(&free).find(stop).unwrap()];
    let mut options = greedy(30);
    options["stop"] = json!([stop]);
    let body = chat(options);
    let whole = server.ask("/api/chat", body.clone()).await;
    assert_eq!((text(&whole), &whole["done_reason"]), (before, &json!("stop")));
    let lines = server.lines("/api/chat", with(body, "stream", json!(true))).await;
    assert_eq!(lines.iter().map(text).collect::<String>(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_are_kept_to() {
    let server = planning().await;
    let hot = json!({"temperature": 1.5, "top_k": 0, "seed": 3});
    let reply = server.ask("/api/chat", with(chat(hot.clone()), "format", decision())).await;
    assert_eq!(schema::validate(&decision(), text(&reply)).map(drop), Ok(()), "{reply}");
    let reply = server.ask("/api/chat", with(chat(greedy(-1)), "format", json!("json"))).await;
    assert!(serde_json::from_str::<Value>(text(&reply)).unwrap().is_object(), "{reply}");
    // Cut off, it is no JSON, and said to be cut off.
    let cut = server.ask("/api/chat", with(chat(greedy(3)), "format", decision())).await;
    assert_eq!(cut["done_reason"], "length");
    assert!(serde_json::from_str::<Value>(text(&cut)).is_err(), "{cut}");
    for format in [json!("yaml"), json!(7), json!({"type": "string", "not": {"const": "a"}})] {
        let (status, body) =
            server.refused("/api/chat", with(chat(greedy(3)), "format", format.clone())).await;
        assert_eq!(status, 400, "{format}");
        assert!(body["error"].as_str().unwrap().starts_with("invalid format:"), "{body}");
    }
}

/// The wire's log-probabilities are those of the plain distribution; so are the engine's where nothing bends it.
#[tokio::test(flavor = "multi_thread")]
async fn logprobs_are_the_engine_s() {
    let server = planning().await;
    let body = with(with(chat(greedy(16)), "logprobs", json!(true)), "top_logprobs", json!(3));
    let reply = server.ask("/api/chat", body.clone()).await;
    let request = ChatRequest {
        messages: vec![Message::user(QUESTION)],
        schema: None,
        think: false,
        sampling: Sampling::greedy(),
        max_tokens: 16,
        stop: vec![],
    };
    let drawn = planner().chat(&request).await.unwrap().logprobs.unwrap();
    let tokens = reply["logprobs"].as_array().unwrap();
    assert_eq!(tokens.len(), drawn.len());
    for (token, drawn) in tokens.iter().zip(drawn) {
        let told = token["logprob"].as_f64().unwrap();
        assert!((told - f64::from(drawn)).abs() < 1e-4, "{told} instead of {drawn}");
        let top = token["top_logprobs"].as_array().unwrap();
        // The likeliest was taken.
        assert_eq!((top.len(), &top[0]["token"]), (3, &token["token"]), "{token}");
        assert!(top[0]["logprob"].as_f64() > top[1]["logprob"].as_f64());
        let bytes: Vec<u8> = serde_json::from_value(token["bytes"].clone()).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), token["token"].as_str().unwrap());
    }
    let written: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(written, text(&reply));
    let lines = server.lines("/api/chat", with(body, "stream", json!(true))).await;
    assert_eq!(lines.last().unwrap()["logprobs"], reply["logprobs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_have_length_one_and_follow_the_text() {
    let server = planning().await;
    let embed = |input: Value| json!({"model": MODEL, "input": input});
    let several =
        server.ask("/api/embed", embed(json!(["two cats", "two dogs", "two cats"]))).await;
    let vectors: Vec<Vec<f32>> = serde_json::from_value(several["embeddings"].clone()).unwrap();
    assert_eq!((vectors.len(), vectors[0].len()), (3, 192));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    assert!((dot(&vectors[0], &vectors[0]) - 1.0).abs() < 1e-4);
    assert!((dot(&vectors[0], &vectors[2]) - 1.0).abs() < 1e-4);
    assert!(dot(&vectors[0], &vectors[1]) < 0.999);
    assert!(several["prompt_eval_count"].as_u64().unwrap() >= 6, "{several}");

    let short = json!({"model": MODEL, "input": "two cats", "dimensions": 8});
    let short = server.ask("/api/embed", short).await;
    let short: Vec<Vec<f32>> = serde_json::from_value(short["embeddings"].clone()).unwrap();
    assert_eq!(short[0].len(), 8);
    assert!((dot(&short[0], &short[0]) - 1.0).abs() < 1e-4);
    let old = server.ask("/api/embeddings", json!({"model": MODEL, "prompt": "two cats"})).await;
    let old: Vec<f32> = serde_json::from_value(old["embedding"].clone()).unwrap();
    assert!((dot(&old, &vectors[0]) - 1.0).abs() < 1e-4);

    assert_eq!(server.ask("/api/embed", embed(json!([]))).await["embeddings"], json!([]));
    let long = "seven cats and ".repeat(2000);
    let cut = server.ask("/api/embed", embed(json!(long))).await;
    assert_eq!(cut["prompt_eval_count"], 1024);
    let uncut = json!({"model": MODEL, "input": long, "truncate": false});
    let (status, body) = server.refused("/api/embed", uncut).await;
    assert_eq!(
        (status, &body["error"]),
        (400, &json!("the input length exceeds the context length"))
    );
    assert_eq!(server.refused("/api/embed", embed(json!([1]))).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_models_are_shown() {
    let server = planning().await;
    let version = server.get("/api/version").await;
    assert!(version["version"].as_str().is_some_and(|v| v.split('.').count() == 3), "{version}");
    let tags = server.get("/api/tags").await;
    assert_eq!(tags["models"][0]["name"], "tiny-planner:latest");
    assert_eq!(tags["models"][0]["digest"].as_str().map(str::len), Some(64));
    assert_eq!(tags["models"][0]["capabilities"], json!(["completion"]));
    assert_eq!(server.get("/api/ps").await["models"][0]["context_length"], 1024);
    let show = server.ask("/api/show", json!({"model": MODEL})).await;
    assert!(show["template"].as_str().unwrap().contains("<|im_start|>"));
    assert_eq!(show["model_info"]["qwen3.context_length"], 1024);
    assert_eq!(show["model_info"]["agentflow.prompt_profile"], "compact");
    assert_eq!(show["details"]["family"], "qwen3");
    // The parameters are counted from the shape; the file has each of them as four bytes, and a header.
    let agentflow_model::ModelFiles::Embedded(files) = agentflow_model::bundled::files() else {
        panic!("it is embedded")
    };
    let file = files.iter().find(|(name, _)| *name == "model.safetensors").unwrap().1.len() as u64;
    let counted = show["model_info"]["general.parameter_count"].as_u64().unwrap();
    let width = if file > counted * 4 { 4 } else { 2 };
    assert!((counted * width..counted * width + 8192).contains(&file), "{counted} in {file} bytes");
    let root = server.client.get(server.url()).send().await.unwrap();
    assert_eq!(root.text().await.unwrap(), "Ollama is running");
    assert_eq!(server.client.head(server.url()).send().await.unwrap().status(), 200);
    assert_eq!(server.refused("/api/show", json!({"model": "m"})).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_said_loads_the_model() {
    let server = planning().await;
    let loaded = server.ask("/api/chat", json!({"model": MODEL, "messages": []})).await;
    assert_eq!((&loaded["done"], &loaded["done_reason"]), (&json!(true), &json!("load")));
    let loaded = server.ask("/api/generate", json!({"model": MODEL, "keep_alive": "10m"})).await;
    assert_eq!((&loaded["response"], &loaded["done_reason"]), (&json!(""), &json!("load")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_in_ollama_s_words() {
    let server = planning().await;
    let long = "seven cats and ".repeat(2000);
    let cases = [
        ("/api/chat", json!({"model": "m:1b", "messages": []}), 404, "model 'm:1b' not found"),
        ("/api/generate", json!({"model": "m"}), 404, "model 'm' not found"),
        ("/api/embed", json!({"model": "m", "input": "x"}), 404, "model 'm' not found"),
        ("/api/chat", json!({"messages": []}), 400, "model is required"),
        (
            "/api/chat",
            with(chat(json!({})), "think", json!(true)),
            400,
            "\"tiny-planner\" does not support thinking",
        ),
        ("/api/chat", with(chat(json!({})), "think", json!("very")), 400, "invalid think value"),
        (
            "/api/chat",
            with(chat(json!({})), "tools", json!([{"type": "function"}])),
            400,
            "\"tiny-planner\" does not support tools",
        ),
        (
            "/api/chat",
            with(chat(json!({})), "top_logprobs", json!(21)),
            400,
            "top_logprobs must be between 0 and 20",
        ),
        (
            "/api/chat",
            chat(json!({"num_ctx": "8k"})),
            400,
            "option \"num_ctx\" must be of type integer",
        ),
        ("/api/chat", chat(json!({"temperature": -1})), 400, "`temperature` is -1"),
        ("/api/chat", chat(json!({"num_predict": 0})), 400, "`max_tokens` is 0"),
        (
            "/api/chat",
            chat(json!({"num_ctx": 4})),
            400,
            "the prompt is longer than the context length",
        ),
        (
            "/api/generate",
            json!({"model": MODEL, "prompt": long}),
            400,
            "the prompt is longer than the context length",
        ),
        (
            "/api/generate",
            json!({"model": MODEL, "prompt": "x", "suffix": "y"}),
            400,
            "\"tiny-planner\" does not support insert",
        ),
        (
            "/api/generate",
            json!({"model": MODEL, "prompt": "x", "raw": true, "system": "y"}),
            400,
            "raw mode does not support",
        ),
        (
            "/api/generate",
            json!({"model": MODEL, "prompt": "x", "images": ["aGk="]}),
            400,
            "does not support images",
        ),
        ("/api/pull", json!({"model": "m"}), 404, "/api/pull is not served here"),
        ("/api/tags", json!({}), 405, "/api/tags does not take POST"),
    ];
    for (path, body, status, text) in cases {
        let (found, answer) = server.refused(path, body).await;
        let said = answer["error"].as_str().unwrap_or_default();
        assert!(found == status && said.contains(text), "{path}: {found} {answer}");
    }
    for (body, status) in
        [("", 400), ("{\"model\":", 400), ("[]", 400), (&*"x".repeat(9 << 20), 413)]
    {
        let sent = server.client.post(server.url() + "/api/chat").body(body.to_owned()).send();
        let answer = sent.await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        let answer: Value = answer.json().await.unwrap();
        assert!(answer["error"].is_string(), "{answer}");
    }
}

/// A context smaller than the model's bounds prompt and reply together.
#[tokio::test(flavor = "multi_thread")]
async fn num_ctx_bounds_the_reply() {
    let server: Running = planning().await;
    let free = server.ask("/api/chat", chat(greedy(30))).await;
    let prompt = free["prompt_eval_count"].as_u64().unwrap();
    let options = json!({"temperature": 0, "num_ctx": prompt + 5});
    let bounded = server.ask("/api/chat", chat(options)).await;
    assert_eq!(
        (&bounded["eval_count"], &bounded["done_reason"]),
        (&json!(5), &json!("length")),
        "{bounded}"
    );
    assert!(text(&free).starts_with(text(&bounded)));
}
