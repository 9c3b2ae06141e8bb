//! A run as a person follows it: accuracy so far, pace, failures.

use std::collections::BTreeSet;
use std::time::Instant;

use agentflow_eval::runner::{Event, Tally};
use agentflow_eval::statistics::wilson;

use crate::narrate::Narrator;
use crate::progress::Progress;

/// Failures that are shown as they happen; the report has all of them.
const MOST_SHOWN: usize = 10;

pub(super) struct Watch {
    progress: Progress,
    narrator: Narrator,
    started: Instant,
    /// What was kept when this process began.
    before: Tally,
    /// Most warnings come with every attempt.
    warned: BTreeSet<String>,
    shown: usize,
}

impl Watch {
    pub(super) fn new(total: u64, before: Tally) -> Self {
        let mut progress = Progress::new(total, "attempts");
        progress.start_at(before.done());
        Self {
            progress,
            narrator: Narrator::new(false),
            started: Instant::now(),
            before,
            warned: BTreeSet::new(),
            shown: 0,
        }
    }

    pub(super) fn say(&self, text: &str) {
        self.progress.say(text);
    }

    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::Kept { problem, repeat, error, so_far } => {
                if let Some(error) = error {
                    self.failure(&format!("`{problem}`, attempt {repeat}, failed: {error}"));
                }
                self.progress.update(so_far.done(), self.message(&so_far));
            }
            Event::TriedAgain { problem, repeat, error } => {
                self.failure(&format!("`{problem}`, attempt {repeat}, is tried again: {error}"));
            }
            Event::Warning { problem, text } => {
                if self.warned.insert(text.clone()) {
                    self.warn(&format!("`{problem}`: {text}"));
                }
            }
        }
    }

    pub(super) fn finish(&self) {
        self.progress.finish();
    }

    fn failure(&mut self, text: &str) {
        self.shown += 1;
        if self.shown <= MOST_SHOWN {
            self.warn(text);
        }
        if self.shown == MOST_SHOWN {
            self.warn("further failures are counted, and in the report");
        }
    }

    fn warn(&self, text: &str) {
        self.progress.above(|| self.narrator.warning(text));
    }

    fn message(&self, so_far: &Tally) -> String {
        let seconds = self.started.elapsed().as_secs_f64().max(1e-3);
        let written = so_far.usage.completion_tokens - self.before.usage.completion_tokens;
        format!(
            "{}, {:.0} tokens/s{}",
            accuracy(so_far),
            written as f64 / seconds,
            failures(so_far)
        )
    }
}

/// E.g. `98.5 % right [95.7, 99.5]`.
pub(super) fn accuracy(so_far: &Tally) -> String {
    let share = so_far.right as f64 / so_far.done().max(1) as f64;
    let interval = wilson(so_far.right as f64, so_far.done());
    let (low, high) = (100.0 * interval.lower, 100.0 * interval.upper);
    format!("{:.1} % right [{low:.1}, {high:.1}]", 100.0 * share)
}

fn failures(so_far: &Tally) -> String {
    match so_far.failed {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    }
}
