//! Models of real shapes with random weights: what speed, memory and arithmetic are measured on where no weights can be
//! downloaded. They say nothing.
//!
//! The directory is one as Hugging Face's tools write it, tokenizer and chat template included, so that everything that
//! loads a model loads it.

mod shards;
mod tokenizer;

use std::path::Path;

use candle_core::DType;
use serde_json::json;

use crate::config::{Architecture, Config};
use crate::error::{ModelError, Result};
use shards::Shards;
use tokenizer::{END_OF_REPLY, tokenizer_json};

/// The shape of a model that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Of no use but to try a command: 10 MB in bf16, a vocabulary of 8,192.
    Tiny,
    Qwen3_0_6B,
    Qwen3_1_7B,
    Qwen3_4B,
    Qwen3_8B,
}

impl Shape {
    pub const ALL: [Self; 5] =
        [Self::Tiny, Self::Qwen3_0_6B, Self::Qwen3_1_7B, Self::Qwen3_4B, Self::Qwen3_8B];

    /// What it is called, e.g. `qwen3-0.6b`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Qwen3_0_6B => "qwen3-0.6b",
            Self::Qwen3_1_7B => "qwen3-1.7b",
            Self::Qwen3_4B => "qwen3-4b",
            Self::Qwen3_8B => "qwen3-8b",
        }
    }

    /// The numbers of the model's own `config.json` on the Hub.
    pub fn config(self) -> Config {
        let small = Config {
            architecture: Architecture::Qwen3,
            vocab_size: 151_936,
            hidden_size: 1024,
            intermediate_size: 3072,
            num_hidden_layers: 28,
            num_attention_heads: 16,
            num_key_value_heads: 8,
            head_dim: 128,
            rms_norm_eps: 1e-6,
            rope_theta: 1e6,
            max_position_embeddings: 40_960,
            tie_word_embeddings: true,
        };
        match self {
            Self::Tiny => Config {
                vocab_size: 8192,
                hidden_size: 256,
                intermediate_size: 768,
                num_hidden_layers: 4,
                num_attention_heads: 4,
                num_key_value_heads: 2,
                head_dim: 64,
                max_position_embeddings: 4096,
                ..small
            },
            Self::Qwen3_0_6B => small,
            Self::Qwen3_1_7B => Config { hidden_size: 2048, intermediate_size: 6144, ..small },
            Self::Qwen3_4B => Config {
                hidden_size: 2560,
                intermediate_size: 9728,
                num_hidden_layers: 36,
                num_attention_heads: 32,
                ..small
            },
            Self::Qwen3_8B => Config {
                hidden_size: 4096,
                intermediate_size: 12_288,
                num_hidden_layers: 36,
                num_attention_heads: 32,
                tie_word_embeddings: false,
                ..small
            },
        }
    }
}

/// Standard deviation of the weights: `initializer_range` of Qwen3.
const DEVIATION: f32 = 0.02;

const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
                        {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Writes a model directory of `shape` into `dir`, with weights that follow from `seed` alone: norms are one, all else
/// is uniform around zero with a standard deviation of 0.02. Never more than 64 MB of them are in memory.
///
/// # Errors
/// A directory that holds something already, or that cannot be written; a `dtype` other than f32, bf16 and f16.
pub fn write(shape: Shape, dtype: DType, seed: u64, dir: &Path) -> Result<()> {
    let occupied = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(ModelError::Occupied { path: dir.to_owned() });
    }
    std::fs::create_dir_all(dir)
        .map_err(|source| ModelError::Write { path: dir.to_owned(), source })?;
    let config = shape.config();
    let words = config.vocab_size - tokenizer::SPECIAL_ROOM;
    let (tokenizer, ids) = tokenizer_json(words);
    let end = ids[END_OF_REPLY];
    let name = match dtype {
        DType::F32 => "float32",
        DType::BF16 => "bfloat16",
        DType::F16 => "float16",
        other => {
            let problem = format!("{other:?} is no dtype of weights; use F32, BF16 or F16");
            return Err(ModelError::Unsupported { path: dir.to_owned(), problem });
        }
    };
    let tokenizer_config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_REPLY, "pad_token": "<|endoftext|>",
        "model_max_length": config.max_position_embeddings, "chat_template": TEMPLATE,
    });
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|source| ModelError::Write { path, source })
    };
    write("config.json", format!("{:#}\n", config.to_json(name, end)))?;
    write("tokenizer_config.json", format!("{tokenizer_config:#}\n"))?;
    write("tokenizer.json", tokenizer.to_string())?;
    Shards { dir, dtype, seed, deviation: DEVIATION }.write(&tensors(&config))
}

