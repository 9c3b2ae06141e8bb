//! Token ids in, token ids out: one prompt, one completion, without a chat template.

use agentflow_llm::{Finish, Sampling};
use candle_core::Tensor;
use serde_json::Value;

use crate::error::{ModelError, Result};
use crate::grammar::Grammar;
use crate::logprobs::check_ids;
use crate::model_dir::LoadedModel;
use crate::sampler::Sampler;

/// What to generate after a prompt.
#[derive(Debug, Clone)]
pub struct CompletionRequest {
    pub prompt_ids: Vec<u32>,
    pub max_tokens: usize,
    pub sampling: Sampling,
    /// JSON schema that the text must satisfy.
    pub schema: Option<Value>,
}

/// What was generated.
#[derive(Debug, Clone)]
pub struct Completion {
    /// With the end token, where there is one.
    pub ids: Vec<u32>,
    /// Without special tokens.
    pub text: String,
    pub finish: Finish,
    /// As [`Sampled::logprob`](crate::Sampled), one for each id.
    pub logprobs: Vec<f32>,
}

/// Generates from token ids; `grammar` is made once a model, with [`LoadedModel::grammar`], and needed with a schema only.
///
/// # Errors
/// Ids that the model cannot take, a schema that the grammar refuses, or a failed computation.
pub fn complete(
    loaded: &LoadedModel,
    grammar: Option<&Grammar>,
    request: &CompletionRequest,
) -> Result<Completion> {
    let LoadedModel { model, tokenizer, stop_ids, .. } = loaded;
    check_ids(model, &request.prompt_ids, &[])?;
    let context = model.config().max_position_embeddings;
    let room = request.max_tokens.min(context - request.prompt_ids.len());
    let mut constraint = match (&request.schema, grammar) {
        (None, _) => None,
        (Some(schema), Some(grammar)) => Some(grammar.constraint(schema)?),
        (Some(_), None) => return Err(ModelError::Schema("no grammar was made".to_owned())),
    };
    let mut sampler = Sampler::new(&request.sampling);
    let mut cache = model.new_cache();
    let mut next = request.prompt_ids.clone();
    let (mut ids, mut logprobs) = (Vec::new(), Vec::new());
    let mut finish = Finish::Length;
    while ids.len() < room {
        let input = Tensor::new(next.as_slice(), model.device())?.unsqueeze(0)?;
        let logits = model.last_logits(&model.forward(&input, Some(&mut cache))?)?;
        let mask = constraint.as_mut().map(|constraint| constraint.mask()).transpose()?;
        let sampled = sampler.sample(&logits.squeeze(0)?.to_vec1::<f32>()?, mask.as_ref())?;
        ids.push(sampled.token);
        logprobs.push(sampled.logprob);
        if stop_ids.contains(&sampled.token) {
            finish = Finish::Stop;
            break;
        }
        if let Some(constraint) = &mut constraint {
            constraint.accept(sampled.token)?;
        }
        next = vec![sampled.token];
    }
    Ok(Completion { text: tokenizer.decode(&ids), ids, finish, logprobs })
}

impl LoadedModel {
    /// Compiles schemas for this model; for a large vocabulary it takes half a second to make.
    pub fn grammar(&self) -> Result<Grammar> {
        Grammar::new(self.tokenizer.clone(), self.model.config().vocab_size, self.stop_ids[0])
    }
}
