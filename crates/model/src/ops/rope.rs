use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use super::cpu::{
    block_rows, for_each_block, is_f32_cpu, is_tracked, map_blocks2, operand, values,
};
use super::rms_norm::{norm_row, norm_row_backward, sum_rows};
use super::simd::simd;
use super::{composed, shape_error};

/// Rotary position embedding (arXiv 2104.09864) in HF's half-split form: dimension `i` turns with
/// dimension `i + D/2`.
///
/// `x` is `[B, H, T, D]`, contiguous or a transposed `[B, T, H, D]`; `cos` and `sin` are
/// `[T, D/2]`, for the positions of the `T` rows. Gives `[B, H, T, D]`; gradient for `x`.
///
/// # Errors
/// If the shapes disagree.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (_, _, time, head_dim) = x.dims4()?;
    check_angles("rope", x, cos, sin, time, head_dim)?;
    if is_f32_cpu(&[x, cos, sin]) {
        let x = if x.stride()[3] == 1 { x.clone() } else { x.contiguous()? };
        return x.apply_op1(Rope::new(cos, sin, 2)?);
    }
    if is_tracked(&[x]) || x.device().is_cpu() {
        return composed::rope(x, cos, sin);
    }
    let (cos, sin) = (cos.to_dtype(x.dtype())?, sin.to_dtype(x.dtype())?);
    candle_nn::rotary_emb::rope(&x.contiguous()?, &cos.contiguous()?, &sin.contiguous()?)
}

/// [`rope`] for `x: [B, T, H, D]`, giving the same layout: what a projection puts out, no
/// transpose.
///
/// # Errors
/// If the shapes disagree.
pub fn rope_thd(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (_, time, _, head_dim) = x.dims4()?;
    check_angles("rope_thd", x, cos, sin, time, head_dim)?;
    if is_f32_cpu(&[x, cos, sin]) {
        let x = if x.stride()[3] == 1 { x.clone() } else { x.contiguous()? };
        return x.apply_op1(Rope::new(cos, sin, 1)?);
    }
    if is_tracked(&[x]) || x.device().is_cpu() {
        return composed::rope_thd(x, cos, sin);
    }
    let (cos, sin) = (cos.to_dtype(x.dtype())?, sin.to_dtype(x.dtype())?);
    candle_nn::rotary_emb::rope_thd(&x.contiguous()?, &cos.contiguous()?, &sin.contiguous()?)
}

/// Qwen3's treatment of queries and keys in one pass: [`rms_norm`](super::rms_norm()) of every
/// head, then [`rope`].
///
/// `x` is `[B, T, H·D]`, as a projection puts it out, `weight` is `[D]`, `cos` and `sin` are
/// `[T, D/2]`. Gives `[B, T, H·D]`; gradients for `x` and `weight`.
///
/// # Errors
/// If the shapes disagree.
pub fn head_norm_rope(
    x: &Tensor,
    weight: &Tensor,
    eps: f64,
    cos: &Tensor,
    sin: &Tensor,
) -> Result<Tensor> {
    let (batch, time, width) = x.dims3()?;
    let head_dim = weight.dims1()?;
    if head_dim == 0 || width % head_dim != 0 {
        return shape_error("head_norm_rope", "x must hold whole heads", &[x, weight]);
    }
    check_angles("head_norm_rope", x, cos, sin, time, head_dim)?;
    if is_f32_cpu(&[x, weight, cos, sin]) {
        let op = HeadNormRope { eps: eps as f32, rope: Rope::new(cos, sin, 1)? };
        return x.contiguous()?.apply_op2(&weight.contiguous()?, op);
    }
    let heads = x.reshape((batch, time, width / head_dim, head_dim))?;
    rope_thd(&super::rms_norm(&heads, weight, eps)?, cos, sin)?.reshape((batch, time, width))
}

fn check_angles(
    op: &str,
    x: &Tensor,
    cos: &Tensor,
    sin: &Tensor,
    time: usize,
    head_dim: usize,
) -> Result<()> {
    let wanted = [time, head_dim / 2];
    if !head_dim.is_multiple_of(2) || cos.dims() != wanted || sin.dims() != wanted {
        let rule = format!("cos and sin must be {wanted:?}, for an even head dimension");
        return shape_error(op, &rule, &[x, cos, sin]);
    }
    Ok(())
}

/// The rotation of a `[B, _, _, D]` tensor whose dimension `time_dim` (1 or 2) is the position.
#[derive(Clone)]
struct Rope {
    cos: Tensor,
    sin: Tensor,
    time_dim: usize,
}

impl Rope {
    fn new(cos: &Tensor, sin: &Tensor, time_dim: usize) -> Result<Self> {
        let (cos, sin) = (cos.contiguous()?.detach(), sin.contiguous()?.detach());
        Ok(Self { cos, sin, time_dim })
    }

    /// Rotates every head of `x`, by `direction` 1 or -1, into a contiguous result.
    fn rotate(&self, x: &[f32], layout: &Layout, direction: f32) -> Result<Vec<f32>> {
        let (_, outer, inner, head_dim) = layout.shape().dims4()?;
        let (start, stride) = (layout.start_offset(), layout.stride());
        let (cos, sin) = (values(&self.cos)?, values(&self.sin)?);
        let half = head_dim / 2;
        let mut out = vec![0.0; layout.shape().elem_count()];
        // One block is `inner` rows: of one position, or of consecutive ones.
        for_each_block(&mut out, inner * head_dim, |i, out| {
            let (batch, outer_at) = (i / outer, i % outer);
            let x = &x[start + batch * stride[0] + outer_at * stride[1]..];
            let (angle, step) = match self.time_dim {
                1 => (outer_at * half, 0),
                _ => (0, half),
            };
            let angles = (&cos[angle..], &sin[angle..], step);
            rotate_rows(x, stride[2], angles, direction, out, head_dim);
        });
        Ok(out)
    }
}

