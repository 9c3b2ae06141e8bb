//! Which tokens are decisions: those of high entropy (arXiv 2506.01939).

/// The entropy from which on a token is among the `quantile` (0 to 1) of highest entropy; ∞ without tokens.
///
/// `entropies`, in nats, are those of all tokens that count in the optimizer window: a threshold of each micro-batch, as
/// TRL takes it, would make the loss depend on how the window is cut. Between two values it is interpolated, as
/// `torch.quantile` does.
pub fn entropy_threshold(entropies: &[f64], quantile: f64) -> f64 {
    let mut sorted = entropies.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::INFINITY };
    let position = (1.0 - quantile).clamp(0.0, 1.0) * last as f64;
    let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    below + (above - below) * position.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.quantile([0.3, 2.0, 0.1, 1.0], 1 - q)`.
    #[test]
    fn the_threshold_is_interpolated_as_in_torch() {
        let entropies = [0.3, 2.0, 0.1, 1.0];
        for (quantile, expected) in [(1.0, 0.1), (0.5, 0.65), (0.2, 1.4), (0.0, 2.0)] {
            let threshold = entropy_threshold(&entropies, quantile);
            assert!((threshold - expected).abs() < 1e-12, "{quantile}: {threshold}");
        }
        assert_eq!(entropy_threshold(&[], 0.2), f64::INFINITY);
    }
}
