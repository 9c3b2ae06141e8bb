//! Writes the three files of a report beside the samples they are made from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{Report, Summary};
use crate::run_dir::stream_atomically;
use crate::{RunDirError, RunInfo, samples, write_atomically};

/// Writes `report.json`, `report.md` and `report.html` of the run at `run` from its samples, and gives the report.
///
/// See [`Report::of`] for `wall_s` and `equal`. One sample is held at a time.
///
/// # Errors
/// If a sample cannot be read, or the disk refuses.
pub fn write_reports(
    run: &Path,
    info: &RunInfo,
    wall_s: Option<f64>,
    equal: &dyn Fn(&str, &str) -> bool,
) -> Result<Report, RunDirError> {
    let mut summaries = Vec::new();
    // Where an attempt was made twice, the later one counts, and is shown.
    let mut lines: BTreeMap<(String, u32), usize> = BTreeMap::new();
    let mut all = samples(run)?;
    while let Some(sample) = all.next() {
        let summary = Summary::of(&sample?);
        lines.insert((summary.problem.clone(), summary.repeat), all.line());
        summaries.push(summary);
    }
    let report = Report::of(info, &summaries, wall_s, equal);
    let shown: BTreeSet<usize> = lines.into_values().collect();
    drop(summaries);

    let json = serde_json::to_vec_pretty(&report).map_err(|e| RunDirError::Io {
        action: "serialize the report for",
        path: run.to_owned(),
        source: e.into(),
    })?;
    write_atomically(&run.join("report.json"), &json)?;
    write_atomically(&run.join("report.md"), report.to_markdown().as_bytes())?;
    let path = run.join("report.html");
    stream_atomically(&path, |out| {
        let mut all = samples(run)?;
        let attempts = std::iter::from_fn(|| {
            let sample = all.next()?;
            Some(sample.map(|sample| (all.line(), sample)))
        });
        let attempts =
            attempts.filter(|read| !matches!(read, Ok((line, _)) if !shown.contains(line)));
        report.write_html(attempts, out, &path)
    })?;
    Ok(report)
}
