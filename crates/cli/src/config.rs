//! Configuration files: TOML, overridden by `--set key=value`; an unknown key is an error with a suggestion.

use std::path::Path;

use anyhow::{Context, anyhow};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::Failure;

/// Reads `file`, applies `overrides`, and checks every key.
pub(crate) fn load<T: DeserializeOwned>(file: &Path, overrides: &[String]) -> Result<T, Failure> {
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read configuration `{name}`"))
        .map_err(Failure::usage)?;
    parse(&text, &name.to_string(), overrides)
}

/// [`load`] of a configuration that is inside this program.
pub(crate) fn parse<T: DeserializeOwned>(
    text: &str,
    name: &str,
    overrides: &[String],
) -> Result<T, Failure> {
    let mut table: Table = toml::from_str(text)
        .with_context(|| format!("configuration `{name}` is not TOML"))
        .map_err(Failure::usage)?;
    if overrides.is_empty() {
        // Straight from the text, so that an error shows the line.
        return toml::from_str(text).map_err(|error| explain(error, &format!("`{name}`")));
    }
    for pair in overrides {
        set(&mut table, pair).map_err(Failure::usage)?;
    }
    table.try_into().map_err(|error| explain(error, &format!("`{name}` with --set")))
}

fn explain(error: toml::de::Error, place: &str) -> Failure {
    let hint = suggestion(error.message()).map_or_else(String::new, |key| did_you_mean(&key));
    Failure::usage(anyhow!("{place}: {}{hint}", error.to_string().trim_end()))
}

fn did_you_mean(key: &str) -> String {
    format!("\nhint: did you mean `{key}`?")
}

/// The expected key that is nearest to the unknown one, read from serde's message.
fn suggestion(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.split_once('`')?;
    nearest(unknown, rest.split('`').skip(1).step_by(2))
}

/// The one of `known` that is likely meant by `unknown`.
fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let (distance, nearest) = known.map(|key| (edit_distance(unknown, key), key)).min()?;
    (distance <= 3 && distance < unknown.chars().count()).then(|| nearest.to_owned())
}

/// Levenshtein's distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Sets `a.b.c=value`; only keys whose tables exist, so that a slip is noticed.
fn set(table: &mut Table, pair: &str) -> anyhow::Result<()> {
    let (path, text) = pair
        .split_once('=')
        .ok_or_else(|| anyhow!("`--set {pair}` has no `=`; write --set key=value"))?;
    let value = format!("v = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut parsed| parsed.remove("v"))
        .unwrap_or_else(|| Value::String(text.to_owned()));
    let mut keys: Vec<&str> = path.trim().split('.').collect();
    let last = keys.pop().unwrap_or_default();
    let mut inside = table;
    for key in keys {
        let tables =
            inside.iter().filter(|(_, value)| value.is_table()).map(|(key, _)| key.as_str());
        let hint = nearest(key, tables).map_or_else(String::new, |key| did_you_mean(&key));
        inside = inside.get_mut(key).and_then(Value::as_table_mut).ok_or_else(|| {
            anyhow!("`--set {pair}`: the configuration has no table `{key}`{hint}")
        })?;
    }
    // 1 is as good as 1.0 where a decimal number is wanted.
    let value = match (inside.get(last), value) {
        (Some(Value::Float(_)), Value::Integer(whole)) => Value::Float(whole as f64),
        (_, value) => value,
    };
    inside.insert(last.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_replaces_values_by_path_and_keeps_types() {
        let mut table: Table = toml::from_str("seed = 1\n[optimizer]\nlr = 0.1\n").expect("TOML");
        set(&mut table, "optimizer.lr=1").expect("a known table");
        set(&mut table, "seed=7").expect("a known key");
        assert_eq!(table["optimizer"]["lr"], Value::Float(1.0));
        assert_eq!(table["seed"], Value::Integer(7));
        assert!(set(&mut table, "optimiser.lr=1").is_err());
        assert!(set(&mut table, "seed").is_err());
    }

    #[test]
    fn the_nearest_key_is_suggested() {
        let message = "unknown field `temprature`, expected one of `seed`, `temperature`";
        assert_eq!(suggestion(message).as_deref(), Some("temperature"));
        assert_eq!(suggestion("unknown field `x`, expected `temperature`"), None);
    }
}
