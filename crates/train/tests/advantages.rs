//! Advantages against TRL's, against hand-made numbers, and what must hold for any rewards.

use agentflow_train::policy::advantage::{
    AdvantageConfig, MultiObjective, RewardColumn, ScaleRewards, advantages, weighted_sum,
};
use agentflow_train::policy::overlong::OverlongConfig;
use proptest::collection::vec;
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    group_size: usize,
    cases: Vec<Case>,
    loss_tokens: Vec<LossTokens>,
}

#[derive(Deserialize)]
struct Case {
    scale_rewards: ScaleRewards,
    multi_objective_aggregation: MultiObjective,
    weights: Vec<f64>,
    /// By row, then function.
    rewards: Vec<Vec<Option<f64>>>,
    advantages: Vec<f64>,
}

#[derive(Deserialize)]
struct LossTokens {
    filter_truncated: bool,
    truncated: Vec<bool>,
    sampled: Vec<Vec<u8>>,
    mask: Vec<Vec<u8>>,
    loss_tokens: usize,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/advantages.json")).expect("golden file")
}

fn compute(
    rewards: &[Vec<f64>],
    weights: &[f64],
    groups: &[u64],
    config: &AdvantageConfig,
) -> Vec<f64> {
    let by_function: Vec<Vec<f64>> =
        (0..weights.len()).map(|k| rewards.iter().map(|row| row[k]).collect()).collect();
    let columns: Vec<RewardColumn> = weights
        .iter()
        .zip(&by_function)
        .map(|(weight, rewards)| RewardColumn { weight: *weight, rewards })
        .collect();
    advantages(&columns, groups, config).expect("advantages")
}

fn config(scale_rewards: ScaleRewards) -> AdvantageConfig {
    let multi_objective_aggregation = MultiObjective::SumThenNormalize;
    AdvantageConfig { scale_rewards, multi_objective_aggregation, clip: None }
}

fn of_group(rewards: &[f64], scale: ScaleRewards) -> Vec<f64> {
    let rows: Vec<Vec<f64>> = rewards.iter().map(|reward| vec![*reward]).collect();
    compute(&rows, &[1.0], &vec![0; rewards.len()], &config(scale))
}

#[track_caller]
fn assert_all_close(found: &[f64], wanted: &[f64], bound: f64) {
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        assert!((found - wanted).abs() <= bound * wanted.abs().max(0.1), "{found}, not {wanted}");
    }
}

/// Golden: TRL's `_generate_and_score_completions`, which computes in float32; `scripts/golden/advantages.py`.
#[test]
fn advantages_match_trl() {
    let golden = golden();
    assert_eq!(golden.cases.len(), 7);
    for case in golden.cases {
        let groups: Vec<u64> =
            (0..case.rewards.len()).map(|row| (row / golden.group_size) as u64).collect();
        let rewards: Vec<Vec<f64>> = case
            .rewards
            .iter()
            .map(|row| row.iter().map(|reward| reward.unwrap_or(f64::NAN)).collect())
            .collect();
        let (scale_rewards, multi_objective_aggregation) =
            (case.scale_rewards, case.multi_objective_aggregation);
        let config = AdvantageConfig { scale_rewards, multi_objective_aggregation, clip: None };
        let found = compute(&rewards, &case.weights, &groups, &config);
        assert_all_close(&found, &case.advantages, 1e-5);
        for (row, rewards) in rewards.iter().enumerate() {
            if rewards.iter().all(|reward| reward.is_nan()) {
                assert_eq!(found[row], 0.0, "a row without reward");
            }
        }
        for (group, rows) in rewards.chunks(golden.group_size).enumerate() {
            if rows.iter().all(|row| row == &rows[0]) {
                let start = group * golden.group_size;
                assert_eq!(found[start..start + golden.group_size], [0.0; 4], "a constant group");
            }
        }
    }
}

