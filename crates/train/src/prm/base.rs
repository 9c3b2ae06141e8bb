//! What a PRM is trained from: the decoder of a language model, and a new head.

use std::collections::BTreeMap;

use agentflow_model::{Config, ModelFiles};
use candle_core::{DType, Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::PrmError;
use super::model::SCORE;

/// Standard deviation of a new head: `initializer_range` of Qwen3, which transformers uses.
const DEVIATION: f64 = 0.02;

/// The weights of `base` in `dtype` on `device`, by their names in HF checkpoints, with a head in f32: its own where it is a
/// PRM already, else a new one that follows from `seed`.
pub(super) fn tensors(
    base: &ModelFiles,
    config: &Config,
    seed: u64,
    dtype: DType,
    device: &Device,
) -> Result<BTreeMap<String, Tensor>, PrmError> {
    if matches!(base, ModelFiles::Gguf(_)) {
        return Err(PrmError::Quantised { base: base.place() });
    }
    let weights = base.weights(dtype, device)?;
    let mut tensors = BTreeMap::new();
    for tensor in weights.tensors() {
        let is_parameter = tensor.name.ends_with(".weight") || tensor.name.ends_with(".bias");
        if is_parameter && (tensor.name.starts_with("model.") || tensor.name == SCORE) {
            let value = weights.get(&tensor.name, &tensor.shape)?;
            tensors.insert(tensor.name, value);
        }
    }
    let head = match tensors.remove(SCORE) {
        Some(head) => head.to_dtype(DType::F32)?,
        None => new_head(config.hidden_size, seed, device)?,
    };
    tensors.insert(SCORE.to_owned(), head);
    Ok(tensors)
}

fn new_head(hidden: usize, seed: u64, device: &Device) -> Result<Tensor, PrmError> {
    let normal = Normal::new(0.0, DEVIATION).expect("the deviation is finite");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..hidden).map(|_| normal.sample(&mut rng) as f32).collect();
    Ok(Tensor::from_vec(values, (1, hidden), device)?)
}
