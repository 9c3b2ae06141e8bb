//! Whether two values say the same.

use num_traits::Signed;

use super::algebra::{Atom, Atoms, Fraction};
use super::bounds::Read;
use super::region::{End, Region};
use super::structure::region_of;
use super::value::{Inequality, Value};

/// One comparison, and what it had to overlook.
pub(crate) struct Comparison<'a> {
    pub(crate) atoms: &'a mut Atoms,
    /// Floating point decided.
    pub(crate) numeric: bool,
    /// A decimal was taken for the value that it rounds.
    pub(crate) rounded: bool,
    /// 50 % was taken for 50, or for 1/2 where no sign stood.
    pub(crate) percent: bool,
    /// A unit stood on one side only.
    pub(crate) unit: bool,
    /// Degrees were taken for a plain number.
    pub(crate) degrees: bool,
}

impl<'a> Comparison<'a> {
    pub(crate) fn new(atoms: &'a mut Atoms) -> Self {
        let (numeric, rounded, percent, unit, degrees) = (false, false, false, false, false);
        Self { atoms, numeric, rounded, percent, unit, degrees }
    }

    /// What to tell of a comparison that found both equal.
    pub(crate) fn how(&self) -> String {
        let mut how = match (self.rounded, self.numeric) {
            (true, _) => "rounded decimal",
            (_, true) => "equal in floating point",
            _ => "exact",
        }
        .to_owned();
        for (overlooked, what) in [
            (self.percent, ", percent sign on one side"),
            (self.unit, ", unit on one side"),
            (self.degrees, ", degrees on one side"),
        ] {
            if overlooked {
                how.push_str(what);
            }
        }
        how
    }

