//! The letter of a choice, however it is decorated, or the text of a choice.

use super::{boxed, thinking};
use crate::equivalence::is_same_text;

/// A place where the text states a choice. `None`: it states several, or none that exists.
type Hit = (usize, Option<char>, &'static str);

/// Phrases that a letter follows.
const BEFORE: &[&str] = &[
    "answer",
    "答案",
    "choose",
    "select",
    "pick",
    "go with",
    "opt for",
    "choice is",
    "option is",
    "choice would be",
    "correct option",
    "correct choice",
    "best choice",
    "best option",
];
/// Phrases that follow a letter.
const AFTER: &[&str] = &[
    " is correct",
    " is the correct",
    " is right",
    " is the right",
    " is the best",
    " is the answer",
    " must be correct",
    " is therefore correct",
    " is thus correct",
    " is my answer",
    " would be correct",
];
/// Bytes at the end of a text that are searched.
const SEARCHED: usize = 65_536;

/// Reads the letter that a response chooses, and how it was found.
///
/// `shown` are the texts of the choices, where they are known; `count` is their number.
pub(crate) fn read_choice(
    text: &str,
    shown: &[String],
    count: usize,
) -> Option<(char, &'static str)> {
    let text = super::tail(text);
    let thinking::Visible { text: visible, unclosed } = thinking::remove(text);
    let reader = Reader { shown, count: count.clamp(1, 26) };
    match (reader.stated(&visible), unclosed) {
        (Some((_, letter, how)), _) => letter.map(|letter| (letter, how)),
        (None, None) => reader.alone(&visible),
        (None, Some(thoughts)) => {
            // Thoughts that were cut off count only where they state an answer.
            reader.stated(thoughts)?.1.map(|letter| (letter, "stated in unclosed thinking"))
        }
    }
}

struct Reader<'a> {
    shown: &'a [String],
    count: usize,
}

