//! All events of a run, to be looked at when it is over.

use crate::data::Data;
use crate::event::{Event, Events, Kind};
use crate::report::Report;
use crate::run::Run;

/// Drives a run to its end; its report, and every event that it had.
pub async fn record<O: Data>(run: Run<O>) -> (Report<O>, Recorder) {
    // Without bound, so that none is dropped: nobody reads until the run is over.
    let (events, report) = run.events(usize::MAX);
    let report = report.await;
    (report, Recorder::drain(events).await)
}

/// The events of a run, in their order. [`record`] makes one.
#[derive(Debug, Clone)]
pub struct Recorder {
    events: Vec<Event>,
}

impl Recorder {
    /// Reads all that is left of a stream. For runs that are driven in another way than by [`record`], such as one that is
    /// dropped; give [`Run::events`](crate::Run::events) a capacity of `usize::MAX` to lose none.
    pub async fn drain(mut events: Events) -> Self {
        let mut all = Vec::new();
        while let Some(event) = events.next().await {
            all.push(event);
        }
        Self { events: all }
    }

    /// All of them, in order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The paths of the nodes that ran and were done, in the order in which they were; groups after what is in them.
    pub fn order(&self) -> Vec<String> {
        self.paths(|kind| matches!(kind, Kind::StepDone))
    }

    /// The paths of the nodes whose output was in the journal, in the order in which they were come to.
    pub fn replayed(&self) -> Vec<String> {
        self.paths(|kind| matches!(kind, Kind::Replayed))
    }

    /// The labels that switches chose, with the paths of the switches.
    pub fn routes(&self) -> Vec<(String, String)> {
        let route = |event: &Event| match &event.kind {
            Kind::Routed(label) => Some((event.path.to_string(), label.clone())),
            _ => None,
        };
        self.events.iter().filter_map(route).collect()
    }

    /// What happened to the node at `path`; to the run itself, under the name of the flow.
    pub fn kinds(&self, path: &str) -> Vec<&Kind> {
        let here = self.events.iter().filter(|event| event.path == path);
        here.map(|event| &event.kind).collect()
    }

    /// How many attempts of the node at `path` were started.
    pub fn attempts(&self, path: &str) -> usize {
        self.kinds(path).into_iter().filter(|kind| matches!(kind, Kind::StepStarted)).count()
    }

    fn paths(&self, wanted: impl Fn(&Kind) -> bool) -> Vec<String> {
        let events = self.events.iter().filter(|event| wanted(&event.kind));
        events.map(|event| event.path.to_string()).collect()
    }
}
