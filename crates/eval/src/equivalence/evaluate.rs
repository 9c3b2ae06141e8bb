//! Trees to values: scalars. Structures are in [`super::structure`].

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, ToPrimitive};

use super::algebra::{Atom, Atoms, Fraction, Function};
use super::algebra::{common, cosine, extreme, hyperbolic, sine};
use super::bounds::{Read, Unreadable};
use super::syntax::{Factor, Node, Sign};
use super::unit::Unit;
use super::value::{Scalar, ScalarKind, Value};

/// Terms of a written-out series.
const SERIES: i64 = 200;

pub(crate) struct Evaluator<'a> {
    pub(crate) atoms: &'a mut Atoms,
    /// What `±` stands for in this pass.
    pub(crate) minus: bool,
    /// Inside an expression whose `±` is being expanded.
    pub(crate) expanding: bool,
    /// Indices of series, bound to their values.
    pub(crate) bound: Vec<(String, Fraction)>,
}

impl<'a> Evaluator<'a> {
    pub(crate) fn new(atoms: &'a mut Atoms) -> Self {
        Self { atoms, minus: false, expanding: false, bound: Vec::new() }
    }

    /// An expression that is one number.
    pub(crate) fn scalar(&mut self, node: &Node) -> Read<Fraction> {
        match self.arithmetic(node)? {
            Value::Scalar(scalar) => self.bare(scalar),
            _ => Err(Unreadable::Syntax),
        }
    }

    /// The plain number of a marked one: 1/2 for 50 %, π/2 for 90°.
    fn bare(&mut self, scalar: Scalar) -> Read<Fraction> {
        match scalar.kind {
            ScalarKind::Percent => scalar.value.over(&Fraction::integer(100), self.atoms),
            ScalarKind::Degrees => {
                let radians = Fraction::atom(Atom::Pi, self.atoms);
                let radians = radians.over(&Fraction::integer(180), self.atoms)?;
                scalar.value.times(&radians, self.atoms)
            }
            _ => Ok(scalar.value),
        }
    }

    /// A number or a matrix.
    pub(crate) fn arithmetic(&mut self, node: &Node) -> Read<Value> {
        self.atoms.spend(2)?;
        let value = match node {
            Node::Number(literal) => {
                let value = Fraction::constant(literal.value.clone());
                let decimals = literal.decimals;
                return Ok(Value::Scalar(Scalar { value, decimals, kind: ScalarKind::Plain }));
            }
            Node::Symbol(name) => self.symbol(name),
            Node::Text(name) if name.chars().count() == 1 => self.symbol(name),
            Node::Sum(terms) => return self.sum(terms),
            Node::Product(factors) => return self.product(factors),
            Node::Power(base, exponent) => return self.power(base, exponent),
            Node::Root { radicand, degree } => {
                let radicand = self.scalar(radicand)?;
                let degree = match degree {
                    Some(degree) => self.scalar(degree)?,
                    None => Fraction::integer(2),
                };
                let exponent = Fraction::integer(1).over(&degree, self.atoms)?;
                radicand.to_the(&exponent, self.atoms)?
            }
            Node::Call("det", arguments) => {
                let [Node::Matrix(rows)] = &arguments[..] else { return Err(Unreadable::Syntax) };
                let rows = self.matrix(rows)?;
                super::matrix::determinant(&rows, self.atoms)?
            }
            Node::Call(name, arguments) => self.call(name, arguments)?,
            Node::Apply(name, arguments) => {
                let arguments =
                    arguments.iter().map(|a| self.scalar(a)).collect::<Read<Vec<_>>>()?;
                if arguments.is_empty() {
                    return Err(Unreadable::Syntax);
                }
                Fraction::atom(Atom::Function(Function::Named(name.clone()), arguments), self.atoms)
            }
            Node::Factorial(inner) => self.scalar(inner)?.factorial(self.atoms)?,
            Node::Percent(inner) => return self.marked(inner, ScalarKind::Percent),
            Node::Degrees(inner) => return self.marked(inner, ScalarKind::Degrees),
            Node::Quantity(inner, unit) => {
                return self.marked(inner, ScalarKind::Quantity(unit.clone()));
            }
            Node::Based(digits, base) => {
                let value = BigInt::parse_bytes(digits.as_bytes(), *base);
                let value = BigRational::from_integer(value.ok_or(Unreadable::Syntax)?);
                let value = Fraction::constant(value);
                return Ok(Value::Scalar(Scalar {
                    value,
                    decimals: None,
                    kind: ScalarKind::Based,
                }));
            }
            Node::Series { product, body, index, from, to } => {
                self.series(*product, body, index, from, to)?
            }
            Node::Matrix(rows) => return Ok(Value::Matrix(self.matrix(rows)?)),
            Node::Ratio(parts) if parts.len() == 2 => {
                let (a, b) = (self.scalar(&parts[0])?, self.scalar(&parts[1])?);
                a.over(&b, self.atoms)?
            }
            _ => return Err(Unreadable::Syntax),
        };
        Ok(Value::plain(value))
    }