/// Golden: `num_items_in_batch` and the masks of the same call.
#[test]
fn loss_tokens_match_trl() {
    for case in golden().loss_tokens {
        let config =
            OverlongConfig { filter_truncated: case.filter_truncated, soft_punishment: None };
        let mut count = 0;
        for ((sampled, truncated), wanted) in
            case.sampled.iter().zip(&case.truncated).zip(&case.mask)
        {
            let sampled: Vec<bool> = sampled.iter().map(|token| *token == 1).collect();
            let mask = config.loss_mask(&sampled, *truncated);
            assert_eq!(mask.iter().map(|m| u8::from(*m)).collect::<Vec<u8>>(), *wanted);
            count += mask.iter().filter(|counts| **counts).count();
        }
        assert_eq!(count, case.loss_tokens);
    }
}

#[test]
fn small_groups_give_the_numbers_of_the_formula() {
    let table: [(&[f64], &[f64]); 4] = [
        (&[1.0, 0.0, 0.0, 0.0], &[1.499_700, -0.499_900, -0.499_900, -0.499_900]),
        (&[1.0, 1.0, 0.0, 0.0], &[0.865_875, 0.865_875, -0.865_875, -0.865_875]),
        (&[0.9, 0.7, 0.5, 0.1], &[1.024_395, 0.439_026, -0.146_342, -1.317_079]),
        // Noise at full strength: this is why dynamic sampling has a threshold.
        (&[0.501, 0.502, 0.503, 0.504], &[-1.078_365, -0.359_455, 0.359_455, 1.078_365]),
    ];
    for (rewards, wanted) in table {
        for (found, wanted) in of_group(rewards, ScaleRewards::Group).iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-6, "{rewards:?}: {found}, not {wanted}");
        }
    }
    assert_all_close(
        &of_group(&[0.9, 0.7, 0.5, 0.1], ScaleRewards::None),
        &[0.35, 0.15, -0.05, -0.45],
        1e-12,
    );
}

/// (G - 1) / √G, a little less for ε.
#[test]
fn an_outlier_is_bounded_by_its_group() {
    for (size, bound) in [(4, 1.5), (8, 2.4749), (16, 3.75)] {
        let mut rewards = vec![0.0; size];
        rewards[size / 2] = 1e3;
        let found = of_group(&rewards, ScaleRewards::Group)[size / 2];
        assert!((found - bound).abs() < 1e-4, "G = {size}: {found}");
    }
}

#[test]
fn the_clip_bounds_both_signs() {
    let config = AdvantageConfig { clip: Some(0.7), ..config(ScaleRewards::Group) };
    let rewards: Vec<Vec<f64>> = [0.9, 0.7, 0.5, 0.1].iter().map(|r| vec![*r]).collect();
    let found = compute(&rewards, &[1.0], &[0; 4], &config);
    assert_eq!((found[0], found[3]), (0.7, -0.7));
    assert!((found[1] - 0.439_026).abs() < 1e-6);
}

#[test]
fn nonsense_is_named() {
    let column = RewardColumn { weight: 1.0, rewards: &[1.0] };
    let error = advantages(&[column], &[0, 0], &config(ScaleRewards::Group)).expect_err("length");
    let text = "reward function 0 gave 1 rewards for 2 rows; give NaN where there is none";
    assert_eq!(error.to_string(), text);
    let gdpo = AdvantageConfig {
        multi_objective_aggregation: MultiObjective::NormalizeThenSum,
        ..config(ScaleRewards::None)
    };
    let error = gdpo.check().expect_err("contradiction").to_string();
    assert!(error.contains("`advantage.scale_rewards` must be `group`"), "{error}");
    let clip = AdvantageConfig { clip: Some(-1.0), ..config(ScaleRewards::Group) };
    assert!(clip.check().expect_err("clip").to_string().starts_with("`advantage.clip` is -1; "));
    let unknown =
        "scale_rewards = 'group'\nmulti_objective_aggregation = 'sum_then_normalize'\nstd = 1";
    let error = toml::from_str::<AdvantageConfig>(unknown).expect_err("unknown key").to_string();
    assert!(error.contains("unknown field `std`"), "{error}");
}

