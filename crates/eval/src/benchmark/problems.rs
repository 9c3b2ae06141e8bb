//! From rows to problems, each checked.

use std::collections::{BTreeMap, HashMap};

use super::choices::{letter, listed, shuffled};
use super::definition::{Benchmark, Choices, Scorer};
use super::error::BenchmarkError;
use super::row::Row;
use super::table::Table;
use super::text::same_choice;
use crate::{Gold, Problem};

/// The problems of a data set, in its order.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) problems: Vec<Problem>,
    /// Of each problem the question as it stands in the data set: without prompt and choices.
    pub(super) questions: Vec<String>,
    pub(super) rows: u64,
    /// Rows that `keep` leaves out: why, and how many.
    pub(super) left_out: BTreeMap<String, u64>,
}

/// # Errors
/// At the first row that breaks a rule, and where counts are not as described.
pub(super) fn read(
    benchmark: &Benchmark,
    tables: &[Table],
    shuffle_seed: u64,
) -> Result<Read, BenchmarkError> {
    let mut read = Read::default();
    let mut places = HashMap::new();
    let wanted = wanted_columns(benchmark);
    for table in tables {
        for row in table.rows(&wanted)? {
            let row = row?;
            read.rows += 1;
            if let Some(reason) = left_out(benchmark, &row)? {
                *read.left_out.entry(reason).or_default() += 1;
                continue;
            }
            let question = row.required(&benchmark.columns.question)?;
            let problem = problem(benchmark, &row, read.rows, &question, shuffle_seed)?;
            if let Some(first) = places.insert(problem.id.clone(), row.number) {
                let field = benchmark.columns.id.as_deref().unwrap_or("id");
                let problem = format!(
                    "is `{}` as in {} {first}; ids must differ (`--id-key` takes another column of a plain file)",
                    problem.id, row.unit
                );
                return Err(row.wrong(field, problem));
            }
            read.problems.push(problem);
            read.questions.push(question);
        }
    }
    let name = || benchmark.name.clone();
    if let Some(expected) = benchmark.checks.rows.filter(|expected| *expected != read.rows) {
        return Err(BenchmarkError::Rows { name: name(), expected, found: read.rows });
    }
    let found = read.problems.len() as u64;
    match benchmark.checks.problems {
        Some(expected) if expected != found => {
            Err(BenchmarkError::Problems { name: name(), expected, found })
        }
        _ => Ok(read),
    }
}

fn wanted_columns(benchmark: &Benchmark) -> Vec<String> {
    let columns = &benchmark.columns;
    let mut wanted = vec![columns.question.clone()];
    wanted.extend(columns.id.clone());
    wanted.extend(columns.answer.clone());
    match &benchmark.choices {
        Some(Choices::Columns { right, wrong }) => {
            wanted.push(right.clone());
            wanted.extend(wrong.clone());
        }
        Some(Choices::List { list, answer }) => wanted.extend([list.clone(), answer.clone()]),
        None => {}
    }
    wanted.extend(benchmark.tags.values().cloned());
    wanted.extend(benchmark.keep.range.iter().map(|range| range.column.clone()));
    wanted.sort();
    wanted.dedup();
    wanted
}

/// Why a row is no problem of this benchmark.
fn left_out(benchmark: &Benchmark, row: &Row) -> Result<Option<String>, BenchmarkError> {
    if let Some(range) = &benchmark.keep.range {
        let text = row.required(&range.column)?;
        let value: i64 = text
            .parse()
            .map_err(|_| row.wrong(&range.column, format!("`{text}` is no integer")))?;
        if !(range.from..=range.to).contains(&value) {
            return Ok(Some(format!("{} not {} to {}", range.column, range.from, range.to)));
        }
    }
    if let Some(column) =
        benchmark.columns.answer.as_ref().filter(|_| benchmark.keep.integer_answer)
        && gold_text(benchmark, row, column)?.parse::<i64>().is_err()
    {
        return Ok(Some(format!("{column} no integer")));
    }
    Ok(None)
}

fn problem(
    benchmark: &Benchmark,
    row: &Row,
    number: u64,
    question: &str,
    shuffle_seed: u64,
) -> Result<Problem, BenchmarkError> {
    let id = match &benchmark.columns.id {
        Some(column) => row.required(column)?,
        None => format!("{}-{number}", benchmark.name),
    };
    let gold = match benchmark.scorer {
        Scorer::Math => math(benchmark, row)?,
        Scorer::Choice => choice(benchmark, row, &id, shuffle_seed)?,
    };
    let mut tags = BTreeMap::new();
    for (tag, column) in &benchmark.tags {
        if let Some(text) = row.text(column)? {
            tags.insert(tag.clone(), text);
        }
    }
    let question = match (&benchmark.prompt, &gold) {
        (Some(prompt), Gold::Choice { shown, .. }) => fill(prompt, question, &listed(shown)),
        (Some(prompt), Gold::Math { .. }) => fill(prompt, question, ""),
        (None, Gold::Choice { shown, .. }) => format!("{question}\n\n{}", listed(shown)),
        (None, Gold::Math { .. }) => question.to_owned(),
    };
    Ok(Problem { id, question, gold, tags })
}