    fn symbol(&mut self, name: &str) -> Fraction {
        if let Some((_, value)) = self.bound.iter().rev().find(|(bound, _)| bound == name) {
            return value.clone();
        }
        let atom = match name {
            "π" => Atom::Pi,
            "e" => Atom::Euler,
            "i" => Atom::Imaginary,
            _ => Atom::Variable(name.to_owned()),
        };
        Fraction::atom(atom, self.atoms)
    }

    fn marked(&mut self, inner: &Node, kind: ScalarKind) -> Read<Value> {
        match self.arithmetic(inner)? {
            Value::Scalar(scalar) => {
                let kind = match (&scalar.kind, kind) {
                    (ScalarKind::Plain | ScalarKind::Based, kind) => kind,
                    // `50% \text{ of them}`, `$5 million`: the first mark counts.
                    (_, ScalarKind::Quantity(Unit::Label(_))) => scalar.kind,
                    (ScalarKind::Quantity(Unit::Label(_)), kind) => kind,
                    (ScalarKind::Quantity(a), ScalarKind::Quantity(b)) => {
                        ScalarKind::Quantity(if *a == b { b } else { a.times(&b, 1) })
                    }
                    _ => return Err(Unreadable::Syntax),
                };
                Ok(Value::Scalar(Scalar { kind, ..scalar }))
            }
            other @ Value::Matrix(_) => Ok(other),
            _ => Err(Unreadable::Syntax),
        }
    }

    fn sum(&mut self, terms: &[(Sign, Node)]) -> Read<Value> {
        let mut sum: Option<Value> = None;
        for (sign, node) in terms {
            let negative = match sign {
                Sign::Plus => false,
                Sign::Minus => true,
                Sign::PlusMinus => self.minus,
                Sign::MinusPlus => !self.minus,
            };
            let value = self.arithmetic(node)?;
            let value = if negative { self.negated(value)? } else { value };
            sum = Some(match sum {
                None => value,
                Some(sum) => self.plus(sum, value)?,
            });
        }
        sum.ok_or(Unreadable::Syntax)
    }

    fn negated(&mut self, value: Value) -> Read<Value> {
        match value {
            Value::Scalar(scalar) => {
                let value = scalar.value.negated();
                Ok(Value::Scalar(Scalar { value, ..scalar }))
            }
            Value::Matrix(rows) => {
                let turn = |row: Vec<Fraction>| row.into_iter().map(Fraction::negated).collect();
                Ok(Value::Matrix(rows.into_iter().map(turn).collect()))
            }
            _ => Err(Unreadable::Syntax),
        }
    }

    fn plus(&mut self, left: Value, right: Value) -> Read<Value> {
        match (left, right) {
            (Value::Scalar(left), Value::Scalar(right)) => {
                // 2 cm + 3 cm keeps its unit, 30° + 15° its degrees; in `50% + 1` the sign is a factor.
                let (kind, a, b) = if left.kind == right.kind {
                    (left.kind, left.value, right.value)
                } else {
                    match (&left.kind, &right.kind) {
                        (
                            ScalarKind::Plain,
                            kind @ (ScalarKind::Quantity(_) | ScalarKind::Degrees),
                        )
                        | (
                            kind @ (ScalarKind::Quantity(_) | ScalarKind::Degrees),
                            ScalarKind::Plain,
                        ) => (kind.clone(), left.value, right.value),
                        (
                            ScalarKind::Plain | ScalarKind::Percent,
                            ScalarKind::Plain | ScalarKind::Percent,
                        ) => (ScalarKind::Plain, self.bare(left)?, self.bare(right)?),
                        (ScalarKind::Based, _) | (_, ScalarKind::Based) => {
                            (ScalarKind::Plain, left.value, right.value)
                        }
                        _ => return Err(Unreadable::Undefined),
                    }
                };
                let value = a.plus(&b, self.atoms)?;
                Ok(Value::Scalar(Scalar { value, decimals: None, kind }))
            }
            (Value::Matrix(left), Value::Matrix(right)) => {
                Ok(Value::Matrix(super::matrix::plus(&left, &right, self.atoms)?))
            }
            _ => Err(Unreadable::Undefined),
        }
    }