impl CustomOp1 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = self.rotate(x.as_slice()?, layout, 1.0)?;
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let layout = Layout::contiguous(grad.shape());
        let x_grad = self.rotate(&values(&grad)?, &layout, -1.0)?;
        Ok(Some(Tensor::from_vec(x_grad, x.shape(), x.device())?))
    }
}

struct HeadNormRope {
    eps: f32,
    rope: Rope,
}

impl CustomOp2 for HeadNormRope {
    fn name(&self) -> &'static str {
        "head-norm-rope"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (operand(x, x_layout)?, operand(weight, weight_layout)?);
        let (cos, sin) = (values(&self.rope.cos)?, values(&self.rope.sin)?);
        let (_, time, width) = x_layout.shape().dims3()?;
        let rows = block_rows(width);
        let mut out = vec![0.0; x.len()];
        for_each_block(&mut out, rows * width, |i, out| {
            let x = &x[i * rows * width..][..out.len()];
            forward(x, weight, self.eps, (&cos, &sin), (i * rows, time, width), out);
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
        let (cos, sin) = (values(&self.rope.cos)?, values(&self.rope.sin)?);
        let (_, time, width) = x.dims3()?;
        let head_dim = weight_values.len();
        let rows = block_rows(width);
        let block = rows * width;
        let mut x_grad = vec![0.0; x_values.len()];
        let mut partial = vec![0.0; x_values.len().div_ceil(block) * head_dim];
        map_blocks2((&mut x_grad, block), (&mut partial, head_dim), |i, x_grad, weight_grad| {
            let span = i * block..i * block + x_grad.len();
            let (x, grad) = (&x_values[span.clone()], &grad[span]);
            let at = (i * rows, time, width);
            backward(x, &weight_values, grad, self.eps, (&cos, &sin), at, x_grad, weight_grad);
        });
        Ok((
            Some(Tensor::from_vec(x_grad, x.shape(), x.device())?),
            is_tracked(&[weight])
                .then(|| Tensor::from_vec(sum_rows(&partial, head_dim), head_dim, x.device()))
                .transpose()?,
        ))
    }
}

/// One head, turned by `direction` times its angles.
#[inline(always)]
fn rotate_row(x: &[f32], cos: &[f32], sin: &[f32], direction: f32, out: &mut [f32]) {
    let half = x.len() / 2;
    let (x1, x2) = x.split_at(half);
    let (out1, out2) = out.split_at_mut(half);
    let angles = cos[..half].iter().zip(&sin[..half]);
    for (((out1, out2), (&x1, &x2)), (&cos, &sin)) in
        out1.iter_mut().zip(out2).zip(x1.iter().zip(x2)).zip(angles)
    {
        let sin = sin * direction;
        *out1 = x1 * cos - x2 * sin;
        *out2 = x2 * cos + x1 * sin;
    }
}

simd! {
    /// Rotates rows `x_stride` apart; the angles move on by `angles.2` a row.
    fn rotate_rows(
        x: &[f32],
        x_stride: usize,
        angles: (&[f32], &[f32], usize),
        direction: f32,
        out: &mut [f32],
        head_dim: usize,
    ) {
        let (cos, sin, step) = angles;
        for (row, out) in out.chunks_exact_mut(head_dim).enumerate() {
            let x = &x[row * x_stride..][..head_dim];
            rotate_row(x, &cos[row * step..], &sin[row * step..], direction, out);
        }
    }
}

simd! {
    /// `at` is the number of the first row, the rows of a sequence, and the width of a row.
    fn forward(
        x: &[f32],
        weight: &[f32],
        eps: f32,
        angles: (&[f32], &[f32]),
        at: (usize, usize, usize),
        out: &mut [f32],
    ) {
        let (first, time, width) = at;
        let head_dim = weight.len();
        let mut normed = vec![0.0; head_dim];
        for (row, (x, out)) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).enumerate() {
            let angle = (first + row) % time * (head_dim / 2);
            let (cos, sin) = (&angles.0[angle..], &angles.1[angle..]);
            for (x, out) in x.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim)) {
                norm_row(x, weight, eps, &mut normed);
                rotate_row(&normed, cos, sin, 1.0, out);
            }
        }
    }
}

simd! {
    fn backward(
        x: &[f32],
        weight: &[f32],
        grad: &[f32],
        eps: f32,
        angles: (&[f32], &[f32]),
        at: (usize, usize, usize),
        x_grad: &mut [f32],
        weight_grad: &mut [f32],
    ) {
        let (first, time, width) = at;
        let head_dim = weight.len();
        let mut turned = vec![0.0; head_dim];
        let rows = x.chunks_exact(width).zip(grad.chunks_exact(width));
        for (row, ((x, grad), x_grad)) in rows.zip(x_grad.chunks_exact_mut(width)).enumerate() {
            let angle = (first + row) % time * (head_dim / 2);
            let (cos, sin) = (&angles.0[angle..], &angles.1[angle..]);
            let heads = x.chunks_exact(head_dim).zip(grad.chunks_exact(head_dim));
            for ((x, grad), x_grad) in heads.zip(x_grad.chunks_exact_mut(head_dim)) {
                rotate_row(grad, cos, sin, -1.0, &mut turned);
                norm_row_backward(x, weight, &turned, eps, x_grad, weight_grad);
            }
        }
    }
}
