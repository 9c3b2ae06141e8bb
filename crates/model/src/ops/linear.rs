use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::cpu::{
    Into, Matrix, Threads, for_each_block, is_f32_cpu, is_tracked, map_blocks2, matmul, new_matmul,
    operand, values,
};
use super::given::given;
use super::row_product::row_linear;
use super::{composed, shape_error, swiglu};

/// `x · weightᵀ` for `x: [.., I]` and `weight: [O, I]`, as `[.., O]`.
///
/// One product forward and, backward, one for each operand that is tracked: a frozen weight under
/// a LoRA adapter costs nothing. Transposes are strides, never copies.
///
/// # Errors
/// If `weight` does not have the width of `x`.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    check("linear", x, weight)?;
    if is_f32_cpu(&[x, weight]) {
        return x.contiguous()?.apply_op2(&weight.contiguous()?, Linear);
    }
    if !is_tracked(&[weight]) && is_tracked(&[x]) {
        return frozen_linear(x, weight);
    }
    composed::linear(x, weight)
}

/// [`linear`] with a gradient for `x` alone. candle's own product computes and keeps one for the weight, too, tracked or
/// not: as much memory again as all the weights of a model.
///
/// Beside f32 rows on the CPU, the weight may be stored in bf16 or f16.
///
/// # Errors
/// If `weight` does not have the width of `x`.
pub fn frozen_linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    check("frozen_linear", x, weight)?;
    let weight = weight.detach();
    let product = row_linear(&x.detach(), &weight)?;
    given(x, &weight, &product, |x, weight, grad| {
        let (outputs, _) = weight.dims2()?;
        let weight = weight.to_dtype(grad.dtype())?;
        let x_grad = composed::matmul(&grad.reshape(((), outputs))?, &weight)?;
        Ok((Some(x_grad.reshape(x.shape())?), None))
    })
}

/// `residual + x · weightᵀ`: [`linear`] that adds in the product, and one node less to run
/// backward through.
///
/// # Errors
/// If the shapes disagree.
pub fn linear_residual(x: &Tensor, weight: &Tensor, residual: &Tensor) -> Result<Tensor> {
    check("linear_residual", x, weight)?;
    let rows = x.dims().split_last().map_or(&[][..], |(_, rows)| rows);
    if residual.dims().split_last() != Some((&weight.dims()[0], rows)) {
        let rule = "residual must have the shape of the product";
        return shape_error("linear_residual", rule, &[x, weight, residual]);
    }
    if is_f32_cpu(&[x, weight, residual]) {
        let (weight, residual) = (weight.contiguous()?, residual.contiguous()?);
        return x.contiguous()?.apply_op3(&weight, &residual, Linear);
    }
    residual + linear(x, weight)?
}

/// `swiglu(x · gateᵀ, x · upᵀ)`, the first half of the MLP, for `x: [.., I]` and
/// `gate, up: [F, I]`.
///
/// Keeps both products for the backward pass, without making them nodes of the graph.
///
/// # Errors
/// If the shapes disagree.
pub fn swiglu_linear(x: &Tensor, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    check("swiglu_linear", x, gate)?;
    if gate.dims() != up.dims() {
        return shape_error("swiglu_linear", "gate and up must have one shape", &[x, gate, up]);
    }
    if is_f32_cpu(&[x, gate, up]) {
        let op = SwigluLinear { keep: is_tracked(&[x, gate, up]), products: OnceLock::new() };
        return x.contiguous()?.apply_op3(&gate.contiguous()?, &up.contiguous()?, op);
    }
    super::swiglu(&linear(x, gate)?, &linear(x, up)?)
}

pub(super) fn check(op: &str, x: &Tensor, weight: &Tensor) -> Result<()> {
    let (_, inputs) = weight.dims2()?;
    if x.dims().last() != Some(&inputs) {
        return shape_error(op, "weight must be as wide as x", &[x, weight]);
    }
    Ok(())
}

struct Linear;

/// Rows, outputs and inputs of a product, and the shape of its result.
pub(super) fn sizes(x: &Layout, weight: &Layout) -> Result<((usize, usize, usize), Shape)> {
    let (outputs, inputs) = weight.shape().dims2()?;
    let mut dims = x.dims().to_vec();
    dims.pop();
    let rows = dims.iter().product();
    dims.push(outputs);
    Ok(((rows, outputs, inputs), Shape::from(dims)))
}

