//! Benchmarks, and the run directories that every measurement writes.
//!
//! [`benchmark`] turns a name or a file into checked problems. [`arith`] is the one that needs no download: generated word
//! problems with integer answers.

pub mod arith;
pub mod benchmark;
pub mod compare;
pub mod published;
pub mod report;
pub mod runner;
pub mod statistics;

mod inspect_log;
mod interim;
mod problem;
mod rescore;
mod run_dir;
mod run_info;
mod run_list;
mod sample;
mod samples;

pub use inspect_log::write_inspect_log;
pub use interim::judge;
pub use problem::{Gold, Problem};
pub use report::{Report, Summary, write_reports};
pub use rescore::{Change, Rescored, rescore};
pub use run_dir::{Lines, RunDir, RunDirError, stream_atomically, write_atomically};
pub use run_info::{Dataset, INFO_FILE, Prices, RunInfo};
pub use run_list::{Run, State, runs};
pub use sample::{Outcome, Sample, Scored, Verdict};
pub use samples::{SAMPLES_FILE, Samples, samples};
