//! Trees to values: lists, sets, relations, regions.

use num_traits::{One, Signed};

use super::algebra::{Atom, Atoms, Exponent, Fraction, Polynomial};
use super::bounds::{self, Read, Unreadable};
use super::evaluate::Evaluator;
use super::region::{End, Interval, Region};
use super::syntax::{Joined, Node};
use super::value::{Inequality, Value};

impl Evaluator<'_> {
    /// What an answer says.
    ///
    /// # Errors
    /// If it has no value, or one past the bounds.
    pub(crate) fn value(&mut self, node: &Node) -> Read<Value> {
        let several = matches!(node, Node::List { .. } | Node::Set(_));
        if !several && !self.expanding && node.has_plus_minus() {
            self.expanding = true;
            self.minus = false;
            let plus = self.one_value(node);
            self.minus = true;
            let minus = self.one_value(node);
            self.minus = false;
            self.expanding = false;
            return Ok(Value::List(vec![plus?, minus?]));
        }
        self.one_value(node)
    }

    fn one_value(&mut self, node: &Node) -> Read<Value> {
        match node {
            Node::Text(text) => Ok(Value::Text(text.clone())),
            Node::Symbol(name) if name == "ℝ" => {
                Ok(Value::Region { region: Region::reals(), variable: None })
            }
            Node::Symbol(name) if matches!(&name[..], "ℤ" | "ℕ" | "ℚ" | "ℂ") => {
                Ok(Value::Named(name.clone()))
            }
            Node::List { items, joined } => self.list(items, *joined),
            Node::Bracket { open, close, items } => {
                let items = self.values(items)?;
                Ok(Value::Bracket { open: *open, close: *close, items })
            }
            Node::Set(items) => Ok(Value::Set(self.values(items)?)),
            Node::EmptySet => Ok(Value::Set(Vec::new())),
            Node::Builder(condition) => match self.value(condition)? {
                Value::Region { region, .. } => Ok(Value::Region { region, variable: None }),
                other => Ok(other),
            },
            Node::Sets(parts, operators) => self.sets(parts, operators),
            Node::Relation { sides, operators, named, name } => {
                self.relation(sides, operators, *named, name)
            }
            Node::Ratio(parts) => {
                Ok(Value::Ratio(parts.iter().map(|part| self.scalar(part)).collect::<Read<_>>()?))
            }
            _ => self.arithmetic(node),
        }
    }

    /// Items, with both values of those that hold `±`.
    fn values(&mut self, items: &[Node]) -> Read<Vec<Value>> {
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            match self.value(item)? {
                Value::List(both) if item.has_plus_minus() => values.extend(both),
                value => values.push(value),
            }
        }
        match values.len() > bounds::ELEMENTS {
            true => Err(Unreadable::Bound),
            false => Ok(values),
        }
    }

    fn list(&mut self, items: &[Node], joined: Joined) -> Read<Value> {
        let values = self.values(items)?;
        if values.iter().any(|value| matches!(value, Value::Region { .. } | Value::Inequalities(_)))
        {
            return self.conditions(values, joined);
        }
        let names: Vec<&str> = values
            .iter()
            .filter_map(|value| match value {
                Value::Assignment { name, .. } => Some(&name[..]),
                _ => None,
            })
            .collect();
        let distinct = names.iter().enumerate().all(|(at, name)| !names[..at].contains(name));
        if names.len() == values.len() && distinct && joined != Joined::Or {
            let records = values.into_iter().filter_map(|value| match value {
                Value::Assignment { name, value } => Some((name, *value)),
                _ => None,
            });
            return Ok(Value::Record(records.collect()));
        }
        let unnamed = |value| match value {
            Value::Assignment { value, .. } => *value,
            value => value,
        };
        Ok(Value::List(values.into_iter().map(unnamed).collect()))
    }

    /// `x < -2 or x > 3`; `x > 1 and x < 3`.
    fn conditions(&mut self, values: Vec<Value>, joined: Joined) -> Read<Value> {
        let mut regions = Vec::new();
        let mut name: Option<String> = None;
        for value in &values {
            let (region, variable) = match value {
                Value::Region { region, variable } => (region.clone(), variable.clone()),
                Value::Assignment { name, value } => match &**value {
                    Value::Scalar(scalar) => {
                        (Region(vec![Interval::point(scalar.value.clone())]), Some(name.clone()))
                    }
                    _ => return Ok(Value::List(values)),
                },
                _ => return Ok(Value::List(values)),
            };
            if variable.is_some() {
                if name.is_some() && name != variable {
                    return Ok(Value::List(values));
                }
                name = variable;
            }
            regions.push(region);
        }
        let atoms = &mut *self.atoms;
        let mut union = Region::default();
        let mut common = Region::reals();
        for region in &regions {
            union = union.union(region, atoms)?;
            common = common.intersection(region, atoms)?;
        }
        // "and" between conditions that exclude each other lists the parts of the solution.
        let region = if joined == Joined::Or || common.0.is_empty() { union } else { common };
        Ok(Value::Region { region, variable: name })
    }

    fn sets(&mut self, parts: &[Node], operators: &[char]) -> Read<Value> {
        let values = parts.iter().map(|part| self.value(part)).collect::<Read<Vec<_>>>()?;
        // Unions of finite sets, also of points and words.
        if operators.iter().all(|operator| *operator == '∪')
            && values.iter().all(|value| matches!(value, Value::Set(_)))
        {
            let items = values.into_iter().flat_map(|value| match value {
                Value::Set(items) => items,
                _ => Vec::new(),
            });
            return Ok(Value::Set(items.collect()));
        }
        let mut variable = None;
        let mut result: Option<Region> = None;
        for (at, value) in values.iter().enumerate() {
            if let Value::Region { variable: Some(name), .. } = value {
                variable = Some(name.clone());
            }
            let region = region_of(value, self.atoms)?.ok_or(Unreadable::Syntax)?;
            result = Some(match (result, at.checked_sub(1).map(|at| operators[at])) {
                (Some(left), Some('∪')) => left.union(&region, self.atoms)?,
                (Some(left), Some('∩')) => left.intersection(&region, self.atoms)?,
                (Some(left), Some(_)) => {
                    let rest = region.complement(self.atoms)?;
                    left.intersection(&rest, self.atoms)?
                }
                _ => region,
            });
        }
        Ok(Value::Region { region: result.ok_or(Unreadable::Syntax)?, variable })
    }

    fn relation(
        &mut self,
        sides: &[Node],
        operators: &[char],
        named: bool,
        name: &str,
    ) -> Read<Value> {
        let (Some(first), Some(last)) = (sides.first(), sides.last()) else {
            return Err(Unreadable::Syntax);
        };
        if operators.iter().all(|operator| *operator == '=') {
            return self.equation(first, last, named, name, sides.len());
        }
        if let ['∈' | '∉'] = operators {
            let set = self.value(last)?;
            return match (region_of(&set, self.atoms)?, operators) {
                (Some(region), ['∈'])
                    if matches!(set, Value::Region { .. } | Value::Bracket { .. }) =>
                {
                    Ok(Value::Region { region, variable: Some(name.to_owned()) })
                }
                (_, ['∈']) => {
                    Ok(Value::Assignment { name: name.to_owned(), value: Box::new(set) })
                }
                (Some(region), _) => {
                    let region = region.complement(self.atoms)?;
                    Ok(Value::Region { region, variable: Some(name.to_owned()) })
                }
                _ => Err(Unreadable::Syntax),
            };
        }
        // Words beside an inequality are conditions that the grammar does not know.
        let scalars = sides.iter().map(|side| self.scalar(side)).collect::<Read<Vec<_>>>()?;
        let mut conditions = Vec::new();
        for (pair, operator) in scalars.windows(2).zip(operators) {
            let (low, high) = match operator {
                '<' | '≤' | '≠' | '=' => (&pair[0], &pair[1]),
                '>' | '≥' => (&pair[1], &pair[0]),
                _ => return Err(Unreadable::Syntax),
            };
            let relation = match operator {
                '<' | '>' => '>',
                '≤' | '≥' => '≥',
                other => *other,
            };
            // `x < ∞` says nothing.
            if [low, high].iter().any(|side| side.as_variable(self.atoms) == Some("∞"))
                || is_minus_infinity(low, self.atoms)
            {
                continue;
            }
            let difference = high.minus(low, self.atoms)?;
            if !difference.is_polynomial() {
                return Err(Unreadable::Bound);
            }
            conditions.push(Inequality { difference: difference.numerator, relation });
        }
        match self.solved(&conditions)? {
            Some((region, variable)) => Ok(Value::Region { region, variable: Some(variable) }),
            None => Ok(Value::Inequalities(conditions)),
        }
    }

    fn equation(
        &mut self,
        first: &Node,
        last: &Node,
        named: bool,
        name: &str,
        sides: usize,
    ) -> Read<Value> {
        let right = self.value(last);
        if named {
            let value = Box::new(right?);
            return Ok(Value::Assignment { name: name.to_owned(), value });
        }
        let right = right?;
        let left = self.scalar(first)?;
        // `5 = x`
        if let (Value::Scalar(scalar), false) = (&right, left.has_variables(self.atoms)) {
            if let Some(name) = scalar.value.as_variable(self.atoms) {
                let name = name.to_owned();
                return Ok(Value::Assignment { name, value: Box::new(Value::plain(left)) });
            }
            // A derivation: `7 + 18 = 25`.
            if !scalar.value.has_variables(self.atoms) {
                return Ok(right);
            }
        }
        let Value::Scalar(scalar) = &right else { return Err(Unreadable::Syntax) };
        let difference = left.difference(&scalar.value, self.atoms)?;
        // Both sides the same: an identity such as `(a+b)^2 = a^2 + 2ab + b^2` states its last side.
        if difference.is_zero() && sides > 1 {
            return Ok(right);
        }
        Ok(Value::Equation { difference, right: Box::new(right) })
    }

    /// The solutions of conditions that are linear in the only variable.
    fn solved(&mut self, conditions: &[Inequality]) -> Read<Option<(Region, String)>> {
        let mut variable = None;
        let mut region = Region::reals();
        for Inequality { difference, relation } in conditions {
            let Some((atom, slope, constant)) = linear(difference, self.atoms)? else {
                return Ok(None);
            };
            if variable.is_some_and(|known| known != atom) {
                return Ok(None);
            }
            variable = Some(atom);
            let zero = constant.negated().over(&slope, self.atoms)?;
            let Some(falls) = slope.constant_sign(self.atoms) else { return Ok(None) };
            let end = if *relation == '≥' {
                End::closed(zero.clone())
            } else {
                End::open(zero.clone())
            };
            let solutions = match relation {
                '=' => Region(vec![Interval::point(zero)]),
                '≠' => Region(vec![Interval::point(zero)]).complement(self.atoms)?,
                _ if falls => Region(vec![Interval { from: End::infinite(), to: end }]),
                _ => Region(vec![Interval { from: end, to: End::infinite() }]),
            };
            region = match region.intersection(&solutions, self.atoms) {
                Ok(region) => region,
                Err(_) => return Ok(None),
            };
        }
        Ok(variable.and_then(|atom| match self.atoms.get(atom) {
            Atom::Variable(name) => Some((region, name.clone())),
            _ => None,
        }))
    }
}

