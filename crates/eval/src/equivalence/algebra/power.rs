//! Powers and roots.

use num_bigint::{BigInt, BigUint};
use num_rational::BigRational;
use num_traits::{CheckedMul, One, Signed, ToPrimitive, Zero};

use super::super::bounds::{self, Read, Unreadable};
use super::factor::factors;
use super::polynomial::{bounded, checked, integer_power, magnitude};
use super::{Atom, Atoms, Exponent, Fraction, Function, Monomial, Polynomial};

impl Fraction {
    /// This to the power of `exponent`.
    ///
    /// Odd roots of negative numbers are the real ones, as answers mean them; variables under a root count as not
    /// negative, except that √(x²) is |x|.
    pub(crate) fn to_the(&self, exponent: &Self, atoms: &mut Atoms) -> Read<Self> {
        if let Some(exponent) = exponent.as_rational() {
            return self.to_the_rational(small(&exponent)?, atoms);
        }
        if !exponent.is_polynomial() {
            return opaque(self, exponent, atoms);
        }
        // b^(t1 + t2) = b^t1 · b^t2
        let mut product = Self::integer(1);
        for (monomial, coefficient) in &exponent.numerator.terms {
            let factor = match monomial.is_one() {
                true => self.to_the_rational(small(coefficient)?, atoms)?,
                false => self.to_the_term(monomial, coefficient, atoms)?,
            };
            product = product.times(&factor, atoms)?;
        }
        Ok(product)
    }

    pub(crate) fn square_root(&self, atoms: &mut Atoms) -> Read<Self> {
        self.to_the_rational(Exponent::new(1, 2), atoms)
    }

    pub(crate) fn to_the_rational(&self, exponent: Exponent, atoms: &mut Atoms) -> Read<Self> {
        if exponent.is_zero() {
            // 0^0 counts as 1, as in polynomials.
            return Ok(Self::integer(1));
        }
        if self.is_zero() {
            return match exponent.is_positive() {
                true => Ok(self.clone()),
                false => Err(Unreadable::Undefined),
            };
        }
        if exponent.is_one() {
            return Ok(self.clone());
        }
        let numerator = polynomial_power(&self.numerator, exponent, atoms)?;
        if self.is_polynomial() {
            return Ok(numerator);
        }
        numerator.over(&polynomial_power(&self.denominator, exponent, atoms)?, atoms)
    }

    /// b^(c·m) for a monomial m that is not 1.
    fn to_the_term(
        &self,
        monomial: &Monomial,
        coefficient: &BigRational,
        atoms: &mut Atoms,
    ) -> Read<Self> {
        if let Some(value) = self.as_rational() {
            if value.is_one() {
                return Ok(Self::integer(1));
            }
            if !value.is_positive() {
                let exponent = Polynomial::term(monomial.clone(), coefficient.clone(), atoms)?;
                return opaque(self, &Self::polynomial(exponent), atoms);
            }
        }
        let Some((base, base_coefficient)) =
            self.is_polynomial().then(|| self.numerator.as_term()).flatten()
        else {
            let exponent = Polynomial::term(monomial.clone(), coefficient.clone(), atoms)?;
            return opaque(self, &Self::polynomial(exponent), atoms);
        };
        if base_coefficient.is_negative() {
            let exponent = Polynomial::term(monomial.clone(), coefficient.clone(), atoms)?;
            return opaque(self, &Self::polynomial(exponent), atoms);
        }
        let mut bases: Vec<(usize, Exponent)> = base.0.clone();
        bases.extend(prime_powers(base_coefficient, atoms)?);
        let power = small(coefficient)?;
        let mut product = Self::integer(1);
        for (atom, exponent) in bases {
            let exponent = checked(exponent.checked_mul(&power))?;
            let factor = if atom == Atoms::EULER {
                exponential(monomial, exponent, atoms)?
            } else {
                let atom = atoms.number(Atom::Power(atom, monomial.clone()));
                let term = Monomial(vec![(atom, exponent)]);
                Self::polynomial(Polynomial::term(term, BigRational::one(), atoms)?)
            };
            product = product.times(&factor, atoms)?;
        }
        Ok(product)
    }
}

