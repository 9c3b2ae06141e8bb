//! What a run measured: `report.json` for programs, `report.md` for a table, `report.html` to look into every attempt.
//!
//! Figures are made from one small [`Summary`] a sample; the trajectories themselves are only read again, one at a time,
//! when the page is written. Start reading at [`Report::of`].

mod figures;
mod html;
mod markdown;
mod summary;
mod svg;
mod write;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::RunInfo;
use crate::statistics::{Interval, OfK};

pub(crate) use markdown::{percent, range};
pub use summary::Summary;
pub(crate) use summary::problem_id;
pub use write::{report_of, write_reports};

/// The schema name that this version writes and reads.
pub const REPORT_SCHEMA: &str = "agentflow.report/1";

/// Every figure of a run. Shares are 0 to 1, intervals 95 %.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub schema: String,
    pub run: RunInfo,
    /// Whether samples are missing that were asked for.
    pub partial: bool,
    pub counts: Counts,
    pub accuracy: Accuracy,
    /// With several answers a question; `None` with one.
    pub repeats: Option<Repeats>,
    pub per_sample: PerSample,
    pub tools: Tools,
    pub replies: Replies,
    /// Why attempts ended: `answered`, `max_steps`, `budget`, `failed`.
    pub stops: BTreeMap<String, u64>,
    /// How answers were read and compared, e.g. `boxed, exact`.
    pub read_by: BTreeMap<String, u64>,
    /// Tag, then its value: e.g. `level`, then `3`.
    pub by_tag: BTreeMap<String, BTreeMap<String, Score>>,
    /// By number of steps taken, in ascending order.
    pub by_steps: Vec<StepScore>,
    pub tokens: Tokens,
    pub speed: Option<Speed>,
    /// What the tokens cost, where prices are known.
    pub cost_dollars: Option<f64>,
}

/// How many samples ended in what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Problems times repeats.
    pub asked: u64,
    pub samples: u64,
    pub right: u64,
    pub wrong: u64,
    pub no_answer: u64,
    pub failed: u64,
    /// Asked for, but not run (yet): not counted in any other figure.
    pub missing: u64,
    pub failed_by_cause: BTreeMap<String, u64>,
}

/// The headline. An attempt without an answer, or that failed, is not right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Mean over questions of each one's share of right answers.
    pub value: f64,
    pub interval: Interval,
    /// How the interval was made: by Wilson from single answers, or Student's t over questions.
    pub method: Method,
    pub questions: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    Wilson,
    /// Clipped to 0 to 1.
    StudentT,
}

/// Figures of several answers a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repeats {
    pub asked: u64,
    /// Answers obtained for the question that has fewest and for the one that has most.
    pub obtained: (u64, u64),
    pub avg: f64,
    /// From the spread between questions.
    pub avg_stderr: Option<f64>,
    pub pass_at: Vec<OfK>,
    pub pass_hat: Vec<OfK>,
    pub majority: Majority,
}

/// maj@k: how often the answer that most attempts at a question agree on is right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Majority {
    pub right: u64,
    pub questions: u64,
    pub value: f64,
    pub interval: Interval,
}

/// Means over samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PerSample {
    pub steps: f64,
    pub prompt_tokens: f64,
    pub completion_tokens: f64,
    pub wall_s: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Tools {
    pub calls: u64,
    pub errors: u64,
    pub error_rate: f64,
    /// Outputs that were too long to be shown whole.
    pub truncated: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Replies {
    pub steps: u64,
    /// Steps whose reply could not be read, after one retry.
    pub invalid: u64,
    pub invalid_rate: f64,
}

/// Right answers of how many samples, with the interval of the mean over questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    pub right: u64,
    pub samples: u64,
    pub accuracy: Accuracy,
}

/// The samples that took `steps` steps. Wilson's interval; samples count one by one, also of the same question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepScore {
    pub steps: u64,
    pub right: u64,
    pub samples: u64,
    pub accuracy: f64,
    pub interval: Interval,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    pub prompt: u64,
    pub completion: u64,
}

/// Of the whole run: attempts at the same time count once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    pub wall_s: f64,
    pub completion_tokens_per_s: f64,
    pub samples_per_s: f64,
}
