//! Sine and cosine: exact at many multiples of π, in normal form elsewhere.

use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::super::bounds::Read;
use super::{Atom, Atoms, Exponent, Fraction, Function, Monomial};

pub(crate) fn sine(argument: &Fraction, atoms: &mut Atoms) -> Read<Fraction> {
    if let Some(turns) = multiple_of_pi(argument) {
        return sine_of_pi_times(&turns, atoms);
    }
    let (argument, flipped) = without_sign(argument);
    let value = Fraction::atom(Atom::Function(Function::Sin, vec![argument]), atoms);
    Ok(if flipped { value.negated() } else { value })
}

pub(crate) fn cosine(argument: &Fraction, atoms: &mut Atoms) -> Read<Fraction> {
    if let Some(turns) = multiple_of_pi(argument) {
        return cosine_of_pi_times(&turns, atoms);
    }
    let (argument, _) = without_sign(argument);
    Ok(Fraction::atom(Atom::Function(Function::Cos, vec![argument]), atoms))
}

/// r where the value is r·π.
pub(crate) fn multiple_of_pi(value: &Fraction) -> Option<BigRational> {
    if value.is_zero() {
        return Some(BigRational::zero());
    }
    let (monomial, coefficient) =
        value.is_polynomial().then(|| value.numerator.as_term()).flatten()?;
    (*monomial == Monomial::atom(Atoms::PI)).then(|| coefficient.clone())
}

/// sin(-x) = -sin x: the argument with a positive leading coefficient, and whether it was turned.
fn without_sign(argument: &Fraction) -> (Fraction, bool) {
    let leading = argument.numerator.terms.last_key_value();
    match leading.is_some_and(|(_, coefficient)| coefficient.is_negative()) {
        true => (argument.clone().negated(), true),
        false => (argument.clone(), false),
    }
}

pub(crate) fn sine_of_pi_times(turns: &BigRational, atoms: &mut Atoms) -> Read<Fraction> {
    cosine_of_pi_times(&(half() - turns), atoms)
}

pub(crate) fn cosine_of_pi_times(turns: &BigRational, atoms: &mut Atoms) -> Read<Fraction> {
    // cos is even and has period 2: into [0, 1], then by cos(π - x) = -cos x into [0, 1/2].
    let two = BigRational::from_integer(2.into());
    let mut angle = turns - (turns / &two).floor() * &two;
    if angle > BigRational::one() {
        angle = two - angle;
    }
    let flipped = angle > half();
    if flipped {
        angle = BigRational::one() - angle;
    }
    let value = first_quadrant(&angle, atoms)?;
    Ok(if flipped { value.negated() } else { value })
}

/// cos(rπ) for r in [0, 1/2].
fn first_quadrant(angle: &BigRational, atoms: &mut Atoms) -> Read<Fraction> {
    let root = |n: i64, atoms: &mut Atoms| Fraction::integer(n).square_root(atoms);
    let over =
        |value: Fraction, n: i64, atoms: &mut Atoms| value.over(&Fraction::integer(n), atoms);
    let key = (angle.numer().to_i64(), angle.denom().to_i64());
    match key {
        (Some(0), Some(1)) => Ok(Fraction::integer(1)),
        (Some(1), Some(2)) => Ok(Fraction::integer(0)),
        (Some(1), Some(3)) => over(Fraction::integer(1), 2, atoms),
        (Some(1), Some(4)) => over(root(2, atoms)?, 2, atoms),
        (Some(1), Some(6)) => over(root(3, atoms)?, 2, atoms),
        (Some(n @ (1 | 5)), Some(12)) => {
            let (six, two) = (root(6, atoms)?, root(2, atoms)?);
            let sum = if n == 1 { six.plus(&two, atoms)? } else { six.minus(&two, atoms)? };
            over(sum, 4, atoms)
        }
        (Some(n @ (1 | 2)), Some(5)) => {
            let sign = if n == 1 { 1 } else { -1 };
            let sum = root(5, atoms)?.plus(&Fraction::integer(sign), atoms)?;
            over(sum, 4, atoms)
        }
        // cos x = √((1 + cos 2x) / 2)
        (Some(_), Some(8 | 10 | 16 | 20 | 24)) => {
            let double = angle * BigRational::from_integer(2.into());
            let double = cosine_of_pi_times(&double, atoms)?;
            let sum = double.plus(&Fraction::integer(1), atoms)?;
            over(sum, 2, atoms)?.to_the_rational(Exponent::new(1, 2), atoms)
        }
        _ => {
            let pi = Fraction::atom(Atom::Pi, atoms);
            let argument = pi.times(&Fraction::constant(angle.clone()), atoms)?;
            Ok(Fraction::atom(Atom::Function(Function::Cos, vec![argument]), atoms))
        }
    }
}

fn half() -> BigRational {
    BigRational::new(1.into(), 2.into())
}
