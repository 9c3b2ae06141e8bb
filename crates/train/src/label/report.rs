//! What a labelling run came to: `report.json` for programs, `report.md` for people.
//!
//! Every figure is made from `labels.jsonl`, so it can be made again.

mod markdown;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use agentflow_agent::trajectory::{ModelRecord, SamplingRecord};
use agentflow_eval::{Prices, RunDir, RunDirError};
use agentflow_llm::Usage;
use serde::{Deserialize, Serialize};

use super::record::{LABELS_FILE, Label};
use super::runner::dollars;

/// The schema name that this version writes and reads.
pub const REPORT_SCHEMA: &str = "agentflow.label-report/1";

/// The file of a run directory that says what is labelled and by whom.
pub const INFO_FILE: &str = "label.json";

/// Of the histogram.
const BINS: usize = 10;

/// What stands above every figure: written when the run starts, so that one that was killed can still be reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelInfo {
    /// Name of the run directory.
    pub run: String,
    /// The runs that are labelled.
    pub labels: Vec<String>,
    pub benchmarks: BTreeSet<String>,
    /// E.g. `monte-carlo, 8 continuations`.
    pub labeller: String,
    /// Who judged, or continued.
    pub model: ModelRecord,
    pub sampling: SamplingRecord,
    /// Trajectories whose decisions are labelled, and those left out because the attempt failed.
    pub trajectories: u64,
    pub failed_trajectories: u64,
    /// Steps left out because no decision could be read.
    pub unreadable_steps: u64,
    /// Decisions to be labelled, and how many of them differ in what their label depends on.
    pub decisions: u64,
    pub distinct: u64,
    pub version: String,
    pub commit: String,
    /// What the model costs, where it costs something.
    pub prices: Option<Prices>,
}

/// Every figure of a run. Means are over labels, not over problems.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelReport {
    pub schema: String,
    pub run: LabelInfo,
    /// Whether decisions are neither labelled nor known to have no label.
    pub partial: bool,
    pub labelled: u64,
    pub missing: u64,
    pub missing_by_cause: BTreeMap<String, u64>,
    /// Decisions that the last process could not label; a resumed run tries them again.
    pub failed_by_cause: BTreeMap<String, u64>,
    /// `None` without labels, as everywhere below.
    pub mean: Option<f64>,
    /// Ten equal bins from 0 to 1, each without its upper end but the last.
    pub histogram: [u64; BINS],
    pub states: States,
    /// Labels of decisions that ended a trajectory, by its outcome.
    pub last: ByOutcome,
    /// Labels of decisions before.
    pub earlier: ByOutcome,
    pub usage: Usage,
    pub cost_dollars: Option<f64>,
    /// Of all processes; `None` where one was killed and did not say.
    pub wall_s: Option<f64>,
}

/// What decisions have in common: only in a state with several can a model learn which one is better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct States {
    pub states: u64,
    /// With more than one decision, and with more than one that reads differently.
    pub with_several: u64,
    pub with_different: u64,
    /// With labels that differ.
    pub with_different_labels: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ByOutcome {
    pub right: Labels,
    pub not_right: Labels,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Labels {
    pub labels: u64,
    pub mean: Option<f64>,
}

impl LabelInfo {
    /// Writes it into the run directory, before the first label.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write(&self, run: &RunDir) -> Result<(), RunDirError> {
        run.write(INFO_FILE, &json(self, run.path())?)
    }
}

/// Writes `report.json` and `report.md` of the run from its labels, and gives the report.
///
/// # Errors
/// If a label cannot be read, or the disk refuses.
pub fn write_report(
    run: &RunDir,
    info: LabelInfo,
    failed_by_cause: BTreeMap<String, u64>,
    wall_s: Option<f64>,
) -> Result<LabelReport, RunDirError> {
    let report = LabelReport::of(info, &read(run.path())?, failed_by_cause, wall_s);
    run.write("report.json", &json(&report, run.path())?)?;
    run.write("report.md", report.to_markdown().as_bytes())?;
    Ok(report)
}

fn json(value: &impl Serialize, path: &Path) -> Result<Vec<u8>, RunDirError> {
    serde_json::to_vec_pretty(value).map_err(|e| RunDirError::Io {
        action: "serialize the report for",
        path: path.to_owned(),
        source: e.into(),
    })
}

