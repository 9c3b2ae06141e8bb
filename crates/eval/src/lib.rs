//! Benchmarks, and the run directories that every measurement writes.
//!
//! So far one benchmark, [`arith`], which needs no download: generated word problems with integer answers.

pub mod arith;

mod run_dir;

pub use run_dir::{Lines, RunDir, RunDirError, write_atomically};
