//! The result as it is printed: how many decisions have which label.

use std::io::{self, Write};

use agentflow_train::label::{LabelReport, Labels};

/// Characters of the longest bar.
const WIDTH: u64 = 40;

pub(super) fn write(report: &LabelReport, out: &mut dyn Write) -> io::Result<()> {
    let run = &report.run;
    writeln!(out, "{}, {} ({})", run.labeller, run.model.name, run.model.backend)?;
    let most = report.histogram.iter().copied().max().unwrap_or(0).max(1);
    for (bin, count) in report.histogram.iter().enumerate() {
        let bins = report.histogram.len();
        let end = if bin + 1 == bins { ']' } else { ')' };
        let (from, to) = (bin as f64 / bins as f64, (bin + 1) as f64 / bins as f64);
        let bar = "#".repeat((count * WIDTH).div_ceil(most) as usize);
        writeln!(out, "[{from:.1}, {to:.1}{end}{:6}{count:>7}  {bar}", "")?;
    }
    writeln!(out, "labelled        {:>7}  mean {}", report.labelled, mean(report.mean))?;
    for (what, by) in [("earlier", report.earlier), ("last", report.last)] {
        let (right, others) = (shown(by.right), shown(by.not_right));
        writeln!(out, "{what:<8} decisions of right trajectories {right}, of others {others}")?;
    }
    let states = report.states;
    let share = 100.0 * states.with_several as f64 / states.states.max(1) as f64;
    writeln!(
        out,
        "{} states, {share:.1} % with more than one decision, {} with labels that differ",
        states.states, states.with_different_labels
    )?;
    for (what, causes) in
        [("missing", &report.missing_by_cause), ("failed", &report.failed_by_cause)]
    {
        for (cause, count) in causes {
            writeln!(out, "{what}: {count} × {cause}")?;
        }
    }
    let tokens = report.usage.prompt_tokens + report.usage.completion_tokens;
    write!(out, "{tokens} tokens")?;
    if let Some(dollars) = report.cost_dollars {
        write!(out, ", ${dollars:.4}")?;
    }
    match report.wall_s {
        Some(wall_s) => writeln!(out, ", {wall_s:.1} s"),
        None => writeln!(out),
    }
}

fn shown(labels: Labels) -> String {
    format!("{} ({})", mean(labels.mean), labels.labels)
}

fn mean(mean: Option<f64>) -> String {
    mean.map_or_else(|| "–".to_owned(), |mean| format!("{mean:.3}"))
}
