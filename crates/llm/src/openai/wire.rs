//! `POST /chat/completions` on the wire: what is sent, what may be left out, and how a reply is put together.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::OpenAiConfig;
use crate::{
    chat::{ChatReply, ChatRequest, Finish, Message, Role, Usage},
    events::Emitter,
    schema,
    think_tags::{Piece, ThinkTags},
};

/// What some servers refuse, and the reply survives without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    ResponseFormat,
    ReasoningEffort,
    ChatTemplateKwargs,
    TopK,
    MinP,
    Seed,
    Logprobs,
    /// OpenAI's newer models want `max_completion_tokens` in its place.
    MaxTokens,
    Temperature,
    TopP,
    StreamOptions,
}

impl Field {
    const ALL: [Self; 11] = [
        Self::ResponseFormat,
        Self::ReasoningEffort,
        Self::ChatTemplateKwargs,
        Self::TopK,
        Self::MinP,
        Self::Seed,
        Self::Logprobs,
        Self::MaxTokens,
        Self::Temperature,
        Self::TopP,
        Self::StreamOptions,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ResponseFormat => "response_format",
            Self::ReasoningEffort => "reasoning_effort",
            Self::ChatTemplateKwargs => "chat_template_kwargs",
            Self::TopK => "top_k",
            Self::MinP => "min_p",
            Self::Seed => "seed",
            Self::Logprobs => "logprobs",
            Self::MaxTokens => "max_tokens",
            Self::Temperature => "temperature",
            Self::TopP => "top_p",
            Self::StreamOptions => "stream_options",
        }
    }

    /// The field of `body` that the server complains about in `text`.
    pub(super) fn named_in(text: &str, body: &Value) -> Option<Self> {
        let lower = text.to_lowercase();
        Self::ALL.into_iter().find(|field| {
            let also: &[&str] = match field {
                Self::ResponseFormat => &["json_schema", "structured output", "guided"],
                Self::ReasoningEffort => &["reasoning.effort"],
                Self::ChatTemplateKwargs => &["enable_thinking"],
                _ => &[],
            };
            body.get(field.name()).is_some()
                && (lower.contains(field.name()) || also.iter().any(|word| lower.contains(word)))
        })
    }

    /// What leaving it out means, and what to do.
    pub(super) fn notice(self, model: &str) -> String {
        let name = self.name();
        let meaning = match self {
            Self::ResponseFormat => {
                "so only the prompt asks for JSON; use a server with structured output where replies break the schema"
            }
            Self::ReasoningEffort | Self::ChatTemplateKwargs => {
                "so thinking is up to the server; use Ollama's native API to control it"
            }
            Self::Seed => "so replies cannot be repeated; record them to replay a run",
            Self::Logprobs => {
                "so no log-probabilities come back; use a server that has them for training"
            }
            Self::MaxTokens => "so `max_completion_tokens` takes its place; nothing needs doing",
            Self::StreamOptions => {
                "so streamed replies do not count their tokens; ask in one piece to count"
            }
            Self::TopK | Self::MinP | Self::Temperature | Self::TopP => {
                "so its own value holds; leave it out of the sampling settings"
            }
        };
        format!("The server of `{model}` does not take `{name}`, {meaning}.")
    }
}

