//! Log-probabilities of given tokens, as a trainer computes them.

use candle_core::{DType, Tensor};

use crate::error::{ModelError, Result};
use crate::ops;
use crate::qwen3::Qwen3;

/// Positions whose logits are held at once: at a vocabulary of 151,936 that is 39 MB in f32.
const ROWS: usize = 64;

/// The log-probability, in nats, of each token of `completion` after `prompt` and those before it, under
/// `softmax(logits / temperature)`.
///
/// One forward pass over the whole sequence; logits, in f32, exist for 64 positions at a time.
///
/// # Errors
/// An empty prompt, an id outside the vocabulary, or more tokens than the model's context.
pub fn completion_logprobs(
    model: &Qwen3,
    prompt: &[u32],
    completion: &[u32],
    temperature: f64,
) -> Result<Vec<f32>> {
    check_ids(model, prompt, completion)?;
    if completion.is_empty() {
        return Ok(Vec::new());
    }
    let sequence = [prompt, &completion[..completion.len() - 1]].concat();
    let ids = Tensor::new(sequence, model.device())?.unsqueeze(0)?;
    // The row before a token predicts it.
    let hidden = model.forward(&ids, None)?.squeeze(0)?;
    let hidden = hidden.narrow(0, prompt.len() - 1, completion.len())?.contiguous()?;
    let mut logprobs = Vec::with_capacity(completion.len());
    for (index, targets) in completion.chunks(ROWS).enumerate() {
        let rows = hidden.narrow(0, index * ROWS, targets.len())?;
        let logits = model.logits(&rows)?.to_dtype(DType::F32)?;
        let logits = if temperature == 1.0 { logits } else { (logits / temperature)? };
        let targets = Tensor::new(targets, model.device())?;
        logprobs.extend(ops::token_logprobs(&logits, &targets)?.to_vec1::<f32>()?);
    }
    Ok(logprobs)
}

/// Ids that this model can take: at least one, all in the vocabulary, no more than the context.
pub(crate) fn check_ids(model: &Qwen3, prompt: &[u32], completion: &[u32]) -> Result<()> {
    let config = model.config();
    if prompt.is_empty() {
        return Err(ModelError::EmptyPrompt);
    }
    let outside = prompt.iter().chain(completion).find(|id| **id as usize >= config.vocab_size);
    if let Some(id) = outside {
        return Err(ModelError::UnknownToken { id: *id, vocabulary: config.vocab_size });
    }
    let (tokens, context) = (prompt.len() + completion.len(), config.max_position_embeddings);
    if tokens > context {
        return Err(ModelError::ContextTooLong { prompt: tokens, context });
    }
    Ok(())
}
