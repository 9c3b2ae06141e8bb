//! Why a model did not answer, typed by cause so that a run log can be counted.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{chat::ChatReply, schema::SchemaViolation};

/// A model call that failed.
///
/// Serializable, so that a recorded run replays its failures too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum ChatError {
    #[error("cannot reach {server} at `{url}`: {reason}; {advice}")]
    Unreachable { server: String, url: String, reason: String, advice: String },

    #[error("model `{model}` is not on {server}; {advice}")]
    ModelMissing { model: String, server: String, advice: String },

    #[error(
        "the model server is overloaded: {text}; wait, or send fewer requests at a time with a lower concurrency"
    )]
    Overloaded { text: String, retry_after: Option<Duration> },

    #[error("`{url}` {phase} within {after:?}; see whether the server is stuck, or raise {phase_setting}", phase_setting = phase.setting())]
    Timeout { url: String, phase: Phase, after: Duration },

    #[error(
        "cannot read the reply of `{url}`: {problem}; check that the address is a model server's"
    )]
    BadReply { url: String, problem: String },

    /// `text` is what came before the break.
    #[error("the reply of the model broke off after {} characters: {how}", text.chars().count())]
    BrokenStream { how: Break, text: String },

    #[error(
        "the reply schema cannot be used: {reason}; change the schema to what the server supports"
    )]
    SchemaRejected { reason: String },

    /// The whole reply is inside, so that it can be recorded, shown to the model, and its tokens counted.
    #[error(
        "the reply does not follow the schema: {violation}; it reads `{}`",
        shorten(&reply.text, 200)
    )]
    SchemaViolated { violation: SchemaViolation, reply: Box<ChatReply> },

    #[error("the prompt does not fit the context: {text}; raise `num_ctx` or shorten the prompt")]
    ContextTooLong { text: String },

    /// The reply, thinking without text, is inside, so that its tokens can be counted.
    #[error(
        "the model spent its {} tokens thinking and gave no answer; raise the token limit, or switch thinking off",
        reply.usage.completion_tokens
    )]
    ThinkingExhausted { reply: Box<ChatReply> },

    #[error("`{url}` refused the key: {text}; {advice}")]
    Unauthorized { url: String, text: String, advice: String },

    #[error("the model server failed with status {status}: {text}; its log says more")]
    Server { status: u16, text: String },

    #[error("the request is wrong: {text}")]
    BadRequest { text: String },

    #[error(transparent)]
    Replay(#[from] ReplayError),

    /// A model inside this process failed.
    #[error("the {backend} model failed: {reason}")]
    Engine { backend: String, reason: String },
}

impl ChatError {
    /// Whether sending the same request again can succeed.
    ///
    /// A missing first byte is not retried: the wait was long enough for a model to load, and the server may
    /// still be at work on the first request.
    pub fn can_heal(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Overloaded { .. } => true,
            Self::Timeout { phase, .. } => matches!(phase, Phase::Connect | Phase::Idle),
            Self::BrokenStream { how, .. } => {
                matches!(how, Break::ConnectionLost { .. } | Break::NotDone)
            }
            Self::Server { status, .. } => matches!(status, 502 | 504),
            _ => false,
        }
    }

    /// How long the server asked us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What a time-out waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The connection.
    Connect,
    /// The first byte of a streamed reply; a model may have to be loaded first.
    FirstByte,
    /// The next piece of a reply that had begun.
    Idle,
    /// The whole of a reply that was not streamed.
    Reply,
}

impl Phase {
    fn setting(self) -> &'static str {
        match self {
            Self::Connect => "the `connect` time-out",
            Self::FirstByte => "the `first_byte` time-out (`--timeout`)",
            Self::Idle => "the `idle` time-out (`--timeout`)",
            Self::Reply => "the `reply` time-out (`--timeout`)",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "did not take the connection",
            Self::FirstByte => "did not begin to answer",
            Self::Idle => "began to answer, but sent nothing more",
            Self::Reply => "did not answer",
        })
    }
}

/// How a reply broke off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Break {
    #[error("the connection was lost ({reason}); try again")]
    ConnectionLost { reason: String },
    /// Ollama also ends a stream this way after 30 equal tokens in a row.
    #[error(
        "the server ended it without saying that it was done; try again, with another seed if it happens often"
    )]
    NotDone,
    #[error("the server reported `{text}`; its log says more")]
    ServerError { text: String },
}

/// Why a recording could not be written or played back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum ReplayError {
    #[error("cannot {action} recording `{path}`: {reason}")]
    File { action: String, path: String, reason: String },
    #[error("line {line} of recording `{path}` is not an exchange: {reason}; record the run again")]
    Line { path: String, line: usize, reason: String },
    #[error(
        "recording `{path}` has no exchange for this request; {nearest}; record the run again, or undo what changed the prompt"
    )]
    Missing { path: String, nearest: String },
    #[error(
        "recording `{path}` has this request {recorded} times, and it is asked once more; record the run again"
    )]
    UsedUp { path: String, recorded: usize },
}

/// `text` on one line of at most `limit` characters, with an ellipsis where it was cut.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    let mut line = String::new();
    for (index, word) in text.split_whitespace().enumerate() {
        if index > 0 {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > limit * 4 {
            break;
        }
    }
    if line.chars().count() <= limit {
        return line;
    }
    let mut cut: String = line.chars().take(limit.saturating_sub(1)).collect();
    cut.push('…');
    cut
}
