//! One sampled completion, with all that an update must know of how it was sampled.

use std::sync::Arc;

use agentflow_llm::Finish;
use agentflow_model::{Completion, Token};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::policy::loss::Credit;
use crate::policy::overlong::OverlongConfig;

/// One completion. Token ids are those that were sampled; nothing is ever encoded again from text.
///
/// Where a list has one entry a token, the tokens are those of `completion`. Read back from JSON, a row is the same to the last
/// bit; rows of a group no longer share their prompt then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    #[serde(with = "shared_ids")]
    pub prompt: Arc<[u32]>,
    pub completion: Vec<u32>,
    /// True on tokens that the policy chose: not on those that a grammar or a stop forced, nor on tool output. One a token.
    pub sampled: Vec<bool>,
    /// Log-probs when they were drawn, in nats, one a token; absent where nobody wrote them down.
    pub sampled_logprobs: Option<Vec<f32>>,
    /// By the trainer's pass before the first update on this rollout, frozen; one a token, of which those that do not
    /// count in the loss are not read. Absent: every ratio is 1.
    pub old_logprobs: Option<Vec<f32>>,
    /// The same with adapters off; needed where `loss.beta` is not 0.
    pub reference_logprobs: Option<Vec<f32>>,
    /// What restricted the choice; absent: nothing did.
    pub grammar: Option<RowGrammar>,
    /// At which it was sampled.
    pub temperature: f64,
    /// Whether it ran out of room: no token ended it, and its grammar was not complete.
    pub truncated: bool,
    /// The same for rows of the same prompt tokens, and for no others.
    pub group: u64,
    /// How much better than its group it was.
    pub advantage: Credit,
    /// What it earned; for metrics and guards alone.
    pub reward: Option<f64>,
}

/// The JSON schema of a completion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowGrammar {
    #[serde(with = "shared_schema")]
    pub schema: Arc<Value>,
    /// Tokens before the grammar begins: thinking, with the token that ends it.
    pub free_tokens: usize,
}

/// What the completions of one group have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupOrigin {
    pub prompt: Arc<[u32]>,
    pub group: u64,
    pub temperature: f64,
    pub schema: Option<Arc<Value>>,
    /// Where completions begin with thinking: the token that ends it.
    pub think_end: Option<u32>,
    /// As `sampling.plain_logprobs`: log-probs are compared under the whole vocabulary, as TRL takes them, and tokens that the grammar
    /// forced count like any other.
    pub plain_logprobs: bool,
}

impl GroupOrigin {
    /// The row of a reply of the engine; its advantage is 0 until somebody knows better.
    pub fn row(&self, completion: &Completion) -> Row {
        let plain = self.plain_logprobs;
        let logprob = |token: &Token| if plain { token.plain_logprob } else { token.logprob };
        // The engine's plain log-probs are of temperature 1, and it has none of tokens that it appended unread.
        let known = !plain || (self.temperature == 1.0 && self.schema.is_none());
        let ids = completion.ids();
        let grammar = self.schema.as_ref().map(|schema| {
            let thinking = |end: u32| ids.iter().position(|id| *id == end).map(|at| at + 1);
            let free_tokens = self.think_end.map_or(0, |end| thinking(end).unwrap_or(ids.len()));
            RowGrammar { schema: schema.clone(), free_tokens }
        });
        Row {
            prompt: self.prompt.clone(),
            sampled: completion.tokens.iter().map(|token| plain || !token.forced).collect(),
            sampled_logprobs: known.then(|| completion.tokens.iter().map(logprob).collect()),
            old_logprobs: None,
            reference_logprobs: None,
            grammar,
            temperature: self.temperature,
            truncated: completion.finish == Finish::Length,
            group: self.group,
            advantage: Credit::Row(0.0),
            reward: None,
            completion: ids,
        }
    }
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RowProblem {
    #[error("it has no prompt, and nothing would predict its first token; give at least one token")]
    NoPrompt,
    #[error("it has {tokens} tokens, but `{name}` has {found}; give one a token")]
    Ragged { name: &'static str, tokens: usize, found: usize },
    #[error(
        "token {id} is outside the vocabulary of {vocabulary}; the ids are of another tokenizer"
    )]
    Token { id: u32, vocabulary: usize },
    #[error(
        "prompt and completion have {tokens} tokens, more than the model's context of {context}"
    )]
    Long { tokens: usize, context: usize },
    #[error("`{name}` has a value that is not finite on token {token}, which counts in the loss")]
    NotFinite { name: &'static str, token: usize },
    #[error(
        "it was sampled at temperature {found}, but `sampling.temperature` is {wanted}; \
         log-probs of both must come under one temperature"
    )]
    Temperature { found: f64, wanted: f64 },
    #[error("it has no `{name}`, but other rows of its window have; give all rows theirs, or none")]
    Missing { name: &'static str },
}

