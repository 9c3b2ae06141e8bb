//! Quotients of polynomials, and their exact comparison.

use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

use super::super::bounds::{Read, Unreadable};
use super::{Atom, Atoms, Exponent, Monomial, Polynomial};

/// A quotient. The denominator is 1, or a sum with leading coefficient 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Fraction {
    pub(crate) numerator: Polynomial,
    pub(crate) denominator: Polynomial,
}

impl Fraction {
    pub(crate) fn constant(value: BigRational) -> Self {
        Self::polynomial(Polynomial::constant(value))
    }

    pub(crate) fn integer(value: i64) -> Self {
        Self::constant(BigRational::from_integer(value.into()))
    }

    pub(crate) fn polynomial(numerator: Polynomial) -> Self {
        Self { numerator, denominator: Polynomial::constant(BigRational::one()) }
    }

    pub(crate) fn atom(atom: Atom, atoms: &mut Atoms) -> Self {
        let monomial = Monomial::atom(atoms.number(atom));
        let mut numerator = Polynomial::zero();
        numerator.terms.insert(monomial, BigRational::one());
        Self::polynomial(numerator)
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.numerator.is_zero()
    }

    pub(crate) fn is_polynomial(&self) -> bool {
        self.denominator.as_rational().is_some_and(|d| d.is_one())
    }

    pub(crate) fn as_rational(&self) -> Option<BigRational> {
        self.is_polynomial().then(|| self.numerator.as_rational())?
    }

