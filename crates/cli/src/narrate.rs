//! The steps of the agent as a person reads them, on stderr.

use std::io::{IsTerminal, Write};

use agentflow_agent::Event;

/// Writes events to stderr; in colour on a terminal, unless `NO_COLOR` is set.
pub(crate) struct Narrator {
    colour: bool,
    quiet: bool,
}

impl Narrator {
    pub(crate) fn new(quiet: bool) -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: !no_colour && std::io::stderr().is_terminal(), quiet }
    }

    /// One line about the run itself, e.g. which model answers.
    pub(crate) fn note(&self, text: &str) {
        self.line(&self.paint("2", &plain(text)));
    }

    pub(crate) fn warning(&self, text: &str) {
        self.line(&format!("{} {}", self.paint("33", "warning:"), plain(text)));
    }

    pub(crate) fn event(&self, event: &Event) {
        if self.quiet {
            if let Event::Warning { text } = event {
                self.warning(text);
            }
            return;
        }
        match event {
            Event::Decided { index, decision } => {
                let step = self.paint("1", &format!("step {}", index + 1));
                self.line(&format!("{step} {}", plain(&decision.thought)));
                self.block(&self.paint("36", &format!("{:>8}", decision.action)), &decision.action_input);
            }
            Event::Observed { observation } => {
                let mark = if observation.ok {
                    self.paint("32", "  result")
                } else {
                    self.paint("31", "  failed")
                };
                self.block(&mark, &observation.text);
            }
            Event::StepDone { step } => {
                let said = if step.verdict.sufficient { "sufficient" } else { "continue" };
                self.block(&self.paint("2", " verdict"), &format!("{said} ({})", step.verdict.reason));
            }
            Event::Warning { text } => self.warning(text),
        }
    }

    /// A label and a text, whose further lines stand below its first.
    fn block(&self, label: &str, text: &str) {
        let mut lines = text.lines();
        self.line(&format!("{label}  {}", plain(lines.next().unwrap_or_default())));
        for line in lines {
            self.line(&format!("          {}", plain(line)));
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

/// One line of `text` without control characters: a model may write anything, and a terminal must not obey it.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}