/// As much of a label as its figures take; the texts can be large.
struct Brief {
    state: String,
    text: String,
    last: bool,
    outcome: Option<f64>,
    label: Option<f64>,
    missing: Option<String>,
    usage: Usage,
}

/// The labels of a run. A torn last line is no label yet.
fn read(run: &Path) -> Result<Vec<Brief>, RunDirError> {
    use sha2::{Digest, Sha256};
    let path = run.join(LABELS_FILE);
    let io = |source| RunDirError::Io { action: "read", path: path.clone(), source };
    let mut lines = BufReader::new(File::open(&path).map_err(io)?);
    let (mut all, mut line) = (Vec::new(), String::new());
    for number in 1.. {
        line.clear();
        lines.read_line(&mut line).map_err(io)?;
        let Some(text) = line.strip_suffix('\n') else { break };
        let label = Label::from_line(text, number).map_err(|e| RunDirError::Line {
            path: path.clone(),
            line: number,
            problem: e.to_string(),
        })?;
        all.push(Brief {
            state: label.state,
            text: format!("{:x}", Sha256::digest(label.text)),
            last: label.last,
            outcome: label.outcome,
            label: label.label,
            missing: label.missing,
            usage: label.usage,
        });
    }
    Ok(all)
}

impl LabelReport {
    fn of(
        info: LabelInfo,
        all: &[Brief],
        failed_by_cause: BTreeMap<String, u64>,
        wall_s: Option<f64>,
    ) -> Self {
        let mut histogram = [0; BINS];
        let mut missing_by_cause = BTreeMap::new();
        let mut usage = Usage::default();
        for brief in all {
            usage += brief.usage;
            match (brief.label, &brief.missing) {
                (Some(label), _) => histogram[((label * BINS as f64) as usize).min(BINS - 1)] += 1,
                (None, why) => {
                    *missing_by_cause.entry(why.clone().unwrap_or_default()).or_default() += 1;
                }
            }
        }
        let everything = labels(all.iter());
        let by_outcome = |last: bool| {
            let of = |right: bool| {
                labels(all.iter().filter(move |brief| {
                    brief.last == last && (brief.outcome == Some(1.0)) == right
                }))
            };
            ByOutcome { right: of(true), not_right: of(false) }
        };
        Self {
            schema: REPORT_SCHEMA.to_owned(),
            partial: (all.len() as u64) < info.decisions,
            labelled: everything.labels,
            missing: all.len() as u64 - everything.labels,
            missing_by_cause,
            failed_by_cause,
            mean: everything.mean,
            histogram,
            states: States::of(all),
            last: by_outcome(true),
            earlier: by_outcome(false),
            usage,
            cost_dollars: info.prices.map(|prices| dollars(prices, usage)),
            wall_s,
            run: info,
        }
    }
}

fn labels<'a>(of: impl Iterator<Item = &'a Brief>) -> Labels {
    let (mut labels, mut sum) = (0, 0.0);
    for label in of.filter_map(|brief| brief.label) {
        labels += 1;
        sum += label;
    }
    Labels { labels, mean: (labels > 0).then(|| sum / labels as f64) }
}

impl States {
    fn of(all: &[Brief]) -> Self {
        let mut by_state: BTreeMap<&str, Vec<&Brief>> = BTreeMap::new();
        for brief in all {
            by_state.entry(&brief.state).or_default().push(brief);
        }
        let count = |holds: &dyn Fn(&[&Brief]) -> bool| {
            by_state.values().filter(|decisions| holds(decisions)).count() as u64
        };
        let differ =
            |decisions: &[&Brief]| decisions.iter().any(|brief| brief.text != decisions[0].text);
        let labels_differ = |decisions: &[&Brief]| {
            let mut labels = decisions.iter().filter_map(|brief| brief.label);
            labels.next().is_some_and(|first| labels.any(|label| label != first))
        };
        Self {
            states: by_state.len() as u64,
            with_several: count(&|decisions| decisions.len() > 1),
            with_different: count(&differ),
            with_different_labels: count(&labels_differ),
        }
    }
}
