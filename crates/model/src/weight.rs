//! A matrix of weights, widened or as its file stores it.

use std::sync::Arc;

use candle_core::{DType, Error, Result, Tensor};

use crate::grammar::TokenMask;
use crate::ops::{self, Packed};

/// `[out, in]`.
#[derive(Debug, Clone)]
pub(crate) enum Weight {
    Plain(Tensor),
    /// bf16 or f16 on the CPU, computed with in f32; without a gradient of its own.
    Half(Tensor),
    /// Quantised; without gradients.
    Packed(Arc<Packed>),
}

impl Weight {
    /// Outputs and inputs.
    pub(crate) fn sizes(&self) -> Result<(usize, usize)> {
        match self {
            Self::Plain(weight) | Self::Half(weight) => weight.dims2(),
            Self::Packed(weight) => Ok((weight.outputs(), weight.inputs())),
        }
    }

    /// How it is stored, as GGUF names it, and its bytes.
    pub(crate) fn stored(&self) -> (String, usize) {
        match self {
            Self::Plain(weight) | Self::Half(weight) => {
                let (dtype, values) = (weight.dtype(), weight.elem_count());
                (dtype.as_str().to_uppercase(), values * dtype.size_in_bytes())
            }
            Self::Packed(weight) => (weight.quants().name().to_owned(), weight.size()),
        }
    }

    /// `x · weightᵀ` for `x: [.., in]`.
    pub(crate) fn linear(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(weight) => ops::linear(x, weight),
            Self::Half(weight) if x.track_op() => ops::frozen_linear(x, weight),
            Self::Half(weight) => ops::row_linear(x, weight),
            Self::Packed(weight) => weight.linear(x),
        }
    }

    /// [`Weight::linear`] added to `residual`.
    pub(crate) fn linear_residual(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(weight) => ops::linear_residual(x, weight, residual),
            Self::Half(weight) if x.track_op() || residual.track_op() => {
                residual + ops::frozen_linear(x, weight)?
            }
            Self::Half(weight) => ops::row_linear_residual(x, weight, residual),
            Self::Packed(weight) => weight.linear_residual(x, residual),
        }
    }

    /// `swiglu(x · gateᵀ, x · upᵀ)`.
    pub(crate) fn swiglu_linear(gate: &Self, up: &Self, x: &Tensor) -> Result<Tensor> {
        match (gate, up) {
            (Self::Plain(gate), Self::Plain(up)) => ops::swiglu_linear(x, gate, up),
            (Self::Half(gate), Self::Half(up)) if !x.track_op() => {
                ops::row_swiglu_linear(x, gate, up)
            }
            (Self::Packed(gate), Self::Packed(up)) => Packed::swiglu_linear(gate, up, x),
            _ => ops::swiglu(&gate.linear(x)?, &up.linear(x)?),
        }
    }

    /// [`Weight::linear`] for the engine: a row does not depend on those beside it, and no gradient is tracked.
    pub(crate) fn row_linear(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(weight) | Self::Half(weight) => ops::row_linear(x, &weight.detach()),
            Self::Packed(weight) => weight.linear(x),
        }
    }

    /// [`Weight::row_linear`] of several matrices with the same `x`.
    pub(crate) fn row_linears(weights: &[&Self], x: &Tensor) -> Result<Vec<Tensor>> {
        let packed: Option<Vec<&Packed>> = weights.iter().map(|weight| weight.packed()).collect();
        match packed {
            Some(packed) => Packed::linears(&packed, x),
            None => weights.iter().map(|weight| weight.row_linear(x)).collect(),
        }
    }

    /// [`Weight::linear_residual`], as [`Weight::row_linear`] is.
    pub(crate) fn row_linear_residual(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(weight) | Self::Half(weight) => {
                ops::row_linear_residual(x, &weight.detach(), residual)
            }
            Self::Packed(weight) => weight.linear_residual(x, residual),
        }
    }

    /// [`Weight::swiglu_linear`], as [`Weight::row_linear`] is.
    pub(crate) fn row_swiglu_linear(gate: &Self, up: &Self, x: &Tensor) -> Result<Tensor> {
        match (gate, up) {
            (Self::Plain(gate), Self::Plain(up)) | (Self::Half(gate), Self::Half(up)) => {
                ops::row_swiglu_linear(x, &gate.detach(), &up.detach())
            }
            (Self::Packed(gate), Self::Packed(up)) => Packed::swiglu_linear(gate, up, x),
            _ => ops::swiglu(&gate.row_linear(x)?, &up.row_linear(x)?),
        }
    }

    /// [`ops::masked_token_logprobs`] with this matrix as the head.
    pub(crate) fn token_logprobs(
        &self,
        hidden: &Tensor,
        targets: &Tensor,
        temperature: f64,
        masks: Option<&[Option<TokenMask>]>,
    ) -> Result<(Tensor, Tensor)> {
        match self {
            Self::Plain(weight) => {
                ops::masked_token_logprobs(hidden, weight, targets, temperature, masks)
            }
            Self::Half(weight) => {
                let wide = weight.to_dtype(DType::F32)?;
                ops::masked_token_logprobs(hidden, &wide, targets, temperature, masks)
            }
            Self::Packed(_) => {
                let problem = "a packed head scores no tokens in training; load the model unpacked";
                Err(Error::Msg(problem.to_owned()).bt())
            }
        }
    }

    /// The rows `ids`, `[.., in]`, with a gradient for plain weights.
    pub(crate) fn embedding(&self, ids: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(weight) => ops::embedding(ids, weight),
            Self::Half(weight) => ops::embedding(ids, weight)?.to_dtype(DType::F32),
            Self::Packed(weight) => weight.embedding(ids),
        }
    }

    /// [`Weight::embedding`] without a gradient.
    pub(crate) fn row_embedding(&self, ids: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(weight) => ops::embedding(ids, &weight.detach()),
            _ => self.embedding(ids),
        }
    }

    fn packed(&self) -> Option<&Packed> {
        match self {
            Self::Plain(_) | Self::Half(_) => None,
            Self::Packed(weight) => Some(weight),
        }
    }
}
