//! `report.md`: the row that a results table takes, and what stands behind it.

use std::fmt::{self, Write as _};

use super::{Accuracy, Report};
use crate::statistics::{Interval, detectable_difference};

/// Share of questions that flip between two runs, assumed where only one is known; `docs/eval.md` has the table.
const USUAL_FLIP_RATE: f64 = 0.3;

impl Report {
    /// As Markdown.
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        self.write_markdown(&mut text).expect("writing to a string cannot fail");
        text
    }

    fn write_markdown(&self, out: &mut String) -> fmt::Result {
        let run = &self.run;
        writeln!(out, "# {} · {}\n", run.benchmark, run.model_name())?;
        if self.partial {
            writeln!(
                out,
                "**Partial:** {} of {} samples are missing; the figures are of the others.\n",
                self.counts.missing, self.counts.asked
            )?;
        }
        writeln!(
            out,
            "| Benchmark | Model | n | Accuracy | 95 % interval | Avg steps | Settings |"
        )?;
        writeln!(out, "|---|---|---|---|---|---|---|")?;
        writeln!(
            out,
            "| {} | {} | {} | **{}** ({}/{}) | {} | {:.2} | {} |\n",
            cell(&run.benchmark),
            cell(&run.model_name()),
            self.size(),
            percent(self.accuracy.value),
            self.counts.right,
            self.counts.samples,
            range(self.accuracy.interval),
            self.per_sample.steps,
            self.settings()
        )?;
        writeln!(out, "{}\n", self.plain_words())?;
        self.write_repeats(out)?;
        self.write_counts(out)?;
        self.write_groups(out)?;
        self.write_means(out)?;
        self.write_origin(out)
    }

    /// What the interval means, in a sentence or two.
    pub fn plain_words(&self) -> String {
        let Accuracy { interval, questions, .. } = &self.accuracy;
        if *questions == 0 {
            return "Nothing was measured yet.".to_owned();
        }
        let mut text = format!(
            "On {questions} questions, a true accuracy anywhere from {} to {} fits this result.",
            percent(interval.lower),
            percent(interval.upper)
        );
        if let Some(least) = detectable_difference(*questions as usize, USUAL_FLIP_RATE) {
            let _ = write!(
                text,
                " Another run of the same questions would have to differ by about {:.0} points to be told \
                 apart (80 % power, where 3 in 10 questions flip){}",
                100.0 * least,
                if least > 0.1 && self.run.repeats < 8 {
                    "; several answers to each (--repeats) narrow that."
                } else {
                    "."
                }
            );
        }
        text
    }

    pub(crate) fn size(&self) -> String {
        match self.run.repeats {
            1 => self.accuracy.questions.to_string(),
            repeats => format!("{} × {repeats}", self.accuracy.questions),
        }
    }

    pub(crate) fn settings(&self) -> String {
        let run = &self.run;
        let think = if run.sampling.think { "on" } else { "off" };
        format!(
            "`max_steps={}`, `temp={}`, think {think}, prompts `{}`",
            run.max_steps, run.sampling.temperature, run.prompts
        )
    }

    fn write_repeats(&self, out: &mut String) -> fmt::Result {
        let Some(repeats) = &self.repeats else { return Ok(()) };
        let k = repeats.asked;
        writeln!(out, "## Several answers a question\n\n| Figure | Value | |\n|---|---|---|")?;
        let error = repeats.avg_stderr.map_or_else(
            || "no spread from one question".to_owned(),
            |stderr| format!("± {} (standard error between questions)", points(stderr)),
        );
        writeln!(out, "| avg@{k} | {} | {error} |", percent(repeats.avg))?;
        let majority = &repeats.majority;
        writeln!(
            out,
            "| maj@{k} | {} | {}/{}, {} |",
            percent(majority.value),
            majority.right,
            majority.questions,
            range(majority.interval)
        )?;
        for (name, rows) in [("pass@", &repeats.pass_at), ("pass^", &repeats.pass_hat)] {
            for row in rows {
                let of = format!("{} questions with so many answers", row.questions);
                writeln!(out, "| {name}{} | {} | {of} |", row.k, percent(row.value))?;
            }
        }
        let (fewest, most) = repeats.obtained;
        if fewest < k {
            let obtained =
                if fewest == most { most.to_string() } else { format!("{fewest} to {most}") };
            writeln!(
                out,
                "\n{k} answers a question were asked for, and {obtained} obtained; every mean divides by what was \
                 obtained."
            )?;
        }
        writeln!(out)
    }

    fn write_counts(&self, out: &mut String) -> fmt::Result {
        let counts = &self.counts;
        writeln!(out, "## Outcomes\n\n| Outcome | Samples |\n|---|---|")?;
        for (name, count) in [
            ("right", counts.right),
            ("wrong", counts.wrong),
            ("no answer", counts.no_answer),
            ("failed", counts.failed),
            ("missing", counts.missing),
        ] {
            writeln!(out, "| {name} | {count} |")?;
        }
        for (cause, count) in &counts.failed_by_cause {
            writeln!(out, "| failed: {} | {count} |", cell(cause))?;
        }
        for (stop, count) in &self.stops {
            writeln!(out, "| stopped: {stop} | {count} |")?;
        }
        for (how, count) in &self.read_by {
            writeln!(out, "| read: {} | {count} |", cell(how))?;
        }
        writeln!(out)
    }

    fn write_groups(&self, out: &mut String) -> fmt::Result {
        for (tag, values) in &self.by_tag {
            writeln!(out, "## By {tag}\n\n| {tag} | Right | Accuracy | 95 % interval |")?;
            writeln!(out, "|---|---|---|---|")?;
            for (value, score) in values {
                writeln!(
                    out,
                    "| {} | {}/{} | {} | {} |",
                    cell(value),
                    score.right,
                    score.samples,
                    percent(score.accuracy.value),
                    range(score.accuracy.interval)
                )?;
            }
            writeln!(out)?;
        }
        writeln!(out, "## By number of steps\n\n| Steps | Right | Accuracy | 95 % interval |")?;
        writeln!(out, "|---|---|---|---|")?;
        for row in &self.by_steps {
            let (right, samples) = (row.right, row.samples);
            let (value, interval) = (percent(row.accuracy), range(row.interval));
            writeln!(out, "| {} | {right}/{samples} | {value} | {interval} |", row.steps)?;
        }
        writeln!(out)
    }

    fn write_means(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "## Per sample\n\n| | |\n|---|---|")?;
        for (name, value) in self.facts() {
            writeln!(out, "| {name} | {value} |")?;
        }
        writeln!(out)
    }

    /// The smaller figures, named.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let (mean, tools, replies) = (&self.per_sample, &self.tools, &self.replies);
        let rate = |part: u64, whole: u64, rate: f64| match whole {
            0 => "none made".to_owned(),
            _ => format!("{part} of {whole} ({})", percent(rate)),
        };
        let mut facts = vec![
            ("Steps", format!("{:.2}", mean.steps)),
            ("Prompt tokens", format!("{:.0}", mean.prompt_tokens)),
            ("Completion tokens", format!("{:.0}", mean.completion_tokens)),
            ("Seconds", format!("{:.2}", mean.wall_s)),
            ("Tool calls that failed", rate(tools.errors, tools.calls, tools.error_rate)),
            ("Tool outputs cut", tools.truncated.to_string()),
            ("Unreadable replies", rate(replies.invalid, replies.steps, replies.invalid_rate)),
        ];
        if let Some(speed) = &self.speed {
            facts.push(("Whole run", format!("{:.1} s", speed.wall_s)));
            facts.push((
                "Completion tokens a second",
                format!("{:.1}", speed.completion_tokens_per_s),
            ));
        }
        if let Some(dollars) = self.cost_dollars {
            facts.push(("Cost", format!("${dollars:.4}")));
        }
        facts
    }

    fn write_origin(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "## Origin\n\n| | |\n|---|---|")?;
        for (name, value) in self.origin() {
            writeln!(out, "| {name} | `{}` |", cell(&value))?;
        }
        Ok(())
    }

    /// Where the figures come from, named.
    pub(crate) fn origin(&self) -> Vec<(&'static str, String)> {
        let run = &self.run;
        let mut rows = vec![("Run", run.run.clone())];
        if let Some(dataset) = &run.dataset {
            let revision = dataset.revision.as_deref().unwrap_or("no revision");
            let split = dataset.split.as_deref().map(|split| format!(", {split}"));
            let split = split.unwrap_or_default();
            rows.push(("Data set", format!("{} @ {revision}{split}", dataset.id)));
        }
        rows.push(("Model", format!("{} ({})", run.model_name(), run.model.backend)));
        if let Some(digest) = &run.model.digest {
            rows.push(("Digest", digest.clone()));
        }
        let sampling = &run.sampling;
        let seed = sampling.seed.map_or("none".to_owned(), |seed| seed.to_string());
        rows.push((
            "Sampling",
            format!("temperature {}, top_p {}, seed {seed}", sampling.temperature, sampling.top_p),
        ));
        rows.push(("Prompts", run.prompts.clone()));
        if let Some(seed) = run.choices_seed {
            rows.push(("Choices shuffled by seed", seed.to_string()));
        }
        rows.push(("Version", format!("{} ({})", run.version, run.commit)));
        rows
    }
}

/// `75.0 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// `3.4 points`.
pub(crate) fn points(difference: f64) -> String {
    format!("{:.1} points", 100.0 * difference)
}

/// `53.1 – 88.8 %`.
pub(crate) fn range(interval: Interval) -> String {
    format!("{:.1} – {:.1} %", 100.0 * interval.lower, 100.0 * interval.upper)
}

/// Text that stays in its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}
