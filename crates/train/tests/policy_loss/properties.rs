//! What must hold for any window.

use agentflow_train::policy::loss::LossConfig;
use candle_core::DType;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::rows::{Outcome, Row, assert_close, config, evaluate, whole};

const MAX_LENGTH: usize = 8;

/// Every loss, with everything on that it allows.
fn configs() -> Vec<LossConfig> {
    let full = "beta = 0.2\nclip_high = 0.28\nclip_low = 0.2\ndelta = 1.6";
    [
        format!("kind = 'dapo'\naggregation = 'token_mean'\nentropy_coef = 0.1\n{full}"),
        format!(
            "kind = 'dapo'\naggregation = 'group_token_mean'\ntop_entropy_quantile = 0.5\n{full}"
        ),
        format!("kind = 'grpo'\n{full}"),
        format!("kind = 'dr_grpo'\n{full}"),
        format!("kind = 'gspo'\n{full}"),
        "kind = 'cispo'\naggregation = 'token_mean'\nbeta = 0.2\nclip_high = 1.5".to_owned(),
    ]
    .iter()
    .map(|toml| config(toml))
    .collect()
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let token = (0u8..2, -3.0..0.0, -1.0..1.0, -1.0..1.0, 0.0..3.0);
    let row = (0u64..3, -2.0..2.0, vec(token, 0..6)).prop_map(|(group, advantage, tokens)| Row {
        group,
        advantage,
        mask: tokens.iter().map(|token| token.0).collect(),
        logprobs: tokens.iter().map(|token| token.1).collect(),
        old_logprobs: tokens.iter().map(|token| token.1 + token.2).collect(),
        reference_logprobs: tokens.iter().map(|token| token.1 + token.3).collect(),
        entropies: tokens.iter().map(|token| token.4).collect(),
    });
    vec(row, 1..9)
}

fn compute(rows: &[Row], cut: &[Vec<usize>], config: &LossConfig) -> Outcome {
    evaluate(rows, cut, config, MAX_LENGTH, DType::F64).expect("a loss")
}

