//! Our own engine as a served model: prompts as tokens, embeddings, and log-probabilities.

use agentflow_llm::{ChatError, ChatEvent, ChatModel};
use agentflow_model::{Architecture, LoadedModel, Local, ModelError};
use async_trait::async_trait;
use candle_core::{DType, Tensor};
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::{Map, Value, json};

use crate::model::{Card, Embedding, Job, Prompt, ScoredToken, ServedModel, Token};

/// Positions scored at once, so that their logits, as wide as the vocabulary, stay small.
const SCORED_AT_ONCE: usize = 32;

/// A [`Local`] under the name that clients call it by.
pub(crate) struct ServedLocal {
    model: Local,
    card: Card,
}

impl ServedLocal {
    pub(crate) fn new(model: Local, name: &str) -> Self {
        let card = card(&model, name);
        Self { model, card }
    }

    /// Runs `work` on a thread that may compute, where the runtime's may not.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Local) -> Result<T, ChatError> + Send + 'static,
    ) -> Result<T, ChatError> {
        let model = self.model.clone();
        let done = tokio::task::spawn_blocking(move || work(&model)).await;
        done.unwrap_or_else(|error| Err(failed(error)))
    }
}

#[async_trait]
impl ServedModel for ServedLocal {
    fn card(&self) -> &Card {
        &self.card
    }

    async fn tokens(&self, prompt: &Prompt) -> Result<Option<Vec<u32>>, ChatError> {
        let prompt = prompt.clone();
        self.compute(move |model| tokens(model, &prompt).map(Some)).await
    }

