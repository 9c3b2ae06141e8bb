//! How much work one comparison may do: sizes and counts, never a clock, so that a verdict is the same on every machine.
//!
//! Comparable to what inspect_ai bounds since its pull request 4361 (August 2026).

/// Bytes of a model's text that are looked at; of a longer one, the end.
pub(crate) const TEXT_BYTES: usize = 1_000_000;
/// Bytes of one candidate answer.
pub(crate) const CANDIDATE_BYTES: usize = 4_096;
/// Brackets, fractions and the like inside each other.
pub(crate) const DEPTH: usize = 48;
/// Tokens of one candidate.
pub(crate) const TOKENS: usize = 1_500;
/// Elements of a list, set, matrix or union.
pub(crate) const ELEMENTS: usize = 256;
/// Digits in a row.
pub(crate) const DIGITS: usize = 1_000;
/// Bits of a numerator or denominator; 2006! has 19,100.
pub(crate) const BITS: u64 = 24_576;
/// Largest n whose factorial is multiplied out.
pub(crate) const FACTORIAL: u32 = 2_200;
/// Terms of a polynomial.
pub(crate) const TERMS: usize = 400;
/// Largest power to which a sum is multiplied out.
pub(crate) const EXPANDED_POWER: i64 = 24;
/// Exponents beyond this are not read.
pub(crate) const EXPONENT: i64 = 1 << 40;
/// Roots beyond this order are not read.
pub(crate) const ROOT: i64 = 360;
/// Work of one comparison, in units of about 10 ns: a term product, a word of a long multiplication, a division tried.
pub(crate) const WORK: u64 = 1_000_000;

/// Why a text was not read as mathematics, or two values not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// No expression of the grammar.
    Syntax,
    /// An expression without a value, such as a division by zero.
    Undefined,
    /// Past one of the bounds above.
    Bound,
}

pub(crate) type Read<T> = Result<T, Unreadable>;
