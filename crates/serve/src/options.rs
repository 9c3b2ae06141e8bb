//! `options` of Ollama's requests: known ones checked by type, unknown ones left alone.

use agentflow_llm::Sampling;
use serde_json::{Map, Value};

use crate::error::ServeError;

/// What of the options takes effect here.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    pub(crate) sampling: Sampling,
    /// `None`, from any negative number: as many as the context holds.
    pub(crate) max_tokens: Option<u32>,
    pub(crate) num_ctx: Option<u32>,
    pub(crate) stop: Vec<String>,
}

impl Default for Options {
    /// `api.DefaultOptions` of Ollama.
    fn default() -> Self {
        Self {
            sampling: Sampling {
                temperature: 0.8,
                top_p: 0.9,
                top_k: Some(40),
                min_p: 0.0,
                seed: None,
            },
            max_tokens: None,
            num_ctx: None,
            stop: Vec::new(),
        }
    }
}

/// Options that would change what is sampled, and the value at which they change nothing.
const IGNORED: [(&str, f64); 4] = [
    ("repeat_penalty", 1.0),
    ("presence_penalty", 0.0),
    ("frequency_penalty", 0.0),
    ("typical_p", 1.0),
];

/// Reads `options`.
///
/// # Errors
/// An option of the wrong type, in Ollama's words.
pub(crate) fn read(options: &Map<String, Value>) -> Result<Options, ServeError> {
    let mut read = Options::default();
    let sampling = &mut read.sampling;
    for (key, value) in options.iter().filter(|(_, value)| !value.is_null()) {
        match key.as_str() {
            "temperature" => sampling.temperature = float(key, value)?,
            "top_p" => sampling.top_p = float(key, value)?,
            "min_p" => sampling.min_p = float(key, value)?,
            "top_k" => {
                sampling.top_k = usize::try_from(integer(key, value)?).ok().filter(|k| *k > 0);
            }
            "seed" => sampling.seed = u64::try_from(integer(key, value)?).ok(),
            "num_predict" => read.max_tokens = at_most(integer(key, value)?),
            "num_ctx" => read.num_ctx = at_most(integer(key, value)?).filter(|tokens| *tokens > 0),
            "stop" => read.stop = strings(key, value)?,
            _ => {
                let harmless = IGNORED.iter().find(|(name, _)| name == key);
                if let Some((_, harmless)) = harmless
                    && float(key, value)? != *harmless
                {
                    tracing::warn!("option `{key}` is {value}, which has no effect here");
                }
            }
        }
    }
    // Clients write 0 for "all of it".
    if sampling.top_p <= 0.0 || sampling.top_p > 1.0 {
        sampling.top_p = 1.0;
    }
    Ok(read)
}

/// A bound in tokens; a negative one is none.
pub(crate) fn at_most(tokens: i64) -> Option<u32> {
    (tokens >= 0).then(|| u32::try_from(tokens).unwrap_or(u32::MAX))
}

fn float(key: &str, value: &Value) -> Result<f64, ServeError> {
    value.as_f64().ok_or_else(|| wrong(key, "of type float32"))
}

/// Like Ollama, which reads all numbers as floats and cuts them.
fn integer(key: &str, value: &Value) -> Result<i64, ServeError> {
    let cut = value.as_f64().map(|number| number as i64);
    value.as_i64().or(cut).ok_or_else(|| wrong(key, "of type integer"))
}

fn strings(key: &str, value: &Value) -> Result<Vec<String>, ServeError> {
    let values = value.as_array().ok_or_else(|| wrong(key, "of type array"))?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    values
        .iter()
        .map(|value| text(value).ok_or_else(|| wrong(key, "of an array of strings")))
        .collect()
}

fn wrong(key: &str, what: &str) -> ServeError {
    ServeError::bad_request(format!("option {key:?} must be {what}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(options: Value) -> Result<Options, String> {
        let map = options.as_object().expect("an object").clone();
        read(&map).map_err(|error| error.message)
    }

    #[test]
    fn options_are_read_as_ollama_reads_them() {
        assert_eq!(of(json!({})), Ok(Options::default()));
        let all = json!({
            "temperature": 0, "top_p": 0.5, "top_k": 0, "min_p": 0.1, "seed": 7, "num_predict": 12.0,
            "num_ctx": 512, "stop": ["END"], "num_gpu": 1, "unheard_of": "x", "repeat_penalty": 1.1
        });
        let read = of(all).unwrap();
        let sampling =
            Sampling { temperature: 0.0, top_p: 0.5, top_k: None, min_p: 0.1, seed: Some(7) };
        assert_eq!(
            read,
            Options {
                sampling,
                max_tokens: Some(12),
                num_ctx: Some(512),
                stop: vec!["END".into()]
            }
        );
        let unbounded = of(json!({"num_predict": -1, "seed": -1, "temperature": null})).unwrap();
        assert_eq!(unbounded, Options::default());
    }

    #[test]
    fn wrong_types_are_named() {
        for (options, message) in [
            (json!({"num_ctx": "8k"}), "option \"num_ctx\" must be of type integer"),
            (json!({"temperature": "hot"}), "option \"temperature\" must be of type float32"),
            (json!({"stop": "END"}), "option \"stop\" must be of type array"),
            (json!({"stop": [1]}), "option \"stop\" must be of an array of strings"),
        ] {
            assert_eq!(of(options).unwrap_err(), message);
        }
    }
}
