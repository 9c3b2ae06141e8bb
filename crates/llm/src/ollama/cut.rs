//! Whether the server cut the prompt: Ollama does so silently, with status 200, and the model then answers a
//! question it never read in full.
//!
//! Two signs, from `prompt_eval_count`, the number of prompt tokens the server says it read:
//! it is less than the prompt can possibly have, or less than an earlier prompt had that this one extends.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Mutex,
};

use crate::chat::{Message, Role};

/// Prompts remembered; more than the conversations that are likely to run side by side.
const REMEMBERED: usize = 64;

/// A lower bound of the tokens in `messages`, whatever the tokenizer.
///
/// Tokenizers split at blanks and keep letters and digits apart, so a token spans at most one word, or three
/// digits. Punctuation and template count nothing. For English the bound is about 0.7 of the truth, for scripts
/// without blanks far less.
pub(super) fn fewest_tokens(messages: &[Message]) -> u64 {
    messages.iter().map(|message| fewest_tokens_of(read_text(message))).sum()
}

fn fewest_tokens_of(text: &str) -> u64 {
    /// Longest run of other scripts that we take for one token.
    const LONGEST_TOKEN: u64 = 16;
    let (mut tokens, mut digits, mut ascii, mut other) = (0, 0_u64, 0_u64, 0_u64);
    let mut close = |digits: &mut u64, ascii: &mut u64, other: &mut u64| {
        tokens +=
            digits.div_ceil(3) + u64::from(*ascii + *other > 0).max(other.div_ceil(LONGEST_TOKEN));
        (*digits, *ascii, *other) = (0, 0, 0);
    };
    for character in text.chars() {
        let is_word = character.is_ascii_alphabetic() || !character.is_ascii();
        let in_word = ascii + other > 0;
        if (character.is_ascii_digit() && in_word) || (is_word && digits > 0) {
            close(&mut digits, &mut ascii, &mut other);
        }
        match character {
            '0'..='9' => digits += 1,
            // `don't` can be one token.
            'a'..='z' | 'A'..='Z' | '\'' => ascii += 1,
            _ if !character.is_ascii() && !character.is_whitespace() => other += 1,
            _ => close(&mut digits, &mut ascii, &mut other),
        }
    }
    close(&mut digits, &mut ascii, &mut other);
    tokens
}

/// What templates leave of a message: they drop earlier thinking.
fn read_text(message: &Message) -> &str {
    match (message.role, message.content.rsplit_once("</think>")) {
        (Role::Assistant, Some((_, answer))) => answer,
        _ => &message.content,
    }
}

/// Sizes of earlier prompts.
#[derive(Debug, Default)]
pub(super) struct Prompts {
    seen: Mutex<VecDeque<Prompt>>,
}

#[derive(Debug)]
struct Prompt {
    messages: usize,
    hash: u64,
    tokens: u64,
}

impl Prompts {
    /// Remembers that the server read `tokens` of `messages`. If it read more of a prompt that these messages
    /// extend, returns how many.
    ///
    /// `setting` is whatever else is rendered into the prompt; prompts with different settings do not compare.
    pub(super) fn note(
        &self,
        messages: &[Message],
        setting: impl Hash,
        tokens: u64,
    ) -> Option<u64> {
        if tokens == 0 || messages.iter().any(|message| message.content.contains("</think>")) {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        setting.hash(&mut hasher);
        let hashes: Vec<u64> = messages
            .iter()
            .map(|message| {
                message.hash(&mut hasher);
                hasher.finish()
            })
            .collect();
        let mut seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let longest = seen
            .iter()
            .filter(|prompt| hashes.get(prompt.messages - 1) == Some(&prompt.hash))
            .map(|prompt| prompt.tokens)
            .max();
        if seen.len() == REMEMBERED {
            seen.pop_front();
        }
        seen.push_back(Prompt { messages: messages.len(), hash: *hashes.last()?, tokens });
        longest.filter(|longest| *longest > tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_counts_words_and_digits() {
        let cases = [
            ("", 0),
            ("What is 15% of 240, then doubled?", 7),
            ("don't", 1),
            ("1234567", 3),
            ("x1y", 3),
            ("  \n\n...", 0),
            ("日本語のテキスト", 1),
            ("a,b", 2),
        ];
        for (text, tokens) in cases {
            assert_eq!(fewest_tokens_of(text), tokens, "{text}");
        }
        assert_eq!(fewest_tokens_of(&"語".repeat(160)), 10);
    }

    #[test]
    fn thinking_that_templates_drop_is_not_counted() {
        assert_eq!(fewest_tokens(&[Message::assistant("<think>a b c</think>four five")]), 2);
    }

    #[test]
    fn a_prompt_that_shrinks_is_noticed() {
        let prompts = Prompts::default();
        let mut messages = vec![Message::system("s"), Message::user("one")];
        assert_eq!(prompts.note(&messages, false, 100), None);
        messages.push(Message::assistant("two"));
        assert_eq!(prompts.note(&messages, false, 140), None);
        messages.push(Message::user("three"));
        assert_eq!(prompts.note(&messages, true, 90), None, "another setting");
        assert_eq!(prompts.note(&messages, false, 90), Some(140));
        assert_eq!(prompts.note(&[Message::user("unrelated")], false, 5), None);
        assert_eq!(prompts.note(&messages, false, 0), None, "the server did not count");
    }
}
