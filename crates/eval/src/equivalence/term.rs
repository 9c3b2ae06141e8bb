//! Tokens to a tree: sums, products, powers, functions, brackets.

use num_traits::ToPrimitive;

use super::bounds::{Read, Unreadable};
use super::parse::Parser;
use super::syntax::{Factor, Node, Sign};
use super::token::{self, Kind, Literal};
use super::unit::Unit;

/// Marks behind one operand: `!`, `%`, `°`, units.
const MARKS: usize = 6;

impl Parser {
    pub(super) fn sum(&mut self) -> Read<Node> {
        let mut terms = Vec::new();
        loop {
            let sign = match self.leading_sign() {
                Some(sign) => sign,
                None if terms.is_empty() => Sign::Plus,
                None => break,
            };
            terms.push((sign, self.product()?));
        }
        match (terms.len(), terms.first()) {
            (1, Some((Sign::Plus, _))) => {
                terms.pop().map(|(_, node)| node).ok_or(Unreadable::Syntax)
            }
            _ => Ok(Node::Sum(terms)),
        }
    }

    /// All signs in a row, as one.
    fn leading_sign(&mut self) -> Option<Sign> {
        let mut sign = None;
        while let Some(next @ ('+' | '-' | '±' | '∓')) = self.sign() {
            // The sign of `1,000+` or of `(x+)` is not followed by an operand, and fails there.
            self.at += 1;
            sign = Some(match (sign.unwrap_or(Sign::Plus), next) {
                (Sign::Plus, '+') | (Sign::Minus, '-') => Sign::Plus,
                (Sign::Plus, '-') | (Sign::Minus, '+') => Sign::Minus,
                (Sign::PlusMinus, '-')
                | (Sign::MinusPlus, '+')
                | (Sign::Plus, '∓')
                | (Sign::Minus, '±') => Sign::MinusPlus,
                _ => Sign::PlusMinus,
            });
        }
        sign
    }

    pub(super) fn product(&mut self) -> Read<Node> {
        let mut factors = vec![(Factor::Times, self.power()?)];
        loop {
            match self.sign() {
                Some('*') => {
                    self.at += 1;
                    factors.push((Factor::Times, self.signed_power()?));
                }
                Some('/') => {
                    self.at += 1;
                    factors.push((Factor::Over, self.signed_power()?));
                }
                _ if self.starts_operand() && !self.unit_follows(&factors) => {
                    if self.mixed_number(&mut factors)? {
                        continue;
                    }
                    factors.push((Factor::Times, self.power()?));
                }
                _ => break,
            }
        }
        let node = match factors.len() {
            1 => factors.pop().map(|(_, node)| node).ok_or(Unreadable::Syntax)?,
            _ => Node::Product(factors),
        };
        self.marks(node)
    }

    /// `2π cm`: a unit behind factors that make a value.
    fn unit_follows(&self, factors: &[(Factor, Node)]) -> bool {
        match self.tokens.get(self.at).map(|token| &token.kind) {
            Some(Kind::Word(word)) => {
                Unit::of_word(word).is_some() && factors.iter().any(|(_, factor)| is_value(factor))
            }
            // `5 min`: the function is named at the end of no answer.
            Some(Kind::Command("min")) => self.at + 1 == self.tokens.len(),
            _ => false,
        }
    }

    /// A factor behind `*` or `/` may carry a sign.
    fn signed_power(&mut self) -> Read<Node> {
        match self.leading_sign() {
            None | Some(Sign::Plus) => self.power(),
            Some(sign) => Ok(Node::Sum(vec![(sign, self.power()?)])),
        }
    }

