//! Scoring a file of pairs: gold answer and model text, one JSON object a line.

use std::io::{BufRead, Write};

use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use crate::{Gold, Outcome, judge};

/// What the gold answers of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Expressions.
    Math,
    /// Letters; `choices` of a line are the texts from A on.
    Choice,
}

/// What came of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scoring {
    pub lines: u64,
    pub equal: u64,
    /// Lines in which no answer was found; they are not equal.
    pub no_answer: u64,
    /// Lines that could not be read.
    pub errors: u64,
}

/// Lines in memory at a time, and their bytes.
const CHUNK: usize = 4_096;
const CHUNK_BYTES: usize = 16 << 20;
/// A line longer than this is an error, and is not kept.
const LINE_BYTES: usize = 64 << 20;

/// Judges every line of `pairs` and writes a verdict a line to `out`, in the same order. Lines are judged in parallel.
///
/// A line is `{"gold": …, "pred": …}` and, for choices, optionally `"choices": […]`; numbers count as their text. A line
/// that is none gives `{"line": …, "error": …}`.
///
/// # Errors
/// If `pairs` cannot be read or `out` not be written.
pub fn score_pairs(
    mut pairs: impl BufRead,
    kind: Kind,
    out: &mut impl Write,
) -> std::io::Result<Scoring> {
    let mut scoring = Scoring::default();
    let mut number = 0u64;
    loop {
        let mut chunk: Vec<(u64, Line)> = Vec::new();
        let mut bytes = 0;
        let mut ended = false;
        while chunk.len() < CHUNK && bytes < CHUNK_BYTES {
            let Some(line) = next_line(&mut pairs)? else {
                ended = true;
                break;
            };
            number += 1;
            if let Line::Whole(content) = &line {
                if content.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                bytes += content.len();
            }
            chunk.push((number, line));
        }
        let judged: Vec<Judged> =
            chunk.par_iter().map(|(number, line)| judge_line(*number, line, kind)).collect();
        for judged in judged {
            scoring.lines += 1;
            match &judged {
                Judged::Pair { equal, pred_read, .. } => {
                    scoring.equal += u64::from(*equal);
                    scoring.no_answer += u64::from(pred_read.is_none());
                }
                Judged::Error { .. } => scoring.errors += 1,
            }
            serde_json::to_writer(&mut *out, &judged)?;
            out.write_all(b"\n")?;
        }
        if ended {
            out.flush()?;
            return Ok(scoring);
        }
    }
}

#[derive(Debug)]
enum Line {
    Whole(Vec<u8>),
    TooLong,
}

