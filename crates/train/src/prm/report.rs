//! The report of a finished run: `report.json`, `report.md` and a drawing of the calibration.

use std::fmt::Write as _;

use agentflow_eval::{RunDir, RunDirError};
use serde::{Deserialize, Serialize};

use super::{DataSummary, Evaluation, Measured, Training};

const CALIBRATION: &str = "calibration.svg";

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub base: String,
    pub data: DataSummary,
    /// Updates made, and the one whose weights are the model's.
    pub updates: u64,
    pub best_update: u64,
    /// Whether the held-out error stopped to fall before the schedule ended.
    pub stopped_early: bool,
    /// Of the best update, on the held-out problems.
    pub held_out: Measured,
    pub evaluations: Vec<Point>,
}

/// An evaluation, in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub update: u64,
    pub mse: f64,
    pub mae: f64,
    pub pairwise_accuracy: Option<f64>,
}

impl Report {
    pub(super) fn new(
        training: &Training<'_>,
        updates: u64,
        best: &Evaluation,
        evaluated: &[Evaluation],
    ) -> Self {
        let point = |it: &Evaluation| Point {
            update: it.update,
            mse: it.measured.mse,
            mae: it.measured.mae,
            pairwise_accuracy: it.measured.pairwise_accuracy,
        };
        Self {
            base: training.config.model.base.clone(),
            data: training.data.summary.clone(),
            updates,
            best_update: best.update,
            stopped_early: updates < training.config.schedule.updates,
            held_out: best.measured.clone(),
            evaluations: evaluated.iter().map(point).collect(),
        }
    }

    pub(super) fn write(&self, run: &RunDir) -> Result<(), RunDirError> {
        run.write(CALIBRATION, drawing(&self.held_out).as_bytes())?;
        run.write("report.md", self.to_markdown().as_bytes())?;
        let json = serde_json::to_value(self).expect("plain numbers and texts serialize");
        run.write("report.json", format!("{json:#}\n").as_bytes())
    }

    fn to_markdown(&self) -> String {
        let Self { base, data, updates, best_update, held_out, .. } = self;
        let mut text = String::from("# Process reward model\n\n");
        let end = if self.stopped_early { ", when the held-out error fell no more" } else { "" };
        let _ = write!(
            text,
            "Trained from `{base}` on {} decisions of {} problems ({} without a label left out, {} texts cut at the \
             left), text `{}`. {updates} updates{end}; the model is that of update {best_update}.\n\n\
             ## On {} held-out decisions of {} problems\n\n| | |\n|---|---|\n",
            data.train_decisions,
            data.train_problems,
            data.without_label,
            data.truncated,
            data.prm_prompt,
            data.held_out_decisions,
            data.held_out_problems,
        );
        let number = |value: f64| format!("{value:.4}");
        let maybe = |value: Option<f64>| value.map_or("–".to_owned(), number);
        for (name, value) in [
            ("Mean absolute error", number(held_out.mae)),
            ("… of always saying the mean training label", number(held_out.baseline_mae)),
            ("… the one through the other", maybe(held_out.mae_ratio)),
            ("Mean squared error", number(held_out.mse)),
            (
                "Spearman within a problem",
                format!(
                    "{} ({} problems whose labels vary)",
                    maybe(held_out.spearman_in_problem),
                    held_out.problems_that_vary
                ),
            ),
            (
                "Pairwise accuracy within a state",
                format!(
                    "{} ({} pairs whose labels differ by more than 0.1)",
                    maybe(held_out.pairwise_accuracy),
                    held_out.pairs
                ),
            ),
            ("Correlation of score and length", maybe(held_out.length_correlation)),
            ("… of label and length", maybe(held_out.label_length_correlation)),
            (
                "Mean absolute error of last steps",
                format!("{} ({})", maybe(held_out.last_mae), held_out.last_decisions),
            ),
        ] {
            let _ = writeln!(text, "| {name} | {value} |");
        }
        let _ = write!(
            text,
            "\n## Calibration\n\n![mean label beside mean score]({CALIBRATION})\n\n\
             | Score from | Mean score | Mean label | Decisions |\n|---|---|---|---|\n"
        );
        for bin in &held_out.calibration {
            let _ = writeln!(
                text,
                "| {:.1} | {:.3} | {:.3} | {} |",
                bin.from, bin.mean_score, bin.mean_label, bin.decisions
            );
        }
        text.push_str("\n## Evaluations\n\n| Update | MSE | MAE | Pairs |\n|---|---|---|---|\n");
        for point in &self.evaluations {
            let _ = writeln!(
                text,
                "| {} | {:.4} | {:.4} | {} |",
                point.update,
                point.mse,
                point.mae,
                maybe(point.pairwise_accuracy)
            );
        }
        text
    }
}

/// Mean label over mean score as dots, as large as decisions are many, beside the line on which they should be.
fn drawing(measured: &Measured) -> String {
    const SIDE: f64 = 300.0;
    const LEFT: f64 = 46.0;
    const TOP: f64 = 12.0;
    let x = |score: f64| LEFT + SIDE * score.clamp(0.0, 1.0);
    let y = |label: f64| TOP + SIDE * (1.0 - label);
    let most = measured.calibration.iter().map(|bin| bin.decisions).max().unwrap_or(1).max(1);
    // Its own colours, for it is shown beside text that has none: they are read on light and on dark.
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 360 356\" role=\"img\" \
         aria-label=\"mean label by score; the table has the figures\" font-family=\"sans-serif\" font-size=\"11\" fill=\"#888\">\n",
    );
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let (across, down) = (x(share), y(share));
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {down}H{}M{across} {TOP}V{}\" stroke=\"#888\" stroke-opacity=\".25\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{share}</text>\
             <text x=\"{across}\" y=\"{}\" text-anchor=\"middle\">{share}</text>",
            LEFT + SIDE,
            TOP + SIDE,
            LEFT - 6.0,
            down + 4.0,
            TOP + SIDE + 16.0
        );
    }
    let _ = writeln!(
        svg,
        "<path d=\"M{} {}L{} {}\" stroke=\"#888\" stroke-dasharray=\"4 4\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">mean score</text>\
         <text x=\"12\" y=\"{}\" transform=\"rotate(-90 12 {})\" text-anchor=\"middle\">mean label</text>",
        x(0.0),
        y(0.0),
        x(1.0),
        y(1.0),
        x(0.5),
        TOP + SIDE + 34.0,
        y(0.5),
        y(0.5)
    );
    for bin in &measured.calibration {
        let radius = 3.0 + 7.0 * (bin.decisions as f64 / most as f64).sqrt();
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\" fill=\"#3b82c4\" fill-opacity=\".8\">\
             <title>{} decisions: score {:.3}, label {:.3}</title></circle>",
            x(bin.mean_score),
            y(bin.mean_label),
            bin.decisions,
            bin.mean_score,
            bin.mean_label
        );
    }
    svg.push_str("</svg>\n");
    svg
}
