//! Every run under a directory: what it is, how far it came, what came of it.

use std::fs::{File, TryLockError};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::samples::SAMPLES_FILE;
use crate::{RunDirError, RunInfo};

/// What runs write a line at a time: attempts, labels, updates.
const RECORDS: [&str; 3] = [SAMPLES_FILE, "labels.jsonl", "metrics.jsonl"];

/// One run directory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    pub name: String,
    pub path: PathBuf,
    /// What made it, e.g. `eval` or `sft`.
    pub kind: String,
    pub state: State,
    pub benchmark: Option<String>,
    pub model: Option<String>,
    /// Records written: samples of an evaluation, labels, updates of a training.
    pub done: u64,
    /// How many there will be, where that is known.
    pub of: Option<u64>,
    /// Share of right answers, from the report.
    pub accuracy: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A process writes it now.
    Running,
    /// It has all that it was to have.
    Finished,
    /// It ended early, and can be taken up again.
    Interrupted,
}

/// The runs under `root`, the newest first; none where there is no such directory.
///
/// # Errors
/// If the directory cannot be read.
pub fn runs(root: &Path) -> Result<Vec<Run>, RunDirError> {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(RunDirError::Io { action: "list", path: root.to_owned(), source });
        }
    };
    let mut found: Vec<Run> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.join("run.toml").is_file())
        .filter_map(|path| Run::read(&path).ok())
        .collect();
    found.sort_by(|a, b| b.name.cmp(&a.name));
    Ok(found)
}

impl Run {
    /// Looks into one run directory, without disturbing a process that writes it.
    ///
    /// # Errors
    /// If it is no run directory.
    pub fn read(path: &Path) -> Result<Self, RunDirError> {
        if !path.join("run.toml").is_file() {
            return Err(RunDirError::NotARun { path: path.to_owned() });
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let info = RunInfo::read(path).ok();
        let report: Value = std::fs::read(path.join("report.json"))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or(Value::Null);
        let config: toml::Table = std::fs::read_to_string(path.join("run.toml"))
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_default();
        let config_text = |keys: &[&str]| {
            let mut value = config.get("config")?;
            for key in keys {
                value = value.get(key)?;
            }
            value.as_str().map(str::to_owned)
        };
        let done = RECORDS.iter().find_map(|name| lines(&path.join(name)));
        let attempts = info.as_ref().map(|info| info.problems * u64::from(info.repeats));
        let of = attempts.or_else(|| report["run"]["decisions"].as_u64());
        let finished = match report["partial"].as_bool() {
            Some(partial) => !partial,
            None => report.is_object() || path.join("model").is_dir(),
        };
        Ok(Self {
            kind: kind_of(&name),
            state: match () {
                () if in_use(path) => State::Running,
                () if finished => State::Finished,
                () => State::Interrupted,
            },
            benchmark: info
                .as_ref()
                .map(|info| info.benchmark.clone())
                .or_else(|| config_text(&["benchmark"])),
            model: info
                .as_ref()
                .map(RunInfo::model_name)
                .or_else(|| config_text(&["model", "model"])),
            done: done.unwrap_or(0),
            of,
            accuracy: report["accuracy"]["value"].as_f64(),
            path: path.to_owned(),
            name,
        })
    }
}

/// `eval` of `20261121-172026-eval-af9da`.
fn kind_of(name: &str) -> String {
    let parts: Vec<&str> = name.split('-').collect();
    match parts.as_slice() {
        [_, _, kind @ .., _] if !kind.is_empty() => kind.join("-"),
        _ => "unknown".to_owned(),
    }
}

/// Whether a process holds the run's lock.
fn in_use(path: &Path) -> bool {
    let Ok(lock) = File::open(path.join("lock")) else { return false };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Whole lines of a file; `None` where there is none.
fn lines(path: &Path) -> Option<u64> {
    let mut file = BufReader::new(File::open(path).ok()?);
    let mut buffer = vec![0_u8; 64 << 10];
    let mut lines = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) | Err(_) => return Some(lines),
            Ok(n) => lines += buffer[..n].iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }
}
