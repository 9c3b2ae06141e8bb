//! What a run leaves: how it ended, and every attempt on the way.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ask::Pause;
use crate::error::{ErrorKind, FlowError};
use crate::id::RunId;
use crate::observer::Observers;
use crate::path::Path;

/// What a run leaves. Every run ends in one, whatever happened.
#[derive(Debug)]
pub struct Report<O> {
    /// The name under which a store knows it.
    pub run: RunId,
    /// How it ended.
    pub end: End<O>,
    /// Every attempt of every node, in the order in which they ended; those of earlier processes first.
    pub trace: Vec<Attempt>,
    /// What was spent of each unit, by all attempts, those of earlier processes included.
    pub spent: BTreeMap<String, u64>,
    /// In this process.
    pub took: Duration,
    /// They may still be reading the last events.
    pub observers: Observers,
}

/// How a run ended.
#[derive(Debug)]
pub enum End<O> {
    /// The output of the last node.
    Done(O),
    /// It waits for the answers to these, one or more; [`Flow::resume`](crate::Flow::resume) goes on with them.
    Paused(Vec<Pause>),
    /// Where, how, and after how many attempts.
    Failed(FlowError),
}

impl<O> Report<O> {
    /// The output.
    ///
    /// # Errors
    /// If the run failed; [`ErrorKind::Paused`] if it waits.
    pub fn into_result(self) -> Result<O, FlowError> {
        match self.end {
            End::Done(output) => Ok(output),
            End::Failed(error) => Err(error),
            End::Paused(pauses) => {
                let path = pauses.into_iter().next().map_or_else(String::new, |pause| pause.path);
                Err(FlowError { path: Path::parse(&path), attempts: 1, kind: ErrorKind::Paused })
            }
        }
    }

    /// What the run waits for; empty unless it is paused.
    pub fn pauses(&self) -> &[Pause] {
        match &self.end {
            End::Paused(pauses) => pauses,
            _ => &[],
        }
    }

    /// Why the run failed, if it did.
    pub fn error(&self) -> Option<&FlowError> {
        match &self.end {
            End::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// The attempts of the node at `path`.
    pub fn attempts<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Attempt> {
        self.trace.iter().filter(move |attempt| attempt.path == path)
    }
}

/// One attempt of one node.
#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    /// Of the node.
    pub path: Path,
    /// Counted from 1, across resumes.
    pub attempt: u32,
    /// When it began.
    pub started: SystemTime,
    /// How long the step ran; what was written afterwards is not counted.
    pub took: Duration,
    /// What became of it.
    pub outcome: Outcome,
    /// What it was given, where [`Run::trace_inputs`](crate::Run::trace_inputs) asked for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// What it spent itself, not through nodes inside it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub spent: BTreeMap<String, u64>,
    /// It was made by an earlier process, and is known from the journal.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub earlier: bool,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It gave an output.
    Done,
    /// It failed, with this message.
    Failed(String),
    /// It was dropped before it was done.
    Cancelled,
    /// It, or something in it, waits for an answer.
    Paused,
}
