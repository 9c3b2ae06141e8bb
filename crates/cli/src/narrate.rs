//! The steps of the agent as a person reads them, on stderr.

use std::io::{IsTerminal, Write};

use agentflow_agent::Event;
use agentflow_agent::trajectory::Decision;
use agentflow_tools::sandbox::printable;

/// Lines shown of one text; the trajectory has all of them.
const MOST_LINES: usize = 24;
/// Characters shown of one line.
const LONGEST_LINE: usize = 400;

/// Writes events to stderr; in colour on a terminal, unless `NO_COLOR` is set.
pub(crate) struct Narrator {
    colour: bool,
    quiet: bool,
    /// Steps that are done.
    done: usize,
    stage: Stage,
}

/// Where the step at hand stands.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Undecided,
    /// What it does is shown, and is all there is to see.
    Said,
    /// Its tool runs, and will have something to show.
    Running,
}

impl Narrator {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { colour: colour(), quiet, done: 0, stage: Stage::Undecided }
    }

    /// One line about the run itself, e.g. which model answers.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.notice(text);
        }
    }

    /// A [`note`](Self::note) that is shown even with `--quiet`: without it, the answer would be misread.
    pub(crate) fn notice(&self, text: &str) {
        self.line(&self.paint("2", &one_line(text)));
    }

    pub(crate) fn warning(&self, text: &str) {
        self.line(&format!("{} {}", self.paint("33", "warning:"), one_line(text)));
    }

    pub(crate) fn event(&mut self, event: Event) {
        match event {
            Event::Warning { text } => self.warning(&text),
            _ if self.quiet => {}
            Event::Decided { index, decision } => {
                self.step(index, &decision.thought);
                self.block("36", &decision.action, &decision.action_input);
                self.stage = if echoes(&decision) { Stage::Said } else { Stage::Running };
            }
            Event::Observed { observation } => {
                if self.stage == Stage::Undecided {
                    self.step(self.done, "(no decision)");
                }
                match observation.ok {
                    true if self.stage == Stage::Said => {}
                    true => self.block("32", "result", &observation.text),
                    false => self.block("31", "failed", &observation.text),
                }
            }
            Event::StepDone { index, verdict } => {
                let said = if verdict.sufficient { "sufficient" } else { "continue" };
                self.block("2", "verdict", &format!("{said}: {}", verdict.reason));
                self.done = index + 1;
                self.stage = Stage::Undecided;
            }
        }
    }

    fn step(&self, index: usize, thought: &str) {
        self.block("1", &format!("step {}", index + 1), thought);
    }

    /// A label and a text, whose further lines stand below its first.
    fn block(&self, colour: &str, label: &str, text: &str) {
        let text = printable(text);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        self.line(&format!("{}  {}", self.paint(colour, &format!("{label:>8}")), cut(first)));
        for line in lines.by_ref().take(MOST_LINES - 1) {
            self.line(&format!("{:10}{}", "", cut(line)));
        }
        match lines.count() {
            0 => {}
            more => self.line(&format!("{:10}… ({more} more lines)", "")),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn line(&self, text: &str) {
        // Nothing is left to do where stderr is closed.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// Whether stderr is to be coloured.
pub(crate) fn colour() -> bool {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !no_colour && std::io::stderr().is_terminal()
}

/// Whether the tool only gives back what it gets, so that its result says nothing new.
fn echoes(decision: &Decision) -> bool {
    matches!(decision.action.as_str(), "think" | "answer")
}

/// `text` on one line, without what could drive a terminal: a model or server may write anything.
fn one_line(text: &str) -> String {
    printable(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(LONGEST_LINE) {
        None => line.to_owned(),
        Some((end, _)) => {
            format!("{}… ({} more characters)", &line[..end], line[end..].chars().count())
        }
    }
}