    /// # Errors
    /// If the comparison goes past a bound.
    pub(crate) fn equal(&mut self, gold: &Value, pred: &Value) -> Read<bool> {
        self.atoms.spend(1)?;
        match (gold, pred) {
            (Value::Assignment { name: a, value: x }, Value::Assignment { name: b, value: y }) => {
                if a == b || !(is_variable(a) && is_variable(b)) {
                    return self.equal(x, y);
                }
                self.same_equation(gold, pred)
            }
            (Value::Equation { .. }, Value::Equation { .. } | Value::Assignment { .. }) => {
                self.same_equation(gold, pred)
            }
            (Value::Assignment { value, .. }, Value::Equation { right, .. }) => {
                Ok(self.same_equation(gold, pred)? || self.equal(value, right)?)
            }
            (Value::Assignment { value, .. }, other) => self.equal(value, other),
            (other, Value::Assignment { value, .. }) => self.equal(other, value),
            // `m + n = 45` answers 45; but 1 does not answer `2x + z = 1`, and `x - 5 = 0` not 0.
            (_, Value::Equation { right, .. }) => {
                let zero = matches!(&**right, Value::Scalar(scalar) if scalar.value.is_zero());
                Ok(!zero && self.equal(gold, right)?)
            }
            (Value::Scalar(a), Value::Scalar(b)) => self.same_scalar(a, b),
            (Value::Text(a), Value::Text(b)) => Ok(super::text::same_words(a, b)),
            (Value::Text(text), Value::Scalar(scalar))
            | (Value::Scalar(scalar), Value::Text(text)) => {
                Ok(letter(&scalar.value, self.atoms).is_some_and(|letter| letter == text.trim()))
            }
            (Value::Record(a), Value::Record(b)) => self.same_record(a, b),
            (Value::Record(record), Value::List(items))
            | (Value::List(items), Value::Record(record)) => {
                let values: Vec<_> = record.iter().map(|(_, value)| value.clone()).collect();
                self.pairwise(&values, items)
            }
            (Value::Record(record), Value::Bracket { items, .. })
            | (Value::Bracket { items, .. }, Value::Record(record)) => {
                let values: Vec<_> = record.iter().map(|(_, value)| value.clone()).collect();
                self.pairwise(&values, items)
            }
            (Value::Record(record), Value::Set(items))
            | (Value::Set(items), Value::Record(record)) => {
                let values: Vec<_> = record.iter().map(|(_, value)| value.clone()).collect();
                self.same_set(&values, items)
            }
            (
                Value::Bracket { open, close, items },
                Value::Bracket { open: other_open, close: other_close, items: others },
            ) => {
                let interval = items.len() == 2;
                let alike = bracket(*open, *close) == bracket(*other_open, *other_close);
                Ok((alike || !interval) && self.pairwise(items, others)?)
            }
            (Value::Bracket { items, .. }, Value::List(others))
            | (Value::List(others), Value::Bracket { items, .. }) => self.pairwise(items, others),
            (Value::Bracket { items, .. }, Value::Matrix(rows))
            | (Value::Matrix(rows), Value::Bracket { items, .. }) => {
                let cells: Vec<_> = rows.iter().flatten().cloned().map(Value::plain).collect();
                let vector = rows.len() == 1 || rows[0].len() == 1;
                Ok(vector && self.pairwise(items, &cells)?)
            }
            (Value::List(a), Value::List(b)) => Ok(a.len() == b.len() && self.same_set(a, b)?),
            (Value::Set(a) | Value::List(a), Value::Set(b) | Value::List(b)) => self.same_set(a, b),
            (Value::Matrix(a), Value::Matrix(b)) => {
                if a.len() != b.len() || a[0].len() != b[0].len() {
                    return Ok(false);
                }
                let cells = |rows: &[Vec<Fraction>]| -> Vec<Value> {
                    rows.iter().flatten().cloned().map(Value::plain).collect()
                };
                self.pairwise(&cells(a), &cells(b))
            }
            (Value::Region { variable: Some(a), .. }, Value::Region { variable: Some(b), .. })
                if a != b =>
            {
                Ok(false)
            }
            (Value::Region { region, .. }, other) | (other, Value::Region { region, .. }) => {
                match region_of(other, self.atoms)? {
                    Some(other) => self.same_region(region, &other),
                    None => Ok(false),
                }
            }
            (Value::Inequalities(a), Value::Inequalities(b)) => self.same_inequalities(a, b),
            (Value::Ratio(a), Value::Ratio(b)) => self.same_ratio(a, b),
            (Value::Ratio(parts), Value::Scalar(scalar))
            | (Value::Scalar(scalar), Value::Ratio(parts)) => match &parts[..] {
                [a, b] if !b.is_zero() => {
                    let quotient = a.over(b, self.atoms)?;
                    self.same_number(&quotient, &scalar.value, [None, scalar.decimals])
                }
                _ => Ok(false),
            },
            (Value::Named(a), Value::Named(b)) => Ok(a == b),
            // `{5}` for 5.
            (
                Value::Set(items) | Value::List(items),
                other @ (Value::Scalar(_) | Value::Bracket { .. }),
            )
            | (
                other @ (Value::Scalar(_) | Value::Bracket { .. }),
                Value::Set(items) | Value::List(items),
            ) => match &items[..] {
                [only] => self.equal(only, other),
                _ => Ok(false),
            },
            _ => Ok(false),
        }
    }