/// The next line without its end; of one that is too long, nothing.
fn next_line(pairs: &mut impl BufRead) -> std::io::Result<Option<Line>> {
    let mut content = Vec::new();
    let mut too_long = false;
    let mut any = false;
    loop {
        let available = pairs.fill_buf()?;
        if available.is_empty() {
            break;
        }
        any = true;
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(available.len());
        if content.len() + taken > LINE_BYTES {
            too_long = true;
            content = Vec::new();
        } else if !too_long {
            content.extend_from_slice(&available[..taken]);
        }
        pairs.consume(end.map_or(taken, |end| end + 1));
        if end.is_some() {
            break;
        }
    }
    Ok(any.then_some(if too_long { Line::TooLong } else { Line::Whole(content) }))
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Judged {
    Pair {
        gold: String,
        pred: String,
        equal: bool,
        gold_read: String,
        pred_read: Option<String>,
        how: String,
    },
    Error {
        line: u64,
        error: String,
    },
}

fn judge_line(number: u64, line: &Line, kind: Kind) -> Judged {
    match pair(line, kind) {
        Ok((gold, pred)) => {
            let verdict = judge(&gold, &pred);
            Judged::Pair {
                gold: gold.text(),
                pred,
                equal: verdict.outcome == Outcome::Right,
                gold_read: verdict.gold_read,
                pred_read: verdict.pred_read,
                how: verdict.how,
            }
        }
        Err(error) => Judged::Error { line: number, error },
    }
}

fn pair(line: &Line, kind: Kind) -> Result<(Gold, String), String> {
    let Line::Whole(content) = line else {
        return Err(format!("line is longer than {} MiB; split it", LINE_BYTES >> 20));
    };
    let text = std::str::from_utf8(content)
        .map_err(|e| format!("not UTF-8 from byte {} on; convert the file", e.valid_up_to() + 1))?;
    let text = text.trim_start_matches('\u{feff}');
    let object: Value = serde_json::from_str(text)
        .map_err(|e| format!("not JSON: {e}; each line is an object with `gold` and `pred`"))?;
    let Value::Object(object) = object else {
        return Err("not an object; each line is an object with `gold` and `pred`".to_owned());
    };
    let field = |name: &str| match object.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(other) => Err(format!("`{name}` is {}; give a text or a number", kind_of(other))),
        None => Err(format!("`{name}` is missing; each line is an object with `gold` and `pred`")),
    };
    let (answer, pred) = (field("gold")?, field("pred")?);
    if kind == Kind::Math {
        return Ok((Gold::Math { answer }, pred));
    }
    let mut letters = answer.trim().trim_matches(['(', ')', '.']).chars();
    let letter = match (letters.next(), letters.next()) {
        (Some(letter), None) if letter.is_ascii_alphabetic() => letter.to_ascii_uppercase(),
        _ => return Err(format!("`gold` is `{answer}`; give one letter")),
    };
    let shown = match object.get("choices") {
        None | Some(Value::Null | Value::Number(_)) => Vec::new(),
        Some(Value::Array(choices)) => choices
            .iter()
            .map(|choice| match choice {
                Value::String(text) => Ok(text.clone()),
                Value::Number(number) => Ok(number.to_string()),
                other => Err(format!("`choices` has {}; give texts", kind_of(other))),
            })
            .collect::<Result<_, _>>()?,
        Some(other) => {
            return Err(format!("`choices` is {}; give a list of texts", kind_of(other)));
        }
    };
    Ok((Gold::Choice { letter, shown }, pred))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(lines: &[u8], kind: Kind) -> (Scoring, Vec<Value>) {
        let mut out = Vec::new();
        let scoring = score_pairs(lines, kind, &mut out).expect("memory");
        let text = String::from_utf8(out).expect("UTF-8");
        (scoring, text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect())
    }

    #[test]
    fn verdicts_keep_the_order_of_the_lines_over_many_chunks() {
        let lines: String = (0..10_000)
            .map(|n| format!("{{\"gold\":\"{n}\",\"pred\":\"\\\\boxed{{{}}}\"}}\n", n / 2 * 2))
            .collect();
        let (scoring, said) = scored(lines.as_bytes(), Kind::Math);
        assert_eq!((scoring.lines, scoring.equal, scoring.errors), (10_000, 5_000, 0));
        for (n, line) in said.iter().enumerate() {
            assert_eq!(
                (&line["gold"], &line["equal"]),
                (&n.to_string().into(), &(n % 2 == 0).into())
            );
        }
    }

    #[test]
    fn a_line_that_is_no_pair_is_named() {
        let lines = b"\xef\xbb\xbf{\"gold\":\"1\",\"pred\":1.0}\n\n[]\n{\"gold\":null,\"pred\":\"\"}\n\xff\n{\"gold\":\"1\",\"pred\":\"\"}";
        let (scoring, said) = scored(lines, Kind::Math);
        assert_eq!((scoring.lines, scoring.equal, scoring.errors, scoring.no_answer), (5, 1, 3, 1));
        let errors: Vec<_> = said.iter().filter_map(|line| line["error"].as_str()).collect();
        assert_eq!(
            errors,
            [
                "not an object; each line is an object with `gold` and `pred`",
                "`gold` is null; give a text or a number",
                "not UTF-8 from byte 1 on; convert the file",
            ]
        );
        assert_eq!(said[1]["line"], 3);
        assert_eq!(said[4]["how"], "no answer found");
    }

    #[test]
    fn a_gold_letter_is_one() {
        let (_, said) = scored(b"{\"gold\":\"BC\",\"pred\":\"B\"}", Kind::Choice);
        assert_eq!(said[0]["error"], "`gold` is `BC`; give one letter");
    }
}
