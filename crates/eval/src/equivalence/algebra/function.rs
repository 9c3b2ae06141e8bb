//! Functions other than sine and cosine.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::super::bounds::{self, Read, Unreadable};
use super::factor::factors;
use super::polynomial::{bounded, magnitude};
use super::{Atom, Atoms, Fraction, Function, Polynomial, trigonometry};

impl Fraction {
    /// The natural logarithm: ln(12xe²) = 2 ln 2 + ln 3 + ln x + 2.
    pub(crate) fn ln(&self, atoms: &mut Atoms) -> Read<Self> {
        if self.is_zero() {
            return Err(Unreadable::Undefined);
        }
        let mut sum = part_ln(&self.numerator, atoms)?;
        if !self.is_polynomial() {
            sum = sum.minus(&part_ln(&self.denominator, atoms)?, atoms)?;
        }
        Ok(sum)
    }

    pub(crate) fn abs(&self, atoms: &mut Atoms) -> Read<Self> {
        if let Some(negative) = self.constant_sign(atoms) {
            return Ok(if negative { self.clone().negated() } else { self.clone() });
        }
        let imaginary = |p: &Polynomial| {
            p.terms.keys().any(|monomial| !monomial.exponent(Atoms::IMAGINARY).is_zero())
        };
        if self.is_polynomial() && imaginary(&self.numerator) {
            let (real, imaginary) = self.numerator.clone().real_and_imaginary();
            let real = Self::polynomial(real);
            let imaginary = Self::polynomial(imaginary);
            let square = real.times(&real, atoms)?;
            let square = square.plus(&imaginary.times(&imaginary, atoms)?, atoms)?;
            return square.square_root(atoms);
        }
        let leading = self.numerator.terms.last_key_value();
        let turned = leading.is_some_and(|(_, coefficient)| coefficient.is_negative());
        let inside = if turned { self.clone().negated() } else { self.clone() };
        // |c·x| = |c|·|x|
        let content = inside.numerator.content(atoms)?;
        let primitive = Self {
            numerator: inside.numerator.scaled(&content.recip(), atoms)?,
            denominator: inside.denominator,
        };
        let value = Self::atom(Atom::Function(Function::Abs, vec![primitive]), atoms);
        value.times(&Self::constant(content), atoms)
    }

    /// Whether a value without variables is negative.
    pub(crate) fn constant_sign(&self, atoms: &Atoms) -> Option<bool> {
        match self.has_variables(atoms) {
            true => None,
            false => self.is_negative(atoms),
        }
    }

    /// Rounded down (or up).
    pub(crate) fn floor(&self, up: bool, atoms: &mut Atoms) -> Read<Self> {
        if let Some(value) = self.as_rational() {
            return Ok(Self::constant(if up { value.ceil() } else { value.floor() }));
        }
        if !self.has_variables(atoms)
            && let Some(value) = self.at(atoms, 0)
            && value.re.abs() < 1e12
            && (value.re - value.re.round()).abs() > 1e-6
        {
            let rounded = if up { value.re.ceil() } else { value.re.floor() };
            return Ok(Self::integer(rounded as i64));
        }
        let function = if up { Function::Ceiling } else { Function::Floor };
        Ok(Self::atom(Atom::Function(function, vec![self.clone()]), atoms))
    }

    pub(crate) fn factorial(&self, atoms: &mut Atoms) -> Read<Self> {
        if let Some(value) = self.as_rational() {
            if !value.is_integer() || value.is_negative() {
                return Err(Unreadable::Undefined);
            }
            if let Some(n) = value.to_integer().to_u32().filter(|n| *n <= bounds::FACTORIAL) {
                atoms.spend(8 * u64::from(n))?;
                return Ok(Self::constant(BigRational::from_integer(product(1, n))));
            }
        }
        Ok(Self::atom(Atom::Function(Function::Factorial, vec![self.clone()]), atoms))
    }

    /// Γ: (n - 1)! and, at halves, a multiple of √π.
    pub(crate) fn gamma(&self, atoms: &mut Atoms) -> Read<Self> {
        let two = BigRational::from_integer(2.into());
        match self.as_rational() {
            Some(value) if !value.is_integer() && (&value * &two).is_integer() => {
                let mut product = Self::atom(Atom::Pi, atoms).square_root(atoms)?;
                let mut at = BigRational::new(1.into(), 2.into());
                if value < at || value > BigRational::from_integer(100.into()) {
                    return Err(Unreadable::Bound);
                }
                while at < value {
                    product = product.times(&Self::constant(at.clone()), atoms)?;
                    at += BigRational::one();
                }
                Ok(product)
            }
            _ => self.minus(&Self::integer(1), atoms)?.factorial(atoms),
        }
    }

