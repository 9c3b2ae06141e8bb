//! Polynomials over the rationals whose atoms may carry fractional exponents, kept in normal form.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use num_bigint::{BigInt, BigUint};
use num_rational::{BigRational, Ratio};
use num_traits::{CheckedAdd, One, Signed, ToPrimitive, Zero};

use super::super::bounds::{self, Read, Unreadable};
use super::{Atom, Atoms, Function, factor};

pub(crate) type Exponent = Ratio<i64>;

/// Atoms with their exponents: ascending atoms, no exponent zero.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Monomial(pub(crate) Vec<(usize, Exponent)>);

impl Monomial {
    pub(crate) fn one() -> Self {
        Self::default()
    }

    pub(crate) fn atom(number: usize) -> Self {
        Self(vec![(number, Exponent::one())])
    }

    pub(crate) fn is_one(&self) -> bool {
        self.0.is_empty()
    }

    /// The exponent of an atom; zero where it does not occur.
    pub(crate) fn exponent(&self, atom: usize) -> Exponent {
        self.0.iter().find(|(number, _)| *number == atom).map_or_else(Exponent::zero, |(_, e)| *e)
    }

    pub(super) fn times(&self, other: &Self) -> Read<Self> {
        let mut product = Vec::with_capacity(self.0.len() + other.0.len());
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        loop {
            match (left.peek(), right.peek()) {
                (Some(a), Some(b)) if a.0 == b.0 => {
                    let sum = checked(a.1.checked_add(&b.1))?;
                    if !sum.is_zero() {
                        product.push((a.0, sum));
                    }
                    left.next();
                    right.next();
                }
                (Some(a), Some(b)) if a.0 < b.0 => product.extend(left.next().copied()),
                (_, Some(_)) => product.extend(right.next().copied()),
                (Some(_), None) => product.extend(left.next().copied()),
                (None, None) => return Ok(Self(product)),
            }
        }
    }

    pub(super) fn to_the(&self, exponent: Exponent) -> Read<Self> {
        use num_traits::CheckedMul;
        if exponent.is_zero() {
            return Ok(Self::one());
        }
        let powers = self.0.iter().map(|(atom, e)| Ok((*atom, checked(e.checked_mul(&exponent))?)));
        Ok(Self(powers.collect::<Read<_>>()?))
    }
}

/// An exponent within bounds, so that arithmetic with it cannot overflow.
pub(super) fn checked(exponent: Option<Exponent>) -> Read<Exponent> {
    exponent
        .filter(|e| e.numer().abs() <= bounds::EXPONENT && *e.denom() <= bounds::ROOT)
        .ok_or(Unreadable::Bound)
}

/// A sum of monomials with their coefficients, none of which is zero.
#[derive(Debug, Clone, Eq, Default)]
pub(crate) struct Polynomial {
    /// Coefficients are reduced, with a positive denominator.
    pub(crate) terms: BTreeMap<Monomial, BigRational>,
}

/// By numerators and denominators: `BigRational` itself compares and hashes by Euclid's algorithm, for quotients that are
/// not reduced, which takes a tenth of a second for one of 20,000 bits.
impl PartialEq for Polynomial {
    fn eq(&self, other: &Self) -> bool {
        let same =
            |a: &BigRational, b: &BigRational| (a.numer(), a.denom()) == (b.numer(), b.denom());
        self.terms.len() == other.terms.len()
            && self.terms.iter().zip(&other.terms).all(|(a, b)| a.0 == b.0 && same(a.1, b.1))
    }
}

impl Hash for Polynomial {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for (monomial, coefficient) in &self.terms {
            (monomial, coefficient.numer(), coefficient.denom()).hash(state);
        }
    }
}

impl Polynomial {
    pub(crate) fn zero() -> Self {
        Self::default()
    }

