//! JSON schemas of replies: what servers are sent, and whether a reply keeps to them.
//!
//! [`validate`] checks a reply, whatever the server promised. [`in_order`] and [`check_key_order`] keep the keys of
//! a reply in the order of the schema. [`lint`] refuses what Ollama would ignore without a word. [`strict`] is the
//! form that OpenAI's strict mode wants.

mod dialect;
mod order;
mod validate;

use serde::{Deserialize, Serialize};

pub use dialect::{lint, strict};
pub use order::{check_key_order, in_order};
pub use validate::{validate, validate_value};

/// Where and how a text breaks its schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}{problem}", place(path))]
pub struct SchemaViolation {
    /// Place in the value, e.g. `steps[2].action`; empty for the whole.
    pub path: String,
    /// What is wrong there.
    pub problem: String,
}

impl SchemaViolation {
    pub(crate) fn new(path: &str, problem: impl Into<String>) -> Self {
        Self { path: path.to_owned(), problem: problem.into() }
    }
}

fn place(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("at `{path}`, ") }
}

/// `path` with one more key.
fn child(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
