//! The result as it is printed: one row for all, one for each value of a tag.

use std::io::{self, Write};

use agentflow_eval::Report;
use agentflow_eval::report::Accuracy;

/// A tag with more values is left to `report.md`; one with a single value says nothing that the first row does not.
const VALUES: std::ops::RangeInclusive<usize> = 2..=12;

pub(super) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let (run, counts) = (&report.run, &report.counts);
    writeln!(out, "{}, {} ({})", run.benchmark, run.model_name(), run.model.backend)?;
    let mut row = |name: &str, right: u64, of: u64, accuracy: &Accuracy| {
        let (low, high) = (100.0 * accuracy.interval.lower, 100.0 * accuracy.interval.upper);
        let percent = 100.0 * accuracy.value;
        writeln!(out, "{name:<16} {right:>5}/{of:<5} {percent:>6.1} %  [{low:.1}, {high:.1}]")
    };
    row("all", counts.right, counts.samples, &report.accuracy)?;
    for (tag, values) in report.by_tag.iter().filter(|(_, values)| VALUES.contains(&values.len())) {
        for (value, score) in values {
            row(&format!("{tag} {value}"), score.right, score.samples, &score.accuracy)?;
        }
    }
    for (what, count) in
        [("no answer", counts.no_answer), ("failed", counts.failed), ("missing", counts.missing)]
    {
        if count > 0 {
            writeln!(out, "{what:<16} {count:>5}")?;
        }
    }
    for (cause, count) in &counts.failed_by_cause {
        writeln!(out, "  {count} × {cause}")?;
    }
    writeln!(out, "{}", report.plain_words())?;
    let figure = match run.benchmark.split_once('/') {
        Some((area, name)) => format!("{area}.{name}"),
        None => format!("eval.{}", run.benchmark),
    };
    writeln!(out, "figure {figure} {:.1} %", 100.0 * report.accuracy.value)
}
