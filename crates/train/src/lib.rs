//! Training. So far [`sft`], supervised fine-tuning of a small planner from nothing, on demonstrations; and [`policy`], the
//! mathematics of DAPO and its relatives.

pub mod adamw;
pub mod adversary;
pub mod label;
pub mod policy;
pub mod reward;
pub mod schedule;
pub mod sft;
