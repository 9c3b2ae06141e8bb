//! Benchmarks, answers, runs and what they measured.
//!
//! [`benchmark`] turns a name or a file into checked problems; [`arith`] is the one that needs no download: generated word
//! problems with integer answers. [`runner`] makes the attempts. [`judge()`] reads the answer out of a model's text and
//! compares it with the gold one; [`score_pairs`] does that for a whole file.
//!
//! A run leaves one [`Sample`] a line; everything after that is made from those lines alone: [`report`], [`mod@compare`],
//! [`rescore`](fn@rescore), and logs for other tools. The figures come from [`statistics`], and what others measured from
//! [`published`].
//!
//! **Invariant:** nothing here but the runner ever sees a model, so any recorded run can be reported and judged again.

pub mod arith;
pub mod benchmark;
pub mod compare;
pub mod published;
pub mod report;
pub mod runner;
pub mod statistics;

mod equivalence;
mod inspect_log;
mod judge;
mod pairs;
mod problem;
mod reading;
mod rescore;
mod run_dir;
mod run_info;
mod run_list;
mod sample;
mod samples;

pub use inspect_log::{inspect_log_name, write_inspect_log};
pub use judge::{judge, same_answer};
pub use pairs::{Kind, Scoring, score_pairs};
pub use problem::{Gold, Problem};
pub use report::{Report, Summary, report_of, write_reports};
pub use rescore::{Change, Rescored, rescore};
pub use run_dir::{Lines, RunDir, RunDirError, stream_atomically, write_atomically};
pub use run_info::{Dataset, INFO_FILE, Prices, RunInfo};
pub use run_list::{Run, State, runs};
pub use sample::{Outcome, Sample, Scored, Verdict};
pub use samples::{SAMPLES_FILE, Samples, samples};
