//! Labels that a judge and Monte-Carlo rollouts agree on.
//!
//! Either alone misleads: rollouts call a wrong step right when the policy recovers by chance, a judge believes what
//! sounds sure. Keeping only the steps on which both agree is what made Qwen2.5-Math-PRM better than either on more data
//! (arXiv 2501.07301, section 3.1.3). There both labels are yes or no; here they are numbers, so they agree *within a
//! margin*, and the label that is kept is their mean: no more than half a margin from each, and with less noise than the
//! rollouts alone.
//!
//! Two signals that cost nothing can veto further ([`Signal`]): how the attempt ended, and whether the tool failed.

use std::collections::HashMap;
use std::fmt;

use agentflow_llm::Usage;
use serde::{Deserialize, Serialize};

use super::record::{Label, Provenance};

/// One grade of the judge (a quarter), and 1.4 standard errors of 8 rollouts at their widest (0.5/√8 = 0.18): a margin below
/// that throws away agreement for being measured roughly, one far above keeps what is no agreement.
pub const MARGIN: f64 = 0.25;

/// Labels below the first are low, above the second high.
const REGIONS: [f64; 2] = [1.0 / 3.0, 2.0 / 3.0];

/// How labels are compared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Labels agree when they are no further apart.
    pub margin: f64,
    /// Whether [`Signal`]s veto.
    pub signals: bool,
}

/// What tells against a label for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The decision ended the attempt, and its outcome contradicts the label. Of earlier decisions the outcome says
    /// little: a right one may be followed by a mistake.
    Outcome,
    /// The tool failed on the input, and the label is high all the same.
    ToolFailed,
}

/// What became of the decisions of both files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Decisions with both labels, by region of the judge's and of the rollouts'.
    pub table: [[Cell; 3]; 3],
    /// Decisions that only the judge's file has, or only the other.
    pub only_judge: usize,
    pub only_monte_carlo: usize,
    /// Decisions whose label is missing in the judge's file, in the other, or in both.
    pub missing_judge: usize,
    pub missing_monte_carlo: usize,
    pub missing_both: usize,
    /// Decisions that both files have, but with other words in them.
    pub other_text: usize,
    /// Decisions further apart than the margin, and those that only a signal dropped.
    pub apart: usize,
    pub against_outcome: usize,
    pub tool_failed: usize,
}

/// Decisions in one pair of regions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    pub kept: usize,
    pub of: usize,
}

/// Why two files cannot be compared.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConsensusError {
    #[error("the margin is {0}; give a number from 0 to 1")]
    Margin(f64),
    #[error(
        "the judge's labels are for PRM prompt `{judge}`, and the rollouts' for `{monte_carlo}`; label the same run with both"
    )]
    Prompt { judge: String, monte_carlo: String },
    #[error(
        "step {step} of trajectory `{trajectory}` has two labels in the {whose} file; remove one, or label the run again"
    )]
    Twice { whose: &'static str, trajectory: String, step: usize },
    #[error("the two files have no decision in common; label the same run with both")]
    Disjoint,
    #[error(
        "the {whose} file has the label of another labeller (step {step} of trajectory `{trajectory}`); give the judge's \
         labels first, then those of the rollouts"
    )]
    Labeller { whose: &'static str, trajectory: String, step: usize },
}

/// The decisions on which `judge` and `monte_carlo` agree, in the order of `judge`, and what became of the others.
///
/// `tool_ok` says whether the tool of a decision, named by run, trajectory and step, worked; it is asked only where the
/// rule has signals, and `None` vetoes nothing.
///
/// # Errors
/// Where the files are of other decisions or for other PRM prompts, or name one twice.
pub fn consensus(
    judge: &[Label],
    monte_carlo: &[Label],
    rule: Rule,
    tool_ok: &dyn Fn(&Label) -> Option<bool>,
) -> Result<(Vec<Label>, Report), ConsensusError> {
    if !(0.0..=1.0).contains(&rule.margin) {
        return Err(ConsensusError::Margin(rule.margin));
    }
    by_place(judge, "judge's", |by| matches!(by, Provenance::Judge { .. }))?;
    let mut others =
        by_place(monte_carlo, "rollouts'", |by| matches!(by, Provenance::MonteCarlo { .. }))?;
    let (mut kept, mut report) = (Vec::new(), Report::default());
    for judged in judge {
        let Some(rolled) = others.remove(&place(judged)) else {
            report.only_judge += 1;
            continue;
        };
        if judged.prm_prompt != rolled.prm_prompt {
            return Err(ConsensusError::Prompt {
                judge: judged.prm_prompt.clone(),
                monte_carlo: rolled.prm_prompt.clone(),
            });
        }
        if judged.text != rolled.text {
            report.other_text += 1;
            continue;
        }
        if let Some(label) = report.agreed(judged, rolled, rule, tool_ok) {
            kept.push(label);
        }
    }
    report.only_monte_carlo = others.len();
    if report.only_judge == judge.len() && !(judge.is_empty() && monte_carlo.is_empty()) {
        return Err(ConsensusError::Disjoint);
    }
    Ok((kept, report))
}

