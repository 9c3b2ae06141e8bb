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
        Self { bar, noun, total, last_line: Instant::now() }
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
                self.say(&format!("{done}/{} {}, {message}", self.total, self.noun));
            }
            None => {}
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
