//! What a run will take, said before anything is loaded.

use std::fmt;

use agentflow_model::{Adapter, Config, Limits, ModelFiles, Placement};
use candle_core::{DType, Device};

use super::{RunConfig, RunError};

/// Bytes, by a stated model; each number is an upper bound of what it names, but for what an allocator wastes.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub weights: f64,
    /// The adapter, its gradients, and both moments of AdamW, in f32.
    pub adapter: f64,
    /// Of one micro-batch for each worker, with gradients.
    pub activations: f64,
    /// Keys and values of the attempts under way.
    pub cache: f64,
    pub prm: f64,
    /// Floating-point operations of an update: sampling and learning.
    pub sampling_flops: f64,
    pub learning_flops: f64,
    updates: u64,
}

impl Plan {
    /// # Errors
    /// Files of the base that are missing or damaged.
    pub fn new(
        config: &RunConfig,
        base: &ModelFiles,
        placement: &Placement,
    ) -> Result<Self, RunError> {
        let shape = base.manifest()?.config;
        let bytes = placement.dtype.size_in_bytes() as f64;
        let weights = base.weights(placement.dtype, &Device::Cpu)?;
        let tensors = weights.tensors();
        let parameters = tensors.iter().map(|it| it.shape.iter().product::<usize>()).sum::<usize>();
        let adapter = Adapter::init(&shape, &config.lora, 0, DType::F32, &Device::Cpu)?;
        let trained: usize = adapter.variables().values().map(|it| it.elem_count()).sum();
        let prm = config.reward.prm_model.as_ref().and_then(|dir| {
            let file = std::fs::metadata(dir.join("model.safetensors")).ok()?;
            Some(file.len() as f64)
        });
        let [parameters, trained] = [parameters, trained].map(|count| count as f64);
        let tokens = Tokens::of(config, &shape);
        Ok(Self {
            weights: parameters * bytes,
            adapter: trained * (4.0 + 4.0 + 8.0),
            activations: activations(config, &shape, bytes),
            cache: tokens.cached * key_value(&shape) * bytes,
            prm: prm.unwrap_or(0.0),
            // A multiplication and an addition a parameter; the pass back through frozen weights takes as much again, and a
            // recomputation once more.
            sampling_flops: 2.0 * parameters * tokens.sampled,
            learning_flops: parameters
                * tokens.learnt
                * if config.batch.recompute { 6.0 } else { 4.0 },
            updates: config.schedule.updates,
        })
    }

    /// All that is held at once.
    pub fn peak(&self) -> f64 {
        self.weights + self.adapter + self.activations + self.cache + self.prm
    }
}

/// Numbers of tokens, where replies are half as long as they may be and an attempt has half the steps that it may have.
struct Tokens {
    cached: f64,
    sampled: f64,
    learnt: f64,
}

impl Tokens {
    fn of(config: &RunConfig, shape: &Config) -> Self {
        let context = config.model.num_ctx.map_or(usize::MAX, |it| it as usize);
        let context = context.min(shape.max_position_embeddings);
        let rows = config.rollout.concurrency.min(Limits::default().rows);
        let attempts = config.rollout.problems as f64 * f64::from(config.rollout.group_size);
        let calls = attempts * (config.rollout.max_steps as f64 / 2.0).max(1.0);
        let reply = config.sampling.max_tokens as f64 / 2.0;
        let of_updates = config.batch.updates_per_rollout as f64;
        Self {
            cached: (rows * context + Limits::default().kept_tokens) as f64,
            // Prompts are mostly shared, and are of the length of a reply.
            sampled: calls * reply * 1.25,
            learnt: calls * reply * 2.0 * of_updates,
        }
    }
}

/// Bytes of a token's keys and values.
fn key_value(shape: &Config) -> f64 {
    (shape.num_hidden_layers * 2 * shape.num_key_value_heads * shape.head_dim) as f64
}

/// With recomputation each layer keeps its input, and one layer at a time all that its way back reads; without, every layer does.
fn activations(config: &RunConfig, shape: &Config, bytes: f64) -> f64 {
    let heads = (shape.num_attention_heads + 2 * shape.num_key_value_heads) * shape.head_dim;
    let inside = (4 * shape.hidden_size + 2 * heads + 4 * shape.intermediate_size) as f64;
    let layers = shape.num_hidden_layers as f64;
    let kept = match config.batch.recompute {
        true => layers * shape.hidden_size as f64 + 2.0 * inside,
        false => (layers + 1.0) * inside,
    };
    let tokens = (config.batch.micro_batch_tokens * config.batch.workers) as f64;
    tokens * kept * bytes
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Memory, at most:")?;
        for (name, bytes) in [
            ("weights", self.weights),
            ("adapter, its gradients and moments", self.adapter),
            ("activations of a micro-batch", self.activations),
            ("keys and values of attempts", self.cache),
            ("process reward model", self.prm),
            ("peak", self.peak()),
        ] {
            writeln!(f, "#   {name:<36} {:>10.1} MB", bytes / 1e6)?;
        }
        writeln!(
            f,
            "#   Too much? Lower batch.micro_batch_tokens, batch.workers, rollout.concurrency or model.num_ctx,"
        )?;
        writeln!(f, "#   or set batch.recompute.")?;
        let (sampling, learning) = (self.sampling_flops / 1e9, self.learning_flops / 1e9);
        writeln!(
            f,
            "# Time: an update takes some {sampling:.0} GFLOP to sample and {learning:.0} GFLOP to learn, where replies are half as"
        )?;
        let each = (sampling + learning) / 20.0;
        let all = each * self.updates as f64 / 60.0;
        writeln!(
            f,
            "#   long as they may be; at 20 GFLOP/s, which is two processor cores, {each:.0} s, and {all:.0} minutes for {} updates.",
            self.updates
        )?;
        writeln!(f, "#   Tool calls, refills and evaluations come on top.")
    }
}
