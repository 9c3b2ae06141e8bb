//! OpenAI's routes with the bundled planner.

use agentflow_llm::schema;
use serde_json::{Value, json};

use crate::server::{MODEL, Running, planning};

fn completion(extra: Value) -> Value {
    let mut body = json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": "Question: What is 12% of 350?"}],
        "temperature": 0,
        "max_tokens": 10,
    });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

/// The data of each server-sent event; the last must be `[DONE]`.
async fn events(server: &Running, body: Value) -> Vec<Value> {
    let response = server.post("/v1/chat/completions", body).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.unwrap();
    let mut data: Vec<&str> = text
        .split_terminator("\n\n")
        .map(|event| event.strip_prefix("data: ").expect("an event has data"))
        .collect();
    assert_eq!(data.pop(), Some("[DONE]"));
    data.iter().map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_the_whole() {
    let server = planning().await;
    let whole = server
        .ask("/v1/chat/completions", completion(json!({"logprobs": true, "top_logprobs": 2})))
        .await;
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    assert_eq!(whole["usage"]["completion_tokens"], 10);
    let streamed = json!({
        "stream": true, "stream_options": {"include_usage": true}, "logprobs": true, "top_logprobs": 2
    });
    let chunks = events(&server, completion(streamed)).await;
    let deltas = |key: &str| -> Vec<&Value> {
        chunks.iter().map(|chunk| &chunk["choices"][0][key]).filter(|v| !v.is_null()).collect()
    };
    let text: String =
        deltas("delta").iter().filter_map(|delta| delta["content"].as_str()).collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"].as_str().unwrap());
    assert_eq!(deltas("delta")[0]["role"], "assistant");
    assert_eq!(deltas("finish_reason"), [&json!("length")]);
    assert_eq!(deltas("logprobs"), [&whole["choices"][0]["logprobs"]]);
    let last = chunks.last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
    // Usage comes only if asked for.
    let plain = events(&server, completion(json!({"stream": true}))).await;
    assert!(plain.iter().all(|chunk| chunk["usage"].is_null()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_is_kept_to() {
    let server = planning().await;
    let wanted = json!({
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "capital": {"type": "boolean"}},
        "required": ["city", "capital"],
        "additionalProperties": false
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": wanted}});
    let body = completion(json!({
        "response_format": format, "max_completion_tokens": 200, "temperature": 1.5, "seed": 4
    }));
    let reply = server.ask("/v1/chat/completions", body.clone()).await;
    let text = reply["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(schema::validate(&wanted, text).map(drop), Ok(()), "{text}");
    let again = server.ask("/v1/chat/completions", body).await;
    assert_eq!(again["choices"], reply["choices"], "the seed decides");
    let parts = json!([
        {"type": "text", "text": "Question: What is "}, {"type": "text", "text": "12% of 350?"}
    ]);
    let parts = json!({"messages": [{"role": "user", "content": parts}]});
    let (whole, parts) = (
        server.ask("/v1/chat/completions", completion(json!({}))).await,
        server.ask("/v1/chat/completions", completion(parts)).await,
    );
    assert_eq!(whole["choices"], parts["choices"]);
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    let stopped = completion(json!({"stop": &text[5..8]}));
    let stopped = server.ask("/v1/chat/completions", stopped).await;
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        stopped["choices"][0]["message"]["content"],
        text[..text.find(&text[5..8]).unwrap()]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_has_the_shape_of_openai() {
    let server = planning().await;
    let schemaless = json!({"response_format": {"type": "json_schema"}});
    let image = json!([{"type": "image_url", "image_url": {"url": "data:,"}}]);
    for (extra, status, kind, text) in [
        (json!({"model": "gpt-5"}), 404, "not_found_error", "model 'gpt-5' not found"),
        (json!({"messages": []}), 400, "invalid_request_error", "[] is too short - 'messages'"),
        (json!({"n": 2}), 400, "invalid_request_error", "`n` must be 1"),
        (json!({"top_p": 2}), 400, "invalid_request_error", "`top_p` is 2"),
        (schemaless, 400, "invalid_request_error", "needs an object"),
        (json!({"tools": [{}]}), 400, "invalid_request_error", "does not support tools"),
        (
            json!({"reasoning_effort": "high"}),
            400,
            "invalid_request_error",
            "does not support thinking",
        ),
        (
            json!({"messages": [{"role": "user", "content": image}]}),
            400,
            "invalid_request_error",
            "does not support images",
        ),
        (json!({"stream": true, "stop": 7}), 400, "invalid_request_error", "`stop` must be"),
    ] {
        let (found, body) = server.refused("/v1/chat/completions", completion(extra)).await;
        let error = &body["error"];
        assert_eq!((found, &error["type"]), (status, &json!(kind)), "{body}");
        assert!(error["message"].as_str().unwrap().contains(text), "{body}");
        assert!(error["param"].is_null() && error["code"].is_null());
    }
    let (status, body) = server.refused("/v1/responses", json!({})).await;
    assert_eq!((status, body["error"]["message"].is_string()), (404, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn models_and_embeddings() {
    let server = planning().await;
    let models = server.get("/v1/models").await;
    assert_eq!(
        (&models["object"], &models["data"][0]["id"]),
        (&json!("list"), &json!("tiny-planner:latest"))
    );
    assert_eq!(server.get("/v1/models/tiny-planner").await["id"], MODEL);
    let body = json!({"model": MODEL, "input": ["two cats"], "encoding_format": "float"});
    let floats = server.ask("/v1/embeddings", body.clone()).await;
    let mut base64 = body.clone();
    base64["encoding_format"] = json!("base64");
    let base64 = server.ask("/v1/embeddings", base64).await;
    let text = base64["data"][0]["embedding"].as_str().unwrap();
    use base64::Engine;
    let bytes = base64::prelude::BASE64_STANDARD.decode(text).unwrap();
    let read: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let floats: Vec<f32> = serde_json::from_value(floats["data"][0]["embedding"].clone()).unwrap();
    assert_eq!(read, floats);
}