/// Body of a request, without the fields in `refused`.
pub(super) fn body(
    config: &OpenAiConfig,
    request: &ChatRequest,
    stream: bool,
    refused: &BTreeSet<Field>,
) -> Value {
    let sampling = &request.sampling;
    let mut body = json!({"model": config.model, "stream": stream});
    let mut set = |field: Field, value: Value| {
        if !refused.contains(&field) {
            body[field.name()] = value;
        }
    };
    set(Field::Temperature, json!(sampling.temperature));
    set(Field::TopP, json!(sampling.top_p));
    set(Field::MaxTokens, json!(request.max_tokens));
    if let Some(top_k) = sampling.top_k {
        set(Field::TopK, json!(top_k));
    }
    if sampling.min_p > 0.0 {
        set(Field::MinP, json!(sampling.min_p));
    }
    if let Some(seed) = sampling.wire_seed() {
        set(Field::Seed, json!(seed));
    }
    if config.logprobs {
        set(Field::Logprobs, json!(true));
    }
    if stream {
        set(Field::StreamOptions, json!({"include_usage": true}));
    }
    // Hosted models and Ollama's `/v1` read the first, vLLM, SGLang and llama.cpp the second.
    if !request.think {
        set(Field::ReasoningEffort, json!("none"));
    }
    set(Field::ChatTemplateKwargs, json!({"enable_thinking": request.think}));
    if let Some(schema) = &request.schema {
        set(Field::ResponseFormat, response_format(schema));
    }
    if refused.contains(&Field::MaxTokens) {
        body["max_completion_tokens"] = json!(request.max_tokens);
    }
    if !request.stop.is_empty() {
        body["stop"] = json!(request.stop);
    }
    let only_prompt = refused.contains(&Field::ResponseFormat);
    let asked_in_prompt = request.schema.as_ref().filter(|_| only_prompt);
    body["messages"] = messages(&request.messages, asked_in_prompt);
    body
}

fn response_format(schema: &Value) -> Value {
    let strict = schema::strict(schema);
    json!({"type": "json_schema", "json_schema": {
        "name": "reply",
        "strict": strict.is_some(),
        "schema": strict.as_ref().unwrap_or(schema),
    }})
}

/// The conversation; the schema is asked for in its last message where the server cannot enforce it.
fn messages(messages: &[Message], schema: Option<&Value>) -> Value {
    let last = messages.len().saturating_sub(1);
    messages
        .iter()
        .enumerate()
        .map(|(index, message)| {
            let mut content = message.content.clone();
            if let Some(schema) = schema.filter(|_| index == last) {
                content.push_str(&format!(
                    "\n\nReply with one JSON object and nothing else, in the form of this JSON schema:\n{schema}"
                ));
            }
            // A `tool` message must answer a native tool call, and there are none here.
            let role = if message.role == Role::Tool { Role::User } else { message.role };
            json!({"role": role, "content": content})
        })
        .collect()
}

/// The JSON inside a Markdown code block, which models without a grammar like to write.
pub(super) fn unfenced(text: &str) -> &str {
    let trimmed = text.trim();
    let inner = trimmed.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    match inner.and_then(|inner| inner.split_once('\n')) {
        Some((_language, json)) => json.trim(),
        None => trimmed,
    }
}

/// The message in the body of an error, whose form differs from server to server.
pub(super) fn failure_text(body: &str) -> String {
    let found = serde_json::from_str::<Value>(body).ok().and_then(|value| {
        let error = value.get("error").unwrap_or(&value);
        let text = error.get("message").or_else(|| error.get("detail")).unwrap_or(error);
        Some(text.as_str().map_or_else(|| text.to_string(), str::to_owned))
            .filter(|t| !t.is_empty())
    });
    let text = found.unwrap_or_else(|| body.trim().to_owned());
    if text.is_empty() { "no reason given".to_owned() } else { text }
}

