use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, Error, Layout, Result, Shape, Storage, Tensor,
};

/// Makes `value`, which was computed from `a` and `b` without a graph, a node whose gradients `backward` gives for that of
/// the value; on any device. The value is copied once, and only the copy is kept.
pub(super) fn given<F>(a: &Tensor, b: &Tensor, value: &Tensor, backward: F) -> Result<Tensor>
where
    F: Fn(&Tensor, &Tensor, &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)>
        + Send
        + Sync
        + 'static,
{
    a.apply_op2(b, Given { value: Mutex::new(Some(value.detach())), backward })
}

struct Given<F> {
    /// Until the forward pass has taken it.
    value: Mutex<Option<Tensor>>,
    backward: F,
}

impl<F> Given<F> {
    fn copy<S: BackendStorage>(&self, of: impl Fn(&Storage) -> Option<&S>) -> Result<(S, Shape)> {
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner).take();
        let value = value.expect("there is one forward pass");
        let (storage, layout) = value.storage_and_layout();
        let elsewhere = || Error::Msg("a given value must be where its operands are".into()).bt();
        let copy = of(&storage).ok_or_else(elsewhere)?.try_clone(layout)?;
        Ok((copy, value.shape().clone()))
    }
}

impl<F> CustomOp2 for Given<F>
where
    F: Fn(&Tensor, &Tensor, &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)>,
{
    fn name(&self) -> &'static str {
        "given"
    }

    fn cpu_fwd(
        &self,
        _a: &CpuStorage,
        _a_layout: &Layout,
        _b: &CpuStorage,
        _b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.copy(|storage| match storage {
            Storage::Cpu(storage) => Some(storage),
            _ => None,
        })
    }

    fn cuda_fwd(
        &self,
        _a: &CudaStorage,
        _a_layout: &Layout,
        _b: &CudaStorage,
        _b_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.copy(|storage| match storage {
            Storage::Cuda(storage) => Some(storage),
            _ => None,
        })
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _value: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        (self.backward)(a, b, &grad.contiguous()?)
    }
}