impl Reader<'_> {
    /// The last statement of an answer.
    fn stated(&self, text: &str) -> Option<Hit> {
        let mut start = text.len().saturating_sub(SEARCHED);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        let text = &text[start..];
        let lower = text.to_ascii_lowercase();
        let mut best: Option<Hit> = None;
        let mut keep = |hit: Hit| {
            if best.is_none_or(|best| hit.0 >= best.0) {
                best = Some(hit);
            }
        };
        if let Some(found) = boxed::last(text)
            && let Some(letter) = self.whole(&found.answer.text)
        {
            keep((found.end, letter, "boxed"));
        }
        for phrase in BEFORE {
            let found = lower.rmatch_indices(phrase).take(32).find_map(|(at, phrase)| {
                let after = at + phrase.len();
                self.follows(&text[after..]).map(|letter| (after, letter, "after \"answer\""))
            });
            found.into_iter().for_each(&mut keep);
        }
        for phrase in AFTER {
            let found = lower.rmatch_indices(phrase).take(32).find_map(|(at, _)| {
                self.precedes(&text[..at]).map(|letter| (at, Some(letter), "before \"is correct\""))
            });
            found.into_iter().for_each(&mut keep);
        }
        best
    }

    /// A response that is nothing but a choice, or ends in a line that is.
    fn alone(&self, text: &str) -> Option<(char, &'static str)> {
        if let Some(letter) = self.whole(text) {
            return letter.map(|letter| (letter, "whole text"));
        }
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
        if let Some(letter) = lines().next_back().and_then(|line| self.whole(line)) {
            return letter.map(|letter| (letter, "last line"));
        }
        // `B) because …`: the first line states it, and no other line does.
        let mut labelled = lines().filter_map(|line| self.labelled(line));
        match (labelled.next(), labelled.next()) {
            (Some(letter), None)
                if lines().next().and_then(|l| self.labelled(l)) == Some(letter) =>
            {
                Some((letter, "first line"))
            }
            _ => None,
        }
    }

    /// `B) …`, `(B) …`, `B. …` at the beginning of a line.
    fn labelled(&self, line: &str) -> Option<char> {
        let line = line.trim_start_matches(['*', '(', '[', ' ', '$']);
        let letter = line.chars().next().filter(char::is_ascii_uppercase)?;
        let rest = &line[1..];
        (rest.starts_with([')', '.', ']', ':']) || rest.starts_with("**")).then_some(())?;
        self.known(letter)
    }

    /// A text that is one letter with decoration, or the text of one choice. Inner `None`: several letters.
    fn whole(&self, text: &str) -> Option<Option<char>> {
        let inner = undecorated(text);
        let mut letters = inner.chars();
        if let (Some(letter), None) = (letters.next(), letters.next()) {
            return self.known(letter).map(Some);
        }
        let parts: Vec<&str> = inner
            .split([',', '/', '&', ' '])
            .filter(|part| !part.is_empty() && *part != "and" && *part != "or")
            .collect();
        if parts.len() > 1
            && parts.iter().all(|part| {
                let part = undecorated(part);
                part.len() == 1 && self.known(part.chars().next().unwrap_or(' ')).is_some()
            })
        {
            return Some(None);
        }
        if let Some(letter) = self.text_of_choice(text) {
            return Some(Some(letter));
        }
        // `B. 5 cm`, `(B) 5 cm`, `B: 5 cm`
        let trimmed = text.trim().trim_start_matches(['*', '$', ' ']);
        let (label, rest) = match trimmed.strip_prefix('(') {
            Some(inside) => inside.split_once(')')?,
            None => trimmed.split_once([')', '.', ':'])?,
        };
        let label = label.trim();
        let fits = label.len() == 1
            && label.starts_with(|c: char| c.is_ascii_uppercase())
            && text.lines().count() == 1
            && !rest.trim().is_empty()
            && (self.shown.is_empty() || self.text_of_choice(rest).is_some());
        // Without the choices at hand, a short label with its text.
        let short = rest.split_whitespace().count() <= 12;
        (fits && short).then(|| self.known(label.chars().next().unwrap_or(' ')))?.map(Some)
    }

    fn text_of_choice(&self, text: &str) -> Option<char> {
        let text = text.trim().trim_matches(['*', '"', '$', '`']);
        let mut equal = self.shown.iter().zip('A'..).filter(|(shown, _)| is_same_text(shown, text));
        match (equal.next(), equal.next()) {
            (Some((_, letter)), None) => Some(letter),
            _ => None,
        }
    }

    /// The letter behind an anchor. Inner `None`: several letters.
    fn follows(&self, after: &str) -> Option<Option<char>> {
        let after = after.strip_prefix(['s', 'S']).unwrap_or(after);
        if after.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return None;
        }
        let rest = without_lead(after);
        if let Some(letter) = self.letter_at(rest) {
            return Some(letter);
        }
        // The text of a choice, up to the end of the line or sentence.
        let line = rest.lines().next().unwrap_or("").trim_matches(['*', '"', ' ']);
        let ends =
            std::iter::once(line.len()).chain(line.match_indices(". ").map(|(at, _)| at).take(4));
        ends.filter_map(|end| self.text_of_choice(line[..end].trim_end_matches('.')))
            .next()
            .map(Some)
    }

    fn letter_at(&self, rest: &str) -> Option<Option<char>> {
        let letter = rest.chars().next()?;
        let known = self.known(letter)?;
        let after = &rest[letter.len_utf8()..];
        let next = after.chars().next();
        if next.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            return None;
        }
        // `D-glucose`, `A's`.
        if next.is_some_and(|c| matches!(c, '-' | '\'' | '’' | '–'))
            && after.chars().nth(1).is_some_and(char::is_alphanumeric)
        {
            return None;
        }
        let spaced = after.starts_with([' ', '\u{a0}']);
        let word: String = after.trim_start().chars().take_while(|c| c.is_alphabetic()).collect();
        if spaced && !word.is_empty() {
            // The article, and letters that begin a phrase: `A reaction …`, `a decrease`.
            let goes_on = matches!(
                &word.to_lowercase()[..],
                "because"
                    | "since"
                    | "as"
                    | "is"
                    | "and"
                    | "or"
                    | "with"
                    | "due"
                    | "for"
                    | "which"
                    | "based"
                    | "given"
            );
            if !goes_on {
                return None;
            }
        } else if letter.is_ascii_lowercase() && spaced {
            return None;
        }
        // `A, B`, `A and B`, `A or (B)`.
        let tail = after.trim_start_matches(['*', ')', ']', '}', '$', '"', ' ', '.']);
        let other = ["and ", "or ", ",", "/", "&"].iter().find_map(|join| tail.strip_prefix(join));
        if let Some(other) = other {
            let other = without_lead(other);
            let mut letters = other.chars();
            let second =
                letters.next().filter(char::is_ascii_uppercase).and_then(|c| self.known(c));
            let ends = letters.next().is_none_or(|c| !c.is_alphanumeric() && c != '-');
            let follows = other.get(1..).unwrap_or("").trim_start();
            let prose = follows.starts_with(|c: char| c.is_ascii_lowercase());
            if second.is_some() && ends && !prose {
                return Some(None);
            }
        }
        Some(Some(known))
    }

    /// The letter that ends here, as in `(A) is the correct answer`.
    fn precedes(&self, before: &str) -> Option<char> {
        let inner = before.trim_end_matches(['*', ')', ']', '}', '$', '"', '\'', ' ', '.']);
        let letter = inner.chars().next_back()?;
        let decorated = inner.len() < before.trim_end().len();
        let lead = &inner[..inner.len() - letter.len_utf8()];
        let stands_alone = lead
            .chars()
            .next_back()
            .is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '-' | '\''));
        let clear = letter.is_ascii_uppercase() || decorated;
        let lower = lead.to_ascii_lowercase();
        let joined = lower.trim_end_matches(['*', '(', '[', ' ']);
        let several =
            joined.ends_with(" and") || joined.ends_with(" or") || joined.ends_with("whether");
        (stands_alone && clear && !several).then(|| self.known(letter))?
    }

    /// The letter in capitals, if there is such a choice.
    fn known(&self, letter: char) -> Option<char> {
        let letter = match letter {
            'Ａ'..='Ｚ' => char::from_u32(letter as u32 - 0xfee0)?,
            letter => letter.to_ascii_uppercase(),
        };
        (letter.is_ascii_uppercase() && (letter as usize - 'A' as usize) < self.count)
            .then_some(letter)
    }
}

