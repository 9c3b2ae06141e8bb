//! Grammar-constrained decoding: a JSON schema becomes, token by token, the set of tokens that may come next.
//!
//! The work is done by llguidance; this file joins it to our tokenizer and fixes how JSON is spaced.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

use crate::error::{ModelError, Result};
use crate::tokenizer::Tokenizer;

/// Compiles schemas for one tokenizer. Made once a model: for 150,000 tokens it takes half a second.
pub struct Grammar {
    factory: ParserFactory,
}

impl Grammar {
    /// `vocab_size` is the model's, which may be larger than the tokenizer's; `end` is the token that ends a reply.
    ///
    /// # Errors
    /// If llguidance cannot use the vocabulary.
    pub fn new(tokenizer: Arc<Tokenizer>, vocab_size: usize, end: u32) -> Result<Self> {
        let mut words = tokenizer.token_bytes().to_vec();
        words.resize(vocab_size, Vec::new());
        let trie = TokTrie::from(&TokRxInfo::new(vocab_size as u32, end), &words);
        let environment: TokEnv = Arc::new(Environment { trie, tokenizer });
        let mut factory = ParserFactory::new_simple(&environment)
            .map_err(|e| ModelError::Schema(format!("{e:#}")))?;
        factory.quiet();
        Ok(Self { factory })
    }

    /// Compiles a schema.
    ///
    /// Objects are written as Python's `json.dumps` does, `{"a": 1, "b": 2}`: the spacing that models know best, and no
    /// blanks beyond it, in which small models would lose themselves. Numbers without bounds stay within ±10¹⁵ and have
    /// no exponent, so that every reader of JSON can hold them.
    ///
    /// # Errors
    /// A schema that llguidance cannot express; the message is its own.
    pub fn constraint(&self, schema: &Value) -> Result<Constraint> {
        let mut schema = schema.clone();
        bound_numbers(&mut schema);
        if let Some(object) = schema.as_object_mut() {
            object.insert(
                "x-guidance".to_owned(),
                json!({"whitespace_flexible": false, "key_separator": ": ", "item_separator": ", "}),
            );
        }
        let grammar = TopLevelGrammar::from_json_schema(schema);
        let parser = self
            .factory
            .create_parser(grammar)
            .map_err(|e| ModelError::Schema(format!("{e:#}")))?;
        Ok(Constraint { matcher: Matcher::new(Ok(parser)) })
    }
}

/// Gives bounds to the numbers of a schema that have none: a grammar would let a lost model write digits and exponents
/// without end, which is JSON, but no number that a program can hold.
fn bound_numbers(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    let kinds = object.get("type");
    let is = |kind: &str| match kinds {
        Some(Value::String(only)) => only == kind,
        Some(Value::Array(several)) => several.iter().any(|one| one == kind),
        _ => false,
    };
    let numeric = is("number") || is("integer");
    let fixed = ["enum", "const", "multipleOf", "$ref"].iter().any(|key| object.contains_key(*key));
    if numeric && !fixed {
        const BOUND: i64 = 1_000_000_000_000_000;
        for (bound, exclusive, value) in
            [("minimum", "exclusiveMinimum", -BOUND), ("maximum", "exclusiveMaximum", BOUND)]
        {
            if !object.contains_key(bound) && !object.contains_key(exclusive) {
                object.insert(bound.to_owned(), value.into());
            }
        }
    }
    for (key, inside) in object.iter_mut() {
        match (key.as_str(), inside) {
            (
                "properties" | "patternProperties" | "$defs" | "definitions",
                Value::Object(named),
            ) => {
                named.values_mut().for_each(bound_numbers);
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(listed)) => {
                listed.iter_mut().for_each(bound_numbers);
            }
            ("items" | "additionalProperties", one) => bound_numbers(one),
            _ => {}
        }
    }
}

/// The tokens that a grammar allows, one bit each.
pub type TokenMask = SimpleVob;

/// Where one reply stands in its grammar. A clone goes on from there by itself.
pub struct Constraint {
    matcher: Matcher,
}

impl Clone for Constraint {
    fn clone(&self) -> Self {
        Self { matcher: self.matcher.deep_clone() }
    }
}

impl Constraint {
    /// The tokens that may come next; the end token among them only where the JSON is complete.
    pub fn mask(&mut self) -> Result<TokenMask> {
        self.matcher.compute_mask_or_eos().map_err(|e| ModelError::Schema(format!("{e:#}")))
    }

    /// Takes the sampled token into account.
    pub fn accept(&mut self, token: u32) -> Result<()> {
        self.matcher.consume_token(token).map_err(|e| ModelError::Schema(format!("{e:#}")))
    }

    /// Takes the tokens that must come next into account, and gives them: text with one possible continuation, split
    /// as the tokenizer splits it. None where there is a choice, also one between splits.
    ///
    /// # Errors
    /// If the grammar refuses its own tokens, which would be a defect in it.
    pub fn force(&mut self) -> Result<Vec<u32>> {
        let mut forced = Vec::new();
        while !self.is_complete() {
            let tokens = self.matcher.compute_ff_tokens();
            if tokens.is_empty() {
                break;
            }
            for &token in &tokens {
                self.accept(token)?;
            }
            forced.extend(tokens);
        }
        Ok(forced)
    }

    /// The mask before each token of a reply that was made under this constraint, a mask of one token where the
    /// grammar forced it. What the [scorer](crate::logprobs) needs to give the sampler's log-probabilities again.
    ///
    /// # Errors
    /// If the grammar does not allow `ids`.
    pub fn masks(&self, ids: &[u32]) -> Result<Vec<TokenMask>> {
        let mut constraint = self.clone();
        let mut masks = Vec::with_capacity(ids.len());
        for (index, &id) in ids.iter().enumerate() {
            let mask = constraint.mask()?;
            if (id as usize) >= mask.len() || !mask.is_allowed(id) {
                return Err(ModelError::Schema(format!(
                    "token {id} at position {index} of the reply is not allowed there"
                )));
            }
            masks.push(mask);
            if index + 1 < ids.len() {
                constraint.accept(id)?;
            }
        }
        Ok(masks)
    }

    /// Whether the JSON is complete and nothing can follow.
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }
}

struct Environment {
    trie: TokTrie,
    tokenizer: Arc<Tokenizer>,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        // Text the tokenizer knows how to split gets its usual tokens; other bytes the longest that fit.
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            self.tokenizer.encode(text).unwrap_or_default()
        })
    }
}
