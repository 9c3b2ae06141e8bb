//! How far long work has come: a bar on a terminal, now and then a line in a log.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two lines in a log.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Progress of one run, on stderr.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    /// What is counted, e.g. `updates`.
    noun: &'static str,
    total: u64,
    last_line: Instant,
    started: Instant,
    /// Done before `started`.
    first: u64,
}

impl Progress {
    /// Nothing done of `total`. A resumed run starts further on, with its first [`update`](Self::update).
    pub(crate) fn new(total: u64, noun: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("{bar:30} {pos}/{len} {prefix}, {eta} left, {msg}")
                    .expect("the template is well formed");
            ProgressBar::new(total).with_style(style).with_prefix(noun)
        });
        Self { bar, noun, total, last_line: Instant::now(), started: Instant::now(), first: 0 }
    }

    /// `done` so far; `message` says how it goes.
    pub(crate) fn update(&mut self, done: u64, message: String) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(message);
            }
            None if self.last_line.elapsed() > LINE_EVERY => {
                self.last_line = Instant::now();
                let left = self.left(done);
                self.say(&format!("{done}/{} {}, {left}{message}", self.total, self.noun));
            }
            None => {}
        }
    }

    /// E.g. `about 12m left, `, at the pace so far.
    fn left(&self, done: u64) -> String {
        let made = done.saturating_sub(self.first);
        if made == 0 {
            return String::new();
        }
        let each = self.started.elapsed().as_secs_f64() / made as f64;
        let seconds = each * self.total.saturating_sub(done) as f64;
        let left = indicatif::HumanDuration(Duration::from_secs_f64(seconds.min(1e9)));
        format!("about {left:#} left, ")
    }

    /// What an earlier process did of it: the pace is that of this one.
    pub(crate) fn start_at(&mut self, done: u64) {
        self.first = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.reset_eta();
        }
    }

    /// Lets `write` write to stderr where it does not mix with the bar.
    pub(crate) fn above(&self, write: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// A line that stays, above the bar.
    pub(crate) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // Nothing is left to do where stderr is closed.
            None => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }

    /// Takes the bar away: what follows on stdout would stand behind it.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
