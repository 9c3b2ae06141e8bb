//! Training: [`sft`], supervised fine-tuning of a small planner from nothing, on demonstrations; and [`label`], what recorded
//! decisions are worth.

pub mod adamw;
pub mod label;
pub mod schedule;
pub mod sft;
