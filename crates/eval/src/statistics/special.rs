//! The three special functions that exact intervals need. Checked against SciPy in `tests/statistics.rs`.

/// Natural logarithm of the gamma function for `x > 0` (Lanczos, g = 7, 9 terms; about 15 digits).
pub(crate) fn ln_gamma(x: f64) -> f64 {
    const G: f64 = 7.0;
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        let pi = std::f64::consts::PI;
        return (pi / (pi * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let series =
        TERMS[1..].iter().zip(1..).fold(TERMS[0], |sum, (term, i)| sum + term / (x + f64::from(i)));
    let t = x + G + 0.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + series.ln()
}

/// Natural logarithm of the binomial coefficient `n` over `k`.
pub(crate) fn ln_choose(n: u64, k: u64) -> f64 {
    ln_gamma(n as f64 + 1.0) - ln_gamma(k as f64 + 1.0) - ln_gamma((n - k) as f64 + 1.0)
}

/// Regularized incomplete beta function, by Lentz's continued fraction (DLMF 8.17.22).
pub(crate) fn beta_inc(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast only left of the mean; the other side follows by symmetry.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_inc(b, a, 1.0 - x);
    }
    let front = ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p();
    front.exp() * beta_fraction(a, b, x) / a
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    const MOST_TERMS: u32 = 10_000;
    let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut value = d;
    for m in 1..=MOST_TERMS {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away_from_zero(1.0 + even * d);
        c = away_from_zero(1.0 + even / c);
        value *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away_from_zero(1.0 + odd * d);
        c = away_from_zero(1.0 + odd / c);
        value *= d * c;
        if (d * c - 1.0).abs() < 1e-16 {
            break;
        }
    }
    value
}

/// The `x` at which [`beta_inc`] is `probability`, by bisection down to neighbouring floats.
pub(crate) fn beta_quantile(a: f64, b: f64, probability: f64) -> f64 {
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return middle;
        }
        if beta_inc(a, b, middle) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// Two-sided 95 % quantile of Student's t: 12.706 at one degree of freedom, 1.96 at infinity.
pub(crate) fn t_95(degrees: f64) -> f64 {
    // With y = t² / (df + t²), P(|T| < t) = I_y(1/2, df/2). This side keeps its digits at many degrees of freedom.
    let y = beta_quantile(0.5, 0.5 * degrees, 0.95);
    (degrees * y / (1.0 - y)).sqrt()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_incomplete_beta_function_matches_scipy() {
        let cases = include_str!("../../tests/cases/statistics_scipy.jsonl");
        let mut checked = 0;
        for line in cases.lines() {
            let case: Value = serde_json::from_str(line).expect("a case is JSON");
            if case["kind"] != "beta_inc" {
                continue;
            }
            let get = |name: &str| case["input"][name].as_f64().expect("a number");
            let found = beta_inc(get("a"), get("b"), get("x"));
            let expected = case["expected"]["value"].as_f64().expect("a number");
            assert!((found - expected).abs() < 1e-12, "{case}: {found}");
            checked += 1;
        }
        assert_eq!(checked, 5);
    }
}
