//! The kernels a Qwen3 decoder spends its time in, for inference and for training.
//!
//! Each takes and gives candle tensors and has gradients. In f32 on the CPU it is one fused op;
//! elsewhere it is composed of candle's ops ([`composed`] is also the definition it is tested
//! against), or is candle's own fused op where no gradient is tracked.
//!
//! A node of candle's graph costs two extra passes over its gradient (zeros, then a sum), so the
//! ops work in the layouts that need the fewest nodes. From hidden states `[B, T, I]` on, without
//! a reshape or a transpose:
//! ```text
//! q = head_norm_rope(linear(x, q_proj), q_norm)     [B, T, H·D]
//! k = head_norm_rope(linear(x, k_proj), k_norm)     [B, T, KV·D]
//! v = linear(x, v_proj)                             [B, T, KV·D]
//! x = linear_residual(attention_thd(q, k, v), o_proj, x)
//! x = linear_residual(swiglu_linear(rms_norm(x), gate_proj, up_proj), down_proj, x)
//! ```
//! Inference has products of its own, [`row_linear`] and its kin, whose rows do not depend on each
//! other: what is sampled must not depend on what shares the batch. [`Packed`] holds quantised
//! weights and has such products, too.
//!
//! Work spreads over the rayon pool it is called from. In a pool of one thread everything runs on
//! that thread, and no result but candle's own depends on the number of threads.

mod attention;
mod causal_softmax;
pub mod composed;
mod cpu;
mod cross_entropy;
mod embedding;
mod given;
mod heads;
mod lanes;
mod linear;
mod packed;
mod paged_attention;
mod policy_logprobs;
mod rms_norm;
mod rope;
mod row_product;
mod seed;
mod simd;
mod softmax_sums;
mod swiglu;

use candle_core::{Error, Result, Tensor};

pub use attention::{attention, attention_packed, attention_thd};
pub use causal_softmax::causal_softmax;
pub(crate) use cpu::values;
pub use cross_entropy::{cross_entropy, linear_cross_entropy, token_logprobs};
pub use embedding::embedding;
pub use linear::{frozen_linear, linear, linear_residual, swiglu_linear};
pub use packed::{Packed, Quants};
pub(crate) use paged_attention::{BLOCK_TOKENS, Heads, Span, paged_attention};
pub use policy_logprobs::masked_token_logprobs;
pub use rms_norm::rms_norm;
pub use rope::{head_norm_rope, rope, rope_thd};
pub use row_product::{row_linear, row_linear_residual, row_swiglu_linear};
pub use seed::backward_from;
pub(crate) use softmax_sums::{SoftmaxSums, masked, scaled};
pub use swiglu::swiglu;

/// An error that names the op, the rule and the shapes that break it.
fn shape_error<T>(op: &str, rule: &str, tensors: &[&Tensor]) -> Result<T> {
    let shapes: Vec<&[usize]> = tensors.iter().map(|tensor| tensor.dims()).collect();
    Err(Error::Msg(format!("{op}: {rule}, but the shapes are {shapes:?}")).bt())
}
