//! Reading the samples of a run, one at a time: a run of 10,000 takes no more memory than one of 10.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{RunDirError, Sample};

/// The file of a run directory that holds its samples.
pub const SAMPLES_FILE: &str = "trajectories.jsonl";

/// The samples of a run, in the order in which they were finished. A torn last line is no sample yet.
///
/// # Errors
/// If the file cannot be opened; a line that cannot be read is an error of its own, which names it.
pub fn samples(run: &Path) -> Result<Samples, RunDirError> {
    let path = run.join(SAMPLES_FILE);
    let file = File::open(&path).map_err(|source| {
        if run.join("run.toml").is_file() {
            RunDirError::Io { action: "read", path: path.clone(), source }
        } else {
            RunDirError::NotARun { path: run.to_owned() }
        }
    })?;
    Ok(Samples { lines: BufReader::new(file), path, line: 0 })
}

/// The samples that count, with their lines: where an attempt was made twice, as after a failure, the later one.
///
/// # Errors
/// Those of [`samples`], and if a line cannot be read.
pub(crate) fn last_samples(
    run: &Path,
) -> Result<impl Iterator<Item = Result<(usize, Sample), RunDirError>>, RunDirError> {
    let mut last: BTreeMap<(String, u32), usize> = BTreeMap::new();
    let mut keys = samples(run)?;
    while let Some(line) = keys.next_line() {
        let key: Key = serde_json::from_str(&line?).map_err(|e| keys.broken(e.to_string()))?;
        last.insert((key.problem_id.unwrap_or(key.id), key.eval.repeat), keys.line());
    }
    let lines: BTreeSet<usize> = last.into_values().collect();
    let mut all = samples(run)?;
    let numbered = std::iter::from_fn(move || {
        let sample = all.next()?;
        Some(sample.map(|sample| (all.line(), sample)))
    });
    Ok(numbered.filter(move |read| !matches!(read, Ok((line, _)) if !lines.contains(line))))
}

/// As much of a sample as tells two attempts apart.
#[derive(Deserialize)]
struct Key {
    id: String,
    problem_id: Option<String>,
    eval: Repeat,
}

#[derive(Deserialize)]
struct Repeat {
    repeat: u32,
}

/// See [`samples`].
#[derive(Debug)]
pub struct Samples {
    lines: BufReader<File>,
    path: PathBuf,
    line: usize,
}

impl Samples {
    /// Line of the sample that came last, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The next whole line, without its end.
    ///
    /// # Errors
    /// If the disk refuses, or the line is no text.
    pub(crate) fn next_line(&mut self) -> Option<Result<String, RunDirError>> {
        let mut line = Vec::new();
        match self.lines.read_until(b'\n', &mut line) {
            Ok(_) if line.pop_if(|end| *end == b'\n').is_none() => None,
            Ok(_) => {
                self.line += 1;
                Some(String::from_utf8(line).map_err(|e| self.broken(e.to_string())))
            }
            Err(source) => {
                Some(Err(RunDirError::Io { action: "read", path: self.path.clone(), source }))
            }
        }
    }

    pub(crate) fn broken(&self, problem: String) -> RunDirError {
        RunDirError::Line { path: self.path.clone(), line: self.line, problem }
    }
}

impl Iterator for Samples {
    type Item = Result<Sample, RunDirError>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = match self.next_line()? {
            Ok(line) => line,
            Err(error) => return Some(Err(error)),
        };
        Some(serde_json::from_str(&line).map_err(|e| self.broken(e.to_string())))
    }
}
