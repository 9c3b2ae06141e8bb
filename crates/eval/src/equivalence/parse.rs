//! Tokens to a tree: lists, relations, unions, ratios. Terms are in [`super::term`].

use super::bounds::{self, Read, Unreadable};
use super::number::Commas;
use super::syntax::{Joined, Node};
use super::token::{self, Kind, Token};

/// Reads a whole answer.
///
/// # Errors
/// If it is no expression of the grammar, or goes past a bound.
pub(crate) fn parse(text: &str, commas: Commas) -> Read<Node> {
    let tokens = token::tokens(text, commas)?;
    let mut parser = Parser { tokens, at: 0, depth: 0, bars: 0 };
    parser.skip_labels();
    let node = parser.list()?;
    // A full stop or comma that closes the sentence.
    while parser.eat(',') || parser.eat(';') {}
    match parser.at == parser.tokens.len() {
        true => Ok(node),
        false => Err(Unreadable::Syntax),
    }
}

pub(super) struct Parser {
    pub(super) tokens: Vec<Token>,
    pub(super) at: usize,
    pub(super) depth: usize,
    /// Absolute values that are open: a bar closes the innermost.
    pub(super) bars: usize,
}

impl Parser {
    /// Items between commas, semicolons, "and", "or".
    pub(super) fn list(&mut self) -> Read<Node> {
        self.enter()?;
        let mut groups: Vec<Vec<Node>> = vec![vec![self.relation()?]];
        let mut joined = Joined::Comma;
        let mut count = 1;
        loop {
            let before = self.at;
            let mut separator = None;
            let mut separators = 0;
            while let Some(next) = self.separator() {
                separator = separator.max(Some(next));
                separators += 1;
                self.at += 1;
            }
            let Some(separator) = separator else { break };
            // Two commas in a row are a gap; ", and" is one separator.
            if self.list_ends() || separators > 2 {
                self.at = before;
                break;
            }
            joined = joined.max(separator);
            count += 1;
            if count > bounds::ELEMENTS {
                return Err(Unreadable::Bound);
            }
            let item = self.relation()?;
            match groups.last_mut() {
                Some(group) if separator != Joined::Semicolon => group.push(item),
                _ => groups.push(vec![item]),
            }
        }
        self.depth -= 1;
        let within = joined.min(Joined::Or);
        let mut lists = groups.into_iter().map(|mut items| match items.len() {
            1 => items.remove(0),
            _ => Node::List { items, joined: within },
        });
        match lists.len() {
            1 => lists.next().ok_or(Unreadable::Syntax),
            _ => Ok(Node::List { items: lists.collect(), joined: Joined::Semicolon }),
        }
    }

    fn separator(&self) -> Option<Joined> {
        match self.sign()? {
            ',' => Some(Joined::Comma),
            '∧' => Some(Joined::And),
            '∨' => Some(Joined::Or),
            ';' => Some(Joined::Semicolon),
            _ => None,
        }
    }

    fn list_ends(&self) -> bool {
        match self.tokens.get(self.at).map(|token| &token.kind) {
            None | Some(Kind::End(_)) => true,
            Some(Kind::Sign(sign)) => {
                matches!(*sign, ')' | ']' | '}' | token::SET_CLOSE | '⟩' | '…')
            }
            _ => false,
        }
    }

    /// `a = b ≤ c`, `x ∈ S`, or one side alone.
    fn relation(&mut self) -> Read<Node> {
        let start = self.at;
        let mut sides = vec![self.set_expression()?];
        let mut operators = Vec::new();
        let name = self.name(start, self.at);
        while let Some(sign) = self.sign() {
            let operator = match sign {
                '=' | '<' | '>' | '≤' | '≥' | '≠' | '≈' | '≡' | '∈' | '∉' => sign,
                '→' if operators.is_empty() => '=',
                '&' if matches!(self.sign_after(1), Some('=' | '<' | '>' | '≤' | '≥')) => {
                    // Alignment of `&=`.
                    self.at += 1;
                    continue;
                }
                _ => break,
            };
            self.at += 1;
            self.eat('&');
            operators.push(operator);
            if sides.len() > 32 {
                return Err(Unreadable::Bound);
            }
            // `x =` at the end of a line, and the unknown of `x = ?`.
            sides.push(self.set_expression()?);
        }
        if operators.is_empty() {
            return sides.pop().ok_or(Unreadable::Syntax);
        }
        // An approximation adds nothing to an exact value before it.
        if let Some(first) = operators.iter().position(|op| *op == '≈') {
            let keep = if first == 0 && name.is_some() { 1 } else { first };
            operators.truncate(keep);
            sides.truncate(keep + 1);
            if let Some(operator) = operators.get_mut(first) {
                *operator = '=';
            }
        }
        if operators.is_empty() {
            return sides.into_iter().next().ok_or(Unreadable::Syntax);
        }
        let named = name.is_some();
        Ok(Node::Relation { sides, operators, named, name: name.unwrap_or_default() })
    }

