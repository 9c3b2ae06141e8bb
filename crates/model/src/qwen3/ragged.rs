//! The forward pass of the engine: tokens of many sequences, each at its own position, in one
//! matrix `[tokens, hidden]` without padding.
//!
//! In f32 on the CPU the hidden state of a token is the same bit for bit whatever else is in the
//! pass, and however its sequence was cut into passes. Elsewhere it is candle's arithmetic.

use candle_core::{DType, Result, Tensor};

use super::{Attention, Layer, Mlp, Qwen3};
use crate::ops::{self, Heads, Span};
use crate::paged_kv::{KvShape, Sequence};
use crate::projection::Projection;

impl Qwen3 {
    /// An empty sequence for [`Qwen3::forward_ragged`].
    pub(crate) fn new_sequence(&self) -> Sequence {
        if self.is_exact() {
            Sequence::paged(self.kv_shape())
        } else {
            Sequence::tensors(self.new_cache())
        }
    }

    /// Whether the forward pass is exact: f32 on the CPU.
    pub(crate) fn is_exact(&self) -> bool {
        self.device().is_cpu() && self.dtype() == DType::F32
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
    /// A token that is not in the vocabulary, a sequence longer than the model's context, or a
    /// failed computation.
    pub(crate) fn forward_ragged(&self, parts: &mut [(&mut Sequence, &[u32])]) -> Result<Tensor> {
        let ids: Vec<u32> = parts.iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
        let positions: Vec<u32> = parts
            .iter()
            .flat_map(|(sequence, ids)| (0..ids.len()).map(|i| (sequence.len() + i) as u32))
            .collect();
        let positions = Tensor::new(positions, self.device())?;
        let cos = self.rope.cos.index_select(&positions, 0)?; // [N, head_dim / 2]
        let sin = self.rope.sin.index_select(&positions, 0)?;
        let ids = Tensor::new(ids, self.device())?.unsqueeze(0)?;
        for (sequence, ids) in parts.iter_mut() {
            sequence.reserve(ids.len());
        }
        let mut hidden = self.embed_tokens.row_embedding(&ids)?; // [1, N, hidden]
        for (index, layer) in self.layers.iter().enumerate() {
            hidden = layer.forward_ragged(&hidden, &cos, &sin, index, parts)?;
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

impl Layer {
    fn forward_ragged(
        &self,
        hidden: &Tensor,
        cos: &Tensor,
        sin: &Tensor,
        index: usize,
        parts: &mut [(&mut Sequence, &[u32])],
    ) -> Result<Tensor> {
        let norm = &self.input_layernorm;
        let normed = ops::rms_norm(hidden, &norm.weight.detach(), norm.eps)?;
        let hidden = self.attention.forward_ragged(&normed, hidden, cos, sin, index, parts)?;
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
        cos: &Tensor,
        sin: &Tensor,
        index: usize,
        parts: &mut [(&mut Sequence, &[u32])],
    ) -> Result<Tensor> {
        let layers = [&self.q_proj, &self.k_proj, &self.v_proj];
        let [query, key, value] = Projection::forward_rows_of(layers, normed)?;
        let query = self.rotate(&query, &self.q_norm, cos, sin)?.detach();
        let key = self.rotate(&key, &self.k_norm, cos, sin)?.detach();
        let attended = self.attend(&query, &key, &value, index, parts)?;
        self.o_proj.forward_rows_residual(&attended, residual)
    }

    /// Attention of every part over its own keys, `[1, N, H · D]`.
    fn attend(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        index: usize,
        parts: &mut [(&mut Sequence, &[u32])],
    ) -> Result<Tensor> {
        let scale = 1.0 / (self.head_dim as f64).sqrt();
        let (_, tokens, width) = query.dims3()?;
        let kv_width = key.dim(2)?;
        let in_tensors = parts.first_mut().is_some_and(|(sequence, _)| sequence.cache().is_some());
        if in_tensors {
            let mut attended = Vec::with_capacity(parts.len());
            let mut at = 0;
            for (sequence, ids) in parts.iter_mut() {
                let offset = sequence.len();
                let Some(cache) = sequence.cache() else { continue };
                let of = |x: &Tensor| x.narrow(1, at, ids.len())?.contiguous();
                let (keys, values) = cache.layer(index).append(&of(key)?, &of(value)?)?;
                let query = of(query)?;
                let row = ops::attention_thd(&query, &keys, &values, self.head_dim, scale, offset)?;
                attended.push(row);
                at += ids.len();
            }
            return Tensor::cat(&attended, 1);
        }

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
