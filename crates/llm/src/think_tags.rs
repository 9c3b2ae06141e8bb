//! Thinking that a server left in the text, `<think>…</think>` in front of the answer.
//!
//! Ollama and vLLM take it out for models they know. For an exported GGUF, or llama.cpp without a reasoning parser,
//! it arrives as text.

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Sorts the pieces of a text into thinking and answer.
#[derive(Default)]
pub(crate) struct ThinkTags {
    state: State,
    /// What may yet turn out to be a tag.
    held: String,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum State {
    /// Only blanks, or part of the opening tag, so far.
    #[default]
    Start,
    Thinking,
    /// Between the closing tag and the answer.
    Gap,
    Answer,
}

/// A sorted piece.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Thinking(String),
    Answer(String),
}

impl ThinkTags {
    pub(crate) fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        loop {
            match self.state {
                State::Start => {
                    let trimmed = self.held.trim_start();
                    if let Some(rest) = trimmed.strip_prefix(OPEN) {
                        self.held = rest.to_owned();
                        self.state = State::Thinking;
                    } else if OPEN.starts_with(trimmed) {
                        return pieces;
                    } else {
                        self.state = State::Answer;
                    }
                }
                State::Thinking => {
                    if let Some(at) = self.held.find(CLOSE) {
                        let rest = self.held.split_off(at);
                        pieces.push(Piece::Thinking(std::mem::replace(
                            &mut self.held,
                            rest[CLOSE.len()..].to_owned(),
                        )));
                        self.state = State::Gap;
                    } else {
                        let keep = self.held.len() - partial_suffix(&self.held);
                        let rest = self.held.split_off(keep);
                        pieces.push(Piece::Thinking(std::mem::replace(&mut self.held, rest)));
                        break;
                    }
                }
                State::Gap => {
                    self.held = self.held.trim_start().to_owned();
                    if self.held.is_empty() {
                        break;
                    }
                    self.state = State::Answer;
                }
                State::Answer => {
                    pieces.push(Piece::Answer(std::mem::take(&mut self.held)));
                    break;
                }
            }
        }
        pieces.retain(|piece| !matches!(piece, Piece::Thinking(text) | Piece::Answer(text) if text.is_empty()));
        pieces
    }

    /// What was held back when the text ended.
    pub(crate) fn finish(self) -> Option<Piece> {
        match self.state {
            _ if self.held.is_empty() => None,
            State::Thinking => Some(Piece::Thinking(self.held)),
            _ => Some(Piece::Answer(self.held)),
        }
    }
}

/// Bytes at the end of `text` that could begin the closing tag.
fn partial_suffix(text: &str) -> usize {
    (1..CLOSE.len()).rev().find(|length| text.ends_with(&CLOSE[..*length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// (thinking, answer) of the text given in these pieces.
    fn sorted<'a>(chunks: impl IntoIterator<Item = &'a str>) -> (String, String) {
        let mut tags = ThinkTags::default();
        let mut pieces: Vec<Piece> =
            chunks.into_iter().flat_map(|chunk| tags.push(chunk)).collect();
        pieces.extend(tags.finish());
        let (mut thinking, mut answer) = (String::new(), String::new());
        for piece in pieces {
            match piece {
                Piece::Thinking(text) => thinking.push_str(&text),
                Piece::Answer(text) => answer.push_str(&text),
            }
        }
        (thinking, answer)
    }

    #[test]
    fn tags_in_front_are_taken_out() {
        let owned = |thinking: &str, answer: &str| (thinking.to_owned(), answer.to_owned());
        assert_eq!(sorted(["\n<think>\nhm</think>\n\n42"]), owned("\nhm", "42"));
        assert_eq!(sorted(["<think></think>42"]), owned("", "42"));
        assert_eq!(sorted(["<think>cut"]), owned("cut", ""));
        assert_eq!(sorted(["<thin"]), owned("", "<thin"));
        assert_eq!(sorted([" plain <think>"]), owned("", " plain <think>"));
        assert_eq!(sorted(["<think>a</thinb</think>"]), owned("a</thinb", ""));
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(text in "( |<think>)?[a</think>é ]{0,20}(</think>)?[a é]{0,5}", cuts in vec(1usize..4, 1..40)) {
            let mut chunks = Vec::new();
            let mut rest = text.as_str();
            for cut in cuts.iter().cycle() {
                let Some((at, c)) = rest.char_indices().take(*cut).last() else { break };
                let (chunk, left) = rest.split_at(at + c.len_utf8());
                chunks.push(chunk);
                rest = left;
            }
            prop_assert_eq!(sorted(chunks), sorted([text.as_str()]));
        }
    }
}
