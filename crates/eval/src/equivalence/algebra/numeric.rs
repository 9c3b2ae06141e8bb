//! Values in floating point, at fixed points: the last resort of a comparison.
//!
//! Only `+ - × ÷` and functions of the standard library are used; a verdict needs agreement to 1e-9 at every point, and
//! disagreement where it matters is far above that, so the last bits, which may differ between machines, do not count.

use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::{Atom, Atoms, Fraction, Function, Monomial, Polynomial};

/// Points at which expressions with variables are compared.
pub(crate) const POINTS: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Complex {
    pub(crate) re: f64,
    pub(crate) im: f64,
}

impl Complex {
    const ONE: Self = Self { re: 1.0, im: 0.0 };

    fn real(re: f64) -> Self {
        Self { re, im: 0.0 }
    }

    fn plus(self, other: Self) -> Self {
        Self { re: self.re + other.re, im: self.im + other.im }
    }

    fn times(self, other: Self) -> Self {
        Self {
            re: self.re * other.re - self.im * other.im,
            im: self.re * other.im + self.im * other.re,
        }
    }

    fn over(self, other: Self) -> Self {
        let norm = other.re * other.re + other.im * other.im;
        let product = self.times(Self { re: other.re, im: -other.im });
        Self { re: product.re / norm, im: product.im / norm }
    }

    pub(crate) fn norm(self) -> f64 {
        self.re.hypot(self.im)
    }

    fn ln(self) -> Self {
        Self { re: self.norm().ln(), im: self.im.atan2(self.re) }
    }

    fn exp(self) -> Self {
        let size = self.re.exp();
        Self { re: size * self.im.cos(), im: size * self.im.sin() }
    }

    fn power(self, exponent: Self) -> Self {
        if self.norm() == 0.0 {
            return if exponent.re > 0.0 { Self::real(0.0) } else { Self::real(f64::NAN) };
        }
        if self.im == 0.0 && exponent.im == 0.0 && (self.re > 0.0 || exponent.re.fract() == 0.0) {
            return Self::real(self.re.powf(exponent.re));
        }
        self.ln().times(exponent).exp()
    }

    fn finite(self) -> Option<Self> {
        (self.re.is_finite() && self.im.is_finite()).then_some(self)
    }
}

impl Fraction {
    /// The value at one of the [`POINTS`]; `None` where it is not finite or not defined.
    pub(crate) fn at(&self, atoms: &Atoms, point: usize) -> Option<Complex> {
        let numerator = self.numerator.at(atoms, point)?.0;
        if self.is_polynomial() {
            return Some(numerator);
        }
        numerator.over(self.denominator.at(atoms, point)?.0).finite()
    }
}

impl Polynomial {
    /// The value at a point, and the sum of the sizes of the terms, which tells how much of it is rounding.
    pub(crate) fn at(&self, atoms: &Atoms, point: usize) -> Option<(Complex, f64)> {
        self.at_depth(atoms, point, 0)
    }

    fn at_depth(&self, atoms: &Atoms, point: usize, depth: usize) -> Option<(Complex, f64)> {
        let (mut sum, mut size) = (Complex::real(0.0), 0.0);
        for (monomial, coefficient) in &self.terms {
            let term =
                Complex::real(float(coefficient)?).times(value(monomial, atoms, point, depth)?);
            sum = sum.plus(term);
            size += term.norm();
        }
        Some((sum.finite()?, size))
    }
}

fn value(monomial: &Monomial, atoms: &Atoms, point: usize, depth: usize) -> Option<Complex> {
    let mut product = Complex::ONE;
    for (atom, exponent) in &monomial.0 {
        let base = atom_value(*atom, atoms, point, depth)?;
        let exponent = *exponent.numer() as f64 / *exponent.denom() as f64;
        product = product.times(base.power(Complex::real(exponent)));
    }
    product.finite()
}