    /// `1\frac{4}{5}`, `1 1/2` and `1½` are sums. Answers whether one was read.
    fn mixed_number(&mut self, factors: &mut [(Factor, Node)]) -> Read<bool> {
        let [.., (Factor::Times, whole @ Node::Number(_))] = factors else { return Ok(false) };
        let Node::Number(Literal { digits: Some(_), value, .. }) = whole else { return Ok(false) };
        let value = value.clone();
        let start = self.at;
        let part = match &self.tokens[self.at].kind {
            Kind::Command("frac") => {
                let fraction = self.power()?;
                match &fraction {
                    Node::Product(parts) if is_proper(parts) => Some(fraction),
                    _ => None,
                }
            }
            Kind::Number(literal) => {
                let numerator = literal.clone();
                if numerator.digits.is_none()
                    && numerator.decimals.is_none()
                    && !numerator.value.is_integer()
                {
                    // A single character such as ½.
                    self.at += 1;
                    Some(Node::Number(numerator))
                } else {
                    let slash = self.sign_after(1) == Some('/');
                    match self.tokens.get(self.at + 2).map(|token| token.kind.clone()) {
                        Some(Kind::Number(denominator)) if slash => {
                            self.at += 3;
                            let parts = vec![
                                (Factor::Times, Node::Number(numerator)),
                                (Factor::Over, Node::Number(denominator)),
                            ];
                            is_proper(&parts).then_some(Node::Product(parts))
                        }
                        _ => None,
                    }
                }
            }
            _ => None,
        };
        let Some(part) = part else {
            self.at = start;
            // Two numbers side by side are no product.
            return match self.tokens[self.at].kind {
                Kind::Number(_) => Err(Unreadable::Syntax),
                _ => Ok(false),
            };
        };
        let literal = Literal { value, decimals: None, digits: None };
        *whole = Node::Sum(vec![(Sign::Plus, Node::Number(literal)), (Sign::Plus, part)]);
        Ok(true)
    }

    fn starts_operand(&self) -> bool {
        match self.tokens.get(self.at).map(|token| &token.kind) {
            Some(Kind::Number(_) | Kind::Word(_) | Kind::Command(_) | Kind::Begin(_)) => true,
            Some(Kind::Sign('|')) => self.bars == 0,
            Some(Kind::Sign(sign)) => matches!(sign, '(' | '{' | '√' | '∛' | '∜' | '⌊' | '⌈' | '∞'),
            _ => false,
        }
    }

    pub(super) fn power(&mut self) -> Read<Node> {
        self.enter()?;
        let base = self.operand()?;
        let mut base = self.marks(base)?;
        if self.sign() == Some('^') {
            self.at += 1;
            if self.degree_sign() {
                base = self.marks(Node::Degrees(Box::new(base)))?;
            } else if let Some(primes) = self.primes() {
                base = Node::Apply(format!("prime{primes}"), vec![base]);
            } else {
                let exponent = self.exponent()?;
                base = match base {
                    Node::Quantity(value, unit) => {
                        let power = match &exponent {
                            Node::Number(literal) => literal.value.to_i32(),
                            _ => None,
                        };
                        Node::Quantity(value, unit.to_the(power.ok_or(Unreadable::Syntax)?))
                    }
                    base => Node::Power(Box::new(base), Box::new(exponent)),
                };
                base = self.marks(base)?;
            }
        }
        self.depth -= 1;
        Ok(base)
    }

    /// `°`, also in braces, after `^`.
    fn degree_sign(&mut self) -> bool {
        if self.eat('°') {
            return true;
        }
        let braced = self.sign() == Some('{')
            && self.sign_after(1) == Some('°')
            && self.sign_after(2) == Some('}');
        self.at += if braced { 3 } else { 0 };
        braced
    }

    fn primes(&mut self) -> Option<usize> {
        let start = self.at;
        let braced = self.eat('{');
        let mut count = 0;
        while self.eat('\'') {
            count += 1;
        }
        if count == 0 || (braced && !self.eat('}')) {
            self.at = start;
            return None;
        }
        Some(count)
    }

    /// What stands behind `^`: a group, or a signed operand with powers of its own.
    fn exponent(&mut self) -> Read<Node> {
        match self.leading_sign() {
            None | Some(Sign::Plus) => self.power(),
            Some(sign) => Ok(Node::Sum(vec![(sign, self.power()?)])),
        }
    }

