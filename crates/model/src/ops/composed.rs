//! Every op of this module written with candle's own differentiable ops: the definition.
//!
//! The fused kernels are tested against these, and fall back to them for the dtypes and devices
//! they do not cover (f64, f16, bf16, CUDA, Metal).

use candle_core::{D, DType, Result, Tensor};

/// `weight * x / sqrt(mean(x²) + eps)` over the last dimension; half precision as HF does it: the
/// norm in f32, cast back, then times `weight`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let dtype = x.dtype();
    let wide = if is_half(dtype) { x.to_dtype(DType::F32)? } else { x.clone() };
    let variance = wide.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = wide.broadcast_div(&(variance + eps)?.sqrt()?)?;
    normed.to_dtype(dtype)?.broadcast_mul(weight)
}

/// Half-split rotary embedding of `x: [B, H, T, D]` with `cos, sin: [T, D/2]`.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    rotate(x, &cos.to_dtype(x.dtype())?, &sin.to_dtype(x.dtype())?)
}

/// Half-split rotary embedding of `x: [B, T, H, D]` with `cos, sin: [T, D/2]`.
pub fn rope_thd(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let cos = cos.to_dtype(x.dtype())?.unsqueeze(1)?; // [T, 1, D/2]
    let sin = sin.to_dtype(x.dtype())?.unsqueeze(1)?;
    rotate(x, &cos, &sin)
}

fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let (x1, x2) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let y1 = (x1.broadcast_mul(cos)? - x2.broadcast_mul(sin)?)?;
    let y2 = (x2.broadcast_mul(cos)? + x1.broadcast_mul(sin)?)?;
    Tensor::cat(&[y1, y2], D::Minus1)
}

/// `rope_thd(rms_norm(x))`, head by head, for `x: [B, T, H·D]` and `weight: [D]`.
pub fn head_norm_rope(
    x: &Tensor,
    weight: &Tensor,
    eps: f64,
    cos: &Tensor,
    sin: &Tensor,
) -> Result<Tensor> {
    let (batch, time, width) = x.dims3()?;
    let head_dim = weight.dim(0)?;
    let heads = x.reshape((batch, time, width / head_dim, head_dim))?;
    rope_thd(&rms_norm(&heads, weight, eps)?, cos, sin)?.reshape((batch, time, width))
}

/// `silu(gate) * up`.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.silu()? * up
}

/// `softmax(scale * scores)` over the keys a query may see; here, unlike in the kernel, with a mask.
///
/// `scores` is `[.., R, S]`; row `r` belongs to query `r % queries`, at position
/// `offset + r % queries`.
pub fn causal_softmax(
    scores: &Tensor,
    scale: f64,
    offset: usize,
    queries: usize,
) -> Result<Tensor> {
    let (rows, keys) = (scores.dim(D::Minus2)?, scores.dim(D::Minus1)?);
    let dtype = scores.dtype();
    let wide = if is_half(dtype) { scores.to_dtype(DType::F32)? } else { scores.clone() };
    let mut scores = (wide * scale)?;
    // One new token sees every key; only of several some see less.
    if keys > offset + 1 {
        scores = scores.broadcast_add(&causal_mask(rows, keys, offset, queries, &scores)?)?;
    }
    let max = scores.max_keepdim(D::Minus1)?.detach();
    let exp = scores.broadcast_sub(&max)?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?.to_dtype(dtype)
}

/// Minus infinity where a key is hidden, else zero, `[rows, keys]`, like `scores`. It is made where it is used: a card
/// would wait for one from the host.
fn causal_mask(
    rows: usize,
    keys: usize,
    offset: usize,
    queries: usize,
    scores: &Tensor,
) -> Result<Tensor> {
    let device = scores.device();
    let key = Tensor::arange(0, keys as u32, device)?.unsqueeze(0)?;
    let position =
        Tensor::arange(offset as u32, (offset + queries) as u32, device)?.unsqueeze(1)?;
    let hidden = key.broadcast_gt(&position)?; // [queries, keys]
    let value = |value: f32| Tensor::new(value, device)?.to_dtype(scores.dtype());
    let (never, free) = (value(f32::NEG_INFINITY)?, value(0.0)?);
    let shape = hidden.shape();
    hidden
        .where_cond(&never.broadcast_as(shape)?, &free.broadcast_as(shape)?)?
        .repeat((rows / queries, 1))
}

/// Causal attention of `q: [B, H, T, D]` over `k, v: [B, KV, S, D]`; query `i` is at position
/// `offset + i`. Keys and values are not repeated: the heads of a group are stacked as rows.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, offset: usize) -> Result<Tensor> {
    let (batch, heads, queries, head_dim) = q.dims4()?;
    let kv_heads = k.dim(1)?;
    let grouped = (batch, kv_heads, heads / kv_heads * queries, head_dim);
    let scores = matmul(&q.contiguous()?.reshape(grouped)?, &k.t()?.contiguous()?)?;
    let probs = causal_softmax(&scores, scale, offset, queries)?;
    matmul(&probs, &v.contiguous()?)?.reshape(q.shape())
}