    /// `self` choose `k`.
    pub(crate) fn binomial(&self, k: &Self, atoms: &mut Atoms) -> Read<Self> {
        let whole =
            |f: &Self| f.as_rational().filter(BigRational::is_integer).map(|f| f.to_integer());
        if let (Some(n), Some(k)) = (whole(self), whole(k)) {
            if k.is_negative() || (n >= BigInt::zero() && k > n) {
                return Ok(Self::integer(0));
            }
            let k = if n >= BigInt::zero() { k.clone().min(n.clone() - k) } else { k };
            let k = k.to_u32().filter(|k| *k <= bounds::FACTORIAL).ok_or(Unreadable::Bound)?;
            let words = n.bits() / 64 + 1;
            atoms.spend(u64::from(k) * u64::from(k) * words / 16 + u64::from(k) * words)?;
            if n.bits().saturating_mul(u64::from(k)) > 4 * bounds::BITS {
                return Err(Unreadable::Bound);
            }
            let mut value = BigInt::one();
            for step in 0..k {
                value = value * (&n - step) / (step + 1);
            }
            let value = BigRational::from_integer(value);
            bounded(&value)?;
            return Ok(Self::constant(value));
        }
        if let Some(k) = whole(k).and_then(|k| k.to_u32()).filter(|k| *k <= 8) {
            // A polynomial in n.
            let mut value = Self::integer(1);
            for step in 0..k {
                let factor = self.minus(&Self::integer(step.into()), atoms)?;
                value = value.times(&factor, atoms)?;
                value = value.over(&Self::integer(i64::from(step) + 1), atoms)?;
            }
            return Ok(value);
        }
        let arguments = vec![self.clone(), k.clone()];
        Ok(Self::atom(Atom::Function(Function::Binomial, arguments), atoms))
    }

    /// arcsin, arccos or arctan; exact where the value is a multiple of π/12.
    pub(crate) fn inverse_of(&self, function: Function, atoms: &mut Atoms) -> Read<Self> {
        let (from, to) = if function == Function::Arccos { (0, 12) } else { (-6, 6) };
        for step in from..=to {
            let turns = BigRational::new(step.into(), 12.into());
            let value = match function {
                Function::Arcsin => trigonometry::sine_of_pi_times(&turns, atoms)?,
                Function::Arccos => trigonometry::cosine_of_pi_times(&turns, atoms)?,
                _ if step.abs() == 6 => continue,
                _ => {
                    let sine = trigonometry::sine_of_pi_times(&turns, atoms)?;
                    sine.over(&trigonometry::cosine_of_pi_times(&turns, atoms)?, atoms)?
                }
            };
            if value.equals(self, atoms)? {
                return Self::atom(Atom::Pi, atoms).times(&Self::constant(turns), atoms);
            }
        }
        Ok(Self::atom(Atom::Function(function, vec![self.clone()]), atoms))
    }

    pub(crate) fn has_variables(&self, atoms: &Atoms) -> bool {
        self.numerator.has_variables(atoms) || self.denominator.has_variables(atoms)
    }
}

impl Polynomial {
    pub(crate) fn has_variables(&self, atoms: &Atoms) -> bool {
        let in_monomial = |monomial: &super::Monomial| {
            monomial.0.iter().any(|(atom, _)| atom_has_variables(*atom, atoms))
        };
        self.terms.keys().any(in_monomial)
    }

    fn real_and_imaginary(self) -> (Self, Self) {
        let (mut real, mut imaginary) = (Self::zero(), Self::zero());
        for (mut monomial, coefficient) in self.terms {
            match monomial.exponent(Atoms::IMAGINARY).is_zero() {
                true => real.terms.insert(monomial, coefficient),
                false => {
                    monomial.0.retain(|(atom, _)| *atom != Atoms::IMAGINARY);
                    imaginary.terms.insert(monomial, coefficient)
                }
            };
        }
        (real, imaginary)
    }
}

fn atom_has_variables(atom: usize, atoms: &Atoms) -> bool {
    match atoms.get(atom) {
        Atom::Imaginary | Atom::Pi | Atom::Euler | Atom::Prime(_) => false,
        Atom::Variable(_) | Atom::Function(Function::Named(_), _) => true,
        Atom::Sum(sum) => sum.has_variables(atoms),
        Atom::Power(base, exponent) => {
            atom_has_variables(*base, atoms)
                || exponent.0.iter().any(|(atom, _)| atom_has_variables(*atom, atoms))
        }
        Atom::Function(_, arguments) => arguments.iter().any(|a| a.has_variables(atoms)),
    }
}

