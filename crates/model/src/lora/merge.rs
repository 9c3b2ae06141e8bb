//! An adapter becomes part of the weights.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use super::{Adapter, SCORE};
use crate::error::{ModelError, Result};

impl Adapter {
    /// Replaces each adapted weight `W` of `tensors`, named as in HF transformers, by `W + scale · B·A`: computed in f32 and
    /// rounded once to the dtype that it has. A score that the adapter brings goes in as `score.weight`.
    ///
    /// Merge into the weights as they were published: from a copy that was merged or quantised before, errors add up.
    ///
    /// # Errors
    /// A weight that is missing or of another size; then nothing has changed.
    pub fn merge_into(&self, tensors: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let mut merged = Vec::with_capacity(self.modules.len());
        for (module, lora) in &self.modules {
            let name = format!("{module}.weight");
            let (found_inputs, found_outputs) = lora.sizes();
            let refused = |problem: String| ModelError::Adapter {
                adapter: self.dir.clone(),
                module: module.clone(),
                found_inputs,
                found_outputs,
                problem,
            };
            let Some(weight) = tensors.get(&name) else {
                return Err(refused("which is not among the weights".to_owned()));
            };
            if weight.dims() != [found_outputs, found_inputs] {
                return Err(refused(format!("but the weight is {:?}", weight.dims())));
            }
            let wide = |x: &Tensor| x.detach().to_dtype(DType::F32);
            let product = wide(&lora.b)?.matmul(&wide(&lora.a)?)?;
            let sum = (wide(weight)? + (product * lora.scale)?)?;
            merged.push((name, sum.to_dtype(weight.dtype())?));
        }
        tensors.extend(merged);
        if let Some(score) = &self.score {
            tensors.insert(SCORE.to_owned(), score.clone());
        }
        Ok(())
    }
}
