//! What happens while a question is being solved, for whoever watches.

use agentflow_flow::{self as flow, Kind};
use agentflow_tools::Observation;
use serde::{Deserialize, Serialize};

use crate::trajectory::{Decision, Verdict};

/// What happens while a question is being solved: the progress that the nodes of its flow tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The planner decided; the tool runs now.
    Decided { index: usize, decision: Decision },
    /// The tool is done.
    Observed { observation: Observation },
    /// The step is done and recorded.
    StepDone { index: usize, verdict: Verdict },
    /// Something that went wrong without stopping the loop.
    Warning { text: String },
}

impl Event {
    /// What `event` of the flow tells of the attempt; `None` where it is about the flow itself.
    pub(crate) fn of(event: flow::Event) -> Option<Self> {
        match event.kind {
            Kind::Progress(told) => serde_json::from_value(told).ok(),
            _ => None,
        }
    }
}