/// e^(c·m): values on the unit circle, inverses of logarithms, or an atom.
fn exponential(monomial: &Monomial, exponent: Exponent, atoms: &mut Atoms) -> Read<Fraction> {
    let turn = [(Atoms::IMAGINARY, Exponent::one()), (Atoms::PI, Exponent::one())];
    if monomial.0[..] == turn {
        let angle = rational(exponent);
        let sine = super::trigonometry::sine_of_pi_times(&angle, atoms)?;
        let cosine = super::trigonometry::cosine_of_pi_times(&angle, atoms)?;
        return cosine.plus(&Fraction::atom(Atom::Imaginary, atoms).times(&sine, atoms)?, atoms);
    }
    if let [(atom, power)] = monomial.0[..]
        && power.is_one()
        && let Atom::Function(Function::Ln, argument) = atoms.get(atom)
    {
        return argument[0].clone().to_the_rational(exponent, atoms);
    }
    let atom = atoms.number(Atom::Power(Atoms::EULER, monomial.clone()));
    let term = Monomial(vec![(atom, exponent)]);
    Ok(Fraction::polynomial(Polynomial::term(term, BigRational::one(), atoms)?))
}

fn polynomial_power(base: &Polynomial, exponent: Exponent, atoms: &mut Atoms) -> Read<Fraction> {
    if let Some((monomial, coefficient)) = base.as_term() {
        return term_power(monomial, coefficient, exponent, atoms);
    }
    if exponent.is_integer() {
        let power = exponent.to_integer();
        if power.abs() <= bounds::EXPANDED_POWER {
            let mut product = Polynomial::constant(BigRational::one());
            for _ in 0..power.abs() {
                product = product.times(base, atoms)?;
            }
            return match power > 0 {
                true => Ok(Fraction::polynomial(product)),
                false => Fraction::new(Polynomial::constant(BigRational::one()), product, atoms),
            };
        }
        return sum_power(base, exponent, atoms);
    }
    if *exponent.denom() == 2
        && let Some(root) = denested(base, atoms)?
    {
        let twice = checked(exponent.checked_mul(&Exponent::from_integer(2)))?;
        return root.to_the_rational(twice, atoms);
    }
    // Out of the root comes what all terms share: √(4x + 8) = 2·√(x + 2).
    let content = base.content(atoms)?;
    let primitive = base.scaled(&content.recip(), atoms)?;
    let outside = term_power(&Monomial::one(), &content, exponent, atoms)?;
    let whole = exponent.floor();
    let part = sum_power(&primitive, exponent - whole, atoms)?;
    let power = polynomial_power(&primitive, whole, atoms)?;
    let power = if whole.is_zero() { Fraction::integer(1) } else { power };
    outside.times(&part, atoms)?.times(&power, atoms)
}

/// A sum to a power that is not multiplied out.
fn sum_power(base: &Polynomial, exponent: Exponent, atoms: &mut Atoms) -> Read<Fraction> {
    let atom = atoms.number(Atom::Sum(base.clone()));
    let mut power = Polynomial::zero();
    power.terms.insert(Monomial(vec![(atom, exponent)]), BigRational::one());
    Ok(Fraction::polynomial(power))
}

/// (c·m)^r.
fn term_power(
    monomial: &Monomial,
    coefficient: &BigRational,
    exponent: Exponent,
    atoms: &mut Atoms,
) -> Read<Fraction> {
    let even_root = exponent.denom() % 2 == 0;
    let mut powers = Vec::new();
    for (atom, before) in &monomial.0 {
        let after = checked(before.checked_mul(&exponent))?;
        let signed = matches!(
            atoms.get(*atom),
            Atom::Variable(_)
                | Atom::Function(Function::Sin | Function::Cos | Function::Named(_), _)
        );
        let was_even = before.is_integer() && before.to_integer() % 2 == 0;
        let is_odd = after.is_integer() && after.to_integer() % 2 != 0;
        if even_root && signed && was_even && is_odd {
            let inside = Fraction::atom(atoms.get(*atom).clone(), atoms);
            powers.push((atoms.number(Atom::Function(Function::Abs, vec![inside])), after));
        } else {
            powers.push((*atom, after));
        }
    }
    powers.sort_unstable_by_key(|(atom, _)| *atom);
    let powers = Monomial(powers);
    if exponent.is_integer() {
        let power = exponent.to_integer();
        if let Some(value) = integer_power(coefficient, power) {
            return Ok(Fraction::polynomial(Polynomial::term(powers, value, atoms)?));
        }
    }
    let sign = match (coefficient.is_negative(), even_root) {
        (false, _) => Fraction::integer(1),
        (true, false) if exponent.numer() % 2 == 0 => Fraction::integer(1),
        (true, false) => Fraction::integer(-1),
        (true, true) if *exponent.denom() == 2 => {
            let power = Exponent::from_integer(exponent.numer().rem_euclid(4));
            let unit = Monomial(vec![(Atoms::IMAGINARY, power)]);
            Fraction::polynomial(Polynomial::term(unit, BigRational::one(), atoms)?)
        }
        (true, true) => {
            let base = Polynomial::term(monomial.clone(), coefficient.clone(), atoms)?;
            let exponent = Fraction::constant(rational(exponent));
            return opaque(&Fraction::polynomial(base), &exponent, atoms);
        }
    };
    let mut roots = prime_powers(&coefficient.abs(), atoms)?;
    for (_, power) in &mut roots {
        *power = checked(power.checked_mul(&exponent))?;
    }
    roots.sort_unstable_by_key(|(atom, _)| *atom);
    let term = Monomial(roots).times(&powers)?;
    let term = Fraction::polynomial(Polynomial::term(term, BigRational::one(), atoms)?);
    sign.times(&term, atoms)
}