/// Without brackets, emphasis, dollars, `\text{}` and the word "option" around it.
fn undecorated(text: &str) -> &str {
    let mut inner = text;
    loop {
        let before = inner;
        inner = inner.trim_matches(|c: char| {
            c.is_whitespace()
                || matches!(
                    c,
                    '*' | '('
                        | ')'
                        | '['
                        | ']'
                        | '{'
                        | '}'
                        | '$'
                        | '"'
                        | '\''
                        | '.'
                        | ','
                        | ':'
                        | '`'
                        | '_'
                        | '“'
                        | '”'
                )
        });
        for wrapper in [
            "\\text", "\\textbf", "\\mathrm", "\\mathbf", "\\boxed", "\\(", "\\[", "option ",
            "Option ", "choice ", "Choice ",
        ] {
            inner = inner.strip_prefix(wrapper).unwrap_or(inner);
        }
        for wrapper in ["\\)", "\\]", "\\"] {
            inner = inner.strip_suffix(wrapper).unwrap_or(inner);
        }
        if inner == before {
            return inner;
        }
    }
}

/// Without decoration and the words that lead to a letter.
fn without_lead(text: &str) -> &str {
    let mut rest = text;
    loop {
        let before = rest;
        rest = rest.trim_start_matches(|c: char| {
            c.is_whitespace()
                || matches!(
                    c,
                    '*' | ':'
                        | '='
                        | '"'
                        | '“'
                        | '\''
                        | '`'
                        | '_'
                        | '('
                        | '['
                        | '{'
                        | '$'
                        | '>'
                        | '<'
                        | '-'
                        | '：'
                        | '（'
                )
        });
        for wrapper in
            ["\\boxed", "\\text", "\\textbf", "\\mathrm", "\\mathbf", "\\(", "\\[", "/answer>"]
        {
            rest = rest.strip_prefix(wrapper).unwrap_or(rest);
        }
        for word in [
            "is",
            "be",
            "must be",
            "should be",
            "would be",
            "will be",
            "can only be",
            "option",
            "choice",
            "letter",
            "clearly",
            "therefore",
            "thus",
            "definitely",
            "likely",
            "most likely",
            "probably",
            "the",
            "correct",
            "then",
            "to this question",
            "to the question",
            "here",
            "final",
            "best",
            "indeed",
            "are",
            "select",
            "choose",
            "as",
            "with",
            "would",
            "must",
            "should",
        ] {
            let head = rest.get(..word.len());
            let ends = rest.get(word.len()..).is_some_and(|tail| {
                tail.starts_with(|c: char| {
                    c.is_whitespace() || matches!(c, ':' | '*' | '(' | '"' | '$' | '[')
                })
            });
            if ends && head.is_some_and(|head| head.eq_ignore_ascii_case(word)) {
                rest = &rest[word.len()..];
            }
        }
        if rest == before {
            return rest;
        }
    }
}
