//! Two runs beside each other, or a run beside published figures: what changed, and whether that is evidence.
//!
//! Runs are compared question by question, which finds what two separate averages hide. Published figures are mostly
//! bare averages; then the comparison says so, and finds less.

mod attempts;
mod paired;
mod text;
mod unpaired;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::published::{Published, PublishedError, published, published_pair};
use crate::statistics::holm;
use crate::{RunDirError, RunInfo};

pub use paired::{Flip, Means, Paired, TagRow, Test};
pub use unpaired::Unpaired;

/// The schema name of `--json`.
pub const COMPARISON_SCHEMA: &str = "agentflow.comparison/1";

/// One side of a comparison: a run directory, or published figures.
#[derive(Debug, Clone)]
pub enum Operand {
    Run(PathBuf),
    Published(Vec<Published>),
}

impl Operand {
    /// A path, or an address that begins with `published:`.
    ///
    /// # Errors
    /// If such an address leads nowhere.
    pub fn parse(text: &str) -> Result<Self, PublishedError> {
        if text.starts_with(crate::published::PREFIX) {
            published(text).map(Self::Published)
        } else {
            Ok(Self::Run(PathBuf::from(text)))
        }
    }
}

/// What stands beside what.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Side {
    /// Run directory, or address of a published figure.
    pub name: String,
    pub benchmark: String,
    pub model: String,
    /// Share of right answers: of the pairs, or of all samples where nothing is paired.
    pub accuracy: f64,
    pub steps: Option<f64>,
    /// Where a published figure comes from, and how it was measured.
    pub source: Option<String>,
}

/// The outcome. Differences are those of the second operand against the first.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Comparison {
    Paired(Box<Paired>),
    Unpaired(Box<Unpaired>),
}

/// Why two operands cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error(transparent)]
    Run(#[from] RunDirError),
    #[error(
        "{what}, so a difference would mean nothing; compare runs of the same questions, or add --force"
    )]
    Refused { what: String },
    #[error("`{a}` and `{b}` have no attempt at the same problem in common")]
    NothingInCommon { a: String, b: String },
    #[error("`{name}` has several published rows; name one of them: {rows}")]
    Ambiguous { name: String, rows: String },
}

/// Compares `b` against `a`; one comparison for each row of published figures.
///
/// `force` compares also what differs in its questions. With several rows, p-values are adjusted by Holm's method.
///
/// # Errors
/// If a run cannot be read, or the operands have no questions in common.
pub fn compare(a: &Operand, b: &Operand, force: bool) -> Result<Vec<Comparison>, CompareError> {
    let mut found = match (a, b) {
        (Operand::Run(a), Operand::Run(b)) => vec![paired::of_runs(a, b, force)?],
        (Operand::Run(run), Operand::Published(rows)) => {
            let run = unpaired::Counted::of_run(run)?;
            let one = |row| unpaired::compare(&run, &unpaired::Counted::of(row), force);
            rows.iter().map(one).collect::<Result<_, _>>()?
        }
        (Operand::Published(rows), Operand::Run(run)) => {
            let run = unpaired::Counted::of_run(run)?;
            let one = |row| unpaired::compare(&unpaired::Counted::of(row), &run, force);
            rows.iter().map(one).collect::<Result<_, _>>()?
        }
        (Operand::Published(a), Operand::Published(b)) => {
            let (a, b) = (only(a)?, only(b)?);
            match published_pair(a, b) {
                Some(pair) => vec![paired::of_published(a, b, &pair)],
                None => {
                    let (a, b) = (unpaired::Counted::of(a), unpaired::Counted::of(b));
                    vec![unpaired::compare(&a, &b, force)?]
                }
            }
        }
    };
    adjust(&mut found);
    Ok(found)
}

/// The benchmarks have to be the same, whatever split follows.
fn refuse_other_benchmark(a: &Side, b: &Side, force: bool) -> Result<(), CompareError> {
    if a.benchmark == b.benchmark || force {
        return Ok(());
    }
    let what = format!(
        "`{}` is of benchmark `{}`, `{}` of `{}`",
        a.name, a.benchmark, b.name, b.benchmark
    );
    Err(CompareError::Refused { what })
}

fn only(rows: &[Published]) -> Result<&Published, CompareError> {
    match rows {
        [row] => Ok(row),
        _ => Err(CompareError::Ambiguous {
            name: rows.first().map(|row| row.benchmark.clone()).unwrap_or_default(),
            rows: rows.iter().map(|row| row.address.clone()).collect::<Vec<_>>().join(", "),
        }),
    }
}

fn adjust(found: &mut [Comparison]) {
    if found.len() < 2 {
        return;
    }
    let known = |comparison: &Comparison| match comparison {
        Comparison::Paired(paired) => Some(paired.p_value),
        Comparison::Unpaired(unpaired) => unpaired.p_value,
    };
    let adjusted = holm(&found.iter().filter_map(known).collect::<Vec<_>>());
    let with_p = found.iter_mut().filter(|comparison| known(comparison).is_some());
    for (comparison, adjusted) in with_p.zip(adjusted) {
        if let Comparison::Unpaired(unpaired) = comparison {
            unpaired.p_holm = Some(adjusted);
        }
    }
}

fn name_of(run: &Path, info: &RunInfo) -> String {
    run.file_name().map_or_else(|| info.run.clone(), |name| name.to_string_lossy().into_owned())
}
