//! `POST /v1/chat/completions`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agentflow_llm::{ChatRequest, Finish, Sampling, Usage};
use axum::Json;
use axum::body::{Body as HttpBody, Bytes};
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body;
use crate::error::{OpenAiError, ServeError};
use crate::model::{Card, ChatMessage, Conversation, Prompt, unsupported};
use crate::ollama::{logprobs, schema, think, top_logprobs};
use crate::options;
use crate::reply::{Ask, Event, Finished, Replying};
use crate::server::Shared;
use crate::tool_calls::{self, ToolCall};

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    model: String,
    #[serde(default)]
    messages: Vec<Turn>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<i64>,
    /// The newer name, which wins.
    max_completion_tokens: Option<i64>,
    seed: Option<i64>,
    stop: Option<Value>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    /// Not OpenAI's, but vLLM's and llama.cpp's.
    top_k: Option<i64>,
    min_p: Option<f64>,
    n: Option<u64>,
    response_format: Option<ResponseFormat>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    reasoning_effort: Option<String>,
    logprobs: Option<bool>,
    top_logprobs: Option<i64>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
    json_schema: Option<JsonSchema>,
}

#[derive(Deserialize)]
struct JsonSchema {
    schema: Option<Value>,
}

#[derive(Deserialize)]
struct Turn {
    role: String,
    content: Option<Value>,
    #[serde(alias = "reasoning_content")]
    reasoning: Option<String>,
    tool_calls: Option<Vec<Value>>,
    name: Option<String>,
}

/// What all parts of one answer say.
struct Answer {
    id: String,
    created: i64,
    model: String,
}

pub(crate) async fn chat(
    State(shared): State<Arc<Shared>>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, OpenAiError> {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let body: Body = body::read(bytes)?;
    let model = shared.model(&body.model)?;
    let answer = Answer {
        id: format!("chatcmpl-{}", COUNT.fetch_add(1, Ordering::Relaxed)),
        created: jiff::Timestamp::now().as_second(),
        model: body.model.clone(),
    };
    let stream = body.stream.unwrap_or(false);
    let with_usage = body.stream_options.as_ref().is_some_and(|options| options.include_usage);
    let ask = ask(body, model.card())?;
    let replying = Replying::start(&shared, model, ask).await?;
    if stream {
        return Ok(respond(replying, answer, with_usage).await?);
    }
    let finished = replying.finished().await?;
    Ok(Json(answer.whole(&finished)).into_response())
}

fn ask(body: Body, card: &Card) -> Result<Ask, ServeError> {
    let named = Card { name: body.model.clone(), ..card.clone() };
    if body.messages.is_empty() {
        return Err(ServeError::bad_request("[] is too short - 'messages'"));
    }
    if body.n.is_some_and(|n| n != 1) {
        return Err(ServeError::bad_request("`n` must be 1: ask again for another reply"));
    }
    let think = match body.reasoning_effort.as_deref() {
        None | Some("") => think(None, card, &body.model)?,
        Some("none") => false,
        Some("minimal" | "low" | "medium" | "high" | "xhigh" | "ultra" | "max") => {
            think(Some(&json!(true)), card, &body.model)?
        }
        Some(other) => {
            return Err(ServeError::bad_request(format!(
                "invalid reasoning value: {other:?} (must be \"minimal\", \"low\", \"medium\", \"high\", \
                 \"xhigh\", \"ultra\", \"max\", or \"none\")"
            )));
        }
    };
    let mut tools = body.tools.unwrap_or_default();
    if body.tool_choice.as_ref().is_some_and(|choice| choice == "none") {
        tools.clear();
    }
    if !tools.is_empty() && !card.calls_tools {
        return Err(unsupported(&named, "tools").into());
    }
    let messages: Result<Vec<_>, ServeError> =
        body.messages.into_iter().map(|t| turn(t, &named)).collect();
    let sampling = Sampling {
        temperature: body.temperature.unwrap_or(1.0),
        top_p: body.top_p.filter(|p| *p > 0.0).unwrap_or(1.0),
        top_k: body.top_k.and_then(|k| usize::try_from(k).ok()).filter(|k| *k > 0),
        min_p: body.min_p.unwrap_or(0.0),
        seed: body.seed.and_then(|seed| u64::try_from(seed).ok()),
    };
    Ok(Ask {
        prompt: Prompt::Chat(Conversation { messages: messages?, tools, think }),
        before: Vec::new(),
        request: ChatRequest {
            messages: Vec::new(),
            schema: format(body.response_format)?,
            think,
            sampling,
            max_tokens: 0,
            stop: stop(body.stop)?,
        },
        max_tokens: body.max_completion_tokens.or(body.max_tokens).and_then(options::at_most),
        num_ctx: None,
        logprobs: top_logprobs(body.logprobs, body.top_logprobs)?,
    })
}

fn format(wanted: Option<ResponseFormat>) -> Result<Option<Value>, ServeError> {
    let Some(ResponseFormat { kind, json_schema }) = wanted else { return Ok(None) };
    match kind.as_str() {
        "text" => Ok(None),
        "json_object" => schema(Some(&json!("json"))),
        "json_schema" => match json_schema.and_then(|format| format.schema) {
            Some(given @ Value::Object(_)) => schema(Some(&given)),
            _ => Err(ServeError::bad_request(
                "response_format of type json_schema needs an object under `json_schema.schema`",
            )),
        },
        other => Err(ServeError::bad_request(format!(
            "response_format has type {other:?}; use text, json_object or json_schema"
        ))),
    }
}

fn stop(value: Option<Value>) -> Result<Vec<String>, ServeError> {
    let wrong = || ServeError::bad_request("`stop` must be a text or an array of texts");
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text]),
        Some(texts) => serde_json::from_value(texts).map_err(|_| wrong()),
    }
}

