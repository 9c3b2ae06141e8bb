//! `POST /api/generate`: one prompt, in the chat template or raw.

use std::sync::Arc;

use agentflow_llm::ChatRequest;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::lines;
use super::wire::{Logprob, Metrics, done_reason, logprobs, now, schema, think, top_logprobs};
use crate::body;
use crate::error::ServeError;
use crate::model::{Card, ChatMessage, Conversation, Prompt, unsupported};
use crate::options;
use crate::reply::{Ask, Event, Finished, Replying};
use crate::server::Shared;

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    model: String,
    #[serde(default)]
    prompt: Option<String>,
    suffix: Option<String>,
    system: Option<String>,
    template: Option<String>,
    context: Option<Vec<u32>>,
    #[serde(default)]
    raw: Option<bool>,
    images: Option<Vec<Value>>,
    stream: Option<bool>,
    format: Option<Value>,
    options: Option<Map<String, Value>>,
    think: Option<Value>,
    logprobs: Option<bool>,
    top_logprobs: Option<i64>,
}

/// A line of a streamed reply, or the whole of another.
#[derive(Serialize)]
struct Line<'a> {
    model: &'a str,
    created_at: String,
    response: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    thinking: &'a str,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a [u32]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logprobs: Vec<Logprob>,
    #[serde(flatten)]
    metrics: Metrics,
}

pub(crate) async fn generate(
    State(shared): State<Arc<Shared>>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ServeError> {
    let body: Body = body::read(bytes)?;
    let model = shared.model(&body.model)?;
    let (name, stream) = (body.model.clone(), body.stream.unwrap_or(true));
    let is_raw = body.raw.unwrap_or(false);
    let Some(ask) = ask(body, model.card())? else {
        // Nothing said: the client wants the model loaded, and it is.
        let line = Line { done_reason: Some("load"), done: true, ..Line::new(&name, "", "") };
        return Ok(Json(line).into_response());
    };
    let replying = Replying::start(&shared, model, ask).await?;
    if stream {
        return lines::respond(replying, move |event| match event {
            Event::Thinking(piece) => lines::json(&Line::new(&name, "", &piece)),
            Event::Text(piece) => lines::json(&Line::new(&name, &piece, "")),
            Event::Done(finished) => {
                lines::json(&Line::new(&name, "", "").ending(&finished, is_raw))
            }
        })
        .await;
    }
    let finished = replying.finished().await?;
    let thinking = finished.thinking.as_deref().unwrap_or_default();
    let line = Line::new(&name, &finished.text, thinking);
    Ok(Json(line.ending(&finished, is_raw)).into_response())
}

/// What a body asks for; `None` if it says nothing.
fn ask(body: Body, card: &Card) -> Result<Option<Ask>, ServeError> {
    let named = Card { name: body.model.clone(), ..card.clone() };
    let is_there = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let is_raw = body.raw.unwrap_or(false);
    let before = body.context.unwrap_or_default();
    if is_raw && (is_there(&body.template) || is_there(&body.system) || !before.is_empty()) {
        let text = "raw mode does not support template, system, or context";
        return Err(ServeError::bad_request(text));
    }
    for (given, what) in [
        (is_there(&body.suffix), "insert"),
        (is_there(&body.template), "templates of requests"),
        (body.images.is_some_and(|images| !images.is_empty()), "images"),
    ] {
        if given {
            return Err(unsupported(&named, what).into());
        }
    }
    let options = options::read(&body.options.unwrap_or_default())?;
    // A raw prompt opens the thinking itself, or does not.
    let think = think(body.think.as_ref(), card, &body.model)? && !is_raw;
    let schema = schema(body.format.as_ref())?;
    let logprobs = top_logprobs(body.logprobs, body.top_logprobs)?;
    let Some(prompt) = body.prompt.filter(|prompt| !prompt.is_empty()) else { return Ok(None) };
    let prompt = if is_raw {
        Prompt::Raw(prompt)
    } else {
        let message = |role: &str, content: String| ChatMessage {
            role: role.to_owned(),
            content,
            ..ChatMessage::default()
        };
        let system = body.system.filter(|system| !system.is_empty());
        let system = system.map(|system| message("system", system));
        let messages = system.into_iter().chain([message("user", prompt)]).collect();
        Prompt::Chat(Conversation { messages, tools: Vec::new(), think })
    };
    Ok(Some(Ask {
        prompt,
        before,
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

impl<'a> Line<'a> {
    fn new(model: &'a str, response: &'a str, thinking: &'a str) -> Self {
        Self {
            model,
            created_at: now(),
            response,
            thinking,
            done: false,
            done_reason: None,
            context: None,
            logprobs: Vec::new(),
            metrics: Metrics::default(),
        }
    }

    fn ending(self, finished: &'a Finished, is_raw: bool) -> Self {
        Self {
            done: true,
            done_reason: Some(done_reason(finished.finish)),
            context: finished.tokens.as_deref().filter(|_| !is_raw),
            logprobs: logprobs(&finished.logprobs),
            metrics: finished.into(),
            ..self
        }
    }
}