    /// The variable, where this is nothing else.
    pub(crate) fn as_variable<'a>(&self, atoms: &'a Atoms) -> Option<&'a str> {
        let (monomial, coefficient) = self.numerator.as_term()?;
        match (&monomial.0[..], self.is_polynomial() && coefficient.is_one()) {
            ([(atom, exponent)], true) if exponent.is_one() => match atoms.get(*atom) {
                Atom::Variable(name) => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn negated(self) -> Self {
        Self { numerator: self.numerator.negated(), denominator: self.denominator }
    }

    pub(crate) fn plus(&self, other: &Self, atoms: &mut Atoms) -> Read<Self> {
        // Sums are copied.
        atoms.spend(20 * (self.numerator.terms.len() + other.numerator.terms.len()) as u64)?;
        if self.denominator == other.denominator {
            let numerator = self.numerator.clone().plus(&other.numerator, atoms)?;
            return Ok(Self { numerator, denominator: self.denominator.clone() }.tidy());
        }
        let left = self.numerator.times(&other.denominator, atoms)?;
        let right = other.numerator.times(&self.denominator, atoms)?;
        let denominator = self.denominator.times(&other.denominator, atoms)?;
        Self::new(left.plus(&right, atoms)?, denominator, atoms)
    }

    pub(crate) fn minus(&self, other: &Self, atoms: &mut Atoms) -> Read<Self> {
        self.plus(&other.clone().negated(), atoms)
    }

    pub(crate) fn times(&self, other: &Self, atoms: &mut Atoms) -> Read<Self> {
        let numerator = self.numerator.times(&other.numerator, atoms)?;
        if self.is_polynomial() && other.is_polynomial() {
            return Ok(Self::polynomial(numerator));
        }
        Self::new(numerator, self.denominator.times(&other.denominator, atoms)?, atoms)
    }

    pub(crate) fn over(&self, other: &Self, atoms: &mut Atoms) -> Read<Self> {
        let numerator = self.numerator.times(&other.denominator, atoms)?;
        Self::new(numerator, self.denominator.times(&other.numerator, atoms)?, atoms)
    }

    /// A quotient in normal form.
    ///
    /// # Errors
    /// If the denominator is zero, or a bound is met.
    pub(crate) fn new(
        numerator: Polynomial,
        denominator: Polynomial,
        atoms: &mut Atoms,
    ) -> Read<Self> {
        let Some((leading, coefficient)) = denominator.terms.last_key_value() else {
            return Err(Unreadable::Undefined);
        };
        if numerator.is_zero() {
            return Ok(Self::polynomial(numerator));
        }
        if numerator == denominator {
            return Ok(Self::integer(1));
        }
        let inverse = coefficient.recip();
        if denominator.terms.len() == 1 {
            // A single term goes to the numerator: monomials carry negative exponents.
            let inverse = Polynomial::term(leading.to_the(-Exponent::one())?, inverse, atoms)?;
            return Ok(Self::polynomial(numerator.times(&inverse, atoms)?));
        }
        let numerator = numerator.scaled(&inverse, atoms)?;
        let denominator = denominator.scaled(&inverse, atoms)?;
        Ok(Self { numerator, denominator })
    }

    fn tidy(self) -> Self {
        match self.numerator.is_zero() {
            true => Self::polynomial(self.numerator),
            false => self,
        }
    }

    /// Whether both are the same function of the same atoms, exactly.
    pub(crate) fn equals(&self, other: &Self, atoms: &mut Atoms) -> Read<bool> {
        if self == other {
            return Ok(true);
        }
        Ok(self.difference(other, atoms)?.is_zero())
    }

    /// A polynomial that is zero exactly where the two agree (apart from poles).
    pub(crate) fn difference(&self, other: &Self, atoms: &mut Atoms) -> Read<Polynomial> {
        let difference = if self.denominator == other.denominator {
            self.numerator.clone().plus(&other.numerator.clone().negated(), atoms)?
        } else {
            let left = self.numerator.times(&other.denominator, atoms)?;
            let right = other.numerator.times(&self.denominator, atoms)?;
            left.plus(&right.negated(), atoms)?
        };
        difference.without_negative_exponents(atoms)
    }

    /// Whether this value is below zero, where it is a plain number.
    pub(crate) fn is_negative(&self, atoms: &Atoms) -> Option<bool> {
        if let Some(value) = self.as_rational() {
            return Some(value.is_negative());
        }
        let value = self.at(atoms, 0)?;
        (value.im.abs() <= 1e-12 * value.re.abs()).then_some(value.re < 0.0)
    }
}

impl Polynomial {
    /// Multiplied by the smallest monomial that leaves no exponent of a variable or function below zero, so that
    /// relations such as sin² + cos² = 1 apply again.
    pub(crate) fn without_negative_exponents(self, atoms: &mut Atoms) -> Read<Self> {
        let mut lowest: Vec<(usize, Exponent)> = Vec::new();
        for (atom, exponent) in self.terms.keys().flat_map(|monomial| &monomial.0) {
            if !exponent.is_negative() || matches!(atoms.get(*atom), Atom::Prime(_)) {
                continue;
            }
            match lowest.iter_mut().find(|(known, _)| known == atom) {
                Some((_, low)) => *low = (*low).min(*exponent),
                None => lowest.push((*atom, *exponent)),
            }
        }
        if lowest.is_empty() {
            return Ok(self);
        }
        lowest.sort_unstable_by_key(|(atom, _)| *atom);
        let raise = Monomial(lowest).to_the(-Exponent::one())?;
        atoms.spend(100 * self.terms.len() as u64)?;
        let mut raised = Self::zero();
        for (monomial, coefficient) in &self.terms {
            let term = Self::term(monomial.times(&raise)?, coefficient.clone(), atoms)?;
            raised = raised.plus(&term, atoms)?;
        }
        Ok(raised)
    }

    /// The same polynomial with leading coefficient 1; what equations are compared by.
    pub(crate) fn monic(&self, atoms: &mut Atoms) -> Read<Self> {
        match self.terms.last_key_value() {
            None => Ok(Self::zero()),
            Some((_, leading)) => self.scaled(&leading.recip(), atoms),
        }
    }

    /// The common factor of all coefficients, positive; zero for the zero polynomial.
    pub(crate) fn content(&self, atoms: &mut Atoms) -> Read<BigRational> {
        use num_integer::Integer;
        let mut content: Option<BigRational> = None;
        for coefficient in self.terms.values() {
            atoms.spend(super::polynomial::cost(coefficient) + 1)?;
            content = Some(match content {
                None => coefficient.abs(),
                Some(content) => BigRational::new(
                    content.numer().gcd(coefficient.numer()),
                    content.denom().lcm(coefficient.denom()),
                ),
            });
        }
        Ok(content.unwrap_or_else(BigRational::zero))
    }
}
