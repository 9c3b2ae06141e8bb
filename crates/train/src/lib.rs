//! Training. So far [`sft`], supervised fine-tuning of a small planner from nothing, on demonstrations; [`policy`], the
//! mathematics of DAPO and its relatives; and [`dapo`], their updates of a LoRA adapter.

pub mod adamw;
pub mod adversary;
pub mod checkpoint;
pub mod dapo;
pub mod label;
pub mod policy;
pub mod reward;
pub mod schedule;
pub mod sft;

mod workers;
