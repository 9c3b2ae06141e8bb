//! Exact algebra: rational functions over the rationals in *atoms*.
//!
//! An atom is a variable, π, e, i, a prime under a root, a sum under a root, a power with a variable exponent, or a
//! function of such things. Primes under roots are the heart of it: with every exponent in [0, 1), the products of
//! powers of distinct primes are linearly independent over the rationals (Besicovitch 1940), so sums of radicals have
//! one normal form, and zero is decided exactly.

mod atom;
mod factor;
mod fraction;
mod function;
mod numeric;
mod polynomial;
mod power;
mod trigonometry;

pub(crate) use atom::{Atom, Atoms, Function};
pub(crate) use fraction::Fraction;
pub(crate) use function::{common, extreme, hyperbolic};
pub(crate) use numeric::{POINTS, float};
pub(crate) use polynomial::{Exponent, Monomial, Polynomial};
pub(crate) use trigonometry::{cosine, sine};

#[cfg(test)]
mod tests;
