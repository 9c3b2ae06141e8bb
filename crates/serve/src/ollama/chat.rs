//! `POST /api/chat`.

use std::sync::Arc;

use agentflow_llm::ChatRequest;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::lines;
use super::wire::{Logprob, Metrics, done_reason, logprobs, now, schema, think, top_logprobs};
use crate::body;
use crate::error::ServeError;
use crate::model::{Card, ChatMessage, Conversation, Prompt, unsupported};
use crate::options;
use crate::reply::{Ask, Event, Finished, Replying};
use crate::server::Shared;
use crate::tool_calls::ToolCall;

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    model: String,
    #[serde(default)]
    messages: Option<Vec<Turn>>,
    stream: Option<bool>,
    format: Option<Value>,
    tools: Option<Vec<Value>>,
    #[serde(default)]
    options: Option<Map<String, Value>>,
    think: Option<Value>,
    logprobs: Option<bool>,
    top_logprobs: Option<i64>,
}

#[derive(Deserialize)]
struct Turn {
    role: String,
    content: Option<String>,
    thinking: Option<String>,
    images: Option<Vec<Value>>,
    tool_calls: Option<Vec<Value>>,
    tool_name: Option<String>,
}

/// A line of a streamed reply, or the whole of another.
#[derive(Serialize)]
struct Line<'a> {
    model: &'a str,
    created_at: String,
    message: Message,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logprobs: Vec<Logprob>,
    #[serde(flatten)]
    metrics: Metrics,
}

#[derive(Default, Serialize)]
struct Message {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    thinking: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
}

pub(crate) async fn chat(
    State(shared): State<Arc<Shared>>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ServeError> {
    let body: Body = body::read(bytes)?;
    if body.model.is_empty() {
        return Err(ServeError::bad_request("model is required"));
    }
    let model = shared.model(&body.model)?;
    let (name, stream) = (body.model.clone(), body.stream.unwrap_or(true));
    let Some(ask) = ask(body, model.card())? else {
        // Nothing said: the client wants the model loaded, and it is.
        let message = message("", "");
        let line = Line { done_reason: Some("load"), done: true, ..Line::new(&name, message) };
        return Ok(Json(line).into_response());
    };
    let replying = Replying::start(&shared, model, ask).await?;
    if stream {
        return lines::respond(replying, move |event| match event {
            Event::Thinking(piece) => lines::json(&Line::new(&name, message("", &piece))),
            Event::Text(piece) => lines::json(&Line::new(&name, message(&piece, ""))),
            Event::Done(finished) => lines::json(&Line::last(&name, message("", ""), &finished)),
        })
        .await;
    }
    let finished = replying.finished().await?;
    let message = message(&finished.text, finished.thinking.as_deref().unwrap_or_default());
    Ok(Json(Line::last(&name, message, &finished)).into_response())
}

/// What a body asks for; `None` if it says nothing.
fn ask(body: Body, card: &Card) -> Result<Option<Ask>, ServeError> {
    let named = Card { name: body.model.clone(), ..card.clone() };
    let options = options::read(&body.options.unwrap_or_default())?;
    let think = think(body.think.as_ref(), card, &body.model)?;
    let tools = body.tools.unwrap_or_default();
    if !tools.is_empty() && !card.calls_tools {
        return Err(unsupported(&named, "tools").into());
    }
    let schema = schema(body.format.as_ref())?;
    let logprobs = top_logprobs(body.logprobs, body.top_logprobs)?;
    let turns = body.messages.unwrap_or_default();
    if turns.is_empty() {
        return Ok(None);
    }
    let messages: Result<Vec<_>, ServeError> = turns.into_iter().map(|t| turn(t, &named)).collect();
    Ok(Some(Ask {
        prompt: Prompt::Chat(Conversation { messages: messages?, tools, think }),
        before: Vec::new(),
        request: ChatRequest {
            messages: Vec::new(),
            schema,
            think,
            sampling: options.sampling,
            max_tokens: 0,
            stop: options.stop,
        },
        max_tokens: options.max_tokens,
        num_ctx: options.num_ctx,
        logprobs,
    }))
}

fn turn(turn: Turn, card: &Card) -> Result<ChatMessage, ServeError> {
    if turn.images.is_some_and(|images| !images.is_empty()) {
        return Err(unsupported(card, "images").into());
    }
    Ok(ChatMessage {
        role: turn.role.to_lowercase(),
        content: turn.content.unwrap_or_default(),
        reasoning_content: turn.thinking.filter(|thinking| !thinking.is_empty()),
        tool_calls: turn.tool_calls.unwrap_or_default(),
        name: turn.tool_name.filter(|name| !name.is_empty()),
    })
}

fn message(content: &str, thinking: &str) -> Message {
    Message {
        role: "assistant",
        content: content.to_owned(),
        thinking: thinking.to_owned(),
        tool_calls: Vec::new(),
    }
}

impl<'a> Line<'a> {
    fn new(model: &'a str, message: Message) -> Self {
        Self {
            model,
            created_at: now(),
            message,
            done: false,
            done_reason: None,
            logprobs: Vec::new(),
            metrics: Metrics::default(),
        }
    }

    fn last(model: &'a str, message: Message, finished: &Finished) -> Self {
        let tool_calls = finished.calls.iter().enumerate().map(call).collect();
        Self {
            message: Message { tool_calls, ..message },
            done: true,
            done_reason: Some(done_reason(finished.finish)),
            logprobs: logprobs(&finished.logprobs),
            metrics: finished.into(),
            ..Self::new(model, Message::default())
        }
    }
}

fn call((index, call): (usize, &ToolCall)) -> Value {
    let ToolCall { name, arguments } = call;
    let id = crate::tool_calls::id();
    json!({"id": id, "function": {"index": index, "name": name, "arguments": arguments}})
}
