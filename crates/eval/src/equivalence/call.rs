//! Tokens to a tree: functions, and commands with arguments.

use super::bounds::{self, Read, Unreadable};
use super::parse::Parser;
use super::syntax::{Factor, Node, Sign};
use super::term::integer;
use super::token::{self, Kind, Literal, Token};

impl Parser {
    /// A command's or function's arguments, behind its name.
    pub(super) fn call(&mut self, name: &'static str) -> Read<Node> {
        match name {
            "frac" => {
                let above = self.short_argument()?;
                let below = self.short_argument()?;
                Ok(Node::Product(vec![(Factor::Times, above), (Factor::Over, below)]))
            }
            "binom" if self.sign() == Some('(') => self.function(name),
            "binom" => {
                let above = self.short_argument()?;
                let below = self.short_argument()?;
                Ok(Node::Call("binom", vec![above, below]))
            }
            "sqrt" | "cbrt" => {
                let degree = match self.sign() {
                    Some('[') => {
                        self.at += 1;
                        let mut items = self.arguments(']')?;
                        Some(Box::new(items.pop().ok_or(Unreadable::Syntax)?))
                    }
                    _ if name == "cbrt" => Some(Box::new(integer(3))),
                    _ => None,
                };
                let radicand = Box::new(self.argument()?);
                Ok(Node::Root { radicand, degree })
            }
            "mathbb" => match self.argument()? {
                Node::Symbol(letter) => Ok(Node::Symbol(match &letter[..] {
                    "R" => "ℝ".into(),
                    "Z" => "ℤ".into(),
                    "N" => "ℕ".into(),
                    "Q" => "ℚ".into(),
                    "C" => "ℂ".into(),
                    _ => letter,
                })),
                _ => Err(Unreadable::Syntax),
            },
            "sum" | "prod" => self.series(name == "prod"),
            _ => self.function(name),
        }
    }

    /// `{…}` or one operand; of letters in a row only the first, as TeX reads `\frac ab`.
    fn argument(&mut self) -> Read<Node> {
        if let Some(Kind::Word(word)) = self.tokens.get(self.at).map(|token| &token.kind)
            && let Some(second) = word.char_indices().nth(1)
        {
            let (first, rest) = word.split_at(second.0);
            let parts = [Kind::Word(first.to_owned()), Kind::Word(rest.to_owned())];
            self.split(parts);
        }
        let fits = match self.tokens.get(self.at).map(|token| &token.kind) {
            Some(Kind::Number(_) | Kind::Word(_) | Kind::Command(_) | Kind::Text(_)) => true,
            Some(Kind::Sign(sign)) => matches!(sign, '{' | '(' | '|' | '∞' | '√'),
            _ => false,
        };
        if !fits {
            return Err(Unreadable::Syntax);
        }
        self.enter()?;
        let argument = self.operand()?;
        self.depth -= 1;
        Ok(argument)
    }

    /// Like [`Self::argument`], but of digits in a row only the first: `\frac12` is 1/2.
    fn short_argument(&mut self) -> Read<Node> {
        if let Some(Kind::Number(literal)) = self.tokens.get(self.at).map(|token| &token.kind)
            && let Some(digits) = &literal.digits
            && digits.len() > 1
        {
            let (first, rest) = digits.split_at(1);
            let parts = [Kind::Number(digit_run(first)), Kind::Number(digit_run(rest))];
            self.split(parts);
        }
        self.argument()
    }

    /// Replaces the token at this position by two.
    fn split(&mut self, parts: [Kind; 2]) {
        let spaced = self.tokens[self.at].spaced;
        let parts = parts.map(|kind| Token { kind, spaced });
        self.tokens.splice(self.at..=self.at, parts);
    }

    /// sin²x, log_2 8, max(1, 2).
    fn function(&mut self, name: &'static str) -> Read<Node> {
        self.enter()?;
        let mut base = None;
        let mut power = None;
        for _ in 0..2 {
            if self.eat('_') {
                base = Some(self.argument()?);
            } else if self.eat('^') {
                let minus = self.eat('-');
                let argument = self.argument()?;
                power = Some(match minus {
                    true => Node::Sum(vec![(Sign::Minus, argument)]),
                    false => argument,
                });
            }
        }
        let arguments = match self.sign() {
            Some('(') => {
                self.at += 1;
                self.arguments(')')?
            }
            Some('{') => {
                self.at += 1;
                self.arguments('}')?
            }
            _ => vec![self.bare_argument()?],
        };
        self.depth -= 1;
        if arguments.is_empty() {
            return Err(Unreadable::Syntax);
        }
        let inverse = matches!(&power, Some(Node::Sum(terms))
            if matches!(&terms[..], [(Sign::Minus, Node::Number(one))] if one.value == integer_value(1)));
        let name = match (name, inverse) {
            ("sin", true) => "arcsin",
            ("cos", true) => "arccos",
            ("tan", true) => "arctan",
            _ => name,
        };
        let mut arguments = arguments;
        arguments.extend(base);
        let call = Node::Call(name, arguments);
        Ok(match power {
            Some(power) if !inverse => Node::Power(Box::new(call), Box::new(power)),
            _ => call,
        })
    }