/// Slope and constant of a polynomial that is linear in its only variable.
fn linear(polynomial: &Polynomial, atoms: &mut Atoms) -> Read<Option<(usize, Fraction, Fraction)>> {
    let mut variable = None;
    let (mut slope, mut constant) = (Polynomial::zero(), Polynomial::zero());
    for (monomial, coefficient) in &polynomial.terms {
        let mut rest = monomial.clone();
        let mut here = None;
        for (atom, exponent) in &monomial.0 {
            match atoms.get(*atom) {
                Atom::Variable(_) if exponent.is_one() && here.is_none() => here = Some(*atom),
                Atom::Imaginary | Atom::Pi | Atom::Euler | Atom::Prime(_) => {}
                _ => return Ok(None),
            }
        }
        let Some(atom) = here else {
            constant.terms.insert(rest, coefficient.clone());
            continue;
        };
        if variable.is_some_and(|known| known != atom) {
            return Ok(None);
        }
        variable = Some(atom);
        rest.0.retain(|(number, _)| *number != atom);
        slope.terms.insert(rest, coefficient.clone());
    }
    let Some(atom) = variable else { return Ok(None) };
    Ok(Some((atom, Fraction::polynomial(slope), Fraction::polynomial(constant))))
}

/// The region that a value describes, where it is one: also an interval in brackets, or a set of numbers.
pub(crate) fn region_of(value: &Value, atoms: &mut Atoms) -> Read<Option<Region>> {
    match value.unnamed() {
        Value::Region { region, .. } => Ok(Some(region.clone())),
        Value::Bracket { open, close, items } => {
            let [Value::Scalar(from), Value::Scalar(to)] = &items[..] else { return Ok(None) };
            let Some(from) = end(&from.value, *open == '[', atoms) else { return Ok(None) };
            let Some(to) = end(&to.value, *close == ']', atoms) else { return Ok(None) };
            match Region::new(vec![Interval { from, to }], atoms) {
                Ok(region) => Ok(Some(region)),
                Err(Unreadable::Undefined) => Ok(None),
                Err(other) => Err(other),
            }
        }
        Value::Set(items) | Value::List(items) => {
            let mut points = Vec::with_capacity(items.len());
            for item in items {
                match item.unnamed() {
                    Value::Scalar(scalar) => points.push(Interval::point(scalar.value.clone())),
                    _ => return Ok(None),
                }
            }
            Region::new(points, atoms).map(Some)
        }
        Value::Scalar(scalar) => {
            Region::new(vec![Interval::point(scalar.value.clone())], atoms).map(Some)
        }
        _ => Ok(None),
    }
}

/// An end of an interval; infinite ones are open.
fn end(value: &Fraction, closed: bool, atoms: &Atoms) -> Option<End> {
    if value.as_variable(atoms) == Some("∞") || is_minus_infinity(value, atoms) {
        return Some(End::infinite());
    }
    Some(End { at: Some(value.clone()), closed })
}

fn is_minus_infinity(value: &Fraction, atoms: &Atoms) -> bool {
    match value.numerator.as_term() {
        Some((monomial, coefficient)) => {
            coefficient.is_negative()
                && matches!(&monomial.0[..], [(atom, exponent)]
                    if *exponent == Exponent::one()
                        && matches!(atoms.get(*atom), Atom::Variable(name) if name == "∞"))
        }
        None => false,
    }
}