    fn product(&mut self, factors: &[(Factor, Node)]) -> Read<Value> {
        let mut product: Option<Value> = None;
        for (factor, node) in factors {
            let value = self.arithmetic(node)?;
            product = Some(match (product, factor) {
                (None, _) => value,
                (Some(product), Factor::Times) => self.times(product, value)?,
                (Some(product), Factor::Over) => self.over(product, value)?,
            });
        }
        product.ok_or(Unreadable::Syntax)
    }

    fn times(&mut self, left: Value, right: Value) -> Read<Value> {
        match (left, right) {
            (Value::Scalar(left), Value::Scalar(right)) => {
                let (kind, a, b) = match (&left.kind, &right.kind) {
                    (ScalarKind::Plain, ScalarKind::Percent)
                        if left
                            .value
                            .as_rational()
                            .is_some_and(|v| v.denom().is_one() || left.decimals.is_some())
                            && right.value.as_rational() != Some(hundred()) =>
                    {
                        (ScalarKind::Plain, left.value.clone(), self.bare(right)?)
                    }
                    // `k · 100 %` states a percentage.
                    (ScalarKind::Plain, ScalarKind::Percent) => {
                        (ScalarKind::Percent, left.value, right.value)
                    }
                    (ScalarKind::Plain, kind) | (kind, ScalarKind::Plain) => {
                        (kind.clone(), left.value.clone(), right.value.clone())
                    }
                    (ScalarKind::Quantity(a), ScalarKind::Quantity(b)) => {
                        (ScalarKind::Quantity(a.times(b, 1)), left.value, right.value)
                    }
                    _ => (ScalarKind::Plain, self.bare(left)?, self.bare(right)?),
                };
                let kind = if kind == ScalarKind::Based { ScalarKind::Plain } else { kind };
                let value = a.times(&b, self.atoms)?;
                Ok(Value::Scalar(Scalar { value, decimals: None, kind }))
            }
            (Value::Matrix(left), Value::Matrix(right)) => {
                Ok(Value::Matrix(super::matrix::times(&left, &right, self.atoms)?))
            }
            (Value::Scalar(scalar), Value::Matrix(rows))
            | (Value::Matrix(rows), Value::Scalar(scalar)) => {
                let factor = self.bare(scalar)?;
                Ok(Value::Matrix(super::matrix::scaled(&rows, &factor, self.atoms)?))
            }
            _ => Err(Unreadable::Undefined),
        }
    }

    fn over(&mut self, left: Value, right: Value) -> Read<Value> {
        match (left, right) {
            (Value::Scalar(left), Value::Scalar(right)) => {
                let (kind, a, b) = match (&left.kind, &right.kind) {
                    (a, b) if a == b => (ScalarKind::Plain, left.value, right.value),
                    (kind, ScalarKind::Plain) => (kind.clone(), left.value, right.value),
                    _ => (ScalarKind::Plain, self.bare(left)?, self.bare(right)?),
                };
                let kind = if kind == ScalarKind::Based { ScalarKind::Plain } else { kind };
                let value = a.over(&b, self.atoms)?;
                Ok(Value::Scalar(Scalar { value, decimals: None, kind }))
            }
            (Value::Matrix(rows), Value::Scalar(scalar)) => {
                let factor = self.bare(scalar)?;
                let factor = Fraction::integer(1).over(&factor, self.atoms)?;
                Ok(Value::Matrix(super::matrix::scaled(&rows, &factor, self.atoms)?))
            }
            _ => Err(Unreadable::Undefined),
        }
    }