/// A piece of a streamed reply (`delta`), or the whole of another (`message`).
#[derive(Deserialize)]
pub(super) struct Chunk {
    pub(super) error: Option<Value>,
    pub(super) choices: Option<Vec<Choice>>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
pub(super) struct Choice {
    #[serde(alias = "message")]
    delta: Option<Delta>,
    finish_reason: Option<String>,
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    /// DeepSeek, llama.cpp, SGLang.
    reasoning_content: Option<String>,
    /// vLLM, Ollama, OpenRouter.
    reasoning: Option<String>,
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct Logprobs {
    content: Option<Vec<TokenLogprob>>,
}

#[derive(Deserialize)]
struct TokenLogprob {
    logprob: f32,
}

#[derive(Deserialize)]
struct WireUsage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// A reply in the making.
#[derive(Default)]
pub(super) struct Assembly {
    tags: ThinkTags,
    pub(super) text: String,
    thinking: String,
    logprobs: Vec<f32>,
    usage: Usage,
    finish: Option<Finish>,
    refused: bool,
    warnings: Vec<String>,
}

impl Assembly {
    pub(super) fn push(&mut self, chunk: Chunk, emitter: &mut Emitter) {
        if let Some(usage) = chunk.usage {
            self.usage = Usage {
                prompt_tokens: usage.prompt_tokens,
                completion_tokens: usage.completion_tokens,
            };
        }
        // The chunk with the usage has no choice; we never ask for more than one.
        let Some(choice) = chunk.choices.into_iter().flatten().next() else { return };
        if let Some(delta) = choice.delta {
            // Some servers send both names with the same text.
            if let Some(thinking) = delta.reasoning_content.or(delta.reasoning) {
                self.add(Piece::Thinking(thinking), emitter);
            }
            self.refused |= delta.refusal.as_ref().is_some_and(|text| !text.is_empty());
            for text in [delta.content, delta.refusal].into_iter().flatten() {
                for piece in self.tags.push(&text) {
                    self.add(piece, emitter);
                }
            }
        }
        let logprobs = choice.logprobs.and_then(|logprobs| logprobs.content).unwrap_or_default();
        self.logprobs.extend(logprobs.iter().map(|token| token.logprob));
        if let Some(reason) = choice.finish_reason {
            if let Some(piece) = std::mem::take(&mut self.tags).finish() {
                self.add(piece, emitter);
            }
            if reason == "content_filter" {
                self.refused = true;
                self.warnings.push(
                    "The server's content filter cut the reply; rephrase the question, or use another server."
                        .to_owned(),
                );
            }
            self.finish = Some(if reason == "length" { Finish::Length } else { Finish::Stop });
        }
    }

    /// The server said that it is done; some leave the reason out.
    pub(super) fn end(&mut self) {
        self.finish.get_or_insert(Finish::Stop);
    }

    fn add(&mut self, piece: Piece, emitter: &mut Emitter) {
        match piece {
            Piece::Thinking(text) => {
                emitter.thinking(&text);
                self.thinking.push_str(&text);
            }
            Piece::Answer(text) => {
                emitter.text(&text);
                self.text.push_str(&text);
            }
        }
    }

    /// The reply, or `None` if it never ended.
    pub(super) fn finish(mut self) -> Option<ChatReply> {
        let finish = self.finish?;
        match self.tags.finish() {
            Some(Piece::Thinking(text)) => self.thinking.push_str(&text),
            Some(Piece::Answer(text)) => self.text.push_str(&text),
            None => {}
        }
        Some(ChatReply {
            text: self.text,
            thinking: (!self.thinking.is_empty()).then_some(self.thinking),
            finish: if self.refused { Finish::Refused } else { finish },
            usage: self.usage,
            token_ids: None,
            logprobs: (!self.logprobs.is_empty()).then_some(self.logprobs),
            warnings: self.warnings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_blocks_are_opened() {
        assert_eq!(unfenced("```json\n{\"a\": 1}\n```\n"), "{\"a\": 1}");
        assert_eq!(unfenced("```\n{}\n```"), "{}");
        assert_eq!(unfenced(" {} "), "{}");
        assert_eq!(unfenced("```json {}"), "```json {}");
    }

    #[test]
    fn a_complaint_names_a_field_that_was_sent() {
        let body = json!({"response_format": {}, "top_k": 1, "max_tokens": 5});
        let named = |text| Field::named_in(text, &body);
        assert_eq!(
            named("This response_format type is unavailable now"),
            Some(Field::ResponseFormat)
        );
        assert_eq!(named("Unrecognized request argument supplied: top_k"), Some(Field::TopK));
        assert_eq!(named("Unsupported parameter: 'max_tokens'"), Some(Field::MaxTokens));
        assert_eq!(named("Unsupported value: 'seed'"), None, "not sent");
        assert_eq!(named("bad request"), None);
    }

    #[test]
    fn messages_of_errors_are_found() {
        assert_eq!(failure_text(r#"{"error":{"message":"m","type":"t"}}"#), "m");
        assert_eq!(failure_text(r#"{"error":"m"}"#), "m");
        assert_eq!(failure_text(r#"{"detail":"m"}"#), "m");
        assert_eq!(failure_text("<html>"), "<html>");
        assert_eq!(failure_text(""), "no reason given");
    }
}