fn atom_value(atom: usize, atoms: &Atoms, point: usize, depth: usize) -> Option<Complex> {
    if depth > super::super::bounds::DEPTH {
        return None;
    }
    let inside = |argument: &Fraction| -> Option<Complex> {
        let numerator = argument.numerator.at_depth(atoms, point, depth + 1)?.0;
        let denominator = argument.denominator.at_depth(atoms, point, depth + 1)?.0;
        numerator.over(denominator).finite()
    };
    let value = match atoms.get(atom) {
        Atom::Imaginary => Complex { re: 0.0, im: 1.0 },
        Atom::Pi => Complex::real(std::f64::consts::PI),
        Atom::Euler => Complex::real(std::f64::consts::E),
        Atom::Variable(name) => Complex::real(sample(name, point)),
        Atom::Prime(prime) => Complex::real(prime.to_f64()?),
        Atom::Sum(sum) => sum.at_depth(atoms, point, depth + 1)?.0,
        Atom::Power(base, exponent) => {
            let base = atom_value(*base, atoms, point, depth + 1)?;
            base.power(value(exponent, atoms, point, depth + 1)?)
        }
        Atom::Function(function, arguments) => {
            let first = inside(&arguments[0])?;
            let second = arguments.get(1).map(inside);
            apply(function, first, second)?
        }
    };
    value.finite()
}

fn apply(function: &Function, x: Complex, second: Option<Option<Complex>>) -> Option<Complex> {
    let real = |f: fn(f64) -> f64| {
        (x.im.abs() < 1e-12 * (1.0 + x.re.abs())).then(|| Complex::real(f(x.re)))
    };
    let i = Complex { re: 0.0, im: 1.0 };
    match function {
        Function::Ln => Some(x.ln()),
        Function::Abs => Some(Complex::real(x.norm())),
        Function::Sin | Function::Cos => {
            let (up, down) = (x.times(i).exp(), Complex::ONE.over(x.times(i).exp()));
            Some(match function {
                Function::Sin => {
                    up.plus(Complex::real(-1.0).times(down)).over(Complex { re: 0.0, im: 2.0 })
                }
                _ => up.plus(down).over(Complex::real(2.0)),
            })
        }
        Function::Arcsin => real(f64::asin),
        Function::Arccos => real(f64::acos),
        Function::Arctan => real(f64::atan),
        Function::Floor => real(f64::floor),
        Function::Ceiling => real(f64::ceil),
        Function::Power => Some(x.power(second??)),
        Function::Minimum => Some(Complex::real(x.re.min(second??.re))),
        Function::Maximum => Some(Complex::real(x.re.max(second??.re))),
        Function::Factorial | Function::Binomial | Function::Named(_) => None,
    }
}

/// A fixed value for a variable, different at every point and for every name, of either sign.
fn sample(name: &str, point: usize) -> f64 {
    // FNV-1a: the same on every machine.
    let hash = name.bytes().chain([point as u8]).fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let size = 0.3 + (hash >> 40) as f64 / (1u64 << 24) as f64 * 1.9;
    // Most formulas are meant for positive values: the first half of the points is positive throughout. Then one is
    // negative throughout, which tells |x| from x.
    let negative = point == POINTS / 2 || (point > POINTS / 2 && hash & 1 == 1);
    if negative { -size } else { size }
}

/// The nearest floating point number, also of quotients whose parts do not fit.
pub(crate) fn float(value: &BigRational) -> Option<f64> {
    if value.is_zero() {
        return Some(0.0);
    }
    if value.denom().is_one() && value.numer().bits() < 1_000 {
        return value.numer().to_f64();
    }
    let (n, d) = (value.numer().abs(), value.denom());
    let shift = n.bits() as i64 - d.bits() as i64 - 60;
    let quotient = if shift > 0 { (n >> shift) / d } else { (n << -shift) / d };
    let size = quotient.to_f64()? * 2f64.powi(i32::try_from(shift).ok()?);
    let value = if value.is_negative() { -size } else { size };
    value.is_finite().then_some(value)
}