/// [`attention`] for heads side by side: `q: [B, T, H·D]`, `k, v: [B, S, KV·D]`.
pub fn attention_thd(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    head_dim: usize,
    scale: f64,
    offset: usize,
) -> Result<Tensor> {
    let split = |x: &Tensor| -> Result<Tensor> {
        let (batch, time, width) = x.dims3()?;
        x.reshape((batch, time, width / head_dim, head_dim))?.transpose(1, 2)
    };
    let out = attention(&split(q)?, &split(k)?, &split(v)?, scale, offset)?;
    out.transpose(1, 2)?.contiguous()?.reshape(q.shape())
}

/// [`attention_thd`] of each of the sequences laid end to end in `q: [1, N, H·D]`, `k, v: [1, N, KV·D]`.
pub fn attention_packed(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    lengths: &[usize],
    head_dim: usize,
    scale: f64,
) -> Result<Tensor> {
    let mut start = 0;
    let mut attended = Vec::with_capacity(lengths.len());
    for &length in lengths {
        let [q, k, v] = [q, k, v].map(|x| x.narrow(1, start, length));
        attended.push(attention_thd(&q?, &k?, &v?, head_dim, scale, 0)?);
        start += length;
    }
    Tensor::cat(&attended, 1)
}

/// `log softmax(logits)[n, targets[n]]` for `logits: [N, V]`, as `[N]`, in f32 or wider.
pub fn token_logprobs(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let wide = if is_half(logits.dtype()) { logits.to_dtype(DType::F32)? } else { logits.clone() };
    let logprobs = candle_nn::ops::log_softmax(&wide, D::Minus1)?;
    logprobs.gather(&targets.unsqueeze(1)?, 1)?.squeeze(1)
}

/// Log-probabilities of `targets` and entropies, `[N]` each, of `softmax(hidden · weightᵀ / temperature)` over the tokens where
/// `allowed`, `[N, V]` of u8, is not 0.
pub fn masked_token_logprobs(
    hidden: &Tensor,
    weight: &Tensor,
    targets: &Tensor,
    temperature: f64,
    allowed: Option<&Tensor>,
) -> Result<(Tensor, Tensor)> {
    let mut logits = (linear(hidden, weight)? / temperature)?;
    if let Some(allowed) = allowed {
        let never = Tensor::new(-1e30, logits.device())?.to_dtype(logits.dtype())?;
        logits = allowed.where_cond(&logits, &never.broadcast_as(logits.shape())?)?;
    }
    let logprobs = candle_nn::ops::log_softmax(&logits, D::Minus1)?;
    let entropies = (logprobs.exp()? * &logprobs)?.sum(D::Minus1)?.neg()?.detach();
    Ok((logprobs.gather(&targets.unsqueeze(1)?, 1)?.squeeze(1)?, entropies))
}

/// `Σ weights[n] * -log softmax(logits[n])[targets[n]]`, a scalar.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let logprobs = token_logprobs(logits, targets)?;
    (logprobs
        * weights.to_dtype(if is_half(logits.dtype()) { DType::F32 } else { logits.dtype() })?)?
    .sum_all()?
    .neg()
}

/// [`cross_entropy`] of the logits `hidden · weightᵀ`, for `hidden: [N, I]`, `weight: [V, I]`.
pub fn linear_cross_entropy(
    hidden: &Tensor,
    weight: &Tensor,
    targets: &Tensor,
    weights: &Tensor,
) -> Result<Tensor> {
    cross_entropy(&linear(hidden, weight)?, targets, weights)
}

/// `x · weightᵀ` for `x: [.., I]` and `weight: [O, I]`.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    let inputs = dims.pop().unwrap_or(1);
    dims.push(weight.dim(0)?);
    let rows = x.contiguous()?.reshape(((), inputs))?;
    matmul(&rows, &weight.t()?)?.reshape(dims)
}

/// `residual + x · weightᵀ`.
pub fn linear_residual(x: &Tensor, weight: &Tensor, residual: &Tensor) -> Result<Tensor> {
    residual + linear(x, weight)?
}

/// `swiglu(x · gateᵀ, x · upᵀ)`.
pub fn swiglu_linear(x: &Tensor, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    swiglu(&linear(x, gate)?, &linear(x, up)?)
}

/// Row `ids[..]` of `weight: [V, D]`, as `[.., D]`.
pub fn embedding(ids: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let mut dims = ids.dims().to_vec();
    dims.push(weight.dim(1)?);
    weight.index_select(&ids.flatten_all()?, 0)?.reshape(dims)
}

/// A matrix product; bf16 goes through f32 on the CPU, where candle has no bf16 product.
pub(crate) fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dtype() == DType::BF16 && a.device().is_cpu() {
        return a.to_dtype(DType::F32)?.matmul(&b.to_dtype(DType::F32)?)?.to_dtype(DType::BF16);
    }
    a.matmul(b)
}

fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}
