//! Token sequences laid end to end: a batch without padding.

use crate::config::Config;
use crate::error::{ModelError, Result};

/// The tokens of several sequences, one behind the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sequences {
    ids: Vec<u32>,
    lengths: Vec<usize>,
}

impl Sequences {
    /// Lays `sequences` end to end.
    ///
    /// # Errors
    /// If one of them has no token.
    pub fn new<S: AsRef<[u32]>>(sequences: &[S]) -> Result<Self> {
        let sequences: Vec<&[u32]> = sequences.iter().map(AsRef::as_ref).collect();
        let lengths: Vec<usize> = sequences.iter().map(|ids| ids.len()).collect();
        match lengths.iter().position(|&length| length == 0) {
            Some(empty) => Err(ModelError::Sequence(format!("sequence {empty} has no tokens"))),
            None => Ok(Self { ids: sequences.concat(), lengths }),
        }
    }

    /// The tokens of all, `[tokens]`.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Of each sequence, in tokens.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Where the first token of each sequence is among all.
    pub fn starts(&self) -> Vec<usize> {
        let start = |end: &mut usize, length: &usize| {
            *end += length;
            Some(*end - length)
        };
        self.lengths.iter().scan(0, start).collect()
    }

    /// Where the last token of each sequence is among all.
    pub fn ends(&self) -> Vec<usize> {
        self.starts().iter().zip(&self.lengths).map(|(start, length)| start + length - 1).collect()
    }

    /// The tokens of each sequence.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.starts()
            .into_iter()
            .zip(&self.lengths)
            .map(|(start, length)| &self.ids[start..start + length])
    }

    /// Of each token, in its own sequence.
    pub(crate) fn positions(&self) -> Vec<u32> {
        self.lengths.iter().flat_map(|&length| 0..length as u32).collect()
    }

    /// Whether a model can read them.
    pub(crate) fn check(&self, config: &Config) -> Result<()> {
        let (vocabulary, context) = (config.vocab_size, config.max_position_embeddings);
        if self.ids.is_empty() {
            return Err(ModelError::Sequence("there are no tokens".to_owned()));
        }
        if let Some(id) = self.ids.iter().find(|id| **id as usize >= vocabulary) {
            let problem = format!("token {id} is outside the vocabulary of {vocabulary}");
            return Err(ModelError::Sequence(problem));
        }
        match self.lengths.iter().find(|length| **length > context) {
            Some(&prompt) => Err(ModelError::ContextTooLong { prompt, context }),
            None => Ok(()),
        }
    }
}
