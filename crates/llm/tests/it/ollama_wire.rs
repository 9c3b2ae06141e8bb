//! Every recorded exchange of Ollama's API that we take part in: what we send has its fields and values, what we
//! read is what it says.

use std::collections::HashMap;

use agentflow_llm::{
    Break, ChatError, ChatEvent, ChatModel, ChatReply, ChatRequest, Finish, Message, Ollama,
    OllamaConfig, Sampling, Usage, ollama::SchemaForm, schema,
};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::server::{Answer, Server, config};

/// The recorded exchange called `name`.
fn recorded(name: &str) -> Value {
    include_str!("../wire/ollama_wire.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"))
        .find(|pair| pair["name"] == name)
        .unwrap_or_else(|| panic!("no exchange `{name}`"))
}

/// A server that answers the recorded request with the recorded response, `chunk` bytes at a time.
async fn server(pair: &Value, chunk: usize) -> Server {
    let pair = pair.clone();
    Server::start(move |asked, _| {
        if asked.path != pair["request"]["path"] {
            return Answer::new(404, "404 page not found");
        }
        let response = &pair["response"];
        let status = response["status"].as_u64().unwrap().try_into().unwrap();
        let answer = match response["ndjson"].as_array() {
            Some(lines) => Answer::lines(lines),
            None => Answer::json(status, &response["body"]),
        };
        let kind = response["headers"]["content-type"].as_str().unwrap();
        answer.header("content-type", kind).in_chunks_of(chunk)
    })
    .await
}

/// Our request with the values of the recorded one.
fn ours(pair: &Value) -> ChatRequest {
    let body = &pair["request"]["body"];
    let options = &body["options"];
    let messages = body["messages"].as_array().unwrap();
    ChatRequest {
        messages: messages.iter().map(|m| serde_json::from_value(m.clone()).unwrap()).collect(),
        schema: body.get("format").filter(|format| format.is_object()).cloned(),
        think: body["think"].as_bool().unwrap_or(false),
        sampling: Sampling {
            temperature: options["temperature"].as_f64().unwrap_or(0.0),
            top_p: options["top_p"].as_f64().unwrap_or(1.0),
            top_k: options["top_k"].as_u64().map(|k| k as usize),
            min_p: options["min_p"].as_f64().unwrap_or(0.0),
            seed: options["seed"].as_u64(),
        },
        max_tokens: options["num_predict"].as_u64().unwrap_or(256) as u32,
        stop: serde_json::from_value(options["stop"].clone()).unwrap_or_default(),
    }
}

fn ollama_for(server: &Server, pair: &Value) -> Ollama {
    Ollama::new(OllamaConfig {
        model: pair["request"]["body"]["model"].as_str().unwrap().to_owned(),
        schema_form: SchemaForm::Plain,
        ..config(&server.url)
    })
    .unwrap()
}

/// Every field of `wanted` is in `sent`, with its value; `0` and `0.0` are the same on this wire.
fn assert_sent(wanted: &Value, sent: &Value, path: &str) {
    match (wanted, sent) {
        (Value::Object(wanted), Value::Object(sent)) => {
            for (key, value) in wanted {
                let sent = sent.get(key).unwrap_or_else(|| panic!("`{path}.{key}` was not sent"));
                assert_sent(value, sent, &format!("{path}.{key}"));
            }
        }
        (Value::Number(wanted), Value::Number(sent)) => {
            assert_eq!(wanted.as_f64(), sent.as_f64(), "{path}");
        }
        _ => assert_eq!(wanted, sent, "{path}"),
    }
}

/// Asks in one piece, checks what was sent, returns what was read.
async fn exchange(name: &str) -> Result<ChatReply, ChatError> {
    let pair = recorded(name);
    let server = server(&pair, 1 << 20).await;
    let reply = ollama_for(&server, &pair).chat(&ours(&pair)).await;
    let sent = &server.chats_asked()[0];
    assert_sent(&sendable(&pair), sent, name);
    assert_eq!(sent["stream"], false);
    reply
}