impl Report {
    /// The label of both, if they agree; counts it either way.
    fn agreed(
        &mut self,
        judged: &Label,
        rolled: &Label,
        rule: Rule,
        tool_ok: &dyn Fn(&Label) -> Option<bool>,
    ) -> Option<Label> {
        let (judge, monte_carlo) = match (judged.label, rolled.label) {
            (Some(judge), Some(monte_carlo)) => (judge, monte_carlo),
            (None, Some(_)) => return count(&mut self.missing_judge),
            (Some(_), None) => return count(&mut self.missing_monte_carlo),
            (None, None) => return count(&mut self.missing_both),
        };
        let cell = &mut self.table[region(judge)][region(monte_carlo)];
        cell.of += 1;
        // Both are sums of fractions: what is the margin apart on paper may come out a little above it.
        if (judge - monte_carlo).abs() > rule.margin + 1e-9 {
            return count(&mut self.apart);
        }
        let mean = f64::midpoint(judge, monte_carlo);
        if rule.signals {
            match veto(mean, judged, tool_ok(judged)) {
                Some(Signal::Outcome) => return count(&mut self.against_outcome),
                Some(Signal::ToolFailed) => return count(&mut self.tool_failed),
                None => {}
            }
        }
        cell.kept += 1;
        let by = Provenance::Consensus { judge, monte_carlo, margin: rule.margin };
        // What the two labels took stands in their own files.
        Some(Label { label: Some(mean), by, usage: Usage::default(), wall_ms: 0, ..judged.clone() })
    }

    pub fn kept(&self) -> usize {
        self.table.iter().flatten().map(|cell| cell.kept).sum()
    }

    /// Decisions that have both labels.
    pub fn compared(&self) -> usize {
        self.table.iter().flatten().map(|cell| cell.of).sum()
    }
}

/// The signal that tells against `label`, a number from 0 to 1.
fn veto(label: f64, of: &Label, tool_ok: Option<bool>) -> Option<Signal> {
    if let (true, Some(outcome)) = (of.last, of.outcome)
        && (outcome > 0.5) != (label > 0.5)
    {
        return Some(Signal::Outcome);
    }
    (tool_ok == Some(false) && region(label) == 2).then_some(Signal::ToolFailed)
}

fn count(counter: &mut usize) -> Option<Label> {
    *counter += 1;
    None
}

fn region(label: f64) -> usize {
    REGIONS.iter().filter(|bound| label > **bound).count()
}

type Place<'a> = (Option<&'a str>, &'a str, usize);

fn place(label: &Label) -> Place<'_> {
    (label.run.as_deref(), &label.trajectory, label.step)
}

fn by_place<'a>(
    labels: &'a [Label],
    whose: &'static str,
    is_theirs: fn(&Provenance) -> bool,
) -> Result<HashMap<Place<'a>, &'a Label>, ConsensusError> {
    let mut places = HashMap::with_capacity(labels.len());
    for label in labels {
        let (trajectory, step) = (label.trajectory.clone(), label.step);
        if !is_theirs(&label.by) {
            return Err(ConsensusError::Labeller { whose, trajectory, step });
        }
        if places.insert(place(label), label).is_some() {
            return Err(ConsensusError::Twice { whose, trajectory, step });
        }
    }
    Ok(places)
}

/// The disagreement table, and what was dropped.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kept, of) = (self.kept(), self.compared());
        let share = |cell: Cell| match cell.of {
            0 => "-".to_owned(),
            of => format!("{}/{of} ({:.0} %)", cell.kept, 100.0 * cell.kept as f64 / of as f64),
        };
        writeln!(f, "kept {} of the decisions with both labels", share(Cell { kept, of }))?;
        writeln!(f, "{:<14} {:>18} {:>18} {:>18}", "kept/all", "rollouts low", "middle", "high")?;
        for (name, row) in ["judge low", "judge middle", "judge high"].iter().zip(&self.table) {
            let [low, middle, high] = row.map(share);
            writeln!(f, "{name:<14} {low:>18} {middle:>18} {high:>18}")?;
        }
        let dropped = [
            ("further apart than the margin", self.apart),
            ("against the outcome", self.against_outcome),
            ("high, but the tool failed", self.tool_failed),
            ("no label of the judge", self.missing_judge),
            ("no label of the rollouts", self.missing_monte_carlo),
            ("no label of either", self.missing_both),
            ("only in the judge's file", self.only_judge),
            ("only in the rollouts' file", self.only_monte_carlo),
            ("other text in the two files", self.other_text),
        ];
        let dropped: Vec<String> = dropped
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(why, count)| format!("{count} {why}"))
            .collect();
        let dropped = if dropped.is_empty() { "nothing".to_owned() } else { dropped.join(", ") };
        write!(f, "dropped: {dropped}")
    }
}
