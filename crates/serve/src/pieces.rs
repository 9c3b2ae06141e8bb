//! Which part of a reply may be sent already.
//!
//! A model gives its text as it comes. But the end of it may begin a stop text or a tool call, which are no text of
//! the reply, and blanks around the thinking are cut from the whole reply. So the last characters wait until it is clear
//! what they are, and all pieces together are exactly the reply that is not streamed.

use agentflow_llm::ChatReply;

use crate::tool_calls::{self, ToolCall};

const THINK: &str = "<think>";

/// The reply so far, and how much of it was sent.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// Texts that end the reply, and the one that begins a tool call.
    ends: Vec<String>,
    takes_calls: bool,
    text: String,
    sent: usize,
    thinking: String,
    thought: usize,
}

/// What is left to send once the reply is complete.
#[derive(Debug, PartialEq)]
pub(crate) struct Rest {
    pub(crate) thinking: String,
    pub(crate) text: String,
    pub(crate) calls: Vec<ToolCall>,
    /// The whole text, without calls.
    pub(crate) whole: String,
}

impl Pieces {
    pub(crate) fn new(stop: &[String], takes_calls: bool) -> Self {
        let mut ends: Vec<String> = stop.iter().filter(|end| !end.is_empty()).cloned().collect();
        if takes_calls {
            ends.push(tool_calls::OPEN.to_owned());
        }
        Self { ends, takes_calls, ..Self::default() }
    }

    /// Adds text; gives what may be sent, if anything.
    pub(crate) fn text(&mut self, piece: &str) -> Option<String> {
        self.text.push_str(piece);
        if !self.thinking.is_empty() && self.sent == 0 {
            self.text = self.text.trim_start().to_owned();
        }
        let open = &self.text[self.sent..];
        let found = self.ends.iter().filter_map(|end| open.find(end.as_str())).min();
        let ready = found.unwrap_or(open.len() - self.undecided(open));
        // Blanks before a call go with it.
        let ready = if self.takes_calls { open[..ready].trim_end().len() } else { ready };
        let piece = open[..ready].to_owned();
        self.sent += ready;
        (!piece.is_empty()).then_some(piece)
    }

    /// Bytes at the end of `text` that may begin one of the ends.
    fn undecided(&self, text: &str) -> usize {
        let begins = |from: usize| {
            let tail = &text[from..];
            self.ends.iter().any(|end| end.len() > tail.len() && end.starts_with(tail))
        };
        let longest = self.ends.iter().map(String::len).max().unwrap_or(0);
        let from = text.len().saturating_sub(longest);
        let starts = text.char_indices().map(|(at, _)| at).skip_while(|at| *at < from);
        starts.filter(|at| begins(*at)).map(|at| text.len() - at).next().unwrap_or(0)
    }

    /// Adds thinking; gives what may be sent, if anything.
    pub(crate) fn thinking(&mut self, piece: &str) -> Option<String> {
        self.thinking.push_str(piece);
        let start = self.thinking.trim_start();
        if THINK.starts_with(start) {
            return None;
        }
        let clean = start.strip_prefix(THINK).unwrap_or(start).trim();
        let piece = clean.get(self.thought..).unwrap_or_default().to_owned();
        self.thought = clean.len();
        (!piece.is_empty()).then_some(piece)
    }

    /// What the complete `reply` has beyond what was sent.
    pub(crate) fn finish(self, reply: &ChatReply) -> Rest {
        let (whole, calls) = match self.takes_calls {
            true => tool_calls::split(&reply.text),
            false => (reply.text.as_str(), Vec::new()),
        };
        let sent = &self.text[..self.sent];
        // A model that took back what it gave piece by piece has nothing that could be added.
        let text = whole.strip_prefix(sent).unwrap_or_default().to_owned();
        let thinking = reply.thinking.as_deref().unwrap_or_default();
        let thinking = thinking.get(self.thought..).unwrap_or_default().to_owned();
        Rest { thinking, text, calls, whole: whole.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use agentflow_llm::{Finish, Usage};

    use super::*;

    fn reply(text: &str, thinking: Option<&str>) -> ChatReply {
        ChatReply {
            text: text.to_owned(),
            thinking: thinking.map(str::to_owned),
            finish: Finish::Stop,
            usage: Usage::default(),
            token_ids: None,
            logprobs: None,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn what_may_begin_a_stop_text_waits() {
        let mut pieces = Pieces::new(&["END".into(), "é!".into()], false);
        assert_eq!(pieces.text("one E").as_deref(), Some("one "));
        assert_eq!(pieces.text("N").as_deref(), None);
        assert_eq!(pieces.text("T é").as_deref(), Some("ENT "));
        assert_eq!(pieces.text("? E").as_deref(), Some("é? "));
        assert_eq!(pieces.text("ND").as_deref(), None);
        let rest = pieces.finish(&reply("one ENT é? ", None));
        assert_eq!((rest.text.as_str(), rest.whole.as_str()), ("", "one ENT é? "));
    }

    #[test]
    fn what_only_looked_like_a_stop_text_comes_at_the_end() {
        let mut pieces = Pieces::new(&["END".into()], false);
        assert_eq!(pieces.text("the E").as_deref(), Some("the "));
        assert_eq!(pieces.finish(&reply("the E", None)).text, "E");
    }

    #[test]
    fn thinking_comes_without_its_tag_and_the_blanks_around() {
        let mut pieces = Pieces::new(&[], false);
        let given: Vec<String> = ["<th", "ink>\n", "\n a", " b ", "\n"]
            .iter()
            .filter_map(|p| pieces.thinking(p))
            .collect();
        assert_eq!(given, ["a", " b"]);
        assert_eq!(pieces.text("\n\n"), None);
        assert_eq!(pieces.text("\n42 ").as_deref(), Some("42 "));
        let rest = pieces.finish(&reply("42 ", Some("a b")));
        assert_eq!((rest.thinking.as_str(), rest.text.as_str()), ("", ""));
    }

    #[test]
    fn calls_are_not_streamed_as_text() {
        let mut pieces = Pieces::new(&[], true);
        let whole = "Well. <tool_call>{\"name\": \"now\"}</tool_call>";
        let given: String = whole
            .char_indices()
            .filter_map(|(at, c)| pieces.text(&whole[at..at + c.len_utf8()]))
            .collect();
        assert_eq!(given, "Well.");
        let rest = pieces.finish(&reply(whole, None));
        assert_eq!((rest.text.as_str(), rest.calls.len()), ("", 1));
    }
}
