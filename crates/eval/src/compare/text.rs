//! A comparison in plain words.

use std::fmt::{self, Write as _};

use super::{Comparison, Flip, Means, Paired, Side, Test, Unpaired};
use crate::report::{percent, range};
use crate::statistics::Interval;

/// Flips named one by one in the text; `--json` names all.
const MOST_FLIPS: usize = 40;
/// Values of a tag shown in the text.
const MOST_VALUES: usize = 12;

impl Comparison {
    /// The verdict in one sentence, e.g. "no evidence of a difference: 5 gained, 6 lost, p = 1.00".
    pub fn words(&self) -> String {
        match self {
            Comparison::Paired(paired) => paired.words(),
            Comparison::Unpaired(unpaired) => unpaired.words(),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Comparison::Paired(paired) => paired.fmt(f),
            Comparison::Unpaired(unpaired) => unpaired.fmt(f),
        }
    }
}

impl Paired {
    /// See [`Comparison::words`].
    pub fn words(&self) -> String {
        let (gained, lost) = (self.gained.len(), self.lost.len());
        if gained + lost == 0 {
            return "no difference: every pair has the same outcome on both sides".to_owned();
        }
        let counts = format!("{gained} gained, {lost} lost, {}", p_value(self.p_value));
        if self.p_value >= 0.05 {
            return format!("no evidence of a difference: {counts}");
        }
        let direction = if self.difference.mean > 0.0 { "better" } else { "worse" };
        format!("evidence that the second is {direction}: {counts}")
    }

    /// What the questions could have shown at all.
    fn power(&self) -> Option<String> {
        let least = self.detectable.filter(|least| self.p_value >= 0.05 && *least > 0.0)?;
        Some(format!(
            "With {} questions flipping this often, only a true difference of about {:.0} points would usually be found \
             (80 % power).",
            self.questions,
            100.0 * least
        ))
    }
}

impl fmt::Display for Paired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        sides(f, [(&self.before, None), (&self.after, None)])?;
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        let (gained, lost) = (self.gained.len(), self.lost.len());
        let (a, b) = self.without_partner;
        write!(f, "\n{} questions, {} pairs", self.questions, self.pairs)?;
        if a + b > 0 {
            write!(f, " ({a} attempts are only in A, {b} only in B, and left out)")?;
        }
        writeln!(f, "\n                right in B   wrong in B")?;
        writeln!(f, "  right in A  {:>12} {lost:>12}", self.both_right)?;
        writeln!(f, "  wrong in A  {gained:>12} {:>12}\n", self.both_wrong)?;
        writeln!(f, "{}", self.words())?;
        writeln!(
            f,
            "{}{}",
            difference(self.difference.mean, self.difference.interval),
            self.boot()
        )?;
        let test = match self.test {
            Test::ExactMcnemar => "exact McNemar",
            Test::ExactSignFlip => {
                "exact sign-flip test by question (several answers to each hang together)"
            }
        };
        writeln!(f, "test: {test}")?;
        if let Some(power) = self.power() {
            writeln!(f, "{power}")?;
        }
        for (name, means) in
            [("steps", &self.steps), ("completion tokens", &self.completion_tokens)]
        {
            if let Some(means) = means {
                effort(f, name, means)?;
            }
        }
        flips(f, "gained", &self.gained)?;
        flips(f, "lost", &self.lost)?;
        for (tag, rows) in
            self.by_tag.iter().filter(|(_, rows)| (2..=MOST_VALUES).contains(&rows.len()))
        {
            writeln!(f, "\nby {tag}: pairs, gained, lost, p, p after Holm")?;
            for row in rows {
                writeln!(
                    f,
                    "  {:<24} {:>5} {:>5} {:>5}   {:.2}  {:.2}",
                    row.value, row.pairs, row.gained, row.lost, row.p_value, row.p_holm
                )?;
            }
        }
        Ok(())
    }
}

impl Paired {
    fn boot(&self) -> String {
        self.bootstrap.map_or_else(String::new, |interval| {
            format!("; bootstrap by question {}", points(interval))
        })
    }
}

