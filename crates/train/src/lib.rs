//! Training. So far [`sft`], supervised fine-tuning of a small planner from nothing, on demonstrations; and [`policy`], the
//! mathematics of DAPO and its relatives.

pub mod adamw;
pub mod policy;
pub mod schedule;
pub mod sft;