    pub(crate) fn constant(value: BigRational) -> Self {
        let mut terms = BTreeMap::new();
        if !value.is_zero() {
            terms.insert(Monomial::one(), value);
        }
        Self { terms }
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value, where there are no atoms.
    pub(crate) fn as_rational(&self) -> Option<BigRational> {
        match self.terms.len() {
            0 => Some(BigRational::zero()),
            1 => self.terms.get(&Monomial::one()).cloned(),
            _ => None,
        }
    }

    /// The only term.
    pub(crate) fn as_term(&self) -> Option<(&Monomial, &BigRational)> {
        self.terms.first_key_value().filter(|_| self.terms.len() == 1)
    }

    pub(crate) fn negated(mut self) -> Self {
        for coefficient in self.terms.values_mut() {
            *coefficient = -std::mem::take(coefficient);
        }
        self
    }

    pub(crate) fn plus(mut self, other: &Self, atoms: &mut Atoms) -> Read<Self> {
        for (monomial, coefficient) in &other.terms {
            self.add_term(monomial, coefficient, atoms)?;
        }
        Ok(self)
    }

    fn add_term(
        &mut self,
        monomial: &Monomial,
        value: &BigRational,
        atoms: &mut Atoms,
    ) -> Read<()> {
        atoms.spend(30 + cost(value))?;
        match self.terms.get_mut(monomial) {
            Some(sum) => {
                atoms.spend(cost(sum))?;
                *sum += value;
                bounded(sum)?;
                if sum.is_zero() {
                    self.terms.remove(monomial);
                }
            }
            None => {
                self.terms.insert(monomial.clone(), value.clone());
                if self.terms.len() > bounds::TERMS {
                    return Err(Unreadable::Bound);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn scaled(&self, factor: &BigRational, atoms: &mut Atoms) -> Read<Self> {
        if factor.is_zero() {
            return Ok(Self::zero());
        }
        if factor.is_one() {
            return Ok(self.clone());
        }
        let mut terms = BTreeMap::new();
        for (monomial, coefficient) in &self.terms {
            terms.insert(monomial.clone(), multiply(coefficient, factor, atoms)?);
        }
        Ok(Self { terms })
    }

    pub(crate) fn times(&self, other: &Self, atoms: &mut Atoms) -> Read<Self> {
        let mut product = Self::zero();
        for (left, left_coefficient) in &self.terms {
            for (right, right_coefficient) in &other.terms {
                // Two monomials merged, a quotient reduced, a tree searched.
                atoms.spend(60)?;
                let coefficient = multiply(left_coefficient, right_coefficient, atoms)?;
                product.add_reduced(left.times(right)?, coefficient, atoms, 0)?;
            }
        }
        Ok(product)
    }

    /// One term, brought into normal form.
    pub(crate) fn term(monomial: Monomial, value: BigRational, atoms: &mut Atoms) -> Read<Self> {
        let mut sum = Self::zero();
        sum.add_reduced(monomial, value, atoms, 0)?;
        Ok(sum)
    }

    /// Adds a term whose exponents may be out of their normal ranges.
    fn add_reduced(
        &mut self,
        monomial: Monomial,
        mut coefficient: BigRational,
        atoms: &mut Atoms,
        depth: usize,
    ) -> Read<()> {
        if depth > bounds::DEPTH {
            return Err(Unreadable::Bound);
        }
        if coefficient.is_zero() {
            return Ok(());
        }
        let mut kept = Vec::with_capacity(monomial.0.len());
        // A factor that is a sum: multiplied in last, since it turns one term into many.
        let mut expand: Option<(Polynomial, i64)> = None;
        let mut frozen = false;
        for (atom, exponent) in monomial.0 {
            let whole = exponent.floor().to_integer();
            let fraction = exponent.fract()
                + if exponent.is_negative() && !exponent.is_integer() {
                    Exponent::one()
                } else {
                    Exponent::zero()
                };
            match atoms.get(atom) {
                Atom::Imaginary if exponent.is_integer() => {
                    if matches!(whole.rem_euclid(4), 2 | 3) {
                        coefficient = -coefficient;
                    }
                    if whole.rem_euclid(2) == 1 {
                        kept.push((atom, Exponent::one()));
                    }
                }
                Atom::Prime(prime) => {
                    if whole.unsigned_abs().saturating_mul(prime.bits()) > bounds::BITS {
                        frozen = true;
                        kept.push((atom, exponent));
                        continue;
                    }
                    if whole != 0 {
                        let power = BigInt::from(prime.pow(whole.unsigned_abs() as u32));
                        let power = if whole > 0 {
                            BigRational::from_integer(power)
                        } else {
                            BigRational::new_raw(BigInt::one(), power)
                        };
                        coefficient = multiply(&coefficient, &power, atoms)?;
                    }
                    if !fraction.is_zero() {
                        kept.push((atom, fraction));
                    }
                }
                Atom::Sum(sum)
                    if (1..=bounds::EXPANDED_POWER).contains(&whole) && expand.is_none() =>
                {
                    expand = Some((sum.clone(), whole));
                    if !fraction.is_zero() {
                        kept.push((atom, fraction));
                    }
                }
                Atom::Function(Function::Sin, argument)
                    if exponent.is_integer() && whole >= 2 && expand.is_none() =>
                {
                    // sin² = 1 - cos²
                    let argument = argument.clone();
                    let cos = atoms.number(Atom::Function(Function::Cos, argument));
                    let mut square = Polynomial::constant(BigRational::one());
                    let two = Exponent::from_integer(2);
                    square.terms.insert(Monomial(vec![(cos, two)]), -BigRational::one());
                    expand = Some((square, whole / 2));
                    if whole % 2 == 1 {
                        kept.push((atom, Exponent::one()));
                    }
                }
                Atom::Function(Function::Abs, argument)
                    if exponent.is_integer()
                        && whole >= 2
                        && expand.is_none()
                        && argument[0].is_polynomial() =>
                {
                    expand = Some((argument[0].numerator.clone(), whole / 2 * 2));
                    if whole % 2 == 1 {
                        kept.push((atom, Exponent::one()));
                    }
                }
                _ => kept.push((atom, exponent)),
            }
        }
        if frozen {
            coefficient = thaw_into(&mut kept, coefficient, atoms)?;
        }
        kept.sort_unstable_by_key(|(atom, _)| *atom);
        let kept = Monomial(kept);
        let Some((factor, power)) = expand else {
            return self.add_term(&kept, &coefficient, atoms);
        };
        if power > bounds::EXPANDED_POWER {
            return Err(Unreadable::Bound);
        }
        let mut expanded = Polynomial::constant(BigRational::one());
        for _ in 0..power {
            expanded = expanded.times(&factor, atoms)?;
        }
        for (monomial, value) in &expanded.terms {
            let coefficient = multiply(&coefficient, value, atoms)?;
            self.add_reduced(kept.times(monomial)?, coefficient, atoms, depth + 1)?;
        }
        Ok(())
    }
}

/// Moves factors of the coefficient to the primes whose powers are too large to write out, so that 2·2^(10^9) and
/// 2^(10^9+1) are one thing.
fn thaw_into(
    kept: &mut Vec<(usize, Exponent)>,
    coefficient: BigRational,
    atoms: &mut Atoms,
) -> Read<BigRational> {
    let (mut numerator, mut denominator) =
        (coefficient.numer().magnitude().clone(), coefficient.denom().magnitude().clone());
    for (atom, exponent) in kept.iter_mut() {
        let Atom::Prime(prime) = atoms.get(*atom) else { continue };
        if exponent.floor().to_integer() == 0 {
            continue;
        }
        let prime = prime.clone();
        let words = (numerator.bits() + denominator.bits()) / 64 + 1;
        let most = bounds::BITS as u32;
        let (rest, up) = factor::valuation(&numerator, &prime, most);
        let (under, down) = factor::valuation(&denominator, &prime, most);
        atoms.spend(words * u64::from(up + down + 1))?;
        (numerator, denominator) = (rest, under);
        *exponent =
            checked(exponent.checked_add(&Exponent::from(i64::from(up) - i64::from(down))))?;
    }
    kept.retain(|(_, exponent)| !exponent.is_zero());
    let sign = coefficient.numer().sign();
    Ok(BigRational::new_raw(BigInt::from_biguint(sign, numerator), denominator.into()))
}

/// The product, paid for and within bounds.
pub(super) fn multiply(
    left: &BigRational,
    right: &BigRational,
    atoms: &mut Atoms,
) -> Read<BigRational> {
    if left.is_one() {
        return Ok(right.clone());
    }
    if right.is_one() {
        return Ok(left.clone());
    }
    atoms.spend(cost(left) + cost(right))?;
    let product = left * right;
    bounded(&product)?;
    Ok(product)
}

/// Work of an operation: reducing a quotient is quadratic in its length.
pub(super) fn cost(value: &BigRational) -> u64 {
    let words = (value.numer().bits() + value.denom().bits()) / 64;
    words * words + words
}

pub(super) fn bounded(value: &BigRational) -> Read<()> {
    match value.numer().bits().max(value.denom().bits()) > bounds::BITS {
        true => Err(Unreadable::Bound),
        false => Ok(()),
    }
}

/// A power of a rational number, or `None` where it is too long to write out.
pub(super) fn integer_power(base: &BigRational, power: i64) -> Option<BigRational> {
    let bits = base.numer().bits().max(base.denom().bits()).saturating_sub(1);
    if base.is_zero() || power == 0 {
        return (power >= 0).then(|| if power == 0 { BigRational::one() } else { base.clone() });
    }
    if bits == 0 {
        let even = power % 2 == 0;
        return Some(if even { BigRational::one() } else { base.clone() });
    }
    let size =
        power.unsigned_abs().to_u32().filter(|&p| u64::from(p) * (bits + 1) <= bounds::BITS)?;
    let raised = BigRational::new_raw(base.numer().pow(size), base.denom().pow(size));
    Some(if power < 0 { raised.recip() } else { raised })
}

pub(super) fn magnitude(value: &BigInt) -> BigUint {
    value.magnitude().clone()
}
