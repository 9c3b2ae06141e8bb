//! `POST /api/chat` on the wire: what is sent, and how a reply is put together from its lines.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{OllamaConfig, SchemaForm};
use crate::{
    chat::{ChatReply, ChatRequest, Finish, Message, Usage},
    events::Emitter,
    schema,
    think_tags::{Piece, ThinkTags},
};

/// Body of a request. What a server would otherwise choose by itself is always said: `think` left out means on,
/// `stream` too, `num_ctx` depends on the machine, sampling on the model's file.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    messages: &'a [Message],
    stream: bool,
    think: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Value>,
    keep_alive: &'a super::KeepAlive,
    #[serde(skip_serializing_if = "Option::is_none")]
    shift: Option<bool>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    logprobs: bool,
    options: Options<'a>,
}

#[derive(Serialize)]
struct Options<'a> {
    #[serde(flatten)]
    load: Load,
    #[serde(flatten)]
    sampling: Option<Sampling<'a>>,
}

/// Options that take effect when the model is loaded. A call that differs in one of them reloads it, so they come
/// from the configuration alone.
#[derive(Serialize)]
struct Load {
    num_ctx: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_batch: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_gpu: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_thread: Option<u32>,
}

#[derive(Serialize)]
struct Sampling<'a> {
    temperature: f64,
    top_p: f64,
    /// 0 keeps all tokens; left out, the model's file decides.
    top_k: usize,
    min_p: f64,
    /// Some models' files say 1.1, and the log-probabilities are then not the model's own.
    repeat_penalty: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    num_predict: u32,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [String],
}

impl<'a> Body<'a> {
    pub(super) fn new(
        config: &'a OllamaConfig,
        request: &'a ChatRequest,
        think: bool,
        stream: bool,
    ) -> Self {
        let sampling = Sampling {
            temperature: request.sampling.temperature,
            top_p: request.sampling.top_p,
            top_k: request.sampling.top_k.unwrap_or(0),
            min_p: request.sampling.min_p,
            repeat_penalty: 1.0,
            seed: request.sampling.wire_seed(),
            num_predict: request.max_tokens,
            stop: &request.stop,
        };
        let format = request.schema.as_ref().map(|schema| match config.schema_form {
            SchemaForm::AllOf => schema::in_order(schema),
            SchemaForm::Plain => schema.clone(),
        });
        Self {
            messages: &request.messages,
            think,
            format,
            options: Options { load: load(config), sampling: Some(sampling) },
            ..Self::warm_up(config, stream)
        }
    }

    /// Loads the model and says nothing to it, with the same options as every other call.
    pub(super) fn warm_up(config: &'a OllamaConfig, stream: bool) -> Self {
        Self {
            model: &config.model,
            messages: &[],
            stream,
            think: false,
            format: None,
            keep_alive: &config.keep_alive,
            shift: config.shift,
            logprobs: config.logprobs,
            options: Options { load: load(config), sampling: None },
        }
    }
}

fn load(config: &OllamaConfig) -> Load {
    Load {
        num_ctx: config.num_ctx,
        num_batch: config.num_batch,
        num_gpu: config.num_gpu,
        num_thread: config.num_thread,
    }
}

/// A line of a streamed reply, or the whole of another.
#[derive(Deserialize)]
pub(super) struct Line {
    pub(super) error: Option<Value>,
    pub(super) message: Option<LineMessage>,
    #[serde(default)]
    pub(super) done: bool,
    #[serde(default)]
    done_reason: String,
    /// Integers that are 0 are left out.
    #[serde(default)]
    prompt_eval_count: u64,
    #[serde(default)]
    eval_count: u64,
    #[serde(default)]
    logprobs: Vec<TokenLogprob>,
}

#[derive(Deserialize)]
pub(super) struct LineMessage {
    #[serde(default)]
    content: String,
    #[serde(default)]
    thinking: String,
    #[serde(default)]
    tool_calls: Vec<Value>,
}

#[derive(Deserialize)]
struct TokenLogprob {
    logprob: f32,
}

/// A reply in the making.
#[derive(Default)]
pub(super) struct Assembly {
    tags: ThinkTags,
    pub(super) text: String,
    thinking: String,
    logprobs: Vec<f32>,
    tool_calls: usize,
    lines: usize,
    last: Option<Last>,
}

struct Last {
    reason: String,
    usage: Usage,
}

impl Assembly {
    /// Takes in one line; `true` once it was the last.
    pub(super) fn push(&mut self, line: Line, emitter: &mut Emitter) -> bool {
        self.lines += 1;
        if let Some(message) = line.message {
            self.add(Piece::Thinking(message.thinking), emitter);
            for piece in self.tags.push(&message.content) {
                self.add(piece, emitter);
            }
            self.tool_calls += message.tool_calls.len();
        }
        self.logprobs.extend(line.logprobs.iter().map(|token| token.logprob));
        if line.done {
            if let Some(piece) = std::mem::take(&mut self.tags).finish() {
                self.add(piece, emitter);
            }
            let usage =
                Usage { prompt_tokens: line.prompt_eval_count, completion_tokens: line.eval_count };
            self.last = Some(Last { reason: line.done_reason, usage });
        }
        line.done
    }

    /// Whether no line has come yet.
    pub(super) fn is_empty(&self) -> bool {
        self.lines == 0
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

    /// The reply, or `None` if the last line never came.
    pub(super) fn finish(self) -> Option<ChatReply> {
        let last = self.last?;
        let mut warnings = Vec::new();
        if self.tool_calls > 0 {
            warnings.push(
                "The server took part of the reply for a tool call, which was not asked for and is lost; \
                 use a model or template without native tools."
                    .to_owned(),
            );
        }
        Some(ChatReply {
            text: self.text,
            thinking: (!self.thinking.is_empty()).then_some(self.thinking),
            finish: if last.reason == "length" { Finish::Length } else { Finish::Stop },
            usage: last.usage,
            token_ids: None,
            logprobs: (!self.logprobs.is_empty()).then_some(self.logprobs),
            warnings,
        })
    }
}