    /// Marks behind an operand.
    fn marks(&mut self, mut node: Node) -> Read<Node> {
        for _ in 0..MARKS {
            let next = self.tokens.get(self.at).map(|token| (&token.kind, token.spaced));
            node = match next {
                Some((Kind::Sign('!'), _)) => Node::Factorial(Box::new(node)),
                Some((Kind::Sign('%'), _)) => Node::Percent(Box::new(node)),
                Some((Kind::Sign('°'), _)) => {
                    self.at += 1;
                    // The scale of a temperature.
                    if let Some(Kind::Word(scale)) = self.tokens.get(self.at).map(|t| &t.kind)
                        && matches!(&scale[..], "C" | "F")
                    {
                        let unit = Unit::Label(format!("°{scale}"));
                        node = Node::Quantity(Box::new(node), unit);
                    } else {
                        node = Node::Degrees(Box::new(node));
                        continue;
                    }
                    node
                }
                Some((Kind::Sign(sign @ ('$' | '€' | '£' | '¥' | '¤')), _)) => {
                    Node::Quantity(Box::new(node), Unit::currency(*sign))
                }
                Some((Kind::Text(text), _)) => {
                    let unit = Unit::read(text);
                    Node::Quantity(Box::new(node), unit)
                }
                Some((Kind::Command("min"), _)) if self.at + 1 == self.tokens.len() => {
                    Node::Quantity(Box::new(node), Unit::read("min"))
                }
                Some((Kind::Word(word), spaced)) => {
                    // `5 cm`, `5cm`; `5 m` only where the letter stands apart at the end.
                    let alone = spaced
                        && word.len() == 1
                        && self.at + 1 == self.tokens.len()
                        && matches!(node, Node::Number(_));
                    let unit = if alone && matches!(&word[..], "m" | "g" | "s" | "h" | "L") {
                        Some(Unit::read(word))
                    } else {
                        Unit::of_word(word)
                    };
                    match unit {
                        Some(unit) if is_value(&node) => self.compound_unit(node, unit),
                        _ => return Ok(node),
                    }
                }
                _ => return Ok(node),
            };
            self.at += 1;
        }
        Ok(node)
    }

    /// `km/h`, `miles per hour`. Leaves the position at the unit's last word.
    fn compound_unit(&mut self, node: Node, mut unit: Unit) -> Node {
        let per = match self.tokens.get(self.at + 1).map(|token| &token.kind) {
            Some(Kind::Sign('/')) => true,
            Some(Kind::Word(word)) => word == "per",
            _ => false,
        };
        if per
            && let Some(Kind::Word(word)) = self.tokens.get(self.at + 2).map(|token| &token.kind)
            && let below @ Unit::Measure { .. } = Unit::read(word)
        {
            unit = unit.times(&below, -1);
            self.at += 2;
        }
        Node::Quantity(Box::new(node), unit)
    }

    pub(super) fn operand(&mut self) -> Read<Node> {
        let Some(token) = self.tokens.get(self.at) else { return Err(Unreadable::Syntax) };
        match &token.kind {
            Kind::Number(literal) => {
                let literal = literal.clone();
                self.at += 1;
                self.based(literal)
            }
            Kind::Word(word) => {
                let word = word.clone();
                self.at += 1;
                self.letters(&word)
            }
            Kind::Text(text) => {
                let text = text.clone();
                self.at += 1;
                Ok(Node::Text(text))
            }
            Kind::Command(name) => {
                let name = *name;
                self.at += 1;
                self.call(name)
            }
            Kind::Begin(_) => self.environment(),
            Kind::End(_) => Err(Unreadable::Syntax),
            Kind::Sign(sign) => {
                let sign = *sign;
                self.at += 1;
                self.bracketed(sign)
            }
        }
    }

    /// `2516_8`, `4210_{5}`.
    fn based(&mut self, literal: Literal) -> Read<Node> {
        if self.sign() != Some('_') {
            return Ok(Node::Number(literal));
        }
        let Some(digits) = literal.digits else { return Err(Unreadable::Syntax) };
        self.at += 1;
        let base = match self.operand()? {
            Node::Number(base) => base.value.to_u32(),
            Node::Text(name) | Node::Symbol(name) => match &name.to_lowercase()[..] {
                "two" => Some(2),
                "eight" => Some(8),
                "ten" => Some(10),
                "sixteen" => Some(16),
                _ => None,
            },
            _ => None,
        };
        let base = base.filter(|base| (2..=36).contains(base)).ok_or(Unreadable::Syntax)?;
        match digits.chars().all(|digit| digit.is_digit(base)) {
            true => Ok(Node::Based(digits, base)),
            false => Err(Unreadable::Syntax),
        }
    }

