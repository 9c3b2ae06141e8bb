//! Whether two numbers or expressions are equal: exactly first, in floating point last.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Pow, Signed};

use super::algebra::{Atom, Fraction, POINTS, float};
use super::bounds::{Read, Unreadable};
use super::compare::Comparison;
use super::unit::Unit;
use super::value::{Scalar, ScalarKind};

/// Part of its terms' sizes below which a difference is rounding.
const ROUNDING: f64 = 1e-11;
/// How far a decimal may be from the value that it stands for, whatever its last digit.
const DECIMAL: f64 = 1e-6;
/// Noise of floating point in a number that a program printed.
const PRINTED: f64 = 4e-15;

impl Comparison<'_> {
    pub(super) fn same_scalar(&mut self, a: &Scalar, b: &Scalar) -> Read<bool> {
        use ScalarKind::{Based, Degrees, Percent, Plain, Quantity};
        let decimals = [a.decimals, b.decimals];
        match (&a.kind, &b.kind) {
            (Percent, Plain | Based) => self.same_percent(a, b),
            (Plain | Based, Percent) => self.same_percent(b, a),
            (Degrees, Plain | Based) => self.same_degrees(a, b),
            (Plain | Based, Degrees) => self.same_degrees(b, a),
            (Degrees, Quantity(unit)) | (Quantity(unit), Degrees)
                if *unit == Unit::Label("radians".into()) =>
            {
                let (degrees, radians) = if a.kind == Degrees { (a, b) } else { (b, a) };
                let turned = self.in_radians(&degrees.value)?;
                self.same_number(&turned, &radians.value, decimals)
            }
            (
                Quantity(Unit::Measure { bases: x, size: m }),
                Quantity(Unit::Measure { bases: y, size: n }),
            ) => {
                if x != y {
                    return Ok(false);
                }
                if m == n {
                    return self.same_number(&a.value, &b.value, decimals);
                }
                let left = a.value.times(&Fraction::constant(m.clone()), self.atoms)?;
                let right = b.value.times(&Fraction::constant(n.clone()), self.atoms)?;
                self.same_number(&left, &right, [None, None])
            }
            (Quantity(Unit::Measure { .. }), Degrees | Percent)
            | (Degrees | Percent, Quantity(Unit::Measure { .. }))
            | (Degrees, Percent)
            | (Percent, Degrees) => Ok(false),
            (x, y) => {
                let one_sided = matches!(x, Quantity(_)) != matches!(y, Quantity(_));
                let same = self.same_number(&a.value, &b.value, decimals)?;
                self.unit |= same && one_sided;
                Ok(same)
            }
        }
    }

    /// 50 % is 50, or 1/2.
    fn same_percent(&mut self, percent: &Scalar, plain: &Scalar) -> Read<bool> {
        let decimals = [percent.decimals, plain.decimals];
        self.percent = true;
        if self.same_number(&percent.value, &plain.value, decimals)? {
            return Ok(true);
        }
        let part = percent.value.over(&Fraction::integer(100), self.atoms)?;
        let decimals = [percent.decimals.map(|decimals| decimals + 2), plain.decimals];
        let same = self.same_number(&part, &plain.value, decimals)?;
        self.percent = same;
        Ok(same)
    }

    /// 90° is 90, or π/2.
    fn same_degrees(&mut self, degrees: &Scalar, plain: &Scalar) -> Read<bool> {
        let decimals = [degrees.decimals, plain.decimals];
        self.degrees = true;
        if self.same_number(&degrees.value, &plain.value, decimals)? {
            return Ok(true);
        }
        let turned = self.in_radians(&degrees.value)?;
        let same = self.same_number(&turned, &plain.value, [None, None])?;
        self.degrees = same;
        Ok(same)
    }

    fn in_radians(&mut self, degrees: &Fraction) -> Read<Fraction> {
        let radian = Fraction::atom(Atom::Pi, self.atoms);
        let radian = radian.over(&Fraction::integer(180), self.atoms)?;
        degrees.times(&radian, self.atoms)
    }

    /// `decimals`: digits behind the point, of sides that were written as decimals.
    pub(super) fn same_number(
        &mut self,
        a: &Fraction,
        b: &Fraction,
        decimals: [Option<u32>; 2],
    ) -> Read<bool> {
        if let (Some(a), Some(b)) = (a.as_rational(), b.as_rational()) {
            return Ok(a == b || self.same_decimal(&a, &b, decimals));
        }
        let difference = match a.difference(b, self.atoms) {
            Ok(difference) if difference.is_zero() => return Ok(true),
            Ok(difference) => Some(difference),
            Err(Unreadable::Bound) => None,
            Err(other) => return Err(other),
        };
        if decimals.iter().any(Option::is_some) && !a.has_variables(self.atoms) {
            let (Some(x), Some(y)) = (a.at(self.atoms, 0), b.at(self.atoms, 0)) else {
                return Ok(false);
            };
            let real =
                x.im.abs() < 1e-12 * x.norm() + 1e-300 && y.im.abs() < 1e-12 * y.norm() + 1e-300;
            let close = real && close_decimal(x.re, y.re, (x.re - y.re).abs(), decimals);
            self.rounded |= close;
            return Ok(close);
        }
        // Independent atoms: the difference is a real one.
        if difference.is_some() && !self.atoms.dependent {
            return Ok(false);
        }
        self.same_in_floating_point(a, b, difference.as_ref())
    }

    /// The last resort: both agree at fixed points.
    fn same_in_floating_point(
        &mut self,
        a: &Fraction,
        b: &Fraction,
        difference: Option<&super::algebra::Polynomial>,
    ) -> Read<bool> {
        let variables = a.has_variables(self.atoms) || b.has_variables(self.atoms);
        let points = if variables { POINTS } else { 1 };
        let mut agreed = 0;
        for point in 0..points {
            self.atoms.spend(200)?;
            let (Some(x), Some(y)) = (a.at(self.atoms, point), b.at(self.atoms, point)) else {
                continue;
            };
            let gap = (x.re - y.re).hypot(x.im - y.im);
            let close = gap <= 1e-9 * x.norm().max(y.norm());
            // Values near zero are compared with the terms that they are sums of.
            let vanishes = || {
                difference
                    .and_then(|d| d.at(self.atoms, point))
                    .is_some_and(|(value, size)| value.norm() <= ROUNDING * size)
            };
            if !(close || vanishes()) {
                return Ok(false);
            }
            agreed += 1;
        }
        // Half of the points lie where every variable is positive; logarithms and roots may want that.
        let enough = agreed >= if variables { POINTS / 2 } else { 1 };
        self.numeric |= enough;
        Ok(enough)
    }

    fn same_decimal(
        &mut self,
        a: &BigRational,
        b: &BigRational,
        decimals: [Option<u32>; 2],
    ) -> bool {
        let Some(least) = decimals.iter().flatten().min() else { return false };
        let gap = (a - b).abs();
        // Less than one in the last digit that was written.
        let ten: BigInt = BigInt::from(10).pow((*least).min(2_000));
        let within = &gap * BigRational::from_integer(ten) < BigRational::one();
        let (Some(x), Some(y), Some(gap)) = (float(a), float(b), float(&gap)) else { return false };
        let size = x.abs().max(y.abs());
        let close = (within && gap <= DECIMAL * size * (1.0 + 1e-9)) || gap <= PRINTED * size;
        self.rounded |= close;
        close
    }
}

fn close_decimal(a: f64, b: f64, gap: f64, decimals: [Option<u32>; 2]) -> bool {
    let Some(least) = decimals.iter().flatten().min() else { return false };
    let last_digit = 10f64.powi(-((*least).min(300) as i32));
    let size = a.abs().max(b.abs());
    (gap < last_digit && gap <= DECIMAL * size) || gap <= PRINTED * size
}
