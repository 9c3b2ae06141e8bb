use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::composed;
use super::cpu::{block_rows, for_each_block, is_f32_cpu, operand, values};
use super::simd::{dot, exp_and_sum, max, simd};

/// `softmax(scale · scores)` over the keys each query may see: query `i` is at position
/// `offset + i` and sees the keys up to its own position.
///
/// `scores` is `[B, H, T, S]`; so is the result, 0 where a key is hidden. No mask is built.
/// Gradient for `scores`. `scale` must be positive.
///
/// # Errors
/// If `scores` does not have four dimensions.
pub fn causal_softmax(scores: &Tensor, scale: f64, offset: usize) -> Result<Tensor> {
    let (_, _, queries, _) = scores.dims4()?;
    if is_f32_cpu(&[scores]) {
        return scores.contiguous()?.apply_op1(CausalSoftmax { scale: scale as f32, offset });
    }
    composed::causal_softmax(scores, scale, offset, queries)
}

struct CausalSoftmax {
    scale: f32,
    offset: usize,
}

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, scores: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let scores = operand(scores, layout)?;
        let (_, _, queries, keys) = layout.shape().dims4()?;
        let rows = block_rows(keys);
        let mut out = vec![0.0; scores.len()];
        for_each_block(&mut out, rows * keys, |i, out| {
            let scores = &scores[i * rows * keys..][..out.len()];
            let at = (i * rows, queries, self.offset);
            forward(scores, keys, self.scale, at, out);
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, scores: &Tensor, probs: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (_, _, queries, keys) = scores.dims4()?;
        let (probs, grad) = (values(probs)?, values(&grad)?);
        let (probs, grad): (&[f32], &[f32]) = (&probs, &grad);
        let rows = block_rows(keys);
        let mut scores_grad = vec![0.0; probs.len()];
        for_each_block(&mut scores_grad, rows * keys, |i, out| {
            let span = i * rows * keys..i * rows * keys + out.len();
            let at = (i * rows, queries, self.offset);
            backward(&probs[span.clone()], &grad[span], keys, self.scale, at, out);
        });
        Ok(Some(Tensor::from_vec(scores_grad, scores.shape(), scores.device())?))
    }
}

simd! {
    /// `at` is the number of the first row, the queries of a head, and the position of query 0.
    /// `out` comes in as zeros.
    fn forward(
        scores: &[f32],
        keys: usize,
        scale: f32,
        at: (usize, usize, usize),
        out: &mut [f32],
    ) {
        let (first, queries, offset) = at;
        let rows = scores.chunks_exact(keys).zip(out.chunks_exact_mut(keys));
        for (row, (scores, out)) in rows.enumerate() {
            let seen = ((first + row) % queries + offset + 1).min(keys);
            let out = &mut out[..seen];
            out.copy_from_slice(&scores[..seen]);
            let sum = exp_and_sum(out, scale, scale * max(out));
            let inverse = 1.0 / sum;
            for x in out {
                *x *= inverse;
            }
        }
    }
}

simd! {
    /// `scale · p · (grad - Σ p·grad)`; `out` comes in as zeros.
    fn backward(
        probs: &[f32],
        grad: &[f32],
        keys: usize,
        scale: f32,
        at: (usize, usize, usize),
        out: &mut [f32],
    ) {
        let (first, queries, offset) = at;
        let rows = probs.chunks_exact(keys).zip(grad.chunks_exact(keys));
        for (row, ((probs, grad), out)) in rows.zip(out.chunks_exact_mut(keys)).enumerate() {
            let seen = ((first + row) % queries + offset + 1).min(keys);
            let (probs, grad, out) = (&probs[..seen], &grad[..seen], &mut out[..seen]);
            let mean = dot(probs, grad);
            for ((out, &p), &grad) in out.iter_mut().zip(probs).zip(grad) {
                *out = scale * p * (grad - mean);
            }
        }
    }
}
