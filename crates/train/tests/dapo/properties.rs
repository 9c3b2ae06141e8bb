//! What must not change an update, and what must.

use agentflow_train::dapo::{DapoConfig, Row, Trainer, UpdateMetrics};
use agentflow_train::policy::loss::Credit;
use candle_core::Tensor;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::models::{base_over, base_tensors, config, distance, rows, trainer_underway, weights};

/// Two updates on the same rows, and the adapter after them.
fn two_updates(
    config: DapoConfig,
    rows: &[Row],
) -> (Vec<UpdateMetrics>, std::collections::BTreeMap<String, Vec<f32>>) {
    let mut trainer = trainer_underway(config);
    let mut windows = [rows.to_vec()];
    let mut metrics = Vec::new();
    trainer.learn(&mut windows, &mut |line| metrics.push(line.clone())).expect("updates");
    let after = weights(&trainer);
    (metrics, after)
}

fn off_policy() -> DapoConfig {
    let mut config = config();
    config.batch.updates_per_rollout = 2;
    config.loss.beta = 0.05;
    config
}

#[test]
fn cut_order_workers_and_recomputation_change_rounding_alone() {
    let rows = rows(4, 1);
    let (metrics, whole) = two_updates(off_policy(), &rows);
    assert_eq!(metrics[0].micro_batches, 1);
    let changes: [fn(&mut DapoConfig); 4] = [
        |config| config.batch.micro_batch_tokens = 40,
        |config| config.batch.micro_batch_tokens = 1,
        |config| config.batch.workers = 3,
        |config| config.batch.recompute = false,
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut config = off_policy();
        change(&mut config);
        let (changed, after) = two_updates(config, &rows);
        let missed = distance(&whole, &after);
        assert!(missed <= 1e-6, "change {index} of the cut moves a weight by {missed}");
        assert!(index == 3 || changed[0].micro_batches > 1, "change {index} cuts nothing");
    }
    let mut shuffled = rows.clone();
    shuffled.shuffle(&mut ChaCha8Rng::seed_from_u64(5));
    assert_ne!(shuffled, rows);
    let missed = distance(&whole, &two_updates(off_policy(), &shuffled).1);
    assert!(missed <= 1e-6, "another order moves a weight by {missed}");
}

#[test]
fn the_same_updates_give_the_same_bits() {
    let rows = rows(4, 2);
    let mut config = off_policy();
    (config.batch.workers, config.batch.micro_batch_tokens) = (2, 60);
    let bits = || two_updates(config.clone(), &rows).1;
    assert_eq!(distance(&bits(), &bits()), 0.0);
}

#[test]
fn later_updates_compare_with_frozen_log_probs() {
    let (metrics, _) = two_updates(off_policy(), &rows(4, 3));
    // Bit for bit on policy at first, though old log-probs were computed apart.
    assert_eq!(metrics[0].values["log_ratio/abs_max"], 0.0);
    assert!(metrics[1].values["log_ratio/abs_max"] > 1e-2, "{:?}", metrics[1]);
    assert!(metrics[1].values["approx_kl"] > 0.0);

    let mut config = off_policy();
    config.batch.updates_per_rollout = 1;
    let (metrics, _) = two_updates(config, &rows(4, 3));
    assert_eq!(metrics.len(), 1);
}

#[test]
fn several_windows_of_a_rollout_freeze_before_the_first() {
    let mut windows = [rows(2, 4), rows(2, 5)];
    let mut trainer = trainer_underway(config());
    let mut metrics = Vec::new();
    trainer.learn(&mut windows, &mut |line| metrics.push(line.clone())).expect("updates");
    assert_eq!(metrics[0].values["log_ratio/abs_max"], 0.0);
    assert!(metrics[1].values["log_ratio/abs_max"] > 0.0);
    assert!(windows[1].iter().all(|row| row.old_logprobs.is_some()));
}

#[test]
fn a_new_adapter_scores_as_the_base_does_bit_for_bit_and_leaves_it_alone() {
    let held = base_tensors(); // the model computes with these very tensors
    let mut config = config();
    config.loss.beta = 0.1;
    let base = base_over(held.clone());
    let mut trainer = Trainer::new(&base, None, None, config).expect("a trainer");
    let mut rows = rows(3, 6);
    trainer.prepare(&mut rows, true).expect("log-probs");
    for row in &rows {
        assert_eq!(row.old_logprobs, row.reference_logprobs);
    }
    let metrics = trainer.update(&rows).expect("an update");
    assert_eq!(metrics.values["kl"], 0.0);
    let reference = rows.iter().map(|row| row.reference_logprobs.clone()).collect::<Vec<_>>();

    for row in &mut rows {
        (row.old_logprobs, row.reference_logprobs) = (None, None);
    }
    trainer.prepare(&mut rows, true).expect("log-probs");
    let again: Vec<_> = rows.iter().map(|row| row.reference_logprobs.clone()).collect();
    assert_eq!(again, reference, "the base has moved");
    assert!(rows.iter().any(|row| row.old_logprobs != row.reference_logprobs));
    let same = |(a, b): (&Tensor, &Tensor)| {
        let values = |t: &Tensor| t.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("f32");
        values(a) == values(b)
    };
    assert!(held.values().zip(base_tensors().values()).all(same));
}

