//! `tokenizer.json`: text to token ids and back, and the raw bytes of every token.

use std::path::Path;

use serde_json::Value;

use crate::error::{ModelError, Result};

/// A Hugging Face tokenizer, with what streaming and grammars need beside it.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Bytes of each token id; special tokens start with 0xFF, which no UTF-8 text holds.
    token_bytes: Vec<Vec<u8>>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`; `place` names it in messages.
    ///
    /// # Errors
    /// If it is no tokenizer, or not of the byte-level kind.
    pub fn from_json(json: &str, place: &Path) -> Result<Self> {
        let invalid = |problem: String| ModelError::Invalid { path: place.to_owned(), problem };
        let inner: tokenizers::Tokenizer = json.parse().map_err(|e| invalid(format!("{e}")))?;
        let value: Value = serde_json::from_str(json).map_err(|e| invalid(e.to_string()))?;
        let token_bytes = llguidance::token_bytes_from_tokenizer_json(&value)
            .map_err(|e| invalid(format!("{e:#}")))?;
        Ok(Self { inner, token_bytes })
    }

    /// Token ids of `text`; special tokens written out in it become their ids.
    ///
    /// # Errors
    /// If the tokenizer has no token for a part of the text; byte-level ones always have.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| ModelError::Tokenizer(format!("{e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of `ids`, special tokens left out, invalid UTF-8 replaced.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| self.bytes(*id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The id of a token written out, e.g. `<|im_end|>`.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// How token `id` is written, in the tokenizer's own alphabet.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// How many tokens there are; the model's vocabulary may be padded beyond.
    #[expect(clippy::len_without_is_empty, reason = "a tokenizer without tokens cannot be made")]
    pub fn len(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The bytes that token `id` adds to the text; none for special tokens.
    pub fn bytes(&self, id: u32) -> &[u8] {
        match self.token_bytes.get(id as usize).map(Vec::as_slice) {
            Some([0xff, ..]) | None => &[],
            Some(bytes) => bytes,
        }
    }

    pub(crate) fn token_bytes(&self) -> &[Vec<u8>] {
        &self.token_bytes
    }
}

/// Turns token bytes into text as soon as whole characters are there.
#[derive(Debug, Default)]
pub(crate) struct Utf8Stream {
    pending: Vec<u8>,
}

impl Utf8Stream {
    /// Adds bytes; gives the text that is complete now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.pending.clear();
                    return text;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.pending[..valid]));
                    let Some(bad) = error.error_len() else {
                        self.pending.drain(..valid); // the rest of a character is still to come
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.pending.drain(..valid + bad);
                }
            }
        }
    }

    /// What is left at the end: half a character becomes the replacement character.
    pub(crate) fn finish(&mut self) -> String {
        let rest = std::mem::take(&mut self.pending);
        String::from_utf8_lossy(&rest).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_split_over_tokens_comes_out_whole() {
        let mut stream = Utf8Stream::default();
        let euro = "€".as_bytes();
        assert_eq!(stream.push(&[b'a', euro[0]]), "a");
        assert_eq!(stream.push(&euro[1..2]), "");
        assert_eq!(stream.push(&[euro[2], b'b']), "€b");
        assert_eq!(stream.push(&[0xff, b'c', 0xe2]), "\u{fffd}c");
        assert_eq!(stream.finish(), "\u{fffd}");
    }
}
