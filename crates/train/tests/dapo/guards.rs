//! Runs that go wrong end, and say why.

use agentflow_train::dapo::{
    DapoConfig, DapoError, Diagnosis, GuardConfig, GuardCounts, Row, UpdateMetrics,
};
use agentflow_train::policy::loss::Credit;

use crate::models::{config, distance, rows, trainer_underway, weights};

fn guards() -> GuardConfig {
    GuardConfig {
        patience: 2,
        logprob_mean: 1e-5,
        logprob_max: 1e-4,
        min_entropy: 0.1,
        max_kl: 0.5,
    }
}

fn guarded() -> DapoConfig {
    DapoConfig { guards: Some(guards()), ..config() }
}

fn diagnosis(error: DapoError) -> Diagnosis {
    match error {
        DapoError::Guard(found) => found.diagnosis,
        other => panic!("no guard: {other}"),
    }
}

/// Rows that say what the trainer itself says.
fn sampled(trainer: &agentflow_train::dapo::Trainer, seed: u64) -> Vec<Row> {
    let mut rows = rows(3, seed);
    let logprobs = trainer.logprobs(&rows).expect("log-probs");
    for (row, logprobs) in rows.iter_mut().zip(logprobs) {
        row.sampled_logprobs = Some(logprobs);
    }
    rows
}

#[test]
fn agreement_is_measured_and_a_stale_sampler_ends_the_run_before_an_update() {
    let mut trainer = trainer_underway(guarded());
    let rows = sampled(&trainer, 1);
    let metrics = trainer.update(&rows).expect("both agree");
    assert_eq!(metrics.values["sampling/sampling_logp_difference/max"], 0.0);

    let before = weights(&trainer);
    let found = diagnosis(trainer.update(&rows).expect_err("the weights have moved"));
    let text = found.to_string();
    assert!(text.contains("`guards.logprob_max` 1.0e-4") && text.contains("kept from"), "{text}");
    assert_eq!(distance(&before, &weights(&trainer)), 0.0);
    assert_eq!(trainer.updates(), 1);

    // Off policy on purpose: the frozen log-probs are those of the policy that sampled.
    let mut frozen = rows.clone();
    for row in &mut frozen {
        row.old_logprobs = row.sampled_logprobs.clone();
    }
    let metrics = trainer.update(&frozen).expect("both agree");
    assert_eq!(metrics.values["sampling/sampling_logp_difference/max"], 0.0);
}

#[test]
fn a_sampler_without_the_adapter_is_recognised() {
    let base = crate::models::trainer(config()); // B is still 0
    let rows = sampled(&base, 2);
    let found = diagnosis(trainer_underway(guarded()).update(&rows).expect_err("another policy"));
    assert!(found.to_string().contains("updates never reach the sampler"), "{found}");
}

#[test]
fn zero_gradients_end_the_run_after_some_patience() {
    let mut rows = rows(2, 3);
    rows.iter_mut().for_each(|row| row.advantage = Credit::Row(0.0));
    let mut trainer = trainer_underway(guarded());
    assert_eq!(trainer.update(&rows).expect("one may be").grad_norm, Some(0.0));
    let error = trainer.update(&rows).expect_err("two are too many");
    let DapoError::Guard(found) = error else { panic!("no guard: {error}") };
    assert_eq!(found.diagnosis, Diagnosis::ZeroGradient { updates: 2 });
    assert_eq!(found.metrics.map(|metrics| metrics.update), Some(2));
}

#[test]
fn equal_rewards_end_the_run_as_such() {
    let mut rows = rows(2, 4);
    rows.iter_mut().for_each(|row| (row.advantage, row.reward) = (Credit::Row(0.0), Some(1.0)));
    let mut trainer = trainer_underway(guarded());
    let metrics = trainer.update(&rows).expect("one may be");
    assert_eq!((metrics.values["reward"], metrics.values["reward_std"]), (1.0, 0.0));
    let found = diagnosis(trainer.update(&rows).expect_err("two are too many"));
    assert_eq!(found, Diagnosis::ConstantReward { updates: 2 });
}

/// An update in which nothing is wrong.
fn fine() -> UpdateMetrics {
    let mut trainer = trainer_underway(config());
    trainer.update(&rows(2, 5)).expect("an update")
}

fn with(name: &str, value: f64) -> UpdateMetrics {
    let mut metrics = fine();
    metrics.values.insert(name.to_owned(), value);
    metrics
}

#[test]
fn collapse_and_explosion_are_told_apart_and_need_updates_in_a_row() {
    let (fine, config) = (fine(), guards());
    let low = with("entropy", 0.01);
    let high = with("approx_kl", 3.0);
    let reference = with("kl", 3.0);
    let lost = UpdateMetrics { not_finite: Some("lora_A".to_owned()), ..fine.clone() };
    let judge = |updates: &[&UpdateMetrics]| {
        let mut counts = GuardCounts::default();
        updates.iter().try_for_each(|update| counts.observe(update, &config))
    };
    for wrong in [&low, &high, &reference, &lost] {
        assert_eq!(judge(&[wrong, &fine, wrong, &fine]), Ok(()));
    }
    let (bound, updates) = (0.1, 2);
    let collapse = Diagnosis::EntropyCollapse { updates, bound, entropy: 0.01 };
    assert_eq!(judge(&[&fine, &low, &low]), Err(collapse));
    let explosion = Diagnosis::KlExplosion { updates, bound: 0.5, kl: 3.0 };
    assert_eq!(judge(&[&high, &reference]), Err(explosion));
    let lost_twice = Diagnosis::NotFinite { updates, variable: "lora_A".to_owned() };
    assert_eq!(judge(&[&lost, &lost]), Err(lost_twice));
    // An update that was skipped says nothing about the others.
    assert!(judge(&[&low, &lost, &low]).is_err());
}
