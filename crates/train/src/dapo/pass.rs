//! The policy pass: log-probs of sampled tokens, under the distribution that they were sampled from.
//!
//! Rows are laid end to end without padding, each up to its last token that counts, and only positions that predict such a
//! token get logits. What shares a micro-batch with a row changes rounding and nothing else.
//!
//! Left out on purpose: forwarding the prompt of a group once. The attention of a training pass knows sequences, not trees; a
//! prompt is read again for each of its completions.

use agentflow_model::{ModelError, Qwen3, Sequences, TokenMask};
use candle_core::Tensor;

use super::masks::Masks;
use super::row::Row;

/// Under which weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// The adapter as it is now.
    Policy,
    /// Without the adapter.
    Reference,
}

/// The two models, which share their weights, and how both are asked.
pub(super) struct Pass {
    pub(super) policy: Qwen3,
    pub(super) reference: Qwen3,
    pub(super) masks: Masks,
    pub(super) temperature: f64,
    /// Take the whole vocabulary, whatever the grammar allowed.
    pub(super) plain: bool,
}

/// Log-probs and entropies, in nats, `[T]` each, T being the tokens that count.
pub(super) struct TokenScores {
    pub(super) logprobs: Tensor,
    /// Without gradient.
    pub(super) entropies: Tensor,
}

/// Some rows of a window, ready for a pass.
pub(super) struct Packed {
    pub(super) sequences: Sequences,
    /// For each token that counts, where among the tokens of the sequences the one before it stands, `[T]`.
    before: Tensor,
    targets: Tensor, // [T]
    masks: Option<Vec<Option<TokenMask>>>,
}

impl Pass {
    /// Packs `rows`, of which the tokens in `counted` count: places in the completion, at least one.
    pub(super) fn pack(&self, rows: &[(&Row, &[usize])]) -> Result<Packed, ModelError> {
        let mut sequences: Vec<Vec<u32>> = Vec::with_capacity(rows.len());
        let (mut before, mut targets) = (Vec::new(), Vec::new());
        let mut masks = Vec::new();
        let mut start = 0;
        for (row, counted) in rows {
            let last = counted.last().copied().unwrap_or(0);
            let ids = [&row.prompt[..], &row.completion[..last]].concat();
            let first = start + row.prompt.len() - 1;
            start += ids.len();
            sequences.push(ids);
            before.extend(counted.iter().map(|token| (first + token) as u32));
            targets.extend(counted.iter().map(|token| row.completion[*token]));
            if row.grammar.is_none() || self.plain {
                masks.extend(std::iter::repeat_n(None, counted.len()));
            } else {
                let mut of_row = self.masks.of(row)?;
                masks.extend(counted.iter().map(|token| of_row[*token].take()));
            }
        }
        let device = self.policy.device();
        Ok(Packed {
            sequences: Sequences::new(&sequences)?,
            before: Tensor::new(before, device)?,
            targets: Tensor::new(targets, device)?,
            masks: masks.iter().any(Option::is_some).then_some(masks),
        })
    }

    /// Scores the tokens that count, from the hidden states of `packed.sequences`, `[tokens, hidden]`; with gradient.
    pub(super) fn tokens(
        &self,
        hidden: &Tensor,
        packed: &Packed,
    ) -> Result<TokenScores, ModelError> {
        let hidden = hidden.index_select(&packed.before, 0)?;
        let masks = packed.masks.as_deref();
        let head = &self.reference; // no adapter is on the head
        let (logprobs, entropies) =
            head.token_logprobs(&hidden, &packed.targets, self.temperature, masks)?;
        Ok(TokenScores { logprobs, entropies })
    }

    /// Scores without gradient; bit for bit what a training pass over the same rows gives.
    pub(super) fn score(&self, who: Who, packed: &Packed) -> Result<TokenScores, ModelError> {
        let model = match who {
            Who::Policy => &self.policy,
            Who::Reference => &self.reference,
        };
        let scores = self.tokens(&model.hidden_of_training(&packed.sequences)?, packed)?;
        Ok(TokenScores { logprobs: scores.logprobs.detach(), ..scores })
    }
}

/// Cuts rows into parts, in their order: as even as rows allow, at least one for each of `workers`, and none of more than
/// `budget` tokens unless it is a single row. Rows of length 0 are left out.
pub(super) fn cut(lengths: &[usize], budget: usize, workers: usize) -> Vec<Vec<usize>> {
    let total: usize = lengths.iter().sum();
    let workers = workers.max(1);
    let mut count = total.div_ceil(budget.max(1)).next_multiple_of(workers);
    loop {
        let parts = even_parts(lengths, total, count);
        let fits = |part: &Vec<usize>| {
            part.len() == 1 || part.iter().map(|row| lengths[*row]).sum::<usize>() <= budget
        };
        if count > 2 * total || parts.iter().all(fits) {
            return parts;
        }
        count += workers;
    }
}

/// A row goes to the part in which its middle lies.
fn even_parts(lengths: &[usize], total: usize, count: usize) -> Vec<Vec<usize>> {
    let mut parts: Vec<Vec<usize>> = Vec::new();
    let (mut before, mut current) = (0, None);
    for (row, &length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
        let part = (2 * before + length) * count / (2 * total);
        if current != Some(part) {
            parts.push(Vec::new());
            current = Some(part);
        }
        parts.last_mut().expect("a part was just begun").push(row);
        before += length;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_even_and_within_the_budget() {
        assert_eq!(cut(&[5, 5, 5, 5], 100, 1), [vec![0, 1, 2, 3]]);
        assert_eq!(cut(&[5, 5, 5, 5], 100, 2), [vec![0, 1], vec![2, 3]]);
        assert_eq!(cut(&[5, 5, 5, 5], 7, 1), [vec![0], vec![1], vec![2], vec![3]]);
        assert_eq!(cut(&[9, 0, 3, 3, 3], 9, 2), [vec![0], vec![2, 3, 4]]);
        assert_eq!(cut(&[40, 1, 1], 8, 1), [vec![0], vec![1, 2]]);
        assert_eq!(cut(&[0, 0], 8, 2), Vec::<Vec<usize>>::new());
    }
}
