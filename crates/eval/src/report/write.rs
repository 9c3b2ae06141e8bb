//! Writes the three files of a report beside the samples they are made from.

use std::path::Path;

use super::{Report, Summary};
use crate::run_dir::stream_atomically;
use crate::samples::last_samples;
use crate::{RunDirError, RunInfo, write_atomically};

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
    let report = report_of(run, info, wall_s, equal)?;
    let json = serde_json::to_vec_pretty(&report).map_err(|e| RunDirError::Io {
        action: "serialize the report for",
        path: run.to_owned(),
        source: e.into(),
    })?;
    write_atomically(&run.join("report.json"), &json)?;
    write_atomically(&run.join("report.md"), report.to_markdown().as_bytes())?;
    let path = run.join("report.html");
    stream_atomically(&path, |out| report.write_html(last_samples(run)?, out, &path))?;
    Ok(report)
}

/// The report of the run at `run`, from its samples, without writing it.
///
/// # Errors
/// If a sample cannot be read.
pub fn report_of(
    run: &Path,
    info: &RunInfo,
    wall_s: Option<f64>,
    equal: &dyn Fn(&str, &str) -> bool,
) -> Result<Report, RunDirError> {
    let summaries = last_samples(run)?
        .map(|read| read.map(|(_, sample)| Summary::of(&sample)))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Report::of(info, &summaries, wall_s, equal))
}