    /// The argument of `\sin 2x`: factors up to a sign or the next function.
    fn bare_argument(&mut self) -> Read<Node> {
        let minus = self.eat('-');
        let mut factors = Vec::new();
        loop {
            let goes_on = match self.tokens.get(self.at).map(|token| &token.kind) {
                Some(Kind::Number(_) | Kind::Word(_)) => true,
                Some(Kind::Command(name)) => {
                    factors.is_empty() || matches!(*name, "frac" | "sqrt" | "binom")
                }
                Some(Kind::Sign('|')) => factors.is_empty(),
                Some(Kind::Sign(sign)) => {
                    matches!(sign, '{' | '√' | '∞') || (*sign == '(' && factors.is_empty())
                }
                _ => false,
            };
            if !goes_on {
                break;
            }
            factors.push((Factor::Times, self.power()?));
            // `sin x/2` in plain text halves the sine, `\sin 2\pi/3` the angle: only a number or π reaches over.
            let angle = matches!(factors.last(), Some((_, Node::Symbol(s))) if s == "π");
            if angle && self.sign() == Some('/') {
                self.at += 1;
                factors.push((Factor::Over, self.power()?));
                break;
            }
        }
        let argument = match factors.len() {
            0 => return Err(Unreadable::Syntax),
            1 => factors.remove(0).1,
            _ => Node::Product(factors),
        };
        Ok(if minus { Node::Sum(vec![(Sign::Minus, argument)]) } else { argument })
    }

    /// `\sum_{k=1}^{n} …`.
    fn series(&mut self, product: bool) -> Read<Node> {
        self.expect('_')?;
        self.expect('{')?;
        let mut range = self.arguments('}')?;
        self.expect('^')?;
        let to = Box::new(self.argument()?);
        let body = Box::new(self.product()?);
        match range.pop() {
            Some(Node::Relation { mut sides, operators, .. }) if operators == ['='] => {
                match (sides.pop(), sides.pop()) {
                    (Some(from), Some(Node::Symbol(index))) => {
                        Ok(Node::Series { product, body, index, from: Box::new(from), to })
                    }
                    _ => Err(Unreadable::Syntax),
                }
            }
            _ => Err(Unreadable::Syntax),
        }
    }

    /// A matrix, or an environment that only aligns.
    pub(super) fn environment(&mut self) -> Read<Node> {
        let Some(Kind::Begin(name)) = self.tokens.get(self.at).map(|token| &token.kind) else {
            return Err(Unreadable::Syntax);
        };
        let name = name.clone();
        self.at += 1;
        self.enter()?;
        let mut rows = vec![Vec::new()];
        let mut cells = 0;
        loop {
            if matches!(self.tokens.get(self.at).map(|t| &t.kind), Some(Kind::End(end)) if *end == name)
            {
                self.at += 1;
                break;
            }
            if self.eat(token::ROW) {
                rows.push(Vec::new());
            } else if !self.eat('&') {
                cells += 1;
                if cells > bounds::ELEMENTS {
                    return Err(Unreadable::Bound);
                }
                let cell = self.list()?;
                rows.last_mut().ok_or(Unreadable::Syntax)?.push(cell);
            }
        }
        self.depth -= 1;
        rows.retain(|row| !row.is_empty());
        let width = rows.first().map_or(0, Vec::len);
        if width == 0 || rows.iter().any(|row| row.len() != width) {
            return Err(Unreadable::Syntax);
        }
        match &name[..] {
            "vmatrix" => Ok(Node::Call("det", vec![Node::Matrix(rows)])),
            "matrix" | "pmatrix" | "bmatrix" | "Bmatrix" | "Vmatrix" | "smallmatrix" | "array" => {
                Ok(Node::Matrix(rows))
            }
            // The last line of a derivation.
            "align" | "aligned" | "gather" | "gathered" | "equation" | "split" => {
                let mut row = rows.pop().ok_or(Unreadable::Syntax)?;
                row.pop().ok_or(Unreadable::Syntax)
            }
            _ => Err(Unreadable::Syntax),
        }
    }
}

fn digit_run(digits: &str) -> Literal {
    let value = num_bigint::BigInt::parse_bytes(digits.as_bytes(), 10).unwrap_or_default();
    Literal {
        value: num_rational::BigRational::from_integer(value),
        decimals: None,
        digits: Some(digits.to_owned()),
    }
}

fn integer_value(value: i64) -> num_rational::BigRational {
    num_rational::BigRational::from_integer(value.into())
}