fn assert_same(found: &Outcome, wanted: &Outcome, order: &[usize]) {
    assert_close(found.loss, wanted.loss, 1e-12, 1e-13, "loss");
    for (index, &row) in order.iter().enumerate() {
        for (found, wanted) in found.gradients[index].iter().zip(&wanted.gradients[row]) {
            assert_close(*found, *wanted, 1e-12, 1e-13, "gradient");
        }
    }
    assert_eq!(found.metrics.len(), wanted.metrics.len());
    for (key, wanted) in &wanted.metrics {
        assert_close(found.metrics[key], *wanted, 1e-12, 1e-13, key);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Rows in any order, groups under any name and in any order, cut into any micro-batches.
    #[test]
    fn order_and_cut_change_nothing(
        rows in rows(),
        shuffle in any::<prop::sample::Index>(),
        parts in vec(0usize..3, 9),
    ) {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.rotate_left(shuffle.index(rows.len()));
        if parts[0] == 0 {
            order.reverse();
        }
        let shuffled: Vec<Row> = order
            .iter()
            .map(|&row| Row { group: 100 - 7 * rows[row].group, ..rows[row].clone() })
            .collect();
        let of = |part: usize| (0..rows.len()).filter(|&row| parts[row] == part).collect();
        let cut: Vec<Vec<usize>> = (0..3).map(of).collect();
        for config in configs() {
            let wanted = compute(&rows, &whole(&rows), &config);
            let found = compute(&shuffled, &cut, &config);
            assert_same(&found, &wanted, &order);
        }
    }

    /// Tokens that do not count may hold anything, or not be there.
    #[test]
    fn masked_tokens_are_as_if_absent(rows in rows(), junk in vec(0usize..4, 48)) {
        let absent: Vec<Row> = rows.iter().map(Row::only_loss_tokens).collect();
        let mut poisoned = rows.clone();
        let mut junk = junk.iter().map(|&which| [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e30][which]);
        for row in &mut poisoned {
            for token in (0..row.mask.len()).filter(|&token| row.mask[token] == 0) {
                let value = junk.next().unwrap_or(f64::NAN);
                row.logprobs[token] = value;
                row.old_logprobs[token] = -value;
                row.reference_logprobs[token] = value;
                row.entropies[token] = value;
            }
        }
        for config in configs() {
            let wanted = compute(&absent, &whole(&absent), &config);
            let found = compute(&poisoned, &whole(&rows), &config);
            assert_close(found.loss, wanted.loss, 1e-12, 1e-13, "loss");
            for (index, row) in rows.iter().enumerate() {
                let mut wanted = wanted.gradients[index].iter();
                for (found, mask) in found.gradients[index].iter().zip(&row.mask) {
                    let wanted = if *mask == 1 { *wanted.next().expect("a gradient") } else { 0.0 };
                    assert_close(*found, wanted, 1e-12, if *mask == 1 { 1e-13 } else { 0.0 }, "gradient");
                }
            }
        }
    }

    #[test]
    fn an_all_masked_window_gives_zero(mut rows in rows()) {
        for row in &mut rows {
            row.mask.fill(0);
            row.logprobs.fill(f64::NEG_INFINITY);
        }
        for config in configs() {
            let outcome = compute(&rows, &whole(&rows), &config);
            prop_assert_eq!(outcome.loss, 0.0);
            prop_assert!(outcome.gradients.iter().flatten().all(|gradient| *gradient == 0.0));
            prop_assert!(outcome.metrics.values().all(|value| value.is_finite()), "{:?}", outcome.metrics);
        }
    }

    /// On the first pass every ratio is 1, nothing is clipped, and each loss is the plain policy gradient:
    /// d loss / d log π = - A × weight, not zero where the advantage is not.
    #[test]
    fn the_first_pass_is_the_policy_gradient(mut rows in rows()) {
        for row in &mut rows {
            row.old_logprobs.clear();
            row.mask.push(1); // at least one token each
            row.logprobs.push(-1.0);
            row.reference_logprobs.push(-1.0);
            row.entropies.push(1.0);
        }
        let tokens: usize = rows.iter().map(Row::loss_tokens).sum();
        for mut config in configs() {
            (config.beta, config.entropy_coef, config.top_entropy_quantile) = (0.0, 0.0, 1.0);
            let outcome = compute(&rows, &whole(&rows), &config);
            for (row, gradients) in rows.iter().zip(&outcome.gradients) {
                let in_group = rows.iter().filter(|other| other.group == row.group);
                let mut groups: Vec<u64> = rows.iter().map(|row| row.group).collect();
                groups.sort_unstable();
                groups.dedup();
                let kind = format!("{:?} {:?}", config.kind, config.aggregation);
                let count = match kind.as_str() {
                    "Dapo Some(TokenMean)" | "Cispo Some(TokenMean)" => tokens,
                    "Dapo Some(GroupTokenMean)" => {
                        groups.len() * in_group.map(Row::loss_tokens).sum::<usize>()
                    }
                    "DrGrpo None" => rows.len() * MAX_LENGTH,
                    "Grpo None" | "Gspo None" => rows.len() * row.loss_tokens(),
                    other => panic!("no expectation for {other}"),
                };
                for (gradient, mask) in gradients.iter().zip(&row.mask) {
                    let wanted = -row.advantage * f64::from(*mask) / count as f64;
                    assert_close(*gradient, wanted, 1e-12, 1e-15, &kind);
                }
            }
            prop_assert_eq!(outcome.metrics["log_ratio/abs_max"], 0.0);
        }
    }

    /// However far the policy went, loss and gradient stay finite, in f32 as well.
    #[test]
    fn far_off_policy_stays_finite(mut rows in rows(), far in vec(-1e4..1e4, 6)) {
        for row in &mut rows {
            for (token, far) in (0..row.mask.len()).zip(&far) {
                row.old_logprobs[token] += far;
                row.reference_logprobs[token] -= far;
            }
        }
        for config in configs() {
            for dtype in [DType::F32, DType::F64] {
                let outcome = evaluate(&rows, &whole(&rows), &config, MAX_LENGTH, dtype).expect("a loss");
                prop_assert!(outcome.loss.is_finite());
                prop_assert!(outcome.gradients.iter().flatten().all(|gradient| gradient.is_finite()));
            }
        }
    }
}

/// A broken forward pass must be seen, not clamped away.
#[test]
fn a_log_prob_that_is_no_number_makes_the_loss_nan() {
    let row = Row {
        group: 0,
        advantage: 1.0,
        mask: vec![1, 1],
        logprobs: vec![-1.0, f64::NAN],
        old_logprobs: vec![-1.0, -1.0],
        reference_logprobs: vec![-1.0, -1.0],
        entropies: vec![1.0, 1.0],
    };
    for config in configs() {
        let rows = [row.clone(), row.clone()];
        assert!(compute(&rows, &whole(&rows), &config).loss.is_nan(), "{config:?}");
    }
}
