//! What a run measures and with what: written when it starts, so that a run that was killed can still be reported.

use std::path::Path;

use agentflow_agent::trajectory::{ModelRecord, SamplingRecord};
use serde::{Deserialize, Serialize};

use crate::{RunDir, RunDirError};

/// The file of a run directory that holds it.
pub const INFO_FILE: &str = "eval.json";

/// What stands above every figure of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// Name of the run directory.
    pub run: String,
    /// As it was asked for, e.g. `aime24` or `arith/test`.
    pub benchmark: String,
    /// Where the problems come from; `None` where they are generated or a local file.
    pub dataset: Option<Dataset>,
    pub model: ModelRecord,
    pub sampling: SamplingRecord,
    /// Version of the prompts, e.g. `full/1`.
    pub prompts: String,
    pub max_steps: u64,
    /// Problems asked for.
    pub problems: u64,
    /// Attempts at each of them.
    pub repeats: u32,
    /// Decides the order in which choices are shown; `None` where there are none.
    pub choices_seed: Option<u64>,
    pub version: String,
    pub commit: String,
    /// What the model costs, where it costs something.
    pub prices: Option<Prices>,
}

/// A data set at a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// E.g. `Maxwell-Jia/AIME_2024`.
    pub id: String,
    pub revision: Option<String>,
    pub split: Option<String>,
}

/// Dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Prices {
    pub prompt: f64,
    pub completion: f64,
}

impl RunInfo {
    /// Writes it into the run directory, before the first sample.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write(&self, run: &RunDir) -> Result<(), RunDirError> {
        let path = run.path().join(INFO_FILE);
        let json = serde_json::to_vec_pretty(self).map_err(|e| RunDirError::Io {
            action: "serialize",
            path,
            source: e.into(),
        })?;
        run.write(INFO_FILE, &json)
    }

    /// Reads it from a run directory.
    ///
    /// # Errors
    /// If there is no run, or it is none of an evaluation.
    pub fn read(run: &Path) -> Result<Self, RunDirError> {
        let path = run.join(INFO_FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(_) if !run.join("run.toml").is_file() => {
                return Err(RunDirError::NotARun { path: run.to_owned() });
            }
            Err(source) => return Err(RunDirError::Io { action: "read", path, source }),
        };
        serde_json::from_slice(&text).map_err(|e| RunDirError::Line {
            path,
            line: e.line(),
            problem: e.to_string(),
        })
    }

    /// The model with its adapter, as a table names it.
    pub fn model_name(&self) -> String {
        match &self.model.adapter {
            Some(adapter) => format!("{} + {adapter}", self.model.name),
            None => self.model.name.clone(),
        }
    }
}
