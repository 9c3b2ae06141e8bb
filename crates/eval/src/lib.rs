//! Benchmarks, and the run directories that every measurement writes.
//!
//! [`benchmark`] turns a name or a file into checked problems. [`arith`] is the one that needs no download: generated word
//! problems with integer answers.

pub mod arith;
pub mod benchmark;

mod problem;
mod run_dir;
mod sample;

pub use problem::{Gold, Problem};
pub use run_dir::{Lines, RunDir, RunDirError, write_atomically};
pub use sample::{Outcome, Sample, Scored, Verdict};