impl Unpaired {
    /// See [`Comparison::words`].
    pub fn words(&self) -> String {
        let better = if self.difference > 0.0 { "better" } else { "worse" };
        match self.p_holm.or(self.p_value) {
            Some(p) if p < 0.05 => format!("evidence that the second is {better}: {}", p_value(p)),
            Some(p) => format!("no evidence of a difference: {}", p_value(p)),
            None => "nothing can be said of the difference: a number of questions is not known"
                .to_owned(),
        }
    }
}

impl fmt::Display for Unpaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        sides(f, [(&self.before, self.before_interval), (&self.after, self.after_interval)])?;
        writeln!(f, "\n{}", self.words())?;
        writeln!(f, "{}", difference(self.difference, self.interval))?;
        if let Some(p) = self.p_value {
            let holm =
                self.p_holm.map_or(String::new(), |p| format!(", {} after Holm", p_value(p)));
            writeln!(f, "test: Fisher's exact, unpaired, {}{holm}", p_value(p))?;
        }
        if let Some(best) = self.best_possible_p.filter(|_| self.p_value.is_some_and(|p| p >= 0.05))
        {
            writeln!(
                f,
                "If these are the same questions, and none had flipped the other way, exact McNemar would give {}: \
                 the least it could.",
                p_value(best)
            )?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

fn sides(f: &mut fmt::Formatter<'_>, sides: [(&Side, Option<Interval>); 2]) -> fmt::Result {
    for (letter, (side, interval)) in ["A", "B"].into_iter().zip(sides) {
        let interval =
            interval.map_or(String::new(), |interval| format!("  [{}]", range(interval)));
        let steps = side.steps.map_or(String::new(), |steps| format!("  {steps:.2} steps"));
        let (benchmark, model, accuracy) = (&side.benchmark, &side.model, percent(side.accuracy));
        writeln!(
            f,
            "{letter}  {accuracy:>7}{interval}{steps}  {benchmark}  {model}  {}",
            side.name
        )?;
        if let Some(source) = &side.source {
            writeln!(f, "   from {source}")?;
        }
    }
    Ok(())
}

fn difference(mean: f64, interval: Option<Interval>) -> String {
    let mut text = format!("difference: {:+.1} points", 100.0 * mean);
    if let Some(interval) = interval {
        let _ = write!(text, ", 95 % interval {}", points(interval));
    }
    text
}

fn points(interval: Interval) -> String {
    format!("{:+.1} to {:+.1}", 100.0 * interval.lower, 100.0 * interval.upper)
}

fn effort(f: &mut fmt::Formatter<'_>, name: &str, means: &Means) -> fmt::Result {
    let Means { before, after, difference } = means;
    write!(f, "{name}: {before:.2}, then {after:.2} ({:+.2}", difference.mean)?;
    if let Some(Interval { lower, upper }) = difference.interval {
        write!(f, ", 95 % interval {lower:+.2} to {upper:+.2}")?;
    }
    writeln!(f, ")")
}

fn flips(f: &mut fmt::Formatter<'_>, what: &str, flips: &[Flip]) -> fmt::Result {
    if flips.is_empty() {
        return Ok(());
    }
    let name = |flip: &Flip| match flip.repeat {
        0 => flip.problem.clone(),
        repeat => format!("{}#{}", flip.problem, repeat + 1),
    };
    let named: Vec<String> = flips.iter().take(MOST_FLIPS).map(name).collect();
    write!(f, "{what}: {}", named.join(" "))?;
    match flips.len().saturating_sub(MOST_FLIPS) {
        0 => writeln!(f),
        more => writeln!(f, " and {more} more"),
    }
}

/// `p = 0.04`, or `p < 0.001`.
fn p_value(p: f64) -> String {
    match p {
        p if p < 0.001 => "p < 0.001".to_owned(),
        p if p < 0.1 => format!("p = {p:.3}"),
        p => format!("p = {p:.2}"),
    }
}