    fn stream(&self, job: Job) -> BoxStream<'_, Result<ChatEvent, ChatError>> {
        match job.tokens.map_or_else(|| tokens(&self.model, &job.prompt), Ok) {
            Ok(tokens) => self.model.stream_ids(tokens, job.request),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn embed(&self, text: &str, truncate: bool) -> Result<Embedding, ChatError> {
        let (text, context) = (text.to_owned(), self.card.context_length as usize);
        self.compute(move |model| embed(model, &text, context, truncate)).await
    }

    async fn score(
        &self,
        prompt: &[u32],
        completion: &[u32],
        top: usize,
    ) -> Result<Vec<ScoredToken>, ChatError> {
        let (ids, from) = ([prompt, completion].concat(), prompt.len());
        self.compute(move |model| score(model, &ids, from, top).map_err(failed)).await
    }
}

/// The prompt as the model reads it.
fn tokens(model: &Local, prompt: &Prompt) -> Result<Vec<u32>, ChatError> {
    let LoadedModel { tokenizer, template, .. } = model.loaded();
    let encode = |text: &str| tokenizer.encode(text).map_err(failed);
    match prompt {
        Prompt::Raw(text) => encode(text),
        Prompt::Chat(chat) => {
            let messages: Vec<Value> = chat.messages.iter().map(|turn| json!(turn)).collect();
            let text = template.render_json(&messages, &chat.tools, Some(chat.think), true);
            // The messages are the client's, so what the template has against them is, too.
            encode(&text.map_err(|error| ChatError::BadRequest { text: error.to_string() })?)
        }
    }
}

/// The hidden state of the last token, the only one that has read the whole text, at length 1.
fn embed(
    model: &Local,
    text: &str,
    context: usize,
    truncate: bool,
) -> Result<Embedding, ChatError> {
    let loaded = model.loaded();
    let mut ids = loaded.tokenizer.encode(text).map_err(failed)?;
    if ids.len() > context && !truncate {
        return Err(ChatError::BadRequest {
            text: "the input length exceeds the context length".to_owned(),
        });
    }
    ids.truncate(context);
    if ids.is_empty() {
        // As something has to be read: the token that ends texts.
        ids.extend(loaded.stop_ids.first());
    }
    let last = || -> candle_core::Result<Vec<f32>> {
        let input = Tensor::new(ids.as_slice(), loaded.model.device())?.unsqueeze(0)?;
        let hidden = loaded.model.forward(&input, None).map_err(candle_core::Error::wrap)?;
        hidden.narrow(1, ids.len() - 1, 1)?.flatten_all()?.to_dtype(DType::F32)?.to_vec1()
    };
    let mut vector = last().map_err(failed)?;
    normalize(&mut vector);
    Ok(Embedding { vector, tokens: ids.len() })
}

/// Scales a vector to length 1; zeros stay.
pub(crate) fn normalize(vector: &mut [f32]) {
    let squares: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let scale = (1.0 / squares.sqrt().max(1e-12)) as f32;
    vector.iter_mut().for_each(|x| *x *= scale);
}

/// Scores the tokens of `ids` from position `from` on, which must be at least 1.
fn score(
    model: &Local,
    ids: &[u32],
    from: usize,
    top: usize,
) -> Result<Vec<ScoredToken>, ModelError> {
    let loaded = model.loaded();
    if from == 0 || from >= ids.len() {
        return Ok(Vec::new());
    }
    // The last token is only predicted, never read.
    let input = Tensor::new(&ids[..ids.len() - 1], loaded.model.device())?.unsqueeze(0)?;
    let hidden = loaded.model.forward(&input, None)?;
    let token =
        |id: u32, logprob: f32| Token { bytes: loaded.tokenizer.bytes(id).to_vec(), logprob };
    let mut scored = Vec::with_capacity(ids.len() - from);
    for chunk in (from..ids.len()).collect::<Vec<_>>().chunks(SCORED_AT_ONCE) {
        let states = hidden.narrow(1, chunk[0] - 1, chunk.len())?.squeeze(0)?.contiguous()?;
        let logits = loaded.model.logits(&states)?.to_dtype(DType::F32)?;
        let rows = candle_nn::ops::log_softmax(&logits, 1)?.to_vec2::<f32>()?;
        for (row, id) in rows.iter().zip(&ids[chunk[0]..]) {
            scored.push(ScoredToken {
                token: token(*id, row.get(*id as usize).copied().unwrap_or(f32::NEG_INFINITY)),
                top: likeliest(row, top).map(|(id, logprob)| token(id, logprob)).collect(),
            });
        }
    }
    // The token that ends the reply is no text of it.
    if let (Some(last), Some(end)) = (ids.last(), scored.last())
        && end.token.bytes.is_empty()
        && loaded.stop_ids.contains(last)
    {
        scored.pop();
    }
    Ok(scored)
}

/// The `count` likeliest tokens, likeliest first.
fn likeliest(logprobs: &[f32], count: usize) -> impl Iterator<Item = (u32, f32)> {
    let mut order: Vec<u32> = (0..logprobs.len() as u32).collect();
    let descending =
        |a: &u32, b: &u32| logprobs[*b as usize].total_cmp(&logprobs[*a as usize]).then(a.cmp(b));
    let count = count.min(order.len());
    if count > 0 && count < order.len() {
        order.select_nth_unstable_by(count - 1, descending);
    }
    order.truncate(count);
    order.sort_unstable_by(descending);
    order.into_iter().map(|id| (id, logprobs[id as usize]))
}

fn card(model: &Local, name: &str) -> Card {
    let (loaded, info) = (model.loaded(), model.info());
    let config = loaded.model.config();
    let template = loaded.template.source();
    let family = match config.architecture {
        Architecture::Qwen2 => "qwen2",
        Architecture::Qwen3 => "qwen3",
    };
    let layers = {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let heads =
            config.head_dim * (2 * config.num_attention_heads + 2 * config.num_key_value_heads);
        // Norms of queries and keys in Qwen3, biases of queries, keys and values in Qwen2.
        let beside = match config.architecture {
            Architecture::Qwen2 => {
                config.head_dim * (config.num_attention_heads + 2 * config.num_key_value_heads)
            }
            Architecture::Qwen3 => 2 * config.head_dim,
        };
        config.num_hidden_layers * (hidden * heads + 3 * hidden * inner + 2 * hidden + beside)
    };
    let tables = if config.tie_word_embeddings { 1 } else { 2 };
    let parameters = layers + tables * config.vocab_size * config.hidden_size + config.hidden_size;
    let mut about = Map::new();
    about.insert("general.architecture".to_owned(), json!(family));
    about.insert("general.basename".to_owned(), json!(name));
    about.insert("general.parameter_count".to_owned(), json!(parameters));
    if let Some(profile) = &info.prompt_profile {
        about.insert("agentflow.prompt_profile".to_owned(), json!(profile));
    }
    for (key, value) in [
        ("attention.head_count", json!(config.num_attention_heads)),
        ("attention.head_count_kv", json!(config.num_key_value_heads)),
        ("attention.key_length", json!(config.head_dim)),
        ("attention.layer_norm_rms_epsilon", json!(config.rms_norm_eps)),
        ("block_count", json!(config.num_hidden_layers)),
        ("context_length", json!(config.max_position_embeddings)),
        ("embedding_length", json!(config.hidden_size)),
        ("feed_forward_length", json!(config.intermediate_size)),
        ("rope.freq_base", json!(config.rope_theta)),
        ("vocab_size", json!(config.vocab_size)),
    ] {
        about.insert(format!("{family}.{key}"), value);
    }
    let (stored, bytes) = loaded.model.stored();
    Card {
        name: name.to_owned(),
        digest: info.digest.clone().unwrap_or_default(),
        family: family.to_owned(),
        parameters: parameters as u64,
        dtype: stored,
        size: bytes as u64,
        context_length: info.num_ctx.unwrap_or(config.max_position_embeddings as u32),
        embedding_length: config.hidden_size as u32,
        template: template.to_owned(),
        thinks: loaded.tokenizer.id("</think>").is_some() && template.contains("enable_thinking"),
        calls_tools: template.contains("tools") && template.contains("<tool_call>"),
        info: about,
    }
}

fn failed(error: impl ToString) -> ChatError {
    ChatError::Engine { backend: "local".to_owned(), reason: error.to_string() }
}
