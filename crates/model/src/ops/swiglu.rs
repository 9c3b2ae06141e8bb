use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::cpu::{block_rows, for_each_block, is_f32_cpu, map_blocks2, operand, values};
use super::simd::{exp, simd};
use super::{composed, shape_error};

/// `silu(gate) · up`, the gated unit of the MLP (arXiv 2002.05202); gradients for both.
///
/// # Errors
/// If the shapes differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.dims() != up.dims() {
        return shape_error("swiglu", "gate and up must have one shape", &[gate, up]);
    }
    if is_f32_cpu(&[gate, up]) {
        return gate.contiguous()?.apply_op2(&up.contiguous()?, Swiglu);
    }
    composed::swiglu(gate, up)
}

struct Swiglu;

impl CustomOp2 for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (operand(gate, gate_layout)?, operand(up, up_layout)?);
        let block = block_rows(1);
        let mut out = vec![0.0; gate.len()];
        for_each_block(&mut out, block, |i, out| {
            let span = i * block..i * block + out.len();
            forward(&gate[span.clone()], &up[span], out);
        });
        Ok((CpuStorage::F32(out), gate_layout.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (gate_values, up_values, grad) = (values(gate)?, values(up)?, values(&grad)?);
        let (gate_values, up_values, grad): (&[f32], &[f32], &[f32]) =
            (&gate_values, &up_values, &grad);
        let block = block_rows(1);
        let mut gate_grad = vec![0.0; grad.len()];
        let mut up_grad = vec![0.0; grad.len()];
        map_blocks2((&mut gate_grad, block), (&mut up_grad, block), |i, gate_grad, up_grad| {
            let span = i * block..i * block + gate_grad.len();
            let (gate, up) = (&gate_values[span.clone()], &up_values[span.clone()]);
            backward(gate, up, &grad[span], gate_grad, up_grad);
        });
        Ok((
            Some(Tensor::from_vec(gate_grad, gate.shape(), gate.device())?),
            Some(Tensor::from_vec(up_grad, up.shape(), up.device())?),
        ))
    }
}

simd! {
    pub(super) fn forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate / (1.0 + exp(-gate)) * up;
        }
    }
}

simd! {
    pub(super) fn forward_in_place(gate: &[f32], up: &mut [f32]) {
        for (up, &gate) in up.iter_mut().zip(gate) {
            *up *= gate / (1.0 + exp(-gate));
        }
    }
}

simd! {
    /// `silu'(x) = σ(x)·(1 + x·(1 - σ(x)))`.
    pub(super) fn backward(
        gate: &[f32],
        up: &[f32],
        grad: &[f32],
        gate_grad: &mut [f32],
        up_grad: &mut [f32],
    ) {
        let operands = gate.iter().zip(up).zip(grad);
        let grads = gate_grad.iter_mut().zip(up_grad);
        for (((&gate, &up), &grad), (gate_grad, up_grad)) in operands.zip(grads) {
            let sigmoid = 1.0 / (1.0 + exp(-gate));
            *gate_grad = grad * up * sigmoid * (1.0 + gate * (1.0 - sigmoid));
            *up_grad = grad * gate * sigmoid;
        }
    }
}