/// The recorded request without what we never send.
fn sendable(pair: &Value) -> Value {
    let mut body = pair["request"]["body"].clone();
    body.as_object_mut().unwrap().remove("tools");
    body.as_object_mut().unwrap().retain(|key, value| key != "format" || value.is_object());
    body
}

/// Asks for a stream, with the response cut into chunks of every size; all must read the same.
async fn stream_exchange(name: &str) -> Vec<Result<ChatEvent, ChatError>> {
    let pair = recorded(name);
    let mut all = Vec::new();
    for chunk in [1, 2, 7, 64, 1 << 20] {
        let server = server(&pair, chunk).await;
        let ollama = ollama_for(&server, &pair);
        all.push(ollama.stream(ours(&pair)).collect::<Vec<_>>().await);
        let sent = &server.chats_asked()[0];
        assert_sent(&sendable(&pair), sent, name);
        assert_eq!(sent["stream"], true);
    }
    assert!(all.iter().all(|events| *events == all[0]), "{name}: {all:#?}");
    all.swap_remove(0)
}

fn reply(
    text: &str,
    thinking: Option<&str>,
    prompt_tokens: u64,
    completion_tokens: u64,
) -> ChatReply {
    ChatReply {
        text: text.to_owned(),
        thinking: thinking.map(str::to_owned),
        finish: Finish::Stop,
        usage: Usage { prompt_tokens, completion_tokens },
        token_ids: None,
        logprobs: None,
        warnings: vec![],
    }
}

fn text(piece: &str) -> Result<ChatEvent, ChatError> {
    Ok(ChatEvent::Text(piece.to_owned()))
}

fn thinking(piece: &str) -> Result<ChatEvent, ChatError> {
    Ok(ChatEvent::Thinking(piece.to_owned()))
}

#[tokio::test]
async fn chat_nonstream_schema_think_false() {
    let read = exchange("chat_nonstream_schema_think_false").await.unwrap();
    let json = r#"{"thought": "36 is 15% of 240; doubled it is 72.", "action": "answer", "action_input": "72"}"#;
    assert_eq!(read, reply(json, None, 188, 39));
}

/// This recorded request has every field that we send: ours is that request, no more and no less.
#[tokio::test]
async fn the_full_request_is_sent_field_for_field() {
    let pair = recorded("chat_nonstream_schema_think_false");
    let wanted = &pair["request"]["body"];
    for form in [SchemaForm::Plain, SchemaForm::AllOf] {
        let server = server(&pair, 1 << 20).await;
        let ollama =
            Ollama::new(OllamaConfig { schema_form: form, ..config(&server.url) }).unwrap();
        ollama.chat(&ours(&pair)).await.unwrap();
        let asked = &server.asked("/api/chat")[0];
        assert_eq!(asked.method, "POST");
        let mut wanted = wanted.clone();
        if form == SchemaForm::AllOf {
            wanted["format"] = schema::in_order(&wanted["format"]);
            assert_eq!(wanted["format"]["allOf"][0]["required"], json!(["thought"]));
        }
        assert_sent(&wanted, &asked.body, "wanted");
        assert_sent(&asked.body, &wanted, "sent");
        assert_eq!(asked.body["format"].to_string(), wanted["format"].to_string(), "order of keys");
    }
}

#[tokio::test]
async fn chat_stream_plain() {
    let events = stream_exchange("chat_stream_plain").await;
    let done = Ok(ChatEvent::Done(reply("Hi there!", None, 14, 4)));
    assert_eq!(events, [text("Hi"), text(" there"), text("!"), done]);
}

