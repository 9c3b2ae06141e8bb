//! First weights of a model that is trained from nothing.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::SftError;
use super::config::SftConfig;

/// The variables of a Qwen3 with tied head, by their names in HF checkpoints.
///
/// Matrices are normal with `model.init_std`; those that write into the residual stream are scaled by
/// 1/sqrt(2 x layers), as GPT-2 does; norms are 1.
pub(super) fn variables(config: &SftConfig) -> Result<BTreeMap<String, Var>, SftError> {
    let model = config.model_config();
    let (hidden, inner) = (model.hidden_size, model.intermediate_size);
    let queries = model.num_attention_heads * model.head_dim;
    let keys = model.num_key_value_heads * model.head_dim;
    let std = config.model.init_std;
    let into_residual = std / (2.0 * model.num_hidden_layers as f64).sqrt();

    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let mut variables = BTreeMap::new();
    let mut matrix =
        |name: String, rows: usize, columns: usize, std: f64| -> Result<(), SftError> {
            let normal =
                Normal::new(0.0, std).expect("a checked configuration has a finite deviation");
            let values: Vec<f32> =
                (0..rows * columns).map(|_| normal.sample(&mut rng) as f32).collect();
            let tensor = Tensor::from_vec(values, (rows, columns), &Device::Cpu)?;
            variables.insert(name, Var::from_tensor(&tensor)?);
            Ok(())
        };
    matrix("model.embed_tokens.weight".to_owned(), model.vocab_size, hidden, std)?;
    for layer in 0..model.num_hidden_layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        matrix(name("self_attn.q_proj"), queries, hidden, std)?;
        matrix(name("self_attn.k_proj"), keys, hidden, std)?;
        matrix(name("self_attn.v_proj"), keys, hidden, std)?;
        matrix(name("self_attn.o_proj"), hidden, queries, into_residual)?;
        matrix(name("mlp.gate_proj"), inner, hidden, std)?;
        matrix(name("mlp.up_proj"), inner, hidden, std)?;
        matrix(name("mlp.down_proj"), hidden, inner, into_residual)?;
    }
    let mut ones = |name: String, size: usize| -> Result<(), SftError> {
        variables.insert(name, Var::ones(size, DType::F32, &Device::Cpu)?);
        Ok(())
    };
    ones("model.norm.weight".to_owned(), hidden)?;
    for layer in 0..model.num_hidden_layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        ones(name("input_layernorm"), hidden)?;
        ones(name("post_attention_layernorm"), hidden)?;
        ones(name("self_attn.q_norm"), model.head_dim)?;
        ones(name("self_attn.k_norm"), model.head_dim)?;
    }
    Ok(variables)
}
