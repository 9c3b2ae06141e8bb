//! The same with candle's ops, for half precision and other devices: logits in f32 from a product in the operands' dtype.

use std::ops::Range;

use candle_core::{D, DType, Device, Result, Tensor};

use super::{Head, is_allowed};
use crate::ops::composed::matmul;

/// Logits that exist at once: 64 MiB of f32, a few times over; the test has several chunks of a few.
const LOGITS: usize = if cfg!(test) { 1 << 12 } else { 16 << 20 };
/// Far below any logit, and finite: 0 times it is 0.
const NEVER: f32 = -1e30;

/// The distributions of some rows.
struct Softmax {
    /// Scaled and masked logits less the largest.
    shifted: Tensor, // [rows, V]
    exp: Tensor,
    sum: Tensor, // [rows, 1]
    targets: Tensor,
}

impl Head {
    pub(super) fn scores_in_chunks(
        &self,
        hidden: &Tensor,
        weight: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let (mut logprobs, mut entropies) = (Vec::new(), Vec::new());
        for rows in self.chunks() {
            let Softmax { shifted, exp, sum, targets } = self.softmax(rows, hidden, weight)?;
            let ln = sum.log()?;
            logprobs.push((shifted.gather(&targets, 1)? - &ln)?.squeeze(1)?);
            let mean = (exp * shifted)?.sum_keepdim(D::Minus1)?.div(&sum)?;
            entropies.push((ln - mean)?.squeeze(1)?);
        }
        if logprobs.is_empty() {
            let none = Tensor::zeros(0, DType::F32, hidden.device())?;
            return Ok((none.clone(), none));
        }
        Ok((Tensor::cat(&logprobs, 0)?, Tensor::cat(&entropies, 0)?))
    }

    pub(super) fn gradients_in_chunks(
        &self,
        hidden: &Tensor,
        weight: &Tensor,
        grad: &Tensor,
        [hidden_tracked, weight_tracked]: [bool; 2],
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut hidden_grad = Vec::new();
        let mut weight_grad: Option<Tensor> = None;
        for rows in self.chunks() {
            let Range { start, end } = rows;
            let Softmax { exp, sum, targets, .. } = self.softmax(rows, hidden, weight)?;
            let ones = targets.ones_like()?.to_dtype(DType::F32)?;
            let distance = exp.broadcast_div(&sum)?.neg()?.scatter_add(&targets, &ones, 1)?;
            let scale = (grad.narrow(0, start, end - start)?.unsqueeze(1)? * self.scale)?;
            let logits_grad = distance.broadcast_mul(&scale)?.to_dtype(hidden.dtype())?;
            if hidden_tracked {
                hidden_grad.push(matmul(&logits_grad, weight)?);
            }
            if weight_tracked {
                let x = hidden.narrow(0, start, end - start)?;
                let part = matmul(&logits_grad.t()?.contiguous()?, &x)?.to_dtype(DType::F32)?;
                weight_grad = Some(match weight_grad {
                    Some(sum) => (sum + part)?,
                    None => part,
                });
            }
        }
        let hidden_grad = match hidden_grad.is_empty() {
            true => None,
            false => Some(Tensor::cat(&hidden_grad, 0)?),
        };
        let weight_grad = weight_grad.map(|grad| grad.to_dtype(weight.dtype())).transpose()?;
        Ok((hidden_grad, weight_grad))
    }

    /// Where the tokens of some rows are allowed, `[rows, V]` of u8; none where all of them are.
    pub(super) fn allowed(&self, rows: Range<usize>, device: &Device) -> Result<Option<Tensor>> {
        if rows.clone().all(|n| self.mask(n).is_none()) {
            return Ok(None);
        }
        let tokens = 0..self.vocabulary as u32;
        let is_allowed = |n: usize, id: u32| self.mask(n).is_none_or(|mask| is_allowed(mask, id));
        let allowed: Vec<u8> = rows
            .clone()
            .flat_map(|n| tokens.clone().map(move |id| u8::from(is_allowed(n, id))))
            .collect();
        Tensor::from_vec(allowed, (rows.len(), self.vocabulary), device).map(Some)
    }

