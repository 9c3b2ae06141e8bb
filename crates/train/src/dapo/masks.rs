//! The grammar masks that a row was sampled under, made again from its tokens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use agentflow_model::{Constraint, Grammar, ModelError, TokenMask};

use super::row::Row;

/// Compiles schemas, each once. A mask of a large vocabulary has 20 KB, so masks of whole rollouts are not kept.
pub(super) struct Masks {
    grammar: Option<Arc<Grammar>>,
    compiled: Mutex<HashMap<String, Constraint>>,
}

impl Masks {
    pub(super) fn new(grammar: Option<Arc<Grammar>>) -> Self {
        Self { grammar, compiled: Mutex::default() }
    }

    /// What each token of the completion could have been; `None` where it could have been any.
    ///
    /// # Errors
    /// A schema that does not compile, or a completion that it does not allow.
    pub(super) fn of(&self, row: &Row) -> Result<Vec<Option<TokenMask>>, ModelError> {
        let Some(grammar) = &row.grammar else { return Ok(vec![None; row.completion.len()]) };
        let free = grammar.free_tokens.min(row.completion.len());
        let constraint = self.constraint(&grammar.schema)?;
        let masks = constraint.masks(&row.completion[free..])?;
        Ok(std::iter::repeat_n(None, free).chain(masks.into_iter().map(Some)).collect())
    }

    fn constraint(&self, schema: &serde_json::Value) -> Result<Constraint, ModelError> {
        let key = schema.to_string();
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = compiled.get(&key) {
            return Ok(known.clone());
        }
        let grammar = self.grammar.as_ref().ok_or_else(|| {
            ModelError::Schema("this trainer was made without a grammar for its tokenizer".into())
        })?;
        let constraint = grammar.constraint(schema)?;
        compiled.insert(key, constraint.clone());
        Ok(constraint)
    }
}
