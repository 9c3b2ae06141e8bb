//! Log-probabilities of given sequences, by the arithmetic of the engine: what it sampled scores the same.
//!
//! That the trainer's own forward pass gives them again, up to rounding, is tested beside it.

use candle_core::Tensor;

use crate::error::{ModelError, Result};
use crate::grammar::TokenMask;
use crate::ops::SoftmaxSums;
use crate::paged_kv::Sequence;
use crate::qwen3::Qwen3;
use crate::sampler::distribution;

/// Log-probabilities of one token, in nats, as [`Sampled`](crate::Sampled) has them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// After temperature and mask, renormalised.
    pub logprob: f32,
    /// Of the model as it is: temperature 1, no mask.
    pub plain_logprob: f32,
}

/// Tokens in one pass, and rows of logits that exist at once.
const CHUNK: usize = 256;
const ROWS: usize = 64;

/// The log-probabilities of the tokens of `ids` where `completion_mask` is true, in order.
///
/// `temperature` 0 counts as 1, as it does in sampling. `masks` has one entry for each scored token; without one the
/// whole vocabulary is allowed. A token that its mask does not allow has minus infinity.
///
/// # Errors
/// If the lengths disagree, the first token is to be scored (nothing predicts it), a token is outside the vocabulary,
/// or the sequence is longer than the model's context.
pub fn logprobs(
    model: &Qwen3,
    ids: &[u32],
    completion_mask: &[bool],
    temperature: f64,
    masks: Option<&[Option<TokenMask>]>,
) -> Result<Vec<Scored>> {
    let scored: Vec<usize> = (0..completion_mask.len()).filter(|i| completion_mask[*i]).collect();
    check(model, ids, completion_mask, &scored, masks)?;
    let Some(&last) = scored.last() else { return Ok(Vec::new()) };
    let mut sequence = Sequence::new(&model.new_store(last));
    let mut scores = Vec::with_capacity(scored.len());
    let mut row = vec![0.0; model.config().vocab_size];
    let mut rest = scored.as_slice();
    for (index, chunk) in ids[..last].chunks(CHUNK).enumerate() {
        let first = index * CHUNK;
        let hidden = model.forward_ragged(&mut [(&mut sequence, chunk)])?; // [chunk, hidden]
        // A token is predicted by the hidden state before it.
        let (here, after) = rest.split_at(rest.partition_point(|at| *at <= first + chunk.len()));
        rest = after;
        for positions in here.chunks(ROWS) {
            let before: Vec<u32> = positions.iter().map(|at| (*at - 1 - first) as u32).collect();
            let before = Tensor::new(before, model.device())?;
            let logits = model.logits_ragged(&hidden.index_select(&before, 0)?)?;
            let logits = logits.flatten_all()?.to_vec1::<f32>()?;
            for (&at, logits) in positions.iter().zip(logits.chunks_exact(row.len())) {
                let token = ids[at] as usize;
                let mask = masks.and_then(|masks| masks[scores.len()].as_ref());
                let sums = distribution(logits, mask, temperature as f32, &mut row);
                let logprob = sums.logprob(row[token]);
                let plain_logprob = SoftmaxSums::new(logits).logprob(logits[token]);
                scores.push(Scored { logprob, plain_logprob });
            }
        }
    }
    Ok(scores)
}

fn check(
    model: &Qwen3,
    ids: &[u32],
    completion_mask: &[bool],
    scored: &[usize],
    masks: Option<&[Option<TokenMask>]>,
) -> Result<()> {
    let invalid = |problem: String| Err(ModelError::Sequence(problem));
    let (vocabulary, context) = (model.config().vocab_size, model.config().max_position_embeddings);
    if ids.len() != completion_mask.len() {
        return invalid(format!("{} ids, but a mask of {}", ids.len(), completion_mask.len()));
    }
    if scored.first() == Some(&0) {
        return invalid("the first token is to be scored, but nothing stands before it".to_owned());
    }
    if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
        return invalid(format!("token {id} is outside the vocabulary of {vocabulary}"));
    }
    if ids.len() > context {
        return Err(ModelError::ContextTooLong { prompt: ids.len(), context });
    }
    match masks {
        Some(masks) if masks.len() != scored.len() => {
            invalid(format!("{} masks for {} scored tokens", masks.len(), scored.len()))
        }
        _ => Ok(()),
    }
}
