//! Benchmarks, and the run directories that every measurement writes.
//!
//! So far one benchmark, [`arith`], which needs no download: generated word problems with integer answers.

pub mod arith;
pub mod statistics;

mod problem;
mod run_dir;
mod sample;

pub use problem::{Gold, Problem};
pub use run_dir::{Lines, RunDir, RunDirError, write_atomically};
pub use sample::{Outcome, Sample, Scored, Verdict};
