use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

use super::cpu::{is_f32_cpu, operand, values};
use super::{composed, shape_error};

/// The rows `ids` of `weight: [V, D]`, for `ids` of any shape, as `[.., D]`; gradient for
/// `weight`.
///
/// # Errors
/// If an id is not below `V`.
pub fn embedding(ids: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (rows, _) = weight.dims2()?;
    if !is_f32_cpu(&[weight]) {
        return composed::embedding(ids, weight);
    }
    let numbers = ids.flatten_all()?.to_dtype(DType::U32)?.to_vec1::<u32>()?;
    if let Some(id) = numbers.iter().find(|&&id| id as usize >= rows) {
        return shape_error("embedding", &format!("id {id} is not below {rows}"), &[ids, weight]);
    }
    weight.contiguous()?.apply_op1(Embedding { ids: numbers, shape: ids.shape().clone() })
}

struct Embedding {
    ids: Vec<u32>,
    shape: Shape,
}

impl CustomOp1 for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, weight: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = layout.shape().dims2()?;
        let weight = operand(weight, layout)?;
        let mut out = Vec::with_capacity(self.ids.len() * width);
        for &id in &self.ids {
            out.extend_from_slice(&weight[id as usize * width..][..width]);
        }
        let shape = self.shape.clone().extend(&[width]);
        Ok((CpuStorage::F32(out), shape))
    }

    fn bwd(&self, weight: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, width) = weight.dims2()?;
        let grad = grad.contiguous()?;
        let grad = values(&grad)?;
        let mut weight_grad = vec![0.0; weight.elem_count()];
        for (&id, grad) in self.ids.iter().zip(grad.chunks_exact(width.max(1))) {
            let row = &mut weight_grad[id as usize * width..][..width];
            for (sum, grad) in row.iter_mut().zip(grad) {
                *sum += grad;
            }
        }
        Ok(Some(Tensor::from_vec(weight_grad, weight.shape(), weight.device())?))
    }
}
