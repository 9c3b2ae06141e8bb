//! A benchmark, ready to be run.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::dataset::DatasetRecord;
use super::definition::{Benchmark, Columns, Role, Scorer};
use super::error::BenchmarkError;
use super::overlap::Overlap;
use super::selection::Selection;
use crate::Problem;

/// Problems, and all that a record must say of where they are from. Serialized, it is that record: without the problems.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Loaded {
    pub name: String,
    pub title: String,
    pub role: Role,
    pub licence: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    pub scorer: Scorer,
    /// Decided the order of choices, where there are some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shuffle_seed: Option<u64>,
    /// Problems that could be selected from.
    pub available: usize,
    pub selection: Selection,
    /// The problems that are run, in order.
    #[serde(skip)]
    pub problems: Vec<Problem>,
    /// Which columns were taken; of a plain file they may have been guessed.
    #[serde(skip_serializing_if = "is_generated")]
    pub columns: Columns,
    /// Rows that are no problems of this benchmark: why, and how many.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
    pub dataset: DatasetRecord,
    /// What the comparison of training data with the test sets found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Overlap>,
}

impl Loaded {
    pub(super) fn new(
        benchmark: &Benchmark,
        problems: Vec<Problem>,
        dataset: DatasetRecord,
    ) -> Self {
        Self {
            name: benchmark.name.clone(),
            title: benchmark.title.clone(),
            role: benchmark.role,
            licence: benchmark.licence.clone(),
            source: benchmark.source.clone(),
            scorer: benchmark.scorer,
            shuffle_seed: None,
            available: problems.len(),
            selection: Selection::All,
            problems,
            columns: benchmark.columns.clone(),
            left_out: BTreeMap::new(),
            dataset,
            overlap: None,
        }
    }

    /// Keeps some of the problems; what was loaded is still told by `available`.
    ///
    /// # Errors
    /// If a sample is larger than what there is.
    pub fn select(mut self, selection: &Selection) -> Result<Self, BenchmarkError> {
        self.problems = selection.of(&self.name, self.problems)?;
        self.selection = *selection;
        Ok(self)
    }

    /// SHA-256 of the problems in their order: equal if and only if two runs ask the same questions, show the same
    /// choices and hold the same answers for right.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for problem in &self.problems {
            let line = serde_json::to_vec(problem).expect("a problem is plain data");
            hash.update(line);
            hash.update(b"\n");
        }
        format!("{:x}", hash.finalize())
    }
}

fn is_generated(columns: &Columns) -> bool {
    columns.question.is_empty()
}
