//! One problem of a benchmark, as the agent is asked it and as its answer is judged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A problem, ready to be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Unique within the benchmark.
    pub id: String,
    /// What the agent is asked; with the choices, in the order in which they are shown, where there are some.
    pub question: String,
    pub gold: Gold,
    /// What results are broken down by, e.g. `level` or `subject`.
    pub tags: BTreeMap<String, String>,
}

/// The right answer, and how an answer is compared with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Gold {
    /// A mathematical expression as the data set writes it; equivalence decides.
    Math { answer: String },
    /// A letter; `shown` are the texts of the choices from A on, in the order the model saw.
    Choice { letter: char, shown: Vec<String> },
}

impl Gold {
    /// As a record shows it: the expression, or the letter.
    pub fn text(&self) -> String {
        match self {
            Gold::Math { answer } => answer.clone(),
            Gold::Choice { letter, .. } => letter.to_string(),
        }
    }
}