impl Row {
    /// Which tokens count in the loss.
    pub fn loss_mask(&self, overlong: &OverlongConfig) -> Vec<bool> {
        overlong.loss_mask(&self.sampled, self.truncated)
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(super) fn check(
        &self,
        vocabulary: usize,
        context: usize,
        temperature: f64,
    ) -> Result<(), RowProblem> {
        if self.prompt.is_empty() {
            return Err(RowProblem::NoPrompt);
        }
        let tokens = self.completion.len();
        let lists = [
            ("sampled", Some(self.sampled.len())),
            ("sampled_logprobs", self.sampled_logprobs.as_ref().map(Vec::len)),
            ("old_logprobs", self.old_logprobs.as_ref().map(Vec::len)),
            ("reference_logprobs", self.reference_logprobs.as_ref().map(Vec::len)),
            ("advantage", self.advantages().map(<[f64]>::len)),
        ];
        for (name, found) in lists {
            if let Some(found) = found.filter(|found| *found != tokens) {
                return Err(RowProblem::Ragged { name, tokens, found });
            }
        }
        let mut ids = self.prompt.iter().chain(&self.completion);
        if let Some(&id) = ids.find(|id| **id as usize >= vocabulary) {
            return Err(RowProblem::Token { id, vocabulary });
        }
        let length = self.prompt.len() + tokens;
        if length > context {
            return Err(RowProblem::Long { tokens: length, context });
        }
        if self.temperature != temperature {
            let (found, wanted) = (self.temperature, temperature);
            return Err(RowProblem::Temperature { found, wanted });
        }
        for token in (0..tokens).filter(|token| self.sampled[*token]) {
            let finite = |list: &Option<Vec<f32>>| {
                list.as_ref().is_none_or(|logprobs| logprobs[token].is_finite())
            };
            let advantage = match &self.advantage {
                Credit::Row(advantage) => *advantage,
                Credit::Tokens(advantages) => advantages[token],
            };
            let numbers = [
                ("advantage", advantage.is_finite()),
                ("sampled_logprobs", finite(&self.sampled_logprobs)),
                ("old_logprobs", finite(&self.old_logprobs)),
                ("reference_logprobs", finite(&self.reference_logprobs)),
            ];
            if let Some((name, _)) = numbers.into_iter().find(|(_, finite)| !finite) {
                return Err(RowProblem::NotFinite { name, token });
            }
        }
        Ok(())
    }

    fn advantages(&self) -> Option<&[f64]> {
        match &self.advantage {
            Credit::Row(_) => None,
            Credit::Tokens(advantages) => Some(advantages),
        }
    }
}

/// A shared list of ids as a list.
mod shared_ids {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(ids: &Arc<[u32]>, to: S) -> Result<S::Ok, S::Error> {
        ids[..].serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<[u32]>, D::Error> {
        Ok(Vec::deserialize(from)?.into())
    }
}

/// A shared schema as JSON.
mod shared_schema {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    pub(super) fn serialize<S: Serializer>(schema: &Arc<Value>, to: S) -> Result<S::Ok, S::Error> {
        (**schema).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Value>, D::Error> {
        Value::deserialize(from).map(Arc::new)
    }
}
