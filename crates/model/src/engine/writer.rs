//! The tokens of a reply as thinking and text, up to a stop text.

use std::sync::Arc;

use super::request::Event;
use crate::tokenizer::{Tokenizer, Utf8Stream};

/// Writes the text of one reply.
pub(super) struct Writer {
    tokenizer: Arc<Tokenizer>,
    /// The token that ends the thinking, as long as there is thinking.
    think_end: Option<u32>,
    stream: Utf8Stream,
    pub(super) thinking: String,
    pub(super) text: String,
    /// Bytes of the text that were given away.
    given: usize,
    stop: Vec<String>,
    /// Whether a stop text was written.
    pub(super) stopped: bool,
}

impl Writer {
    pub(super) fn new(
        tokenizer: Arc<Tokenizer>,
        think_end: Option<u32>,
        mut stop: Vec<String>,
    ) -> Self {
        stop.retain(|stop| !stop.is_empty());
        Self {
            tokenizer,
            think_end,
            stream: Utf8Stream::default(),
            thinking: String::new(),
            text: String::new(),
            given: 0,
            stop,
            stopped: false,
        }
    }

    pub(super) fn is_thinking(&self) -> bool {
        self.think_end.is_some()
    }

    /// Adds a token; gives what became complete by it.
    pub(super) fn push(&mut self, token: u32) -> Option<Event> {
        if self.think_end == Some(token) {
            self.think_end = None;
            self.thinking.push_str(&self.stream.finish());
            return None;
        }
        let piece = self.stream.push(self.tokenizer.bytes(token));
        if self.is_thinking() {
            self.thinking.push_str(&piece);
            return (!piece.is_empty()).then_some(Event::Thinking(piece));
        }
        self.add(&piece)
    }

    /// What was held back, when no token follows.
    pub(super) fn finish(&mut self) -> Option<Event> {
        let rest = self.stream.finish();
        if self.is_thinking() || self.stopped {
            return None;
        }
        let mut piece = match self.add(&rest) {
            Some(Event::Text(piece)) => piece,
            _ => String::new(),
        };
        piece.push_str(&self.text[self.given..]);
        self.given = self.text.len();
        (!piece.is_empty()).then_some(Event::Text(piece))
    }

    fn add(&mut self, piece: &str) -> Option<Event> {
        let longest = self.stop.iter().map(String::len).max().unwrap_or(0);
        // A stop text that is complete now ends in the new piece.
        let mut from = self.text.len().saturating_sub(longest);
        while !self.text.is_char_boundary(from) {
            from -= 1;
        }
        self.text.push_str(piece);
        let found = self.stop.iter().filter_map(|stop| self.text[from..].find(stop.as_str()));
        let end = match found.min() {
            Some(at) => {
                self.stopped = true;
                self.text.truncate(from + at);
                self.text.len()
            }
            None => self.text.len() - self.held_back(),
        };
        let piece = self.text.get(self.given..end).unwrap_or_default().to_owned();
        self.given = self.given.max(end);
        (!piece.is_empty()).then_some(Event::Text(piece))
    }

    /// Bytes at the end of the text that may be the beginning of a stop text.
    fn held_back(&self) -> usize {
        let beginnings = self.stop.iter().flat_map(|stop| {
            stop.char_indices().map(|(at, _)| &stop[..at]).filter(|start| !start.is_empty())
        });
        beginnings.filter(|start| self.text.ends_with(start)).map(str::len).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundled;

    /// The bundled tokenizer, which has a token for every byte; `</think>` is played by another token.
    fn tokenizer() -> Arc<Tokenizer> {
        let files = bundled::files();
        let loaded = files.load(candle_core::DType::F32, &candle_core::Device::Cpu);
        loaded.expect("the bundled planner").tokenizer
    }

    fn pieces(writer: &mut Writer, ids: &[u32]) -> (String, String) {
        let (mut thinking, mut text) = (String::new(), String::new());
        let events = ids.iter().map(|id| writer.push(*id)).collect::<Vec<_>>();
        for event in events.into_iter().chain([writer.finish()]).flatten() {
            match event {
                Event::Thinking(piece) => thinking.push_str(&piece),
                Event::Text(piece) => text.push_str(&piece),
                other => panic!("{other:?}"),
            }
        }
        (thinking, text)
    }

    #[test]
    fn thinking_and_text_part_at_the_end_of_thinking() {
        let tokenizer = tokenizer();
        let mut ids = tokenizer.encode("First, 7 £ of 9").expect("it encodes");
        let end = 2;
        ids.push(end);
        ids.extend(tokenizer.encode("The end, 7 € all").expect("it encodes"));
        let stop = vec![" of".to_owned(), "€ al".to_owned()];
        let mut writer = Writer::new(tokenizer.clone(), Some(end), stop);
        let (thinking, text) = pieces(&mut writer, &ids);
        assert_eq!((thinking.as_str(), text.as_str()), ("First, 7 £ of 9", "The end, 7 "));
        assert_eq!((writer.thinking, writer.text, writer.stopped), (thinking, text, true));
    }

    #[test]
    fn what_only_looked_like_a_stop_text_comes_after_all() {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode("one two th").expect("it encodes");
        let mut writer = Writer::new(tokenizer, None, vec!["twice".to_owned(), "three".to_owned()]);
        let (_, text) = pieces(&mut writer, &ids);
        assert_eq!((text.as_str(), writer.stopped), ("one two th", false));
    }
}