#[test]
fn credit_by_token_is_credit_by_row_where_it_is_the_same() {
    let by_row = rows(3, 7);
    let mut by_token = by_row.clone();
    for row in &mut by_token {
        let Credit::Row(advantage) = row.advantage else { panic!("rows have one advantage") };
        row.advantage = Credit::Tokens(vec![advantage; row.completion.len()]);
    }
    assert_eq!(
        distance(&two_updates(config(), &by_row).1, &two_updates(config(), &by_token).1),
        0.0
    );
    let Credit::Tokens(advantages) = &mut by_token[0].advantage else { panic!("by token") };
    advantages[0] += 1.0;
    assert!(
        distance(&two_updates(config(), &by_row).1, &two_updates(config(), &by_token).1) > 1e-4
    );
}

#[test]
fn tokens_that_do_not_count_are_read_but_not_learnt() {
    let rows = rows(3, 8);
    let (metrics, after) = two_updates(config(), &rows);
    let counted: usize = rows
        .iter()
        .filter(|row| !row.truncated)
        .map(|row| row.sampled.iter().filter(|sampled| **sampled).count())
        .sum();
    assert_eq!(metrics[0].loss_tokens, counted);
    // Behind the last token that counts, anything may stand.
    let mut longer = rows.clone();
    for row in &mut longer {
        row.completion.extend([1, 2, 3]);
        row.sampled.extend([false; 3]);
    }
    assert_eq!(distance(&after, &two_updates(config(), &longer).1), 0.0);
    // A forced token in the middle is context for what follows.
    let mut other = rows.clone();
    let row = other.iter_mut().find(|row| row.completion.len() > 4).expect("a long row");
    assert!(!row.sampled[2]);
    row.completion[2] = (row.completion[2] + 1) % 96;
    assert!(distance(&after, &two_updates(config(), &other).1) > 1e-5);
}

#[test]
fn a_window_without_tokens_changes_nothing() {
    let mut rows = rows(2, 9);
    rows.iter_mut().for_each(|row| row.truncated = true);
    let mut trainer = trainer_underway(config());
    let before = weights(&trainer);
    let metrics = trainer.update(&rows).expect("no failure");
    assert_eq!((metrics.applied, metrics.loss, metrics.loss_tokens), (false, Some(0.0), 0));
    assert_eq!((metrics.skipped, trainer.updates()), (1, 1));
    assert_eq!(distance(&before, &weights(&trainer)), 0.0);
}

#[test]
fn a_gradient_that_is_not_finite_is_skipped_and_named() {
    let mut trainer = trainer_underway(config());
    let name = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight";
    let variable = trainer.adapter().variables().remove(name).expect("an adapted layer");
    let fine = variable.copy().expect("a copy");
    variable.set(&(&fine * f64::NAN).expect("a tensor")).expect("the same shape");
    let before: Vec<_> = weights(&trainer).into_iter().filter(|(other, _)| other != name).collect();
    let metrics = trainer.update(&rows(2, 10)).expect("no failure");
    assert!(!metrics.applied && metrics.loss.is_none() && metrics.grad_norm.is_none());
    assert_eq!(metrics.not_finite.as_deref(), Some(name));
    let json = serde_json::to_string(&metrics).expect("JSON");
    assert_eq!(serde_json::from_str::<UpdateMetrics>(&json).expect("the same"), metrics);
    let after: Vec<_> = weights(&trainer).into_iter().filter(|(other, _)| other != name).collect();
    assert_eq!(before, after);
    variable.set(&fine).expect("the same shape");
    let metrics = trainer.update(&rows(2, 10)).expect("an update");
    assert!(metrics.applied && metrics.skipped == 1, "{metrics:?}");
}

#[test]
fn top_entropy_tokens_are_those_of_the_window() {
    let mut config = config();
    config.loss.top_entropy_quantile = 0.3;
    let rows = rows(4, 11);
    let whole = two_updates(config.clone(), &rows).1;
    config.batch.micro_batch_tokens = 40;
    assert!(distance(&whole, &two_updates(config, &rows).1) <= 1e-6);
    assert!(distance(&whole, &two_updates(self::config(), &rows).1) > 1e-4);
}