    /// The tokens from `start` to `end` as a name, where they are nothing but one: `x`, `x_1`, `f(x)`, `|AB|`,
    /// `P(A ∩ B)`, `(p, q)`, `\text{Area}`.
    fn name(&self, start: usize, end: usize) -> Option<String> {
        let tokens = &self.tokens[start..end];
        let mut name = String::new();
        let mut depth = 0usize;
        let mut letters = false;
        for (at, token) in tokens.iter().enumerate() {
            match &token.kind {
                Kind::Word(word) | Kind::Text(word) => {
                    letters = true;
                    name.push_str(word);
                }
                Kind::Sign(sign @ ('(' | '[' | '{')) => {
                    depth += 1;
                    name.push(*sign);
                }
                Kind::Sign(sign @ (')' | ']' | '}')) => {
                    depth = depth.saturating_sub(1);
                    name.push(*sign);
                }
                Kind::Sign(sign @ ('_' | '\'' | '|')) => name.push(*sign),
                Kind::Number(literal) => {
                    // Digits only as indices, or in the argument of a function: f(2), never (1, 2) alone.
                    let index = at > 0 && tokens[at - 1].kind == Kind::Sign('_');
                    let braced = at > 1 && tokens[at - 2].kind == Kind::Sign('_');
                    let argument =
                        depth > 0 && letters && !matches!(tokens[0].kind, Kind::Sign('('));
                    if !(index || braced || argument) {
                        return None;
                    }
                    name.push_str(&literal.value.to_string());
                }
                Kind::Sign(sign) if depth > 0 => name.push(*sign),
                _ => return None,
            }
        }
        // A coefficient before brackets, as in `a(b + c)`, is no name; one argument list is.
        letters.then_some(name)
    }

    /// Unions, intersections and differences of sets.
    fn set_expression(&mut self) -> Read<Node> {
        let mut parts = vec![self.ratio()?];
        let mut operators = Vec::new();
        while let Some(sign @ ('∪' | '∩' | '∖')) = self.sign() {
            self.at += 1;
            operators.push(sign);
            parts.push(self.ratio()?);
            if parts.len() > bounds::ELEMENTS {
                return Err(Unreadable::Bound);
            }
        }
        match parts.len() {
            1 => parts.pop().ok_or(Unreadable::Syntax),
            _ => Ok(Node::Sets(parts, operators)),
        }
    }

    fn ratio(&mut self) -> Read<Node> {
        let mut parts = vec![self.sum()?];
        while self.sign() == Some(':') && parts.len() < 8 {
            self.at += 1;
            parts.push(self.sum()?);
        }
        match parts.len() {
            1 => parts.pop().ok_or(Unreadable::Syntax),
            _ => Ok(Node::Ratio(parts)),
        }
    }

    /// What is said before the answer proper: `\text{The answer is } 5`.
    fn skip_labels(&mut self) {
        while let [Token { kind: Kind::Text(text), .. }, after, ..] = &self.tokens[self.at..] {
            let lead = text.contains(' ') || text.ends_with(':');
            if !lead || !matches!(after.kind, Kind::Number(_) | Kind::Command(_) | Kind::Word(_)) {
                return;
            }
            self.at += 1;
        }
    }

    pub(super) fn sign(&self) -> Option<char> {
        self.sign_after(0)
    }

    pub(super) fn sign_after(&self, tokens: usize) -> Option<char> {
        match self.tokens.get(self.at + tokens)?.kind {
            Kind::Sign(sign) => Some(sign),
            _ => None,
        }
    }

    pub(super) fn eat(&mut self, sign: char) -> bool {
        let found = self.sign() == Some(sign);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, sign: char) -> Read<()> {
        match self.eat(sign) {
            true => Ok(()),
            false => Err(Unreadable::Syntax),
        }
    }

    /// One level deeper; the caller goes back up.
    pub(super) fn enter(&mut self) -> Read<()> {
        self.depth += 1;
        match self.depth > bounds::DEPTH {
            true => Err(Unreadable::Bound),
            false => Ok(()),
        }
    }
}
