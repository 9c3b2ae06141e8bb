//! The Qwen3 decoder (arXiv 2505.09388), for sampling and for training, and Qwen2 (arXiv 2407.10671) as its variant: biases
//! on queries, keys and values instead of normalised queries and keys.
//!
//! One forward pass serves both: with a [`KvCache`] it continues a sequence, without one it computes whole
//! sequences through which gradients flow. Names follow HF transformers' `modeling_qwen3.py`, so that each line can
//! be compared with its reference.
//!
//! Left out on purpose: sliding windows, RoPE scaling; [`Config`] refuses models that need them.

mod arena_pass;
mod buckets;
mod hidden_packed;
mod ragged;
#[cfg(test)]
mod tests;
mod training;

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Tensor};

use crate::config::{Architecture, Config};
use crate::error::{ModelError, Result};
use crate::grammar::TokenMask;
use crate::kv_cache::{KvCache, LayerCache};
use crate::lora::Adapter;
use crate::ops;
use crate::projection::Projection;
use crate::weight::Weight;
use crate::weights::Weights;

/// A Qwen3 decoder with its language-model head.
#[derive(Debug, Clone)]
pub struct Qwen3 {
    config: Config,
    embed_tokens: Weight, // [V, hidden]
    layers: Vec<Layer>,
    norm: RmsNorm,
    lm_head: Weight, // [V, hidden]; `embed_tokens` where they are tied
    rope: Rope,
    /// Whether the engine's f32 kernels are used where they run.
    paged_kernels: bool,
}

impl Qwen3 {
    /// Takes every tensor that `config` implies from `weights`.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape; the message names it.
    pub fn new(config: &Config, weights: &Weights) -> Result<Self> {
        let (vocab, hidden) = (config.vocab_size, config.hidden_size);
        let embed_tokens = weights.matrix("model.embed_tokens.weight", &[vocab, hidden])?;
        let lm_head = if config.tie_word_embeddings {
            embed_tokens.clone()
        } else {
            weights.matrix("lm_head.weight", &[vocab, hidden])?
        };
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::new(config, weights, index))
            .collect::<Result<_>>()?;
        Ok(Self {
            config: config.clone(),
            embed_tokens,
            layers,
            norm: RmsNorm::new(config, weights, "model.norm.weight", hidden)?,
            lm_head,
            rope: Rope::new(config, weights.dtype(), weights.device())?,
            paged_kernels: true,
        })
    }

    /// This model with an adapter beside its weights, which are shared, not copied.
    ///
    /// # Errors
    /// A layer of the adapter that this model does not have, or of another size.
    pub fn with_adapter(&self, adapter: &Adapter) -> Result<Self> {
        let mut model = self.clone();
        for (module, lora) in adapter.modules() {
            let (found_inputs, found_outputs) = lora.sizes();
            let refused = |problem: String| ModelError::Adapter {
                adapter: adapter.dir().to_owned(),
                module: module.to_owned(),
                found_inputs,
                found_outputs,
                problem,
            };
            let projection = model.projection_mut(module).ok_or_else(|| {
                refused("which is no linear layer in the blocks of this model".to_owned())
            })?;
            let (outputs, inputs) = projection.weight().sizes()?;
            if (inputs, outputs) != lora.sizes() {
                return Err(refused(format!("in this model it goes from {inputs} to {outputs}")));
            }
            projection.set_lora(lora.clone());
        }
        Ok(model)
    }

    /// This model, whose engine takes the path of GPUs and half precision in f32 on the CPU, too: to compare them.
    pub fn without_paged_kernels(&self) -> Self {
        Self { paged_kernels: false, ..self.clone() }
    }

    /// The linear layer that HF transformers calls `name`, e.g. `model.layers.0.mlp.up_proj`.
    fn projection_mut(&mut self, name: &str) -> Option<&mut Projection> {
        let (index, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let layer = self.layers.get_mut(index.parse::<usize>().ok()?)?;
        Some(match part {
            "self_attn.q_proj" => &mut layer.attention.q_proj,
            "self_attn.k_proj" => &mut layer.attention.k_proj,
            "self_attn.v_proj" => &mut layer.attention.v_proj,
            "self_attn.o_proj" => &mut layer.attention.o_proj,
            "mlp.gate_proj" => &mut layer.mlp.gate_proj,
            "mlp.up_proj" => &mut layer.mlp.up_proj,
            "mlp.down_proj" => &mut layer.mlp.down_proj,
            _ => return None,
        })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn device(&self) -> &Device {
        self.rope.cos.device()
    }

    /// What is computed in; weights may be stored in less.
    pub fn dtype(&self) -> DType {
        self.rope.cos.dtype()
    }

    /// What most of the weights of the matrices are stored in, e.g. `BF16` or `Q4_K`, and the bytes of all.
    pub fn stored(&self) -> (String, usize) {
        let tables = match self.config.tie_word_embeddings {
            true => vec![&self.embed_tokens],
            false => vec![&self.embed_tokens, &self.lm_head],
        };
        let matrices = self.layers.iter().flat_map(|Layer { attention, mlp, .. }| {
            let Attention { q_proj, k_proj, v_proj, o_proj, .. } = attention;
            let Mlp { gate_proj, up_proj, down_proj } = mlp;
            [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj].map(Projection::weight)
        });
        let mut kinds = BTreeMap::<String, usize>::new();
        for (kind, bytes) in tables.into_iter().chain(matrices).map(Weight::stored) {
            *kinds.entry(kind).or_default() += bytes;
        }
        let bytes = kinds.values().sum();
        let most = kinds.into_iter().max_by_key(|(_, bytes)| *bytes);
        (most.map_or_else(String::new, |(kind, _)| kind), bytes)
    }

    /// An empty cache for this model.
    pub fn new_cache(&self) -> KvCache {
        KvCache::new(self.config.num_hidden_layers)
    }

    /// The hidden states after the last norm, `[B, T, hidden]`, of `ids`, `[B, T]` of u32.
    ///
    /// With a cache, `ids` continue the sequences that it holds, and it grows by T. Right padding needs no mask:
    /// attention is causal, so no real token sees what stands behind it.
    pub fn forward(&self, ids: &Tensor, mut cache: Option<&mut KvCache>) -> Result<Tensor> {
        let (_, length) = ids.dims2()?;
        let offset = cache.as_ref().map_or(0, |cache| cache.len());
        let (cos, sin) = self.rope.at(offset, length)?;
        let mut hidden = self.embed_tokens.embedding(ids)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let cache = cache.as_mut().map(|cache| cache.layer(index));
            hidden = layer.forward(&hidden, &cos, &sin, offset, cache)?;
        }
        self.norm.forward(&hidden)
    }

    /// Logits `[.., V]` of hidden states `[.., hidden]`, in the dtype of the weights.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        Ok(self.lm_head.linear(hidden)?)
    }

    /// Log-probabilities of `targets`, `[N]`, after the hidden states `[N, hidden]` by the model's own head, and the entropies
    /// there: [`ops::masked_token_logprobs`], which tells more.
    pub fn token_logprobs(
        &self,
        hidden: &Tensor,
        targets: &Tensor,
        temperature: f64,
        masks: Option<&[Option<TokenMask>]>,
    ) -> Result<(Tensor, Tensor)> {
        Ok(self.lm_head.token_logprobs(hidden, targets, temperature, masks)?)
    }

    /// Logits in f32 of the last position only, `[B, V]`: all that sampling needs.
    pub fn last_logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let length = hidden.dim(1)?;
        let last = hidden.narrow(1, length - 1, 1)?.squeeze(1)?.contiguous()?;
        Ok(self.logits(&last)?.to_dtype(DType::F32)?)
    }
}

