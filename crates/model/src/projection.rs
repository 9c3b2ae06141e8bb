//! A linear layer as checkpoints have it: a weight, perhaps a bias, perhaps a LoRA adapter beside it.

use candle_core::{Result, Tensor};

use crate::lora::Lora;
use crate::ops;
use crate::weight::Weight;

/// `x · weightᵀ + bias + adapter(x)`.
#[derive(Debug, Clone)]
pub(crate) struct Projection {
    weight: Weight,       // [out, in]
    bias: Option<Tensor>, // [out]
    lora: Option<Lora>,
}

impl Projection {
    pub(crate) fn new(weight: Weight, bias: Option<Tensor>) -> Self {
        Self { weight, bias, lora: None }
    }

    pub(crate) fn weight(&self) -> &Weight {
        &self.weight
    }

    pub(crate) fn set_lora(&mut self, lora: Lora) {
        self.lora = Some(lora);
    }

    /// `x` is `[.., in]`, the result `[.., out]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.finish(x, self.weight.linear(x)?)
    }

    /// [`Projection::forward`], added to `residual`, `[.., out]`.
    pub(crate) fn forward_residual(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.finish(x, self.weight.linear_residual(x, residual)?)
    }

    /// The first half of the MLP, `silu(gate(x)) · up(x)`; in one op where there is nothing beside the weights.
    pub(crate) fn swiglu(gate: &Self, up: &Self, x: &Tensor) -> Result<Tensor> {
        if gate.is_plain() && up.is_plain() {
            return Weight::swiglu_linear(&gate.weight, &up.weight, x);
        }
        ops::swiglu(&gate.forward(x)?, &up.forward(x)?)
    }

    /// [`Projection::forward`] for the engine: a row does not depend on those beside it, and no gradient is tracked.
    pub(crate) fn forward_rows(&self, x: &Tensor) -> Result<Tensor> {
        self.finish_rows(x, self.weight.row_linear(x)?)
    }

    /// [`Projection::forward_rows`] of three layers with the same input.
    pub(crate) fn forward_rows_of(layers: [&Self; 3], x: &Tensor) -> Result<[Tensor; 3]> {
        let [a, b, c] = layers;
        let mut products = Weight::row_linears(&[&a.weight, &b.weight, &c.weight], x)?.into_iter();
        let mut next = |layer: &Self| {
            let product = products.next().expect("there is a product for each weight");
            layer.finish_rows(x, product)
        };
        Ok([next(a)?, next(b)?, next(c)?])
    }

    /// [`Projection::forward_residual`], as [`Projection::forward_rows`] is.
    pub(crate) fn forward_rows_residual(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.finish_rows(x, self.weight.row_linear_residual(x, residual)?)
    }

    /// [`Projection::swiglu`], as [`Projection::forward_rows`] is.
    pub(crate) fn swiglu_rows(gate: &Self, up: &Self, x: &Tensor) -> Result<Tensor> {
        if gate.is_plain() && up.is_plain() {
            return Weight::row_swiglu_linear(&gate.weight, &up.weight, x);
        }
        ops::swiglu(&gate.forward_rows(x)?, &up.forward_rows(x)?)
    }

    fn is_plain(&self) -> bool {
        self.bias.is_none() && self.lora.is_none()
    }

    fn finish(&self, x: &Tensor, product: Tensor) -> Result<Tensor> {
        let product = match &self.bias {
            Some(bias) => product.broadcast_add(bias)?,
            None => product,
        };
        match &self.lora {
            Some(lora) => lora.add(x, &product),
            None => Ok(product),
        }
    }

    fn finish_rows(&self, x: &Tensor, product: Tensor) -> Result<Tensor> {
        let product = match &self.bias {
            Some(bias) => product.broadcast_add(&bias.detach())?,
            None => product,
        };
        match &self.lora {
            Some(lora) => lora.add_to_rows(x, &product),
            None => Ok(product),
        }
    }
}