fn configs() -> Vec<AdvantageConfig> {
    let mut configs: Vec<AdvantageConfig> =
        [ScaleRewards::Group, ScaleRewards::Batch, ScaleRewards::None].map(config).into();
    let multi_objective_aggregation = MultiObjective::NormalizeThenSum;
    configs.push(AdvantageConfig { multi_objective_aggregation, ..configs[0].clone() });
    configs
}

/// Rows of two rewards, some missing, some equal, and the group of each.
fn rows() -> impl Strategy<Value = Vec<(u64, Vec<f64>)>> {
    let reward = prop_oneof![4 => -1.0..1.0, 2 => Just(0.5), 1 => Just(f64::NAN)];
    vec((0u64..4, vec(reward, 2)), 1..20)
}

proptest! {
    /// To the last bit, so that advantages may be computed before any shuffling or after it.
    #[test]
    fn the_order_of_rows_and_the_names_of_groups_change_nothing(rows in rows(), rotation in 0usize..20) {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.rotate_left(rotation % rows.len());
        order.reverse();
        let split = |order: &[usize]| -> (Vec<u64>, Vec<Vec<f64>>) {
            order.iter().map(|&row| rows[row].clone()).unzip()
        };
        let (groups, rewards) = split(&(0..rows.len()).collect::<Vec<_>>());
        let (shuffled_groups, shuffled_rewards) = split(&order);
        let renamed: Vec<u64> = shuffled_groups.iter().map(|group| 77 - group).collect();
        for config in configs() {
            let wanted = compute(&rewards, &[0.7, 0.3], &groups, &config);
            let found = compute(&shuffled_rewards, &[0.7, 0.3], &renamed, &config);
            for (index, &row) in order.iter().enumerate() {
                prop_assert_eq!(found[index].to_bits(), wanted[row].to_bits());
            }
        }
    }

    #[test]
    fn advantages_are_finite_and_zero_where_nothing_is_known(rows in rows()) {
        let (groups, rewards): (Vec<u64>, Vec<Vec<f64>>) = rows.into_iter().unzip();
        for config in configs() {
            let found = compute(&rewards, &[0.7, 0.3], &groups, &config);
            prop_assert!(found.iter().all(|advantage| advantage.is_finite()));
            for (row, group) in groups.iter().enumerate() {
                let alone = groups.iter().filter(|other| *other == group).count() == 1;
                let missing = rewards[row].iter().all(|reward| reward.is_nan());
                if alone || missing {
                    prop_assert_eq!(found[row], 0.0);
                }
            }
        }
    }

    #[test]
    fn advantages_of_a_group_sum_to_zero(rewards in vec(-1.0..1.0, 2..16)) {
        for scale in [ScaleRewards::Group, ScaleRewards::Batch, ScaleRewards::None] {
            prop_assert!(of_group(&rewards, scale).iter().sum::<f64>().abs() < 1e-9);
        }
    }

    #[test]
    fn a_constant_group_is_exactly_zero(reward in -1e6..1e6, size in 1usize..17) {
        for scale in [ScaleRewards::Group, ScaleRewards::Batch, ScaleRewards::None] {
            prop_assert!(of_group(&vec![reward; size], scale).iter().all(|a| *a == 0.0));
        }
    }
}

#[test]
fn a_missing_reward_is_left_out_of_the_sum() {
    let columns = [
        RewardColumn { weight: 2.0, rewards: &[1.0, f64::NAN, f64::NAN] },
        RewardColumn { weight: 0.5, rewards: &[1.0, 3.0, f64::INFINITY] },
    ];
    let sums = weighted_sum(&columns, 3);
    assert_eq!(sums[..2], [2.5, 1.5]);
    assert!(sums[2].is_nan());
}
