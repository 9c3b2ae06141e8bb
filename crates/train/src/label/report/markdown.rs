//! `report.md`: the figures as tables.

use std::fmt::{self, Write as _};

use super::{BINS, LabelReport, Labels};

impl LabelReport {
    /// As Markdown.
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        self.write_markdown(&mut text).expect("writing to a string cannot fail");
        text
    }

    fn write_markdown(&self, out: &mut String) -> fmt::Result {
        let run = &self.run;
        writeln!(out, "# Labels of {} · {}\n", run.labels.join(", "), run.labeller)?;
        if self.partial {
            let done = self.labelled + self.missing;
            writeln!(out, "**Partial:** {done} of {} decisions are done.\n", run.decisions)?;
        }
        writeln!(out, "| Label | Decisions |\n|---|---|")?;
        for (bin, count) in self.histogram.iter().enumerate() {
            let end = if bin + 1 == BINS { ']' } else { ')' };
            let (from, to) = (bin as f64 / BINS as f64, (bin + 1) as f64 / BINS as f64);
            writeln!(out, "| [{from:.1}, {to:.1}{end} | {count} |")?;
        }
        writeln!(out, "| missing | {} |\n", self.missing)?;
        for (what, causes) in
            [("Missing", &self.missing_by_cause), ("Failed", &self.failed_by_cause)]
        {
            for (cause, count) in causes {
                writeln!(out, "- {what}: {count} × {}", cause.replace(['\n', '\r'], " "))?;
            }
        }
        writeln!(out, "\n| Mean label | of right trajectories | of others |\n|---|---|---|")?;
        for (what, by) in [("earlier decisions", self.earlier), ("last decisions", self.last)] {
            writeln!(out, "| {what} | {} | {} |", shown(by.right), shown(by.not_right))?;
        }
        writeln!(out, "\n| | |\n|---|---|")?;
        for (name, value) in self.rows() {
            writeln!(out, "| {name} | {} |", value.replace('|', "\\|"))?;
        }
        Ok(())
    }

    /// What stands below the tables, name and value.
    fn rows(&self) -> Vec<(&'static str, String)> {
        let (run, states) = (&self.run, self.states);
        let share = |count: u64| percent(count, states.states);
        let mut rows = vec![
            ("Mean", mean(self.mean)),
            ("Benchmarks", run.benchmarks.iter().cloned().collect::<Vec<_>>().join(", ")),
            ("Trajectories", run.trajectories.to_string()),
            ("Failed trajectories, left out", run.failed_trajectories.to_string()),
            ("Decisions", run.decisions.to_string()),
            ("Different in what the label depends on", run.distinct.to_string()),
            ("Unreadable steps, left out", run.unreadable_steps.to_string()),
            ("States", states.states.to_string()),
            ("with more than one decision", share(states.with_several)),
            ("with decisions that differ", share(states.with_different)),
            ("with labels that differ", share(states.with_different_labels)),
            ("Prompt tokens", self.usage.prompt_tokens.to_string()),
            ("Completion tokens", self.usage.completion_tokens.to_string()),
        ];
        if let Some(cost) = self.cost_dollars {
            rows.push(("Cost", format!("${cost:.4}")));
        }
        if let Some(wall_s) = self.wall_s {
            rows.push(("Time", format!("{wall_s:.1} s")));
        }
        rows.push(("Model", format!("{} ({})", run.model.name, run.model.backend)));
        if let Some(digest) = &run.model.digest {
            rows.push(("Digest", digest.clone()));
        }
        let sampling = &run.sampling;
        let seed = sampling.seed.map_or_else(|| "none".to_owned(), |seed| seed.to_string());
        rows.push((
            "Sampling",
            format!("temperature {}, top_p {}, seed {seed}", sampling.temperature, sampling.top_p),
        ));
        rows.push(("Version", format!("{} ({})", run.version, run.commit)));
        rows
    }
}

fn shown(labels: Labels) -> String {
    format!("{} ({})", mean(labels.mean), labels.labels)
}

/// `0.634`, or a dash.
fn mean(mean: Option<f64>) -> String {
    mean.map_or_else(|| "–".to_owned(), |mean| format!("{mean:.3}"))
}

/// `12 (34.5 %)`.
fn percent(count: u64, of: u64) -> String {
    format!("{count} ({:.1} %)", 100.0 * count as f64 / of.max(1) as f64)
}