    /// Letters are variables of their own, one by one; a subscript belongs to the last.
    fn letters(&mut self, word: &str) -> Read<Node> {
        let mut letters: Vec<String> = word.chars().map(String::from).collect();
        // Words are prose, not products.
        if letters.len() > 5 {
            return Err(Unreadable::Syntax);
        }
        if word == "Γ" && self.eat('(') {
            return Ok(Node::Call("gamma", self.arguments(')')?));
        }
        if let Some(last) = letters.last_mut() {
            if self.sign() == Some('_') {
                self.at += 1;
                last.push('_');
                last.push_str(&self.subscript()?);
            }
            while self.sign() == Some('\'') && last.len() < 64 {
                self.at += 1;
                last.push('\'');
            }
            let function = matches!(last.trim_end_matches('\''), "f" | "g" | "h" | "F" | "G" | "H");
            if letters.len() == 1 && function && self.sign() == Some('(') {
                self.at += 1;
                let arguments = self.arguments(')')?;
                return Ok(Node::Apply(letters.remove(0), arguments));
            }
        }
        let mut factors = letters.into_iter().map(|letter| (Factor::Times, Node::Symbol(letter)));
        match factors.len() {
            1 => factors.next().map(|(_, node)| node).ok_or(Unreadable::Syntax),
            _ => Ok(Node::Product(factors.collect())),
        }
    }

    fn subscript(&mut self) -> Read<String> {
        let mut name = String::new();
        let braced = self.eat('{');
        while let Some(token) = self.tokens.get(self.at) {
            match &token.kind {
                Kind::Sign('}') if braced => break,
                Kind::Word(word) | Kind::Text(word) => name.push_str(word),
                Kind::Number(literal) => name.push_str(&literal.value.to_string()),
                Kind::Sign(sign @ (',' | '+' | '-' | '\'' | '*')) if braced => name.push(*sign),
                _ => return Err(Unreadable::Syntax),
            }
            self.at += 1;
            if !braced {
                break;
            }
        }
        if braced {
            self.expect('}')?;
        }
        Ok(name)
    }

    /// Items up to the closing bracket.
    pub(super) fn arguments(&mut self, close: char) -> Read<Vec<Node>> {
        if self.eat(close) {
            return Ok(Vec::new());
        }
        let bars = std::mem::take(&mut self.bars);
        let list = self.list()?;
        self.bars = bars;
        self.expect(close)?;
        Ok(match list {
            Node::List { items, .. } => items,
            node => vec![node],
        })
    }

    fn bracketed(&mut self, open: char) -> Read<Node> {
        match open {
            '{' => {
                let bars = std::mem::take(&mut self.bars);
                if self.eat('}') {
                    return Err(Unreadable::Syntax);
                }
                let mut inside = self.list()?;
                self.bars = bars;
                if self.eat(token::OVER) {
                    let below = self.list()?;
                    inside = Node::Product(vec![(Factor::Times, inside), (Factor::Over, below)]);
                } else if self.eat(token::CHOOSE) {
                    let below = self.list()?;
                    inside = Node::Call("binom", vec![inside, below]);
                }
                self.expect('}')?;
                Ok(inside)
            }
            '(' | '[' | ']' | '⟨' => self.bracket(open),
            token::SET_OPEN => self.set(),
            '|' => {
                let bars = self.bars;
                self.bars = bars + 1;
                let inside = self.list()?;
                self.bars = bars;
                self.expect('|')?;
                Ok(Node::Call("abs", vec![inside]))
            }
            '‖' => {
                let inside = self.list()?;
                self.expect('‖')?;
                Ok(Node::Call("abs", vec![inside]))
            }
            '⌊' | '⌈' => {
                let (close, name) = if open == '⌊' { ('⌋', "floor") } else { ('⌉', "ceil") };
                let inside = self.list()?;
                self.expect(close)?;
                Ok(Node::Call(name, vec![inside]))
            }
            '√' | '∛' | '∜' => {
                let radicand = Box::new(self.power()?);
                let degree = match open {
                    '∛' => Some(3),
                    '∜' => Some(4),
                    _ => None,
                };
                let degree = degree.map(|degree| Box::new(integer(degree)));
                Ok(Node::Root { radicand, degree })
            }
            '$' | '€' | '£' | '¥' | '¤' => {
                let value = self.product()?;
                Ok(match value {
                    Node::Quantity(..) => value,
                    value => Node::Quantity(Box::new(value), Unit::currency(open)),
                })
            }
            '∞' => Ok(Node::Symbol("∞".into())),
            '∅' => Ok(Node::EmptySet),
            _ => Err(Unreadable::Syntax),
        }
    }

