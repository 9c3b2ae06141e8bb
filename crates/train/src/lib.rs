//! Training: a small planner from nothing ([`sft`]); labels of recorded steps ([`label`]), the model that learns them
//! ([`prm`]) and the reward that it gives ([`reward`]); the mathematics of DAPO and its relatives ([`policy`]), and their
//! updates of a LoRA adapter ([`dapo`]).

pub mod adamw;
pub mod adversary;
pub mod checkpoint;
pub mod dapo;
pub mod label;
pub mod policy;
pub mod prm;
pub mod reward;
pub mod schedule;
pub mod sft;

mod curves;
mod workers;

pub use curves::CurvesError;
