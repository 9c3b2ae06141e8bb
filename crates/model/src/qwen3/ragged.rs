//! The forward pass of the engine: tokens of many sequences, each at its own position, in one
//! matrix `[tokens, hidden]` without padding.
//!
//! In f32 on the CPU the hidden state of a token is the same bit for bit whatever else is in the
//! pass, and however its sequence was cut into passes. Elsewhere it is candle's arithmetic, the same
//! up to rounding.

use candle_core::{DType, Result, Tensor};

use super::arena_pass::ArenaPass;
use super::{Attention, Layer, Mlp, Qwen3};
use crate::kv_arena::Arena;
use crate::ops::{self, Heads, Span};
use crate::paged_kv::{KvShape, Sequence, Store};
use crate::projection::Projection;

impl Qwen3 {
    /// Where the keys and values of sequences for [`Qwen3::forward_ragged`] are, `tokens` at most in whole blocks;
    /// one store for all sequences of a pass.
    pub(crate) fn new_store(&self, tokens: usize) -> Store {
        if self.is_exact() {
            return Store::memory(self.kv_shape());
        }
        Store::arena(Arena::new(self.kv_shape(), tokens, self.dtype(), self.device()))
    }

    /// Whether the forward pass is exact: f32 on the CPU, by the paged kernels.
    pub(crate) fn is_exact(&self) -> bool {
        self.paged_kernels && self.device().is_cpu() && self.dtype() == DType::F32
    }

    pub(crate) fn kv_shape(&self) -> KvShape {
        let heads = Heads {
            heads: self.config.num_attention_heads,
            kv_heads: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
        };
        KvShape { layers: self.config.num_hidden_layers, heads }
    }

    /// Hidden states after the last norm, `[Σ tokens, hidden]`, of the tokens that each part adds to
    /// its sequence; the sequences grow by them.
    ///
    /// # Errors
    /// A token that is not in the vocabulary, a sequence longer than the model's context, a store that
    /// is full, or a failed computation.
    pub(crate) fn forward_ragged(&self, parts: &mut [(&mut Sequence, &[u32])]) -> Result<Tensor> {
        let ids: Vec<u32> = parts.iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
        let positions: Vec<u32> = parts
            .iter()
            .flat_map(|(sequence, ids)| (0..ids.len()).map(|i| (sequence.len() + i) as u32))
            .collect();
        let positions = Tensor::new(positions, self.device())?;
        let pass = Pass {
            cos: self.rope.cos.index_select(&positions, 0)?,
            sin: self.rope.sin.index_select(&positions, 0)?,
            arena: ArenaPass::new(parts, self.dtype(), self.device())?,
        };
        let ids = Tensor::new(ids, self.device())?.unsqueeze(0)?;
        let mut hidden = self.embed_tokens.row_embedding(&ids)?; // [1, N, hidden]
        for (index, layer) in self.layers.iter().enumerate() {
            hidden = layer.forward_ragged(&hidden, &pass, index, parts)?;
        }
        for (sequence, ids) in parts {
            sequence.advance(ids.len());
        }
        ops::rms_norm(&hidden, &self.norm.weight.detach(), self.norm.eps)?.squeeze(0)
    }

    /// Logits `[N, V]` in f32 of hidden states `[N, hidden]`, each row exact as
    /// [`Qwen3::forward_ragged`] is.
    pub(crate) fn logits_ragged(&self, hidden: &Tensor) -> Result<Tensor> {
        self.lm_head.row_linear(hidden)?.to_dtype(DType::F32)
    }
}

/// What all layers of a pass need.
struct Pass {
    cos: Tensor, // [N, head_dim / 2]
    sin: Tensor,
    /// Where the sequences lie in an arena.
    arena: Option<ArenaPass>,
}

impl Layer {
    fn forward_ragged(
        &self,
        hidden: &Tensor,
        pass: &Pass,
        index: usize,
        parts: &mut [(&mut Sequence, &[u32])],
    ) -> Result<Tensor> {
        let norm = &self.input_layernorm;
        let normed = ops::rms_norm(hidden, &norm.weight.detach(), norm.eps)?;
        let hidden = self.attention.forward_ragged(&normed, hidden, pass, index, parts)?;
        let norm = &self.post_attention_layernorm;
        let normed = ops::rms_norm(&hidden, &norm.weight.detach(), norm.eps)?;
        self.mlp.forward_ragged(&normed, &hidden)
    }
}

impl Attention {
    fn forward_ragged(
        &self,
        normed: &Tensor,
        residual: &Tensor,
        pass: &Pass,
        index: usize,
        parts: &mut [(&mut Sequence, &[u32])],
    ) -> Result<Tensor> {
        let layers = [&self.q_proj, &self.k_proj, &self.v_proj];
        let [query, key, value] = Projection::forward_rows_of(layers, normed)?;
        let query = self.rotate(&query, &self.q_norm, &pass.cos, &pass.sin)?.detach();
        let key = self.rotate(&key, &self.k_norm, &pass.cos, &pass.sin)?.detach();
        let scale = 1.0 / (self.head_dim as f64).sqrt();
        let attended = match &pass.arena {
            Some(arena) => arena.attend(index, &query, &key, &value, scale)?,
            None => self.attend(&query, &key, &value, index, parts, scale)?,
        };
        self.o_proj.forward_rows_residual(&attended, residual)
    }

    /// Attention of every part over its own keys, `[1, N, H · D]`, by the paged kernels.
    fn attend(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        index: usize,
        parts: &mut [(&mut Sequence, &[u32])],
        scale: f64,
    ) -> Result<Tensor> {
        let (_, tokens, width) = query.dims3()?;
        let kv_width = key.dim(2)?;
        let heads = Heads {
            heads: width / self.head_dim,
            kv_heads: kv_width / self.head_dim,
            head_dim: self.head_dim,
        };
        {
            let (keys, values) = (ops::values(key)?, ops::values(value)?);
            let mut at = 0;
            for (sequence, ids) in parts.iter_mut() {
                let these = at * kv_width..(at + ids.len()) * kv_width;
                sequence.write(index, &keys[these.clone()], &values[these]);
                at += ids.len();
            }
        }
        let spans: Vec<Span<'_>> = parts
            .iter()
            .map(|(sequence, ids)| Span {
                blocks: sequence.layer(index),
                start: sequence.len(),
                tokens: ids.len(),
            })
            .collect();
        let attended = ops::paged_attention(&ops::values(query)?, &spans, heads, scale);
        Tensor::from_vec(attended, (1, tokens, width), query.device())
    }
}

impl Mlp {
    fn forward_ragged(&self, normed: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let inner = Projection::swiglu_rows(&self.gate_proj, &self.up_proj, normed)?;
        self.down_proj.forward_rows_residual(&inner, residual)
    }
}