    fn bracket(&mut self, open: char) -> Read<Node> {
        let bars = std::mem::take(&mut self.bars);
        let list = self.list()?;
        self.bars = bars;
        let close = self.sign().ok_or(Unreadable::Syntax)?;
        let fits = match open {
            '(' | '[' => matches!(close, ')' | ']' | '['),
            ']' => matches!(close, '[' | ']' | ')'),
            _ => close == '⟩',
        };
        if !fits {
            return Err(Unreadable::Syntax);
        }
        self.at += 1;
        let items = match list {
            Node::List { items, .. } => items,
            node => {
                return match (open, close) {
                    ('(', ')') | ('[', ']') => Ok(node),
                    _ => Err(Unreadable::Syntax),
                };
            }
        };
        Ok(Node::Bracket { open, close, items })
    }

    /// `{1, 2}`, `{x | x > 2}`, `{}`.
    fn set(&mut self) -> Read<Node> {
        if self.eat(token::SET_CLOSE) {
            return Ok(Node::Set(Vec::new()));
        }
        // A bar in a set stands between its element and the condition, unless it opens an absolute value.
        let bars = std::mem::replace(&mut self.bars, 1);
        let list = self.list()?;
        self.bars = bars;
        if matches!(self.sign(), Some('|' | ':')) {
            self.at += 1;
            let condition = self.list()?;
            self.expect(token::SET_CLOSE)?;
            return Ok(Node::Builder(Box::new(condition)));
        }
        self.eat('…');
        self.expect(token::SET_CLOSE)?;
        Ok(match list {
            Node::List { items, .. } => Node::Set(items),
            // `{x : x > 2}` reads as a ratio.
            Node::Relation { mut sides, operators, .. } if matches!(sides[0], Node::Ratio(_)) => {
                if let Node::Ratio(parts) = &mut sides[0] {
                    let last = parts.pop().ok_or(Unreadable::Syntax)?;
                    sides[0] = last;
                }
                let named = true;
                Node::Builder(Box::new(Node::Relation {
                    sides,
                    operators,
                    named,
                    name: String::new(),
                }))
            }
            node => Node::Set(vec![node]),
        })
    }
}

fn is_proper(parts: &[(Factor, Node)]) -> bool {
    match parts {
        [(Factor::Times, Node::Number(above)), (Factor::Over, Node::Number(below))] => {
            above.digits.is_some() && below.digits.is_some() && above.value < below.value
        }
        _ => false,
    }
}

/// Whether a unit may follow.
fn is_value(node: &Node) -> bool {
    match node {
        Node::Number(_) | Node::Root { .. } | Node::Power(..) => true,
        Node::Product(factors) => factors.iter().any(|(_, factor)| is_value(factor)),
        Node::Sum(terms) => terms.iter().all(|(_, term)| is_value(term)),
        _ => false,
    }
}

pub(super) fn integer(value: i64) -> Node {
    let value = num_rational::BigRational::from_integer(value.into());
    Node::Number(Literal { digits: Some(value.to_string()), value, decimals: None })
}
