//! Removing the chain of thought that reasoning models write before they answer.

use std::borrow::Cow;

/// What is left for the reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Visible<'a> {
    pub(super) text: Cow<'a, str>,
    /// The thoughts, where they never ended: the text was cut off.
    pub(super) unclosed: Option<&'a str>,
}

const TAGS: &[(&str, &str)] = &[
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("◁think▷", "◁/think▷"),
    ("[THINK]", "[/THINK]"),
];

pub(super) fn remove(text: &str) -> Visible<'_> {
    // One kind of tag a text; the first that occurs.
    let kind = TAGS.iter().find(|(open, close)| text.contains(open) || text.contains(close));
    let Some((open, close)) = kind else { return Visible { text: text.into(), unclosed: None } };
    // Templates may have written the opening tag into the prompt: everything before the first closing one is thought.
    let mut rest = text;
    if let Some(end) = rest.find(close)
        && rest.find(open).is_none_or(|start| start > end)
    {
        rest = &rest[end + close.len()..];
    }
    let mut kept = String::with_capacity(rest.len());
    loop {
        let Some(start) = rest.find(open) else {
            kept.push_str(rest);
            return Visible { text: kept.into(), unclosed: None };
        };
        kept.push_str(&rest[..start]);
        let thoughts = &rest[start + open.len()..];
        match end_of_thoughts(thoughts, open, close) {
            Some(end) => rest = &thoughts[end..],
            None => return Visible { text: kept.into(), unclosed: Some(thoughts) },
        }
    }
}

/// Where the thoughts end, counting those inside them.
fn end_of_thoughts(thoughts: &str, open: &str, close: &str) -> Option<usize> {
    let mut depth = 1usize;
    let mut at = 0;
    loop {
        let end = at + thoughts[at..].find(close)?;
        depth += thoughts[at..end].matches(open).count();
        depth -= 1;
        at = end + close.len();
        // Models name the tag in their thoughts without ever closing it: the last closing tag ends all.
        if depth == 0 || !thoughts[at..].contains(close) {
            return Some(at);
        }
    }
}