/// A tensor to be made.
struct Wanted {
    name: String,
    shape: Vec<usize>,
    /// Of the norms; all others are random.
    is_one: bool,
}

/// Every tensor of a model, under the names that HF transformers gives them.
fn tensors(config: &Config) -> Vec<Wanted> {
    let Config { hidden_size: hidden, head_dim, intermediate_size: inner, .. } = *config;
    let queries = config.num_attention_heads * head_dim;
    let keys = config.num_key_value_heads * head_dim;
    let random = |name: &str, rows: usize, columns: usize| Wanted {
        name: format!("{name}.weight"),
        shape: vec![rows, columns],
        is_one: false,
    };
    let norm = |name: &str, size: usize| Wanted {
        name: format!("{name}.weight"),
        shape: vec![size],
        is_one: true,
    };
    let mut tensors = vec![random("model.embed_tokens", config.vocab_size, hidden)];
    for layer in 0..config.num_hidden_layers {
        let of = |part: &str| format!("model.layers.{layer}.{part}");
        tensors.extend([
            norm(&of("input_layernorm"), hidden),
            random(&of("self_attn.q_proj"), queries, hidden),
            random(&of("self_attn.k_proj"), keys, hidden),
            random(&of("self_attn.v_proj"), keys, hidden),
            norm(&of("self_attn.q_norm"), head_dim),
            norm(&of("self_attn.k_norm"), head_dim),
            random(&of("self_attn.o_proj"), hidden, queries),
            norm(&of("post_attention_layernorm"), hidden),
            random(&of("mlp.gate_proj"), inner, hidden),
            random(&of("mlp.up_proj"), inner, hidden),
            random(&of("mlp.down_proj"), hidden, inner),
        ]);
    }
    tensors.push(norm("model.norm", hidden));
    if !config.tie_word_embeddings {
        tensors.push(random("lm_head", config.vocab_size, hidden));
    }
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    use crate::ModelFiles;

    #[test]
    fn a_tiny_one_is_loaded_like_any_model_and_follows_from_its_seed() -> Result<()> {
        let root = tempfile::tempdir().expect("a temporary directory");
        let made = |name: &str, seed: u64| -> Result<_> {
            let dir = root.path().join(name);
            write(Shape::Tiny, DType::BF16, seed, &dir)?;
            let bytes = std::fs::read(dir.join("model.safetensors")).expect("one shard");
            Ok((ModelFiles::open(&dir)?.load(DType::F32, &Device::Cpu)?, bytes))
        };
        let ((loaded, bytes), (_, again), (_, other)) =
            (made("a", 1)?, made("b", 1)?, made("c", 2)?);
        assert!(bytes == again && bytes != other, "the seed decides, and nothing else");
        assert_eq!(loaded.tokenizer.len(), Shape::Tiny.config().vocab_size - 267);
        assert_eq!(loaded.stop_ids, [loaded.tokenizer.id("<|im_end|>").expect("a special token")]);
        let ids = loaded.tokenizer.encode("<|im_start|>user\nhello, wörld 🙂<|im_end|>")?;
        assert_eq!(loaded.tokenizer.decode(&ids), "user\nhello, wörld 🙂");

        let weight = ModelFiles::open(&root.path().join("a"))?
            .weights(DType::F32, &Device::Cpu)?
            .get("model.layers.3.mlp.down_proj.weight", &[256, 768])?;
        let deviation = weight.sqr()?.mean_all()?.to_scalar::<f32>()?.sqrt();
        assert!((deviation - DEVIATION).abs() < 2e-4, "{deviation}");

        let refused = write(Shape::Tiny, DType::BF16, 1, &root.path().join("a")).err();
        let refused = refused.map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.ends_with("is not empty; give a new or an empty directory"), "{refused}");
        Ok(())
    }

    /// Parameters as the models' cards give them.
    #[test]
    fn shapes_have_the_parameters_of_the_models() {
        let parameters = |shape: Shape| -> usize {
            tensors(&shape.config()).iter().map(|it| it.shape.iter().product::<usize>()).sum()
        };
        assert_eq!(parameters(Shape::Qwen3_0_6B), 596_049_920);
        assert_eq!(parameters(Shape::Qwen3_1_7B), 1_720_574_976);
        assert_eq!(parameters(Shape::Qwen3_4B), 4_022_468_096);
        assert_eq!(parameters(Shape::Qwen3_8B), 8_190_735_360);
    }
}
