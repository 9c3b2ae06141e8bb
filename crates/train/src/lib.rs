//! Training: [`sft`], supervised fine-tuning of a small planner from nothing, on demonstrations; [`label`], what each
//! recorded decision is worth; [`prm`], a model that learns those labels.

pub mod adamw;
pub mod checkpoint;
pub mod label;
pub mod prm;
pub mod schedule;
pub mod sft;

mod curves;

pub use curves::CurvesError;
