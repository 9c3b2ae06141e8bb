//! What several of Ollama's routes have in common on the wire.

use std::time::Duration;

use agentflow_llm::Finish;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::ServeError;
use crate::model::{Card, ScoredToken, Token, unsupported};
use crate::reply::Finished;

/// The schema that `format` asks for; `"json"` is any object.
///
/// # Errors
/// Anything else, in Ollama's words.
pub(crate) fn schema(format: Option<&Value>) -> Result<Option<Value>, ServeError> {
    match format {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text == "json" => Ok(Some(json!({"type": "object"}))),
        Some(schema @ Value::Object(_)) => Ok(Some(schema.clone())),
        Some(other) => Err(ServeError::bad_request(format!(
            "invalid format: {other}; expected \"json\" or a valid JSON Schema object"
        ))),
    }
}

/// Whether to think: left out it means yes, where the model can. Levels are all the same here.
///
/// # Errors
/// A value that is no answer to the question, or thinking asked of a model that cannot.
pub(crate) fn think(value: Option<&Value>, card: &Card, name: &str) -> Result<bool, ServeError> {
    let wanted = match value {
        None | Some(Value::Null) => return Ok(card.thinks),
        Some(Value::Bool(wanted)) => *wanted,
        Some(Value::String(level))
            if matches!(level.as_str(), "low" | "medium" | "high" | "max") =>
        {
            true
        }
        Some(other) => {
            return Err(ServeError::bad_request(format!(
                "invalid think value: {other} (must be \"high\", \"medium\", \"low\", \"max\", true, or false)"
            )));
        }
    };
    if wanted && !card.thinks {
        let named = Card { name: name.to_owned(), ..card.clone() };
        return Err(unsupported(&named, "thinking").into());
    }
    Ok(wanted)
}

/// How many likeliest tokens are asked for, if log-probabilities are at all.
pub(crate) fn top_logprobs(
    wanted: Option<bool>,
    top: Option<i64>,
) -> Result<Option<usize>, ServeError> {
    let top = top.unwrap_or(0);
    let top = usize::try_from(top).ok().filter(|top| *top <= 20);
    let top =
        top.ok_or_else(|| ServeError::bad_request("top_logprobs must be between 0 and 20"))?;
    Ok(wanted.unwrap_or(false).then_some(top))
}

/// Counts and times of a reply, in nanoseconds; zeros are left out, as Go does.
#[derive(Default, Serialize)]
pub(crate) struct Metrics {
    #[serde(skip_serializing_if = "is_zero")]
    total_duration: u64,
    #[serde(skip_serializing_if = "is_zero")]
    load_duration: u64,
    #[serde(skip_serializing_if = "is_zero")]
    prompt_eval_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    prompt_eval_duration: u64,
    #[serde(skip_serializing_if = "is_zero")]
    eval_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    eval_duration: u64,
}

impl From<&Finished> for Metrics {
    fn from(finished: &Finished) -> Self {
        Self {
            total_duration: nanoseconds(finished.timings.total),
            load_duration: nanoseconds(finished.timings.load),
            prompt_eval_count: finished.usage.prompt_tokens,
            prompt_eval_duration: nanoseconds(finished.timings.prompt),
            eval_count: finished.usage.completion_tokens,
            eval_duration: nanoseconds(finished.timings.eval),
        }
    }
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

pub(crate) fn done_reason(finish: Finish) -> &'static str {
    match finish {
        // Ollama has no word for a refusal.
        Finish::Stop | Finish::Refused => "stop",
        Finish::Length => "length",
    }
}

/// The time as Go writes it.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// A token with its log-probability; OpenAI has the same form.
#[derive(Serialize)]
pub(crate) struct Logprob {
    #[serde(flatten)]
    token: TokenLogprob,
    top_logprobs: Vec<TokenLogprob>,
}

#[derive(Serialize)]
struct TokenLogprob {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

pub(crate) fn logprobs(tokens: &[ScoredToken]) -> Vec<Logprob> {
    let on_wire = |token: &Token| TokenLogprob {
        token: String::from_utf8_lossy(&token.bytes).into_owned(),
        // JSON has no infinity.
        logprob: token.logprob.max(f32::MIN),
        bytes: token.bytes.clone(),
    };
    tokens
        .iter()
        .map(|scored| Logprob {
            token: on_wire(&scored.token),
            top_logprobs: scored.top.iter().map(on_wire).collect(),
        })
        .collect()
}