    fn power(&mut self, base: &Node, exponent: &Node) -> Read<Value> {
        match self.arithmetic(base)? {
            Value::Matrix(rows) => {
                if matches!(exponent, Node::Symbol(s) | Node::Text(s) if s == "T" || s == "t") {
                    return Ok(Value::Matrix(super::matrix::transposed(&rows)));
                }
                let power =
                    self.scalar(exponent)?.as_rational().and_then(|p| p.to_integer().to_u32());
                let power = power.filter(|p| (1..=16).contains(p)).ok_or(Unreadable::Bound)?;
                let mut product = rows.clone();
                for _ in 1..power {
                    product = super::matrix::times(&product, &rows, self.atoms)?;
                }
                Ok(Value::Matrix(product))
            }
            Value::Scalar(scalar) => {
                let base = self.bare(scalar)?;
                let exponent = self.scalar(exponent)?;
                Ok(Value::plain(base.to_the(&exponent, self.atoms)?))
            }
            _ => Err(Unreadable::Undefined),
        }
    }

    fn call(&mut self, name: &str, arguments: &[Node]) -> Read<Fraction> {
        let arguments = arguments.iter().map(|a| self.scalar(a)).collect::<Read<Vec<_>>>()?;
        let first = arguments.first().ok_or(Unreadable::Syntax)?;
        let atoms = &mut *self.atoms;
        let one = Fraction::integer(1);
        match name {
            "sin" => sine(first, atoms),
            "cos" => cosine(first, atoms),
            "tan" => sine(first, atoms)?.over(&cosine(first, atoms)?, atoms),
            "cot" => cosine(first, atoms)?.over(&sine(first, atoms)?, atoms),
            "sec" => one.over(&cosine(first, atoms)?, atoms),
            "csc" => one.over(&sine(first, atoms)?, atoms),
            "arcsin" => first.inverse_of(Function::Arcsin, atoms),
            "arccos" => first.inverse_of(Function::Arccos, atoms),
            "arctan" => first.inverse_of(Function::Arctan, atoms),
            "sinh" => hyperbolic(first, true, atoms),
            "cosh" => hyperbolic(first, false, atoms),
            "tanh" => {
                let sine = hyperbolic(first, true, atoms)?;
                sine.over(&hyperbolic(first, false, atoms)?, atoms)
            }
            "ln" => first.ln(atoms),
            "log" | "lg" => {
                let base = arguments.get(1).cloned().unwrap_or_else(|| Fraction::integer(10));
                first.ln(atoms)?.over(&base.ln(atoms)?, atoms)
            }
            "exp" => Fraction::atom(Atom::Euler, atoms).to_the(first, atoms),
            "abs" => first.abs(atoms),
            "floor" => first.floor(false, atoms),
            "ceil" => first.floor(true, atoms),
            "factorial" => first.factorial(atoms),
            "gamma" => first.gamma(atoms),
            "binom" => first.binomial(arguments.get(1).ok_or(Unreadable::Syntax)?, atoms),
            "gcd" => common(&arguments, false, atoms),
            "lcm" => common(&arguments, true, atoms),
            "max" => extreme(&arguments, true, atoms),
            "min" => extreme(&arguments, false, atoms),
            _ => Err(Unreadable::Syntax),
        }
    }

    fn series(
        &mut self,
        product: bool,
        body: &Node,
        index: &str,
        from: &Node,
        to: &Node,
    ) -> Read<Fraction> {
        let whole =
            |f: Fraction| f.as_rational().filter(|f| f.is_integer()).and_then(|f| f.to_i64());
        let from = whole(self.scalar(from)?).ok_or(Unreadable::Syntax)?;
        let to = whole(self.scalar(to)?).ok_or(Unreadable::Syntax)?;
        if to.saturating_sub(from) > SERIES || from.unsigned_abs() > 1 << 32 {
            return Err(Unreadable::Bound);
        }
        let mut result = Fraction::integer(i64::from(product));
        for at in from..=to {
            self.bound.push((index.to_owned(), Fraction::integer(at)));
            let term = self.scalar(body);
            self.bound.pop();
            let term = term?;
            result = match product {
                true => result.times(&term, self.atoms)?,
                false => result.plus(&term, self.atoms)?,
            };
        }
        Ok(result)
    }

    pub(crate) fn matrix(&mut self, rows: &[Vec<Node>]) -> Read<Vec<Vec<Fraction>>> {
        let row = |row: &Vec<Node>, this: &mut Self| {
            row.iter().map(|cell| this.scalar(cell)).collect::<Read<Vec<_>>>()
        };
        rows.iter().map(|cells| row(cells, self)).collect()
    }
}

fn hundred() -> BigRational {
    BigRational::from_integer(100.into())
}
