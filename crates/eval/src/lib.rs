//! Benchmarks, and the run directories that every measurement writes.
//!
//! One benchmark needs no download: [`arith`], generated word problems with integer answers.
//!
//! [`judge`] reads the answer out of a model's text and compares it with the gold one; [`score_pairs`] does that for a
//! whole file.

pub mod arith;

mod equivalence;
mod judge;

mod pairs;
mod problem;
mod reading;
mod run_dir;
mod sample;

pub use judge::judge;
pub use pairs::{Kind, Scoring, score_pairs};
pub use problem::{Gold, Problem};
pub use run_dir::{Lines, RunDir, RunDirError, write_atomically};
pub use sample::{Outcome, Sample, Scored, Verdict};
