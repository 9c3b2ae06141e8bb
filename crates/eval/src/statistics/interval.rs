//! 95 % confidence intervals.

use serde::{Deserialize, Serialize};

use super::Z_95;
use super::special::{beta_quantile, t_95};

/// A 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub lower: f64,
    pub upper: f64,
}

/// Wilson's score interval (Wilson 1927) for `right` of `n`: inside 0 to 1, and honest at 0 of 30.
///
/// `right` may be fractional, for a published share of `n` questions. Of nothing, everything is possible.
pub fn wilson(right: f64, n: u64) -> Interval {
    if n == 0 {
        return Interval { lower: 0.0, upper: 1.0 };
    }
    let n = n as f64;
    let (share, z2) = (right / n, Z_95 * Z_95);
    let centre = share + z2 / (2.0 * n);
    let half = Z_95 * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    // At the ends the bound is the end itself, which rounding would miss by an ulp.
    Interval {
        lower: if right <= 0.0 { 0.0 } else { ((centre - half) / scale).max(0.0) },
        upper: if right >= n { 1.0 } else { ((centre + half) / scale).min(1.0) },
    }
}

/// The exact binomial interval (Clopper and Pearson 1934): never too narrow, often too wide.
pub fn clopper_pearson(right: u64, n: u64) -> Interval {
    let (k, rest) = (right as f64, n.saturating_sub(right) as f64);
    Interval {
        lower: if right == 0 { 0.0 } else { beta_quantile(k, rest + 1.0, 0.025) },
        upper: if right >= n { 1.0 } else { beta_quantile(k + 1.0, rest, 0.975) },
    }
}

/// Student's t interval around a mean of `n` questions; `None` below two of them.
pub fn t_interval(mean: f64, stderr: f64, n: usize) -> Option<Interval> {
    let degrees = n.checked_sub(1).filter(|degrees| *degrees > 0)?;
    let half = if stderr == 0.0 { 0.0 } else { t_95(degrees as f64) * stderr };
    Some(Interval { lower: mean - half, upper: mean + half })
}

/// Interval of `after - before` for two *unrelated* samples (Newcombe 1998, method 10: from the two Wilson intervals).
pub fn newcombe(before: (f64, u64), after: (f64, u64)) -> Interval {
    let share = |(right, n): (f64, u64)| if n == 0 { 0.0 } else { right / n as f64 };
    let (p, q) = (share(before), share(after));
    let (of_p, of_q) = (wilson(before.0, before.1), wilson(after.0, after.1));
    Interval {
        lower: (q - p) - ((q - of_q.lower).powi(2) + (of_p.upper - p).powi(2)).sqrt(),
        upper: (q - p) + ((of_q.upper - q).powi(2) + (p - of_p.lower).powi(2)).sqrt(),
    }
}