#[tokio::test]
async fn chat_stream_thinking() {
    let events = stream_exchange("chat_stream_thinking").await;
    let done = reply("No, 91 = 7 x 13.", Some("91 is 7 times 13."), 16, 31);
    assert_eq!(
        events,
        [
            thinking("91 is"),
            thinking(" 7 times 13."),
            text("No"),
            text(", 91 = 7 x 13."),
            Ok(ChatEvent::Done(done))
        ]
    );
}

#[tokio::test]
async fn chat_stream_thinking_then_schema() {
    let events = stream_exchange("chat_stream_thinking_then_schema").await;
    let json = r#"{"reason": "72 matches", "sufficient": true}"#;
    let done = reply(json, Some("The tool printed 72, which answers it."), 233, 19);
    assert_eq!(events.last(), Some(&Ok(ChatEvent::Done(done))));
}

#[tokio::test]
async fn chat_truncated_json_length() {
    let error = exchange("chat_truncated_json_length").await.unwrap_err();
    let ChatError::SchemaViolated { violation, reply } = &error else { panic!("{error:?}") };
    assert_eq!(violation.to_string(), "it is JSON that was cut off");
    assert_eq!(reply.finish, Finish::Length);
    assert_eq!(reply.usage, Usage { prompt_tokens: 95, completion_tokens: 16 });
    assert!(!error.can_heal());
}

#[tokio::test]
async fn chat_tool_call() {
    let read = exchange("chat_tool_call").await.unwrap();
    assert_eq!(read.text, "");
    assert_eq!(read.warnings.len(), 1);
    assert!(read.warnings[0].contains("tool call, which was not asked for"), "{:?}", read.warnings);
}

#[tokio::test]
async fn err_model_missing() {
    let error = exchange("err_model_missing").await.unwrap_err();
    assert!(matches!(error, ChatError::ModelMissing { .. }));
    assert!(error.to_string().ends_with("get it with `ollama pull nosuch:1b`"), "{error}");
}

#[tokio::test]
async fn err_format_not_object() {
    let error = exchange("err_format_not_object").await.unwrap_err();
    assert!(matches!(error, ChatError::SchemaRejected { .. }), "{error:?}");
}

#[tokio::test]
async fn err_schema_rejected() {
    let pair = recorded("err_schema_rejected");
    let server = server(&pair, 1 << 20).await;
    // The recorded schema we refuse ourselves, before anything is sent ...
    let refused = ollama_for(&server, &pair).chat(&ours(&pair)).await.unwrap_err();
    assert!(refused.to_string().contains("at `d`, the pattern `\\d+` must begin"), "{refused}");
    assert!(server.chats_asked().is_empty());
    // ... and the server's own refusal is read.
    let plain = ChatRequest { schema: Some(json!({"type": "object"})), ..ours(&pair) };
    let error = ollama_for(&server, &pair).chat(&plain).await.unwrap_err();
    let ChatError::SchemaRejected { reason } = error else { panic!("{error:?}") };
    assert_eq!(
        reason,
        "\"json_schema\": JSON schema conversion failed: Pattern must start with '^' and end with '$'"
    );
}

#[tokio::test]
async fn err_schema_rejected_by_template() {
    let pair = recorded("err_schema_rejected_by_template");
    let server = server(&pair, 1 << 20).await;
    let plain = ChatRequest { schema: Some(json!({"type": "object"})), ..ours(&pair) };
    let error = ollama_for(&server, &pair).chat(&plain).await.unwrap_err();
    let ChatError::SchemaRejected { reason } = error else { panic!("{error:?}") };
    assert!(reason.ends_with("cannot resolve $ref #/$defs/no, $defs not found"), "{reason}");
}

#[tokio::test]
async fn err_prompt_too_long() {
    let error = exchange("err_prompt_too_long").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the prompt does not fit the context: request (3294 tokens) exceeds the available context size \
         (2048 tokens), try increasing it; raise `num_ctx` or shorten the prompt"
    );
}