/// The gradients of `x · weightᵀ`, for the operands that are tracked.
fn linear_backward(
    x: &Tensor,
    weight: &Tensor,
    grad: &[f32],
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let ((rows, outputs, inputs), _) = sizes(x.layout(), weight.layout())?;
    let grad = Matrix::new(grad, outputs);
    let x_grad = if is_tracked(&[x]) {
        let weight = values(weight)?;
        let out = new_matmul((rows, inputs, outputs), grad, Matrix::new(&weight, inputs));
        Some(Tensor::from_vec(out, x.shape(), x.device())?)
    } else {
        None
    };
    let weight_grad = if is_tracked(&[weight]) {
        let x = values(x)?;
        let out = new_matmul((outputs, inputs, rows), grad.t(), Matrix::new(&x, inputs));
        Some(Tensor::from_vec(out, weight.shape(), weight.device())?)
    } else {
        None
    };
    Ok((x_grad, weight_grad))
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((rows, outputs, inputs), shape) = sizes(x_layout, weight_layout)?;
        let x = Matrix::new(operand(x, x_layout)?, inputs);
        let weight = Matrix::new(operand(weight, weight_layout)?, inputs);
        let out = new_matmul((rows, outputs, inputs), x, weight.t());
        Ok((CpuStorage::F32(out), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        linear_backward(x, weight, &values(&grad.contiguous()?)?)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear-residual"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((rows, outputs, inputs), shape) = sizes(x_layout, weight_layout)?;
        let x = Matrix::new(operand(x, x_layout)?, inputs);
        let weight = Matrix::new(operand(weight, weight_layout)?, inputs);
        let mut out = operand(residual, residual_layout)?.to_vec();
        let into = (out.as_mut_slice(), outputs, Into::Add);
        matmul((rows, outputs, inputs), into, x, weight.t(), 1.0, Threads::Pool);
        Ok((CpuStorage::F32(out), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        residual: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (x_grad, weight_grad) = linear_backward(x, weight, &values(&grad)?)?;
        Ok((x_grad, weight_grad, is_tracked(&[residual]).then_some(grad)))
    }
}

struct SwigluLinear {
    keep: bool,
    /// `x · gateᵀ` and `x · upᵀ`, kept by the forward pass.
    products: OnceLock<[Vec<f32>; 2]>,
}

impl CustomOp3 for SwigluLinear {
    fn name(&self) -> &'static str {
        "swiglu-linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((rows, hidden, inputs), shape) = sizes(x_layout, gate_layout)?;
        let x = Matrix::new(operand(x, x_layout)?, inputs);
        let product = |weight: &CpuStorage, layout: &Layout| -> Result<Vec<f32>> {
            let weight = Matrix::new(operand(weight, layout)?, inputs);
            Ok(new_matmul((rows, hidden, inputs), x, weight.t()))
        };
        let (gate, mut up) = (product(gate, gate_layout)?, product(up, up_layout)?);
        if !self.keep {
            for_each_block(&mut up, BLOCK, |i, up| {
                swiglu::forward_in_place(&gate[i * BLOCK..][..up.len()], up);
            });
            return Ok((CpuStorage::F32(up), shape));
        }
        let mut out = vec![0.0; gate.len()];
        for_each_block(&mut out, BLOCK, |i, out| {
            let span = i * BLOCK..i * BLOCK + out.len();
            swiglu::forward(&gate[span.clone()], &up[span], out);
        });
        self.products.get_or_init(|| [gate, up]);
        Ok((CpuStorage::F32(out), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gate: &Tensor,
        up: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let grad = values(&grad)?;
        let grad: &[f32] = &grad;
        let [gate_product, up_product] =
            self.products.get().expect("a tracked operand made the forward pass keep its products");
        let mut gate_grad = vec![0.0; grad.len()];
        let mut up_grad = vec![0.0; grad.len()];
        map_blocks2((&mut gate_grad, BLOCK), (&mut up_grad, BLOCK), |i, gate_grad, up_grad| {
            let span = i * BLOCK..i * BLOCK + gate_grad.len();
            let (gate, up) = (&gate_product[span.clone()], &up_product[span.clone()]);
            swiglu::backward(gate, up, &grad[span], gate_grad, up_grad);
        });

        let ((rows, hidden, inputs), _) = sizes(x.layout(), gate.layout())?;
        let (gate_grad, up_grad) = (Matrix::new(&gate_grad, hidden), Matrix::new(&up_grad, hidden));
        let x_grad = if is_tracked(&[x]) {
            let (gate, up) = (values(gate)?, values(up)?);
            let size = (rows, inputs, hidden);
            let mut out = new_matmul(size, gate_grad, Matrix::new(&gate, inputs));
            let into = (out.as_mut_slice(), inputs, Into::Add);
            matmul(size, into, up_grad, Matrix::new(&up, inputs), 1.0, Threads::Pool);
            Some(Tensor::from_vec(out, x.shape(), x.device())?)
        } else {
            None
        };
        let x_values = values(x)?;
        let x_values = Matrix::new(&x_values, inputs);
        let weight_grad = |weight: &Tensor, grad: Matrix<'_>| {
            is_tracked(&[weight])
                .then(|| new_matmul((hidden, inputs, rows), grad.t(), x_values))
                .map(|out| Tensor::from_vec(out, weight.shape(), weight.device()))
                .transpose()
        };
        Ok((x_grad, weight_grad(gate, gate_grad)?, weight_grad(up, up_grad)?))
    }
}

/// Values of one element-wise block: three of them fit a first-level cache.
const BLOCK: usize = 2048;
