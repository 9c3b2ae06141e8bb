//! Two unrelated samples.

use super::special::ln_choose;

/// Fisher's exact test, two-sided: `right` of `n` against `right` of `n`; 1 where a side has no questions.
///
/// Sums the tables with these margins that are no likelier than the one seen, as R and SciPy do.
pub fn fisher((right_a, a): (u64, u64), (right_b, b): (u64, u64)) -> f64 {
    let right = right_a + right_b;
    if a == 0 || b == 0 || right_a > a || right_b > b {
        return 1.0;
    }
    let ln_chance =
        |of_a: u64| ln_choose(a, of_a) + ln_choose(b, right - of_a) - ln_choose(a + b, right);
    let seen = ln_chance(right_a);
    // Equal chances differ by rounding.
    let tail: f64 = (right.saturating_sub(b)..=right.min(a))
        .map(ln_chance)
        .filter(|chance| *chance <= seen + 1e-7)
        .map(f64::exp)
        .sum();
    tail.min(1.0)
}