#[derive(Debug, Clone)]
struct Layer {
    input_layernorm: RmsNorm,
    attention: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

impl Layer {
    fn new(config: &Config, weights: &Weights, index: usize) -> Result<Self> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let hidden = config.hidden_size;
        let norm = |part: &str| RmsNorm::new(config, weights, &name(part), hidden);
        Ok(Self {
            input_layernorm: norm("input_layernorm.weight")?,
            attention: Attention::new(config, weights, &name("self_attn"))?,
            post_attention_layernorm: norm("post_attention_layernorm.weight")?,
            mlp: Mlp::new(config, weights, &name("mlp"))?,
        })
    }

    fn forward(
        &self,
        hidden: &Tensor,
        cos: &Tensor,
        sin: &Tensor,
        offset: usize,
        cache: Option<&mut LayerCache>,
    ) -> Result<Tensor> {
        let normed = self.input_layernorm.forward(hidden)?;
        let hidden = self.attention.forward(&normed, hidden, cos, sin, offset, cache)?;
        let normed = self.post_attention_layernorm.forward(&hidden)?;
        self.mlp.forward(&normed, &hidden)
    }
}

/// Grouped-query attention; Qwen3's has RMS-normalised queries and keys.
#[derive(Debug, Clone)]
struct Attention {
    q_proj: Projection,
    k_proj: Projection,
    v_proj: Projection,
    o_proj: Projection,
    q_norm: Option<RmsNorm>,
    k_norm: Option<RmsNorm>,
    head_dim: usize,
}

