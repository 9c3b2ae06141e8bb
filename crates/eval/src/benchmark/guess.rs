//! A plain data file as a benchmark: which columns hold what.

use std::collections::BTreeMap;
use std::path::Path;

use super::definition::{Benchmark, Checks, Columns, Dataset, GoldText, Keep, Role, Scorer};
use super::error::BenchmarkError;
use super::format::Format;
use super::table::Table;

/// The columns of a plain data file, where they are named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileKeys {
    /// `--question-key`
    pub question: Option<String>,
    /// `--answer-key`
    pub answer: Option<String>,
    /// `--id-key`
    pub id: Option<String>,
}

impl FileKeys {
    /// The first option that was given.
    pub(super) fn first_set(&self) -> Option<&'static str> {
        let all = [
            ("--question-key", &self.question),
            ("--answer-key", &self.answer),
            ("--id-key", &self.id),
        ];
        all.into_iter().find_map(|(option, key)| key.as_ref().map(|_| option))
    }
}

/// Usual names, the better ones first; capitals do not matter. A `solution` is not among the answers: it is the way, and
/// as an answer it would never be met.
const QUESTIONS: &[&str] = &["question", "problem", "prompt", "query"];
const ANSWERS: &[&str] = &["final_answer", "answer", "gold", "target", "expected_answer"];
const IDS: &[&str] = &["id", "unique_id", "problem_id", "question_id", "record id"];
const TAGS: &[&str] = &["year", "level", "subject", "domain", "category", "difficulty", "topic"];

/// GSM8K's mark between the way and the answer.
const MARKER: &str = "####";

pub(super) fn benchmark(path: &Path, keys: &FileKeys) -> Result<Benchmark, BenchmarkError> {
    let format =
        Format::of(path).ok_or_else(|| BenchmarkError::Format { path: path.to_owned() })?;
    let table = Table::open(path, format)?;
    let question = column(path, &table, &keys.question, QUESTIONS, "question", "--question-key")?;
    let answer = column(path, &table, &keys.answer, ANSWERS, "answer", "--answer-key")?;
    let id = match &keys.id {
        Some(id) => Some(named(path, &table, id)?),
        None => usual(&table, IDS),
    };
    let mut tags: BTreeMap<String, String> = TAGS
        .iter()
        .filter_map(|tag| Some(((*tag).to_owned(), usual(&table, &[*tag])?)))
        .filter(|(_, column)| ![&question, &answer].contains(&column))
        .collect();
    let mut looked_at: Vec<String> = tags.values().cloned().collect();
    looked_at.push(answer.clone());
    let first = table.rows(&looked_at)?.next().transpose()?;
    let first = first.ok_or_else(|| BenchmarkError::Empty { path: path.to_owned() })?;
    // Nobody asked for a list of topics; it is left alone.
    tags.retain(|_, column| first.text(column).is_ok());
    let answer_text = first.text(&answer).ok().flatten().unwrap_or_default();
    let after = answer_text.contains(MARKER).then(|| MARKER.to_owned());
    let gold = GoldText { after, thousands: None };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Benchmark {
        title: stem.clone(),
        name: stem,
        role: Role::Test,
        licence: "not known: a local file".to_owned(),
        source: None,
        scorer: Scorer::Math,
        prompt: None,
        years: Vec::new(),
        dataset: Dataset::File { path: path.to_owned() },
        columns: Columns { id, question, answer: Some(answer) },
        choices: None,
        gold,
        tags,
        keep: Keep::default(),
        checks: Checks::default(),
        overlap: None,
    })
}

fn column(
    path: &Path,
    table: &Table,
    key: &Option<String>,
    names: &[&str],
    what: &'static str,
    option: &'static str,
) -> Result<String, BenchmarkError> {
    match key {
        Some(key) => named(path, table, key),
        None => usual(table, names).ok_or_else(|| BenchmarkError::Guess {
            path: path.to_owned(),
            what,
            found: table.names(),
            option,
        }),
    }
}

fn named(path: &Path, table: &Table, key: &str) -> Result<String, BenchmarkError> {
    if table.columns.iter().any(|column| column == key) {
        return Ok(key.to_owned());
    }
    Err(BenchmarkError::Column {
        path: path.to_owned(),
        column: key.to_owned(),
        found: table.names(),
        advice: "name one of these",
    })
}

fn usual(table: &Table, names: &[&str]) -> Option<String> {
    let column =
        |name: &&str| table.columns.iter().find(|column| column.eq_ignore_ascii_case(name));
    names.iter().find_map(column).cloned()
}