    fn chunks(&self) -> impl Iterator<Item = Range<usize>> {
        let (all, rows) = (self.ids.len(), (LOGITS / self.vocabulary.max(1)).clamp(16, 1024));
        (0..all).step_by(rows).map(move |start| start..all.min(start + rows))
    }

    fn softmax(&self, rows: Range<usize>, hidden: &Tensor, weight: &Tensor) -> Result<Softmax> {
        let device = hidden.device();
        let x = hidden.narrow(0, rows.start, rows.len())?;
        let mut logits = (matmul(&x, &weight.t()?)?.to_dtype(DType::F32)? * self.scale)?;
        if let Some(allowed) = self.allowed(rows.clone(), device)? {
            let never = Tensor::new(NEVER, device)?.broadcast_as(logits.shape())?;
            logits = allowed.where_cond(&logits, &never)?;
        }
        let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?;
        let exp = shifted.exp()?;
        let sum = exp.sum_keepdim(D::Minus1)?;
        let targets = Tensor::new(&self.ids[rows], device)?.unsqueeze(1)?;
        Ok(Softmax { shifted, exp, sum, targets })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::grammar::TokenMask;
    use crate::ops::{composed, given::given};

    /// In f64, where both are exact, on more rows than a chunk has.
    #[test]
    fn chunks_give_what_the_definition_gives() -> Result<()> {
        let (rows, inputs, vocabulary) = (50, 3, 400);
        let random = |rows: usize, salt: usize| -> Result<Var> {
            let values = (0..rows * inputs).map(|i| ((i * 37 + salt) % 101) as f64 / 50.0 - 1.0);
            Var::from_vec(values.collect(), (rows, inputs), &Device::Cpu)
        };
        let (hidden, weight) = (random(rows, 1)?, random(vocabulary, 2)?);
        let masks = (0..rows).map(|n| {
            let mut mask = TokenMask::alloc(vocabulary);
            (0..vocabulary as u32)
                .filter(|id| id % 3 == n as u32 % 3)
                .for_each(|id| mask.allow_token(id));
            (n % 4 != 0).then_some(mask)
        });
        let ids = (0..rows).map(|n| (n % 3 + 300) as u32).collect();
        let head = Head { vocabulary, ids, scale: 1.0 / 0.7, masks: Some(masks.collect()) };
        let targets = Tensor::new(head.ids.as_slice(), &Device::Cpu)?;
        let allowed = head.allowed(0..rows, &Device::Cpu)?;
        let (logprobs, entropies) =
            composed::masked_token_logprobs(&hidden, &weight, &targets, 0.7, allowed.as_ref())?;
        // The first and the last rows carry gradients, so that no chunk is left out.
        let cotangent = (0..rows).map(|n| (n % 7) as f64 / rows as f64).collect();
        let cotangent = Tensor::from_vec::<_, f64>(cotangent, rows, &Device::Cpu)?;
        let wanted = (&logprobs * &cotangent)?.sum_all()?.backward()?;

        let narrow = |var: &Var| var.as_tensor().to_dtype(DType::F32)?.detach().contiguous();
        let (x, w) = (Var::from_tensor(&narrow(&hidden)?)?, Var::from_tensor(&narrow(&weight)?)?);
        let (found, found_entropies) =
            head.scores_in_chunks(&x.as_detached_tensor(), &w.as_detached_tensor())?;
        let near = |found: &Tensor, wanted: &Tensor| -> Result<()> {
            let off = (found.to_dtype(DType::F64)? - wanted)?.abs()?.flatten_all()?.max(0)?;
            assert!(off.to_scalar::<f64>()? < 1e-4, "off by {off}");
            Ok(())
        };
        near(&found, &logprobs)?;
        near(&found_entropies, &entropies)?;
        let found = given(&x, &w, &found, move |x, w, grad| {
            head.gradients_in_chunks(&x.detach(), &w.detach(), grad, [true, true])
        })?;
        let grads = (found * cotangent.to_dtype(DType::F32)?)?.sum_all()?.backward()?;
        near(grads.get(&x).expect("a gradient"), wanted.get(&hidden).expect("a gradient"))?;
        near(grads.get(&w).expect("a gradient"), wanted.get(&weight).expect("a gradient"))
    }
}
