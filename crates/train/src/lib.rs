//! Training. So far [`sft`]: supervised fine-tuning of a small planner from nothing, on demonstrations.

pub mod adamw;
pub mod adversary;
pub mod label;
pub mod reward;
pub mod schedule;
pub mod sft;
