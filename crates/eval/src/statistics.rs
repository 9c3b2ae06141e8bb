//! The statistics behind every figure: intervals, repeated attempts, and two runs of the same questions.
//!
//! Everything is exact where it can be (binomials, sign flips), and otherwise says what it assumes. Answers to one
//! question are one cluster: errors come from the spread *between* questions, never from pooled answers.

mod average;
mod holm;
mod interval;
mod majority;
mod paired;
mod pass_at_k;
mod power;
mod special;
mod unpaired;

pub use average::{Average, Tally, average, clustered_stderr, mean_stderr};
pub use holm::holm;
pub use interval::{Interval, clopper_pearson, newcombe, t_interval, wilson};
pub use majority::majority;
pub use paired::{Difference, bootstrap, difference, mcnemar, sign_flip};
pub use pass_at_k::{OfK, mean_pass_at, mean_pass_hat, pass_at_k, pass_hat_k};
pub use power::detectable_difference;
pub use unpaired::fisher;

/// The standard normal's 97.5 % quantile: two-sided 95 %.
pub(crate) const Z_95: f64 = 1.959_963_984_540_054;
/// The standard normal's 80 % quantile: the usual power.
pub(crate) const Z_80: f64 = 0.841_621_233_572_914_3;
