use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::cpu::{
    block_rows, for_each_block, is_f32_cpu, is_tracked, map_blocks2, operand, values,
};
use super::simd::{dot, simd, sum_of_squares};
use super::{composed, shape_error};

/// Root mean square norm of the last dimension: `weight · x / sqrt(mean(x²) + eps)`.
///
/// `x` is `[.., D]`, `weight` is `[D]`. Half precision is normed in f32 and cast back before the
/// product with `weight`, as in HF transformers. Gradients for both.
///
/// # Errors
/// If `weight` does not have the width of `x`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let width = weight.dims1()?;
    if width == 0 || x.dims().last() != Some(&width) {
        return shape_error("rms_norm", "weight must be as long as a row of x", &[x, weight]);
    }
    if is_f32_cpu(&[x, weight]) {
        return x.contiguous()?.apply_op2(&weight.contiguous()?, RmsNorm { eps: eps as f32 });
    }
    if is_tracked(&[x, weight]) || x.device().is_cpu() {
        return composed::rms_norm(x, weight, eps);
    }
    candle_nn::ops::rms_norm(&x.contiguous()?, &weight.contiguous()?, eps as f32)
}

struct RmsNorm {
    eps: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (operand(x, x_layout)?, operand(weight, weight_layout)?);
        let block = block_rows(weight.len()) * weight.len();
        let mut out = vec![0.0; x.len()];
        for_each_block(&mut out, block, |i, out| {
            forward(&x[i * block..][..out.len()], weight, self.eps, out);
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (x_values, weight_values, grad) = (values(x)?, values(weight)?, values(&grad)?);
        let width = weight_values.len();
        let rows = block_rows(width);
        let block = rows * width;
        let mut x_grad = vec![0.0; x_values.len()];
        let mut partial = vec![0.0; x_values.len().div_ceil(block) * width];
        map_blocks2((&mut x_grad, block), (&mut partial, width), |i, x_grad, weight_grad| {
            let span = i * block..i * block + x_grad.len();
            let (x, grad) = (&x_values[span.clone()], &grad[span]);
            backward(x, &weight_values, grad, self.eps, x_grad, weight_grad);
        });
        Ok((
            Some(Tensor::from_vec(x_grad, x.shape(), x.device())?),
            is_tracked(&[weight])
                .then(|| Tensor::from_vec(sum_rows(&partial, width), width, x.device()))
                .transpose()?,
        ))
    }
}

/// The sum of rows of `width` values; how partial gradients of blocks become one.
pub(super) fn sum_rows(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        for (sum, x) in sum.iter_mut().zip(row) {
            *sum += x;
        }
    }
    sum
}

simd! {
    fn forward(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let width = weight.len();
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            norm_row(x, weight, eps, out);
        }
    }
}

/// One row of the norm.
#[inline(always)]
pub(super) fn norm_row(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let inverse = inverse_rms(x, eps);
    for ((out, &x), &weight) in out.iter_mut().zip(x).zip(weight) {
        *out = weight * (x * inverse);
    }
}

/// The gradients of one row of the norm: overwrites `x_grad`, adds to `weight_grad`.
///
/// With `n = x / rms`, `g = grad · weight`: `x_grad = (g - n · mean(g · n)) / rms`.
#[inline(always)]
pub(super) fn norm_row_backward(
    x: &[f32],
    weight: &[f32],
    grad: &[f32],
    eps: f32,
    x_grad: &mut [f32],
    weight_grad: &mut [f32],
) {
    let inverse = inverse_rms(x, eps);
    for (((x_grad, weight_grad), (&x, &grad)), &weight) in
        x_grad.iter_mut().zip(weight_grad.iter_mut()).zip(x.iter().zip(grad)).zip(weight)
    {
        *weight_grad += grad * (x * inverse);
        *x_grad = grad * weight;
    }
    let mean = dot(x_grad, x) * inverse * inverse / x.len() as f32;
    for (x_grad, &x) in x_grad.iter_mut().zip(x) {
        *x_grad = inverse * (*x_grad - x * mean);
    }
}

#[inline(always)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (sum_of_squares(x) / x.len() as f32 + eps).sqrt()
}

simd! {
    fn backward(
        x: &[f32],
        weight: &[f32],
        grad: &[f32],
        eps: f32,
        x_grad: &mut [f32],
        weight_grad: &mut [f32],
    ) {
        let width = weight.len();
        let rows = x.chunks_exact(width).zip(grad.chunks_exact(width));
        for ((x, grad), x_grad) in rows.zip(x_grad.chunks_exact_mut(width)) {
            norm_row_backward(x, weight, grad, eps, x_grad, weight_grad);
        }
    }
}