/// Puts question and choices into the prompt; braces of their own stay as they are.
fn fill(prompt: &str, question: &str, choices: &str) -> String {
    let mut filled = String::with_capacity(prompt.len() + question.len() + choices.len());
    let mut rest = prompt;
    while let Some(at) = rest.find('{') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let (text, after) = if let Some(after) = rest.strip_prefix("{question}") {
            (question, after)
        } else if let Some(after) = rest.strip_prefix("{choices}") {
            (choices, after)
        } else {
            ("{", &rest[1..])
        };
        filled.push_str(text);
        rest = after;
    }
    filled + rest
}

fn math(benchmark: &Benchmark, row: &Row) -> Result<Gold, BenchmarkError> {
    let column = benchmark.columns.answer.as_ref().expect("checked with the definition");
    let answer = gold_text(benchmark, row, column)?;
    if let Some(range) = benchmark.checks.integer
        && !answer.parse().is_ok_and(|value: i64| (range.from..=range.to).contains(&value))
    {
        let shown: String = answer.chars().take(80).collect();
        let problem = format!("`{shown}` is no integer from {} to {}", range.from, range.to);
        return Err(row.wrong(column, problem));
    }
    Ok(Gold::Math { answer })
}

/// The answer without what stands around it in its column.
fn gold_text(benchmark: &Benchmark, row: &Row, column: &str) -> Result<String, BenchmarkError> {
    let text = row.required(column)?;
    let mut answer = text.as_str();
    if let Some(marker) = &benchmark.gold.after {
        answer = match text.rsplit_once(marker.as_str()) {
            Some((_, answer)) => answer.trim(),
            None => {
                return Err(
                    row.wrong(column, format!("has no `{marker}`, which the answer follows"))
                );
            }
        };
        if answer.is_empty() {
            return Err(row.wrong(column, format!("has nothing behind `{marker}`")));
        }
    }
    Ok(match &benchmark.gold.thousands {
        Some(separator) if is_grouped(answer, separator) => answer.replace(separator.as_str(), ""),
        _ => answer.to_owned(),
    })
}

/// Whether a number has its digits in groups of three: `1,234,567`, and not `1,2`.
fn is_grouped(number: &str, separator: &str) -> bool {
    let whole = number.trim_start_matches('-').split('.').next().unwrap_or_default();
    let digits = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    let mut groups = whole.split(separator);
    groups.next().is_some_and(|first| (1..=3).contains(&first.len()) && digits(first))
        && groups.all(|group| group.len() == 3 && digits(group))
}

fn choice(
    benchmark: &Benchmark,
    row: &Row,
    id: &str,
    shuffle_seed: u64,
) -> Result<Gold, BenchmarkError> {
    let (choices, right, field) =
        match benchmark.choices.as_ref().expect("checked with the definition") {
            Choices::Columns { right, wrong } => {
                let columns = std::iter::once(right).chain(wrong);
                let texts: Result<Vec<String>, _> =
                    columns.map(|column| row.required(column)).collect();
                (texts?, 0, right)
            }
            Choices::List { list, answer } => {
                let texts = row.list(list)?;
                if !(2..=26).contains(&texts.len()) || texts.iter().any(String::is_empty) {
                    return Err(row.wrong(list, "must hold 2 to 26 texts, none of them empty"));
                }
                let named = row.required(answer)?;
                let right = place(&named).filter(|right| *right < texts.len());
                let last = letter(texts.len() - 1);
                let right = right.ok_or_else(|| {
                    let problem = format!(
                        "`{named}` is neither a letter from A to {last} nor an index from 0"
                    );
                    row.wrong(answer, problem)
                })?;
                (texts, right, list)
            }
        };
    for (first, text) in choices.iter().enumerate() {
        for (second, other) in choices.iter().enumerate().skip(first + 1) {
            let matters = benchmark.checks.distinct_choices || first == right || second == right;
            if matters && same_choice(text, other) {
                let problem = format!(
                    "choices {} and {} of the question are the same",
                    first + 1,
                    second + 1
                );
                return Err(row.wrong(field, problem));
            }
        }
    }
    Ok(shuffled(shuffle_seed, id, &choices, right))
}

/// `B` or `1` as the place 1.
fn place(named: &str) -> Option<usize> {
    match named.as_bytes() {
        [letter @ b'A'..=b'Z'] => Some(usize::from(letter - b'A')),
        _ => named.parse().ok(),
    }
}
