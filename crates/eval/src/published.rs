//! Figures that others published, from `results/published/`, addressed as `published:agentflow-pro/aime24`.
//!
//! Each file names its source and the day it was read. What a source does not tell (how many questions, which of them
//! flipped) is left out, never guessed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What an address of a published figure begins with.
pub const PREFIX: &str = "published:";

const FILES: [(&str, &str); 3] = [
    ("agentflow", include_str!("../../../results/published/agentflow.toml")),
    ("agentflow-pro", include_str!("../../../results/published/agentflow-pro.toml")),
    ("dapo", include_str!("../../../results/published/dapo.toml")),
];

/// One published figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Published {
    /// `published:agentflow-pro/aime24/before`.
    pub address: String,
    pub benchmark: String,
    /// Whose system, and which variant of it.
    pub name: String,
    pub model: String,
    /// Share of right answers, 0 to 1.
    pub accuracy: f64,
    /// Right answers, where they were counted.
    pub right: Option<u64>,
    /// Where the source tells, or the benchmark has one size.
    pub questions: Option<u64>,
    /// Answers to each question.
    pub answers: u32,
    pub steps: Option<f64>,
    pub source: String,
    /// When the source was read.
    pub read: String,
    /// How it was measured.
    pub note: String,
}

/// Two published figures of the same questions, and which of these flipped.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedPair {
    pub benchmark: String,
    pub before: String,
    pub after: String,
    pub gained: Vec<String>,
    pub lost: Vec<String>,
}

/// An address that leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum PublishedError {
    #[error(
        "`{address}` is no published figure; write published:NAME/BENCHMARK or published:NAME/BENCHMARK/ROW"
    )]
    Form { address: String },
    #[error("nothing is published under `{name}`; there is {known}")]
    Name { name: String, known: String },
    #[error("`{name}` has no figures for `{benchmark}`; it has {known}")]
    Benchmark { name: String, benchmark: String, known: String },
    #[error("`{name}` has no row `{row}` for this benchmark; it has {known}")]
    Row { name: String, row: String, known: String },
}

/// The figures at an address: one with a row, all rows of the benchmark without.
///
/// # Errors
/// If the address leads nowhere; the message names what there is.
pub fn published(address: &str) -> Result<Vec<Published>, PublishedError> {
    let form = || PublishedError::Form { address: address.to_owned() };
    let path = address.strip_prefix(PREFIX).ok_or_else(form)?;
    let (name, rest) = path.split_once('/').ok_or_else(form)?;
    let (benchmark, row) = match rest.split_once('/') {
        Some((benchmark, row)) => (benchmark, Some(row)),
        None => (rest, None),
    };
    let file = file(name)?;
    let of_benchmark: Vec<&Row> = file.row.iter().filter(|row| row.has(benchmark)).collect();
    if of_benchmark.is_empty() {
        let all = file.row.iter().flat_map(|row| row.right.keys().chain(row.percent.keys()));
        return Err(PublishedError::Benchmark {
            name: name.to_owned(),
            benchmark: benchmark.to_owned(),
            known: list(all),
        });
    }
    let found: Vec<Published> = of_benchmark
        .iter()
        .filter(|of| row.is_none_or(|row| of.key == row))
        .map(|row| row.published(name, benchmark, &file))
        .collect();
    if found.is_empty() {
        return Err(PublishedError::Row {
            name: name.to_owned(),
            row: row.unwrap_or_default().to_owned(),
            known: list(of_benchmark.iter().map(|row| &row.key)),
        });
    }
    Ok(found)
}

/// Which questions flipped between two figures, in that order, where the source tells.
pub fn published_pair(before: &Published, after: &Published) -> Option<PublishedPair> {
    let split = |figure: &Published| {
        let mut parts = figure.address.strip_prefix(PREFIX)?.split('/').map(str::to_owned);
        Some((parts.next()?, parts.next()?, parts.next()?))
    };
    let ((name, benchmark, first), (other, same, second)) = (split(before)?, split(after)?);
    if name != other || benchmark != same {
        return None;
    }
    let mut pairs = file(&name).ok()?.pair.into_iter().filter(|pair| pair.benchmark == benchmark);
    pairs.find_map(|pair| match (&pair.before, &pair.after) {
        (a, b) if *a == first && *b == second => Some(pair),
        // The other way round, what was lost is gained.
        (a, b) if *a == second && *b == first => {
            Some(PublishedPair { gained: pair.lost, lost: pair.gained, ..pair })
        }
        _ => None,
    })
}

/// Every published figure.
pub fn all_published() -> Vec<Published> {
    let mut all = Vec::new();
    for (name, _) in FILES {
        let file = file(name).expect("a listed file is there");
        for row in &file.row {
            for benchmark in row.right.keys().chain(row.percent.keys()) {
                all.push(row.published(name, benchmark, &file));
            }
        }
    }
    all
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    source: String,
    read: String,
    note: String,
    #[serde(default = "one")]
    answers: u32,
    questions: BTreeMap<String, u64>,
    row: Vec<Row>,
    #[serde(default)]
    pair: Vec<PublishedPair>,
}