/// A positive rational number as powers of primes.
fn prime_powers(value: &BigRational, atoms: &mut Atoms) -> Read<Vec<(usize, Exponent)>> {
    bounded(value)?;
    let mut powers = Vec::new();
    for (part, sign) in [(value.numer(), 1), (value.denom(), -1)] {
        for (prime, power) in factors(&magnitude(part), atoms)? {
            let exponent = Exponent::from_integer(sign * i64::from(power));
            powers.push((atoms.number(Atom::Prime(prime)), exponent));
        }
    }
    Ok(powers)
}

/// √(a + b√c) as √((a+d)/2) ± √((a-d)/2), where d² = a² - b²c is the square of a rational number.
fn denested(base: &Polynomial, atoms: &mut Atoms) -> Read<Option<Fraction>> {
    let Some(a) = base.terms.get(&Monomial::one()).filter(|a| a.is_positive()).cloned() else {
        return Ok(None);
    };
    if base.terms.len() != 2 {
        return Ok(None);
    }
    let Some((surd, b)) = base.terms.iter().find(|(monomial, _)| !monomial.is_one()) else {
        return Ok(None);
    };
    let b_negative = b.is_negative();
    let square = Polynomial::term(surd.clone(), b.clone(), atoms)?;
    let Some(square) = square.times(&square, atoms)?.as_rational() else { return Ok(None) };
    let difference = &a * &a - square;
    if difference.is_negative() {
        return Ok(None);
    }
    let Some(d) = rational_square_root(&difference) else { return Ok(None) };
    let two = BigRational::from_integer(2.into());
    let greater = Fraction::constant((&a + &d) / &two).square_root(atoms)?;
    let lesser = Fraction::constant((&a - &d) / &two).square_root(atoms)?;
    Ok(Some(match b_negative {
        true => greater.minus(&lesser, atoms)?,
        false => greater.plus(&lesser, atoms)?,
    }))
}

fn rational_square_root(value: &BigRational) -> Option<BigRational> {
    let root = |part: &BigInt| -> Option<BigInt> {
        super::factor::exact_root(&magnitude(part), 2).map(|root: BigUint| root.into())
    };
    Some(BigRational::new_raw(root(value.numer())?, root(value.denom())?))
}

/// A power that no rule resolves.
fn opaque(base: &Fraction, exponent: &Fraction, atoms: &mut Atoms) -> Read<Fraction> {
    let arguments = vec![base.clone(), exponent.clone()];
    Ok(Fraction::atom(Atom::Function(Function::Power, arguments), atoms))
}

pub(super) fn small(value: &BigRational) -> Read<Exponent> {
    match (value.numer().to_i64(), value.denom().to_i64()) {
        (Some(n), Some(d)) if n.abs() <= bounds::EXPONENT && d <= bounds::ROOT => {
            Ok(Exponent::new(n, d))
        }
        _ => Err(Unreadable::Bound),
    }
}

pub(super) fn rational(exponent: Exponent) -> BigRational {
    BigRational::new((*exponent.numer()).into(), (*exponent.denom()).into())
}