/// The product of `from` to `to`, by halves, so that factors stay of equal length.
fn product(from: u32, to: u32) -> BigInt {
    match to.checked_sub(from) {
        None => BigInt::one(),
        Some(count) if count < 8 => (from..=to).map(BigInt::from).product(),
        Some(count) => product(from, from + count / 2) * product(from + count / 2 + 1, to),
    }
}

fn part_ln(part: &Polynomial, atoms: &mut Atoms) -> Read<Fraction> {
    let Some((monomial, coefficient)) = part.as_term() else {
        let whole = Fraction::polynomial(part.clone());
        return Ok(Fraction::atom(Atom::Function(Function::Ln, vec![whole]), atoms));
    };
    let mut sum = Fraction::integer(0);
    if coefficient.is_negative() {
        let turn = Fraction::atom(Atom::Imaginary, atoms);
        sum = turn.times(&Fraction::atom(Atom::Pi, atoms), atoms)?;
    }
    for (part, sign) in [(coefficient.numer(), 1), (coefficient.denom(), -1)] {
        for (prime, power) in factors(&magnitude(part), atoms)? {
            let prime = Fraction::constant(BigRational::from_integer(prime.into()));
            sum = sum.plus(&ln_atom(prime, sign * i64::from(power), atoms)?, atoms)?;
        }
    }
    for (atom, exponent) in &monomial.0 {
        let ln = match atoms.get(*atom).clone() {
            Atom::Euler => Fraction::integer(1),
            Atom::Prime(prime) => {
                ln_atom(Fraction::constant(BigRational::from_integer(prime.into())), 1, atoms)?
            }
            Atom::Power(Atoms::EULER, exponent) => {
                Fraction::polynomial(Polynomial::term(exponent, BigRational::one(), atoms)?)
            }
            other => ln_atom(Fraction::atom(other, atoms), 1, atoms)?,
        };
        let factor = Fraction::constant(super::power::rational(*exponent));
        sum = sum.plus(&ln.times(&factor, atoms)?, atoms)?;
    }
    Ok(sum)
}

fn ln_atom(argument: Fraction, times: i64, atoms: &mut Atoms) -> Read<Fraction> {
    // Logarithms of distinct primes are independent of each other.
    let dependent = atoms.dependent || argument.as_rational().is_none();
    let atom = Fraction::atom(Atom::Function(Function::Ln, vec![argument]), atoms);
    atoms.dependent = dependent;
    atom.times(&Fraction::integer(times), atoms)
}

/// The greatest common divisor or the least common multiple of integers.
pub(crate) fn common(
    arguments: &[Fraction],
    least_multiple: bool,
    atoms: &mut Atoms,
) -> Read<Fraction> {
    use num_integer::Integer;
    let mut result: Option<BigInt> = None;
    for argument in arguments {
        let value = argument.as_rational().filter(BigRational::is_integer);
        let value = value.ok_or(Unreadable::Syntax)?.to_integer();
        let words = value.bits() / 64 + 1;
        atoms.spend(words * words)?;
        result = Some(match result {
            None => value,
            Some(known) if least_multiple => known.lcm(&value),
            Some(known) => known.gcd(&value),
        });
    }
    let value = BigRational::from_integer(result.ok_or(Unreadable::Syntax)?);
    bounded(&value)?;
    Ok(Fraction::constant(value))
}

/// The least or the greatest of some values.
pub(crate) fn extreme(arguments: &[Fraction], greatest: bool, atoms: &mut Atoms) -> Read<Fraction> {
    let mut values = Vec::new();
    for argument in arguments {
        match argument.as_rational() {
            Some(value) => values.push(value),
            None => {
                let function = if greatest { Function::Maximum } else { Function::Minimum };
                return Ok(Fraction::atom(Atom::Function(function, arguments.to_vec()), atoms));
            }
        }
    }
    let value = if greatest { values.into_iter().max() } else { values.into_iter().min() };
    value.map(Fraction::constant).ok_or(Unreadable::Syntax)
}

/// sinh or cosh, through the exponential function.
pub(crate) fn hyperbolic(argument: &Fraction, sine: bool, atoms: &mut Atoms) -> Read<Fraction> {
    let e = Fraction::atom(Atom::Euler, atoms);
    let up = e.to_the(argument, atoms)?;
    let down = e.to_the(&argument.clone().negated(), atoms)?;
    let sum = if sine { up.minus(&down, atoms)? } else { up.plus(&down, atoms)? };
    sum.times(&Fraction::constant(BigRational::new(1.into(), 2.into())), atoms)
}
