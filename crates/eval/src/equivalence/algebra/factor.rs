//! Factoring by trial division, and exact integer roots.

use num_bigint::BigUint;
use num_integer::Integer;
use num_traits::{One, ToPrimitive, Zero};

use super::super::bounds::Read;
use super::Atoms;

/// Factors below this are found. What remains is treated as a prime: it is one below the square of this.
const TRIED: u32 = 2_000;

/// Prime factors with their powers; the last may be a cofactor that trial division cannot split.
pub(super) fn factors(number: &BigUint, atoms: &mut Atoms) -> Read<Vec<(BigUint, u32)>> {
    let mut found = Vec::new();
    let mut rest = number.clone();
    if rest.is_zero() {
        return Ok(found);
    }
    let twos = rest.trailing_zeros().unwrap_or(0);
    if twos > 0 {
        rest >>= twos;
        found.push((BigUint::from(2u32), twos as u32));
    }
    let mut candidate = 3u32;
    while candidate < TRIED && !rest.is_one() {
        if rest.to_u64().is_some_and(|rest| u64::from(candidate) * u64::from(candidate) > rest) {
            break;
        }
        atoms.spend(1 + rest.bits() / 64)?;
        let mut power = 0;
        // One division a candidate; a second big number only where it divides.
        while (&rest % candidate).is_zero() {
            atoms.spend(1 + rest.bits() / 64)?;
            rest /= candidate;
            power += 1;
        }
        if power > 0 {
            found.push((BigUint::from(candidate), power));
        }
        candidate += 2;
    }
    if !rest.is_one() {
        let (base, power) = perfect_power(rest, atoms)?;
        found.push((base, power));
    }
    Ok(found)
}

/// Writes a number without small factors as the highest perfect power it is.
fn perfect_power(number: BigUint, atoms: &mut Atoms) -> Read<(BigUint, u32)> {
    // Without factors below 2000 the base has at least 11 bits.
    let highest = (number.bits() / 10).min(60) as u32;
    let (mut base, mut power) = (number, 1);
    for prime in [2u32, 3, 5, 7, 11, 13] {
        while prime <= highest / power.max(1) {
            let words = base.bits() / 64 + 1;
            atoms.spend(20 * words * words)?;
            match exact_root(&base, prime) {
                Some(root) => {
                    base = root;
                    power *= prime;
                }
                None => break,
            }
        }
    }
    Ok((base, power))
}

/// The integer root, where there is one.
pub(super) fn exact_root(number: &BigUint, degree: u32) -> Option<BigUint> {
    let root = number.nth_root(degree);
    (root.pow(degree) == *number).then_some(root)
}

/// How often `base` divides `number`, which is not zero, up to `most`; and what remains.
pub(super) fn valuation(number: &BigUint, base: &BigUint, most: u32) -> (BigUint, u32) {
    let (mut rest, mut power) = (number.clone(), 0);
    while power < most {
        let (quotient, remainder) = rest.div_rem(base);
        if !remainder.is_zero() {
            break;
        }
        rest = quotient;
        power += 1;
    }
    (rest, power)
}
