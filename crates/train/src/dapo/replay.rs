//! Updates on rows from a file, a JSON line each: for parity checks with other trainers, and to look at one update closely.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::row::{Row, RowGrammar};
use crate::policy::loss::Credit;

/// One update: arrays over its rows.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    prompt_ids: Vec<Vec<u32>>,
    completion_ids: Vec<Vec<u32>>,
    /// 1 or true on tokens that count in the loss.
    completion_mask: Vec<Vec<Flag>>,
    /// One a row, or one a token.
    advantages: Vec<Advantage>,
    old_logprobs: Option<Vec<Vec<f32>>>,
    /// The JSON schema that all rows were sampled under; absent: none.
    schema: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Number(u8),
}

/// JSON has no NaN; writers put null.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Advantage {
    Row(Option<f64>),
    Tokens(Vec<Option<f64>>),
}

/// Why a line is no update.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReplayError {
    #[error("line {line} is empty; a line is one update, so remove it")]
    Empty { line: usize },
    #[error("line {line} has no rows; a line is one update and needs at least one")]
    NoRows { line: usize },
    #[error("line {line} is not what is read here: {problem}")]
    Unreadable { line: usize, problem: String },
    #[error(
        "line {line} has {rows} rows in `prompt_ids`, but {found} in `{name}`; all arrays go over the same rows"
    )]
    Ragged { line: usize, rows: usize, name: &'static str, found: usize },
    #[error(
        "line {line}, row {row}: `completion_ids` has {tokens} tokens, but `{name}` {found}; give one a token"
    )]
    RaggedRow { line: usize, row: usize, tokens: usize, name: &'static str, found: usize },
    #[error(
        "line {line}, row {row}: `completion_mask` has {found}; write 1 where a token counts, else 0"
    )]
    Mask { line: usize, row: usize, found: u8 },
    #[error(
        "line {line}, row {row}: the advantage is not a number; a row without a reward has advantage 0"
    )]
    Advantage { line: usize, row: usize },
}

/// The rows of each line of `text`, as sampled at `temperature`. Rows of one line and the same prompt are one group.
///
/// # Errors
/// The first line that is no update. What a model decides, like the size of the vocabulary, is checked by
/// [`Trainer::update`](super::Trainer::update).
pub fn windows(text: &str, temperature: f64) -> Result<Vec<Vec<Row>>, ReplayError> {
    text.lines().zip(1..).map(|(text, line)| window(text, line, temperature)).collect()
}

fn window(text: &str, line: usize, temperature: f64) -> Result<Vec<Row>, ReplayError> {
    if text.trim().is_empty() {
        return Err(ReplayError::Empty { line });
    }
    let read: Line = serde_json::from_str(text).map_err(|error| {
        let is_nan = ["NaN", "Infinity"].iter().any(|word| text.contains(word));
        let hint = if is_nan { "; JSON has no NaN and no Infinity" } else { "" };
        ReplayError::Unreadable { line, problem: format!("{error}{hint}") }
    })?;
    let rows = read.prompt_ids.len();
    if rows == 0 {
        return Err(ReplayError::NoRows { line });
    }
    for (name, found) in [
        ("completion_ids", read.completion_ids.len()),
        ("completion_mask", read.completion_mask.len()),
        ("advantages", read.advantages.len()),
        ("old_logprobs", read.old_logprobs.as_ref().map_or(rows, Vec::len)),
    ] {
        if found != rows {
            return Err(ReplayError::Ragged { line, rows, name, found });
        }
    }
    let schema = read.schema.map(Arc::new);
    let mut groups: HashMap<Vec<u32>, u64> = HashMap::new();
    let mut old = read.old_logprobs.map(Vec::into_iter);
    let parts = read.prompt_ids.into_iter().zip(read.completion_ids);
    let more = read.completion_mask.into_iter().zip(read.advantages);
    parts
        .zip(more)
        .enumerate()
        .map(|(row, ((prompt, completion), (mask, advantage)))| {
            let next = groups.len() as u64;
            let group = *groups.entry(prompt.clone()).or_insert(next);
            let sampled = mask.iter().map(|flag| match *flag {
                Flag::Bool(counts) => Ok(counts),
                Flag::Number(flag @ 0..=1) => Ok(flag == 1),
                Flag::Number(found) => Err(ReplayError::Mask { line, row, found }),
            });
            let old_logprobs = old.as_mut().and_then(Iterator::next);
            let tokens = completion.len();
            let of_tokens = match &advantage {
                Advantage::Row(_) => tokens,
                Advantage::Tokens(all) => all.len(),
            };
            for (name, found) in [
                ("completion_mask", mask.len()),
                ("old_logprobs", old_logprobs.as_ref().map_or(tokens, Vec::len)),
                ("advantages", of_tokens),
            ] {
                if found != tokens {
                    return Err(ReplayError::RaggedRow { line, row, tokens, name, found });
                }
            }
            let missing = ReplayError::Advantage { line, row };
            let advantage = match advantage {
                Advantage::Row(advantage) => Credit::Row(advantage.ok_or(missing)?),
                Advantage::Tokens(all) => {
                    Credit::Tokens(all.into_iter().collect::<Option<_>>().ok_or(missing)?)
                }
            };
            Ok(Row {
                prompt: prompt.into(),
                completion,
                sampled: sampled.collect::<Result<_, _>>()?,
                sampled_logprobs: None,
                old_logprobs,
                reference_logprobs: None,
                grammar: schema.clone().map(|schema| RowGrammar { schema, free_tokens: 0 }),
                temperature,
                truncated: false,
                group,
                advantage,
                reward: None,
            })
        })
        .collect()
}
