//! A labelling run as a person follows it: labels so far, their mean, pace, failures.

use std::time::Instant;

use agentflow_train::label::{Event, Tally};

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
    shown: usize,
}

impl Watch {
    pub(super) fn new(total: u64, before: Tally) -> Self {
        let mut progress = Progress::new(total, "labels");
        progress.start_at(before.kept());
        let narrator = Narrator::new(false);
        Self { progress, narrator, started: Instant::now(), before, shown: 0 }
    }

    pub(super) fn say(&self, text: &str) {
        self.progress.say(text);
    }

    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::Kept { so_far } => {
                self.progress.update(so_far.kept(), self.message(&so_far));
            }
            Event::TriedAgain { trajectory, step, error } => {
                self.failure(&format!("`{trajectory}`, step {step}, is tried again: {error}"));
            }
            Event::Failed { trajectory, step, error, so_far } => {
                self.failure(&format!("`{trajectory}`, step {step}, failed: {error}"));
                self.progress.update(so_far.kept(), self.message(&so_far));
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
        let mean = so_far.mean().map_or_else(String::new, |mean| format!("mean {mean:.3}, "));
        let mut text = format!("{mean}{:.0} tokens/s", written as f64 / seconds);
        for (count, what) in [(so_far.missing, "missing"), (so_far.failed, "failed")] {
            if count > 0 {
                text += &format!(", {count} {what}");
            }
        }
        text
    }
}