fn turn(turn: Turn, card: &Card) -> Result<ChatMessage, ServeError> {
    let role = match turn.role.to_lowercase().as_str() {
        // What OpenAI calls instructions now.
        "developer" => "system".to_owned(),
        role => role.to_owned(),
    };
    let tool_calls = turn.tool_calls.unwrap_or_default().into_iter().map(called).collect();
    Ok(ChatMessage {
        role,
        content: content(turn.content, card)?,
        reasoning_content: turn.reasoning.filter(|thinking| !thinking.is_empty()),
        tool_calls,
        name: turn.name,
    })
}

/// A text, or parts of one.
fn content(value: Option<Value>, card: &Card) -> Result<String, ServeError> {
    match value {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => {
            let text = |part: &Value| match (part["type"].as_str(), part["text"].as_str()) {
                (Some("text"), Some(text)) => Ok(text.to_owned()),
                (Some("image_url"), _) => Err(unsupported(card, "images").into()),
                _ => Err(ServeError::bad_request("invalid message format")),
            };
            parts.iter().map(text).collect()
        }
        Some(_) => Err(ServeError::bad_request("invalid message format")),
    }
}

/// A call as templates read it: OpenAI has the arguments as text, templates want them as they are.
fn called(mut call: Value) -> Value {
    if let Some(text) = call["function"]["arguments"].as_str()
        && let Ok(arguments) = serde_json::from_str::<Value>(text)
    {
        call["function"]["arguments"] = arguments;
    }
    call
}

/// Server-sent events, the last of them `[DONE]`.
async fn respond(
    replying: Replying,
    answer: Answer,
    with_usage: bool,
) -> Result<Response, ServeError> {
    let mut is_first = true;
    let events = replying.begun().await?.map(move |event| {
        let chunks = match event {
            Ok(event) => answer.chunks(event, std::mem::take(&mut is_first), with_usage),
            Err(error) => vec![error.to_openai_json()],
        };
        let is_done = chunks.iter().any(|chunk| chunk["choices"][0]["finish_reason"].is_string());
        let mut text: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
        if is_done {
            text.push_str("data: [DONE]\n\n");
        }
        Ok::<_, Infallible>(Bytes::from(text))
    });
    Ok(([(CONTENT_TYPE, "text/event-stream")], HttpBody::from_stream(events)).into_response())
}

impl Answer {
    fn whole(&self, finished: &Finished) -> Value {
        let mut message = json!({"role": "assistant", "content": finished.text});
        if let Some(thinking) = &finished.thinking {
            message["reasoning"] = json!(thinking);
        }
        if !finished.calls.is_empty() {
            message["tool_calls"] = calls(&finished.calls);
        }
        let choice = json!({
            "index": 0,
            "message": message,
            "finish_reason": finish_reason(finished),
            "logprobs": logprobs_of(finished),
        });
        let mut whole = self.object("chat.completion", vec![choice]);
        whole["usage"] = usage(finished.usage);
        whole
    }

    fn chunks(&self, event: Event, is_first: bool, with_usage: bool) -> Vec<Value> {
        let chunk = |delta: Value| self.chunk(delta, Value::Null, Value::Null);
        let mut chunks = Vec::new();
        if is_first {
            chunks.push(chunk(json!({"role": "assistant", "content": ""})));
        }
        match event {
            Event::Thinking(piece) => chunks.push(chunk(json!({"reasoning": piece}))),
            Event::Text(piece) => chunks.push(chunk(json!({"content": piece}))),
            Event::Done(finished) => {
                if !finished.calls.is_empty() {
                    chunks.push(chunk(json!({"tool_calls": calls(&finished.calls)})));
                }
                let logprobs = logprobs_of(&finished);
                if !logprobs.is_null() {
                    chunks.push(self.chunk(json!({"content": ""}), Value::Null, logprobs));
                }
                let reason = json!(finish_reason(&finished));
                chunks.push(self.chunk(json!({}), reason, Value::Null));
                if with_usage {
                    let mut last = self.object("chat.completion.chunk", Vec::new());
                    last["usage"] = usage(finished.usage);
                    chunks.push(last);
                }
            }
        }
        chunks
    }

    fn chunk(&self, delta: Value, finish_reason: Value, logprobs: Value) -> Value {
        let choice = json!({
            "index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": logprobs
        });
        self.object("chat.completion.chunk", vec![choice])
    }

    fn object(&self, object: &str, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": concat!("fp_agentflow_", env!("CARGO_PKG_VERSION")),
            "choices": choices,
        })
    }
}

fn finish_reason(finished: &Finished) -> &'static str {
    match finished.finish {
        Finish::Stop if !finished.calls.is_empty() => "tool_calls",
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Refused => "content_filter",
    }
}

fn logprobs_of(finished: &Finished) -> Value {
    match finished.logprobs.as_slice() {
        [] => Value::Null,
        tokens => json!({"content": logprobs(tokens)}),
    }
}

fn calls(calls: &[ToolCall]) -> Value {
    let call = |(index, call): (usize, &ToolCall)| {
        let arguments = Value::from(call.arguments.clone()).to_string();
        json!({
            "id": tool_calls::id(),
            "index": index,
            "type": "function",
            "function": {"name": call.name, "arguments": arguments},
        })
    };
    calls.iter().enumerate().map(call).collect()
}

fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    })
}
