//! What a labelling run keeps: a line per decision in `labels.jsonl`, and in `events.jsonl` when processes worked on it.

use std::collections::HashMap;
use std::time::Duration;

use agentflow_eval::{Lines, RunDir, RunDirError};
use agentflow_llm::Usage;
use serde::{Deserialize, Serialize};

use super::cases::Place;
use super::labeller::Labelled;
use super::record::{LABELS_FILE, Label};

/// The file of a run directory that holds second labels, where some decisions got one.
pub const AGREEMENT_FILE: &str = "agreement.jsonl";

const EVENTS_FILE: &str = "events.jsonl";
const AGREEMENT_EVENTS_FILE: &str = "agreement-events.jsonl";

/// The labels that are kept, and where further ones go.
#[derive(Debug)]
pub struct Kept {
    lines: Lines,
    events: Lines,
    done: HashMap<Place, Labelled>,
    tally: Tally,
    /// How long earlier processes ran; `None` where one was killed and did not say.
    earlier: Option<Duration>,
}

/// What a run came to so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Decisions with a label.
    pub labelled: u64,
    /// Decisions for which there is none to be had.
    pub missing: u64,
    /// Decisions that could not be labelled in this process: they are left for the next.
    pub failed: u64,
    /// Of the labels.
    pub sum: f64,
    pub usage: Usage,
}

impl Tally {
    /// Decisions that are kept.
    pub fn kept(&self) -> u64 {
        self.labelled + self.missing
    }

    /// Of the labels; `None` where there are none.
    pub fn mean(&self) -> Option<f64> {
        (self.labelled > 0).then(|| self.sum / self.labelled as f64)
    }

    fn add(&mut self, label: &Label) {
        match label.label {
            Some(value) => {
                self.labelled += 1;
                self.sum += value;
            }
            None => self.missing += 1,
        }
        self.usage += label.usage;
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum What {
    /// A process took up the run.
    Began { kept: u64, missing: u64 },
    /// It let go of it.
    Ended { how: String, kept: u64, wall_s: f64 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    /// RFC 3339.
    at: String,
    #[serde(flatten)]
    what: What,
}

impl Kept {
    /// Opens the record of a new run or of one to go on with. A torn last line is dropped, with a warning.
    ///
    /// # Errors
    /// If the disk refuses, or a line is no label.
    pub fn open(dir: &RunDir) -> Result<Self, RunDirError> {
        Self::open_files(dir, LABELS_FILE, EVENTS_FILE)
    }

    /// The same for the second labels of a run.
    ///
    /// # Errors
    /// If the disk refuses, or a line is no label.
    pub fn open_second(dir: &RunDir) -> Result<Self, RunDirError> {
        Self::open_files(dir, AGREEMENT_FILE, AGREEMENT_EVENTS_FILE)
    }

    fn open_files(dir: &RunDir, labels: &str, events: &str) -> Result<Self, RunDirError> {
        let (mut done, mut tally, mut number) = (HashMap::new(), Tally::default(), 0);
        let lines = dir.lines_where(labels, |line| {
            number += 1;
            let text = str::from_utf8(line).map_err(|e| e.to_string())?;
            let label = Label::from_line(text, number).map_err(|e| e.to_string())?;
            tally.add(&label);
            let place = (label.run, label.trajectory, label.step);
            let missing = label.missing.unwrap_or_default();
            let said = label.label.ok_or(missing);
            let labelled = Labelled { label: said, by: label.by, usage: label.usage };
            match done.insert(place, labelled) {
                None => Ok(true),
                Some(_) => Err("this decision is there twice; remove one".to_owned()),
            }
        })?;
        let (mut wall_s, mut running) = (0.0, 0);
        let events = dir.lines_where(events, |line| {
            match serde_json::from_slice(line) {
                Ok(Line { what: What::Began { .. }, .. }) => running += 1,
                Ok(Line { what: What::Ended { wall_s: took, .. }, .. }) => {
                    running -= 1;
                    wall_s += took;
                }
                // What a later version writes there is none of our business.
                Err(_) => {}
            }
            Ok(true)
        })?;
        let earlier = (running == 0).then(|| Duration::try_from_secs_f64(wall_s).ok()).flatten();
        Ok(Self { lines, events, done, tally, earlier })
    }

    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// How long earlier processes ran; `None` where one was killed and did not say.
    pub fn earlier_wall(&self) -> Option<Duration> {
        self.earlier
    }

    /// What was said of the decision at `place`, if it is kept already.
    pub(super) fn get(&self, place: &Place) -> Option<&Labelled> {
        self.done.get(place)
    }

    pub(super) fn keep(&mut self, label: &Label) -> Result<(), RunDirError> {
        self.lines.append(label)?;
        self.tally.add(label);
        Ok(())
    }

    pub(super) fn failed(&mut self, decisions: u64) {
        self.tally.failed += decisions;
    }

    pub(super) fn note(&mut self, what: What) -> Result<(), RunDirError> {
        self.events.append(&Line { at: jiff::Timestamp::now().to_string(), what })
    }

    pub(super) fn sync(&self) -> Result<(), RunDirError> {
        self.lines.sync()
    }
}
