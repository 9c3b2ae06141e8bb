use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::shape_error;

/// The gradients of what `output` was computed from, where `grad` is the gradient of `output`; to go on backward where an
/// earlier backward pass ended.
///
/// candle's own `backward` starts from 1; the product with `grad` that would lead there costs as many passes over the
/// activations as it has nodes.
///
/// # Errors
/// If the shapes or dtypes differ, or an op under `output` has no gradient.
pub fn backward_from(output: &Tensor, grad: &Tensor) -> Result<GradStore> {
    if output.dims() != grad.dims() || output.dtype() != grad.dtype() {
        let rule = "the gradient must be like the output";
        return shape_error("backward_from", rule, &[output, grad]);
    }
    output.apply_op1(Seed(grad.detach()))?.backward()
}

/// A scalar whose gradient is the one it was made with.
struct Seed(Tensor);

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, output: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        scalar(output)
    }

    fn cuda_fwd(&self, output: &CudaStorage, _layout: &Layout) -> Result<(CudaStorage, Shape)> {
        scalar(output)
    }

    fn bwd(&self, _output: &Tensor, _result: &Tensor, _one: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}

fn scalar<S, D>(output: &S) -> Result<(S, Shape)>
where
    S: BackendStorage<Device = D>,
    D: BackendDevice<Storage = S>,
{
    let shape = Shape::from(());
    Ok((output.device().zeros_impl(&shape, output.dtype())?, shape))
}
