//! The text of a decision as tokens, cut the same way for training, scoring and reward.

use agentflow_model::Tokenizer;

use super::PrmError;

/// Which end of a long text is left out: the decision to be rated stands at the other.
pub(super) const TRUNCATION_SIDE: &str = "left";

/// A text as a PRM reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    pub ids: Vec<u32>,
    /// Whether the beginning was left out.
    pub truncated: bool,
}

/// The last `max_length` tokens of `text`.
pub(super) fn encode(
    tokenizer: &Tokenizer,
    text: &str,
    max_length: usize,
) -> Result<Encoded, PrmError> {
    Ok(shortened(tokenizer.encode(text)?, max_length))
}

/// The last `max_length` of `ids`.
pub(super) fn shortened(mut ids: Vec<u32>, max_length: usize) -> Encoded {
    let over = ids.len().saturating_sub(max_length);
    ids.drain(..over);
    Encoded { ids, truncated: over > 0 }
}