    fn pairwise(&mut self, a: &[Value], b: &[Value]) -> Read<bool> {
        if a.len() != b.len() {
            return Ok(false);
        }
        for (a, b) in a.iter().zip(b) {
            if !self.equal(a, b)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Every element of each side is one of the other.
    fn same_set(&mut self, a: &[Value], b: &[Value]) -> Read<bool> {
        let mut met = vec![false; b.len()];
        for element in a {
            let mut found = false;
            for (other, met) in b.iter().zip(&mut met) {
                // A list may hold an element twice: each is wanted, so an equal one that is free comes first.
                if !(found && *met) && self.equal(element, other)? {
                    *met = true;
                    found = true;
                }
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(met.into_iter().all(|met| met))
    }

    /// By name where both use the same names, in order elsewhere.
    fn same_record(&mut self, a: &[(String, Value)], b: &[(String, Value)]) -> Read<bool> {
        if a.len() != b.len() {
            return Ok(false);
        }
        for (name, value) in a {
            let Some((_, other)) = b.iter().find(|(other, _)| other == name) else {
                return Ok(false);
            };
            if !self.equal(value, other)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn same_region(&mut self, a: &Region, b: &Region) -> Read<bool> {
        if a.0.len() != b.0.len() {
            return Ok(false);
        }
        for (a, b) in a.0.iter().zip(&b.0) {
            for (a, b) in [(&a.from, &b.from), (&a.to, &b.to)] {
                if !self.same_end(a, b)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn same_end(&mut self, a: &End, b: &End) -> Read<bool> {
        match (&a.at, &b.at) {
            (None, None) => Ok(true),
            (Some(x), Some(y)) => Ok(a.closed == b.closed && self.same_number(x, y, [None, None])?),
            _ => Ok(false),
        }
    }

    /// Equations that differ by a constant factor.
    fn same_equation(&mut self, a: &Value, b: &Value) -> Read<bool> {
        let (Some(a), Some(b)) = (self.difference(a)?, self.difference(b)?) else {
            return Ok(false);
        };
        let (a, b) = (a.monic(self.atoms)?, b.monic(self.atoms)?);
        Ok(a == b)
    }

    /// Left minus right of an equation or of an assignment to a variable.
    fn difference(&mut self, value: &Value) -> Read<Option<super::algebra::Polynomial>> {
        match value {
            Value::Equation { difference, .. } => Ok(Some(difference.clone())),
            Value::Assignment { name, value } if is_variable(name) => match &**value {
                Value::Scalar(scalar) => {
                    let left = Fraction::atom(Atom::Variable(name.clone()), self.atoms);
                    Ok(Some(left.difference(&scalar.value, self.atoms)?))
                }
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    fn same_inequalities(&mut self, a: &[Inequality], b: &[Inequality]) -> Read<bool> {
        if a.len() != b.len() {
            return Ok(false);
        }
        for one in a {
            let mut found = false;
            for other in b {
                if one.relation != other.relation || found {
                    continue;
                }
                let (x, y) =
                    (one.difference.monic(self.atoms)?, other.difference.monic(self.atoms)?);
                let leading = |p: &super::algebra::Polynomial| {
                    p.terms.last_key_value().is_some_and(|(_, c)| c.is_negative())
                };
                let turned = leading(&one.difference) != leading(&other.difference);
                found = x == y && (!turned || matches!(one.relation, '=' | '≠'));
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn same_ratio(&mut self, a: &[Fraction], b: &[Fraction]) -> Read<bool> {
        if a.len() != b.len() {
            return Ok(false);
        }
        for (x, y) in a.iter().zip(b).skip(1) {
            let left = a[0].times(y, self.atoms)?;
            let right = b[0].times(x, self.atoms)?;
            if !self.same_number(&left, &right, [None, None])? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Brackets of one meaning in one notation.
fn bracket(open: char, close: char) -> (bool, bool) {
    (open == '[', close == ']')
}

fn is_variable(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(char::is_alphabetic)
        && letters.next().is_none_or(|next| matches!(next, '_' | '\''))
}

/// The letter of an expression that is nothing else.
fn letter(value: &Fraction, atoms: &Atoms) -> Option<String> {
    if let Some(name) = value.as_variable(atoms) {
        return Some(name.to_owned());
    }
    let (monomial, coefficient) = value.numerator.as_term()?;
    let [(atom, exponent)] = &monomial.0[..] else { return None };
    use num_traits::One;
    if !(coefficient.is_one() && exponent.is_one()) {
        return None;
    }
    match atoms.get(*atom) {
        Atom::Euler => Some("e".into()),
        Atom::Imaginary => Some("i".into()),
        _ => None,
    }
}