fn one() -> u32 {
    1
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    key: String,
    name: String,
    model: String,
    date: Option<String>,
    /// Right answers by benchmark.
    #[serde(default)]
    right: BTreeMap<String, u64>,
    /// Percent right by benchmark, where right answers were not counted.
    #[serde(default)]
    percent: BTreeMap<String, f64>,
    #[serde(default)]
    steps: BTreeMap<String, f64>,
}

impl Row {
    fn has(&self, benchmark: &str) -> bool {
        self.right.contains_key(benchmark) || self.percent.contains_key(benchmark)
    }

    fn published(&self, name: &str, benchmark: &str, file: &File) -> Published {
        let right = self.right.get(benchmark).copied();
        let questions = file.questions.get(benchmark).copied();
        let accuracy = match (right, questions) {
            (Some(right), Some(questions)) => right as f64 / questions as f64,
            _ => self.percent.get(benchmark).copied().unwrap_or(0.0) / 100.0,
        };
        let date = self.date.as_deref().map(|date| format!(", {date}")).unwrap_or_default();
        // AgentFlow's own row is called as the paper is.
        let name_of = if self.name.starts_with(&file.title) {
            self.name.clone()
        } else {
            format!("{}: {}", file.title, self.name)
        };
        Published {
            address: format!("{PREFIX}{name}/{benchmark}/{}", self.key),
            benchmark: benchmark.to_owned(),
            name: name_of,
            model: self.model.clone(),
            accuracy,
            right,
            questions,
            answers: file.answers,
            steps: self.steps.get(benchmark).copied(),
            source: format!("{}{date}", file.source),
            read: file.read.clone(),
            note: file.note.clone(),
        }
    }
}

fn file(name: &str) -> Result<File, PublishedError> {
    let (_, text) =
        FILES.iter().find(|(known, _)| *known == name).ok_or_else(|| PublishedError::Name {
            name: name.to_owned(),
            known: list(FILES.iter().map(|(name, _)| name)),
        })?;
    Ok(toml::from_str(text).expect("the embedded files are read by a test"))
}

/// Each once, in order, in backticks.
fn list<'a, T: AsRef<str> + 'a>(names: impl Iterator<Item = &'a T>) -> String {
    let names: std::collections::BTreeSet<&str> = names.map(AsRef::as_ref).collect();
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Published {
        published(address).expect("an address").remove(0)
    }

    #[test]
    fn every_file_is_read_and_every_address_leads_back() {
        let all = all_published();
        assert_eq!(all.len(), 2 * 2 + 7 + (16 * 5 - 1) + 16 * 5);
        for figure in all {
            assert_eq!(at(&figure.address), figure);
            assert!((0.0..=1.0).contains(&figure.accuracy));
        }
    }

    #[test]
    fn figures_are_those_of_the_sources() {
        let before = at("published:agentflow-pro/gpqa/before");
        assert_eq!(
            (before.right, before.questions, before.steps),
            (Some(40), Some(100), Some(3.09))
        );
        assert_eq!(at("published:dapo/aime24/dapo").accuracy, 0.5);
        let paper = at("published:agentflow/aime24/agentflow-flow-grpo");
        assert_eq!((paper.accuracy, paper.questions, paper.answers), (0.4, Some(30), 3));
        assert_eq!(at("published:agentflow/gpqa/gpt-4o").questions, None);
    }

    #[test]
    fn the_page_shows_every_figure() {
        let page = include_str!("../../../results/published/README.md");
        for figure in all_published() {
            let name = figure.name.split_once(": ").map_or(&*figure.name, |(_, name)| name);
            let value = match (figure.right, figure.questions) {
                (Some(right), Some(n)) => {
                    format!(" {:.1} % ({right}/{n}) |", 100.0 * figure.accuracy)
                }
                _ => format!(" {:.1} |", 100.0 * figure.accuracy),
            };
            let in_row =
                |line: &str| line.contains(&format!("| {name} |")) && line.contains(&value);
            assert!(page.lines().any(in_row), "{name}{value}");
            assert!(page.contains(&figure.note[1..]), "{}", figure.note);
        }
    }

    #[test]
    fn flips_are_known_in_both_directions() {
        let (before, after) = (
            at("published:agentflow-pro/aime24/before"),
            at("published:agentflow-pro/aime24/after"),
        );
        let pair = published_pair(&before, &after).expect("told by the source");
        assert_eq!((pair.gained.len(), pair.lost.len()), (5, 6));
        let back = published_pair(&after, &before).expect("told by the source");
        assert_eq!((back.gained.len(), back.lost.len()), (6, 5));
        assert_eq!(published_pair(&before, &at("published:dapo/aime24/dapo")), None);
    }

    #[test]
    fn a_wrong_address_says_what_there_is() {
        let said = |address: &str| published(address).expect_err("no such figure").to_string();
        assert!(said("published:agentflow-pro").contains("NAME/BENCHMARK"));
        let known = "there is `agentflow`, `agentflow-pro`, `dapo`";
        assert!(said("published:nobody/aime24").contains(known));
        assert!(said("published:dapo/gpqa").contains("it has `aime24`"));
        assert!(said("published:agentflow-pro/aime24/x").contains("`after`, `before`"));
    }
}
