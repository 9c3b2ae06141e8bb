//! Step labels: how good each planner decision was, 0 to 1, by a judge, by Monte-Carlo rollouts, or by both.
//!
//! What labelling writes and PRM training reads is [`Label`], one object a line of `labels.jsonl`.

pub mod agreement;
pub mod consensus;
pub mod judge;

mod labeller;
mod record;

pub use labeller::{Case, Labelled, Labeller, LabellerError};
pub use record::{LABELS_FILE, Label, LabelError, Provenance, SCHEMA, Scores, state_of};