#[tokio::test]
async fn err_busy() {
    let error = exchange("err_busy").await.unwrap_err();
    assert!(matches!(error, ChatError::Overloaded { .. }));
    assert!(error.can_heal());
}

#[tokio::test]
async fn err_midstream() {
    let events = stream_exchange("err_midstream").await;
    let how = Break::ServerError {
        text: "an error was encountered while running the model: CUDA error: out of memory"
            .to_owned(),
    };
    let broken = Err(ChatError::BrokenStream { how, text: "1, 2".to_owned() });
    assert_eq!(events, [text("1"), text(", 2"), broken]);
}

#[tokio::test]
async fn tags_and_show() {
    let pairs: HashMap<_, _> =
        ["tags", "show"].map(|name| (format!("/api/{name}"), recorded(name))).into();
    let server = Server::start(move |asked, _| match pairs.get(&asked.path) {
        Some(pair) => {
            assert_eq!(asked.method, pair["request"]["method"]);
            assert_eq!(asked.body, pair["request"]["body"]);
            Answer::json(200, &pair["response"]["body"])
        }
        None if asked.path == "/api/version" => Answer::json(200, &json!({"version": "0.33.0"})),
        None => Answer::new(404, "404 page not found"),
    })
    .await;
    let connected = Ollama::connect(config(&server.url)).await.unwrap();
    let digest = "500a1f067a9f782620b40bee6f7b0c89e17ae61f686b92c24933e4ca4b2b8b41";
    assert_eq!(connected.info().digest.as_deref(), Some(digest));
    assert_eq!(connected.version().await.unwrap(), "0.33.0");
    let models = connected.models().await.unwrap();
    assert_eq!((models[0].name.as_str(), models[0].size), ("qwen3:8b", 5_225_388_164));
    let show = connected.show("qwen3:8b").await.unwrap();
    assert!(show.can_think());
    assert_eq!(show.trained_context(), Some(40_960));
    assert!(show.parameters.contains("top_k"));

    let missing = OllamaConfig { model: "llama3".into(), ..config(&server.url) };
    assert_eq!(
        Ollama::connect(missing).await.unwrap_err().to_string(),
        format!(
            "model `llama3` is not on Ollama at `{}`; get it with `ollama pull llama3`, or use one that is there: \
             `qwen3:8b`",
            server.url
        )
    );
    let probe = agentflow_llm::ollama::probe(&server.url.parse().unwrap()).await.unwrap();
    assert!(probe.has("qwen3:8b") && !probe.has("qwen3"));
}

/// Planner, verifier and memory differ in everything but the options that reload a model.
#[tokio::test]
async fn load_time_options_are_the_same_on_every_call() {
    let server = Server::chats(vec![|| Answer::json(200, &crate::server::whole("{}"))]).await;
    let ollama = Ollama::new(OllamaConfig {
        num_ctx: 4096,
        num_batch: Some(256),
        num_gpu: Some(-1),
        num_thread: Some(2),
        shift: Some(false),
        keep_alive: "300".into(),
        ..config(&server.url)
    })
    .unwrap();
    let mut second = crate::server::request("another");
    second.schema = Some(json!({"type": "object"}));
    second.think = true;
    second.sampling.seed = Some(3);
    second.messages.insert(0, Message::system("Verify."));
    ollama.warm_up().await.unwrap();
    ollama.chat(&crate::server::request("one")).await.unwrap();
    ollama.chat(&second).await.unwrap();
    let sent = server.chats_asked();
    assert_eq!(sent.len(), 3);
    for body in sent {
        let load = ["num_ctx", "num_batch", "num_gpu", "num_thread"]
            .map(|key| body["options"][key].clone());
        assert_eq!(json!(load), json!([4096, 256, -1, 2]));
        assert_eq!(body["shift"], false);
        assert_eq!(body["keep_alive"], 300, "seconds are a number");
        assert!(body["think"].is_boolean(), "left out, it means on");
    }
}