impl Attention {
    fn new(config: &Config, weights: &Weights, name: &str) -> Result<Self> {
        let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        let (hidden, head_dim) = (config.hidden_size, config.head_dim);
        let is_qwen3 = config.architecture == Architecture::Qwen3;
        let get = |part: &str, out: usize, input: usize, has_bias: bool| -> Result<Projection> {
            let weight = weights.matrix(&format!("{name}.{part}.weight"), &[out, input])?;
            let bias = has_bias.then(|| weights.get(&format!("{name}.{part}.bias"), &[out]));
            Ok(Projection::new(weight, bias.transpose()?))
        };
        let norm = |part: &str| {
            let norm = || RmsNorm::new(config, weights, &format!("{name}.{part}.weight"), head_dim);
            is_qwen3.then(norm).transpose()
        };
        Ok(Self {
            q_proj: get("q_proj", heads * head_dim, hidden, !is_qwen3)?,
            k_proj: get("k_proj", kv_heads * head_dim, hidden, !is_qwen3)?,
            v_proj: get("v_proj", kv_heads * head_dim, hidden, !is_qwen3)?,
            o_proj: get("o_proj", hidden, heads * head_dim, false)?,
            q_norm: norm("q_norm")?,
            k_norm: norm("k_norm")?,
            head_dim,
        })
    }

    /// Adds what attention to `normed`, `[B, T, hidden]`, gives to `residual`. Heads stay side by side all the way, as
    /// the projections put them out.
    fn forward(
        &self,
        normed: &Tensor,
        residual: &Tensor,
        cos: &Tensor,
        sin: &Tensor,
        offset: usize,
        cache: Option<&mut LayerCache>,
    ) -> Result<Tensor> {
        let query = self.rotate(&self.q_proj.forward(normed)?, &self.q_norm, cos, sin)?; // [B, T, H * D]
        let key = self.rotate(&self.k_proj.forward(normed)?, &self.k_norm, cos, sin)?; // [B, T, KV * D]
        let value = self.v_proj.forward(normed)?;
        let (key, value) = match cache {
            Some(cache) => cache.append(&key, &value)?,
            None => (key, value),
        };
        let scale = 1.0 / (self.head_dim as f64).sqrt();
        let attended = ops::attention_thd(&query, &key, &value, self.head_dim, scale, offset)?;
        Ok(self.o_proj.forward_residual(&attended, residual)?)
    }

    /// Normalises heads side by side, `[B, T, heads * D]`, where the model does that, and turns them to their positions.
    fn rotate(
        &self,
        x: &Tensor,
        norm: &Option<RmsNorm>,
        cos: &Tensor,
        sin: &Tensor,
    ) -> candle_core::Result<Tensor> {
        if let Some(norm) = norm {
            return ops::head_norm_rope(x, &norm.weight, norm.eps, cos, sin);
        }
        let (batch, time, width) = x.dims3()?;
        let heads = x.reshape((batch, time, width / self.head_dim, self.head_dim))?;
        ops::rope_thd(&heads, cos, sin)?.reshape((batch, time, width))
    }
}

/// SwiGLU feed-forward network.
#[derive(Debug, Clone)]
struct Mlp {
    gate_proj: Projection,
    up_proj: Projection,
    down_proj: Projection,
}

impl Mlp {
    fn new(config: &Config, weights: &Weights, name: &str) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let get = |part: &str, out: usize, input: usize| -> Result<Projection> {
            let weight = weights.matrix(&format!("{name}.{part}.weight"), &[out, input])?;
            Ok(Projection::new(weight, None))
        };
        Ok(Self {
            gate_proj: get("gate_proj", inner, hidden)?,
            up_proj: get("up_proj", inner, hidden)?,
            down_proj: get("down_proj", hidden, inner)?,
        })
    }

    fn forward(&self, normed: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let inner = Projection::swiglu(&self.gate_proj, &self.up_proj, normed)?;
        Ok(self.down_proj.forward_residual(&inner, residual)?)
    }
}

#[derive(Debug, Clone)]
struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    fn new(config: &Config, weights: &Weights, name: &str, size: usize) -> Result<Self> {
        Ok(Self { weight: weights.get(name, &[size])?, eps: config.rms_norm_eps })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(ops::rms_norm(x, &self.weight, self.eps)?)
    }
}

/// Cosines and sines of every position, computed in f32 as HF does.
#[derive(Debug, Clone)]
struct Rope {
    cos: Tensor, // [positions, head_dim / 2]
    sin: Tensor,
}

impl Rope {
    fn new(config: &Config, dtype: DType, device: &Device) -> Result<Self> {
        let half = config.head_dim / 2;
        let inverse_frequencies: Vec<f32> = (0..half)
            .map(|i| (1.0 / config.rope_theta.powf(2.0 * i as f64 / config.head_dim as f64)) as f32)
            .collect();
        let inverse_frequencies = Tensor::from_vec(inverse_frequencies, (1, half), device)?;
        let positions = Tensor::arange(0, config.max_position_embeddings as u32, device)?
            .to_dtype(DType::F32)?
            .unsqueeze(D::Minus1)?;
        let angles = positions.matmul(&inverse_frequencies)?;
        Ok(Self { cos: angles.cos()?.to_dtype(dtype)?, sin: angles.sin()?.to_dtype(dtype)? })
    }

    fn at(&self, offset: usize, length: usize) -> Result<(Tensor, Tensor)> {
        Ok((self.cos.narrow(0, offset, length)?, self.sin.narrow(0, offset, length)?))
    }
}
