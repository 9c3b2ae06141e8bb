//! Training: a small planner from nothing ([`sft`]); labels of recorded steps ([`label`]) and the reward that is learnt from
//! them ([`reward`]); the mathematics of DAPO and its relatives ([`policy`]).

pub mod adamw;
pub mod adversary;
pub mod label;
pub mod policy;
pub mod reward;
pub mod schedule;
pub mod sft;
