//! Step labels: how good each planner decision was, 0 to 1, by a judge, by Monte-Carlo rollouts, or by both.
//!
//! [`Cases`] are what there is to label in recorded runs; a [`Labeller`] says what one of them is worth; [`run()`] has all
//! of them labelled, resumably. What it writes and PRM training reads is [`Label`], one object a line of `labels.jsonl`.

pub mod agreement;
pub mod consensus;
pub mod judge;

mod cases;
mod file;
mod kept;
mod labeller;
mod monte_carlo;
mod record;
mod report;
mod runner;

pub use cases::{Cases, CasesError, Selection};
pub use file::read_labels;
pub use kept::{AGREEMENT_FILE, Kept, Tally};
pub use labeller::{Case, Labelled, Labeller, LabellerError};
pub use monte_carlo::MonteCarlo;
pub use record::{LABELS_FILE, Label, LabelError, Provenance, SCHEMA, Scores, state_of};
pub use report::{
    ByOutcome, INFO_FILE, LabelInfo, LabelReport, Labels, REPORT_SCHEMA, States, write_report,
};
pub use runner::{End, Event, Finished, Plan, RunError, distinct, dollars, left, run};
