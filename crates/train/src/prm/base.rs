//! What a PRM is trained from: the decoder of a language model, and a new head.

use std::collections::BTreeMap;

use agentflow_model::{Config, ModelFiles};
use candle_core::{DType, Device, Tensor, Var};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::PrmError;
use super::model::SCORE;

/// Standard deviation of a new head: `initializer_range` of Qwen3, which transformers uses.
const DEVIATION: f64 = 0.02;

/// The weights of `base` in f32 on `device`, by their names in HF checkpoints, with a head: its own where it is a PRM
/// already, else a new one that follows from `seed`.
pub(super) fn variables(
    base: &ModelFiles,
    config: &Config,
    seed: u64,
    device: &Device,
) -> Result<BTreeMap<String, Var>, PrmError> {
    if matches!(base, ModelFiles::Gguf(_)) {
        return Err(PrmError::Quantised { base: base.place() });
    }
    let weights = base.weights(DType::F32, device)?;
    let mut variables = BTreeMap::new();
    for tensor in weights.tensors() {
        let is_parameter = tensor.name.ends_with(".weight") || tensor.name.ends_with(".bias");
        if is_parameter && (tensor.name.starts_with("model.") || tensor.name == SCORE) {
            let value = weights.get(&tensor.name, &tensor.shape)?;
            variables.insert(tensor.name, Var::from_tensor(&value)?);
        }
    }
    if !variables.contains_key(SCORE) {
        variables.insert(SCORE.to_owned(), new_head(config.hidden_size, seed, device)?);
    }
    Ok(variables)
}

fn new_head(hidden: usize, seed: u64, device: &Device) -> Result<Var, PrmError> {
    let normal = Normal::new(0.0, DEVIATION).expect("the deviation is finite");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..hidden).map(|_| normal.sample(&mut rng) as f32).collect();
    Ok(Var::from_tensor(&Tensor::from_vec(values, (1, hidden), device)?)?)
}
