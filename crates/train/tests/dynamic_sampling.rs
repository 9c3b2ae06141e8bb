//! Which groups are kept, and how a batch is filled.

use agentflow_train::policy::dynamic_sampling::{
    Decision, DropReason, DynamicSamplingConfig, Need, Refill, Signal, Surplus, population_std,
    signal,
};
use proptest::collection::vec;
use proptest::prelude::*;

const OUTCOME: Signal = Signal::Outcome { right: 1.0 };
const MIXED: [f64; 2] = [1.0, 0.0];
const RIGHT: [f64; 2] = [1.0, 1.0];

fn config() -> DynamicSamplingConfig {
    DynamicSamplingConfig {
        signal: OUTCOME,
        max_refills: 2,
        surplus: Surplus::Discard,
        oversample: 1.5,
        control_share: 0.0,
        seed: 7,
    }
}

fn refill(config: DynamicSamplingConfig, wanted: usize) -> Refill<u64> {
    Refill::new(config, wanted).expect("a good configuration")
}

#[test]
fn outcomes_must_differ() {
    assert_eq!(signal(&MIXED, OUTCOME), Ok(()));
    assert_eq!(signal(&RIGHT, OUTCOME), Err(DropReason::AllRight));
    assert_eq!(signal(&[0.0, 0.9], OUTCOME), Err(DropReason::AllWrong), "no score reaches 1");
    assert_eq!(signal(&[1.0], OUTCOME), Err(DropReason::Single));
    assert_eq!(signal(&[], OUTCOME), Err(DropReason::Single));
    assert_eq!(signal(&[1.0, 0.0, f64::NAN], OUTCOME), Err(DropReason::Incomplete));
}

/// Population standard deviation of .501 to .504 is .001118: kept by a threshold of 1e-3, noise to half a PRM's error.
#[test]
fn the_spread_is_measured_with_ddof_0() {
    let noise = [0.501, 0.502, 0.503, 0.504];
    assert!((population_std(&noise) - 0.001_118).abs() < 1e-6);
    assert!((population_std(&[1.0, 0.0, 0.0, 0.0]) - 0.433_013).abs() < 1e-6);
    assert_eq!(signal(&noise, Signal::Spread { threshold: 1e-3 }), Ok(()));
    // With ddof 1 it would be .001291.
    let stricter = Signal::Spread { threshold: 0.0012 };
    assert_eq!(signal(&noise, stricter), Err(DropReason::LowSpread));
    let error = Signal::PrmError { factor: 0.5, mae: 0.1 };
    assert_eq!(signal(&noise, error), Err(DropReason::LowSpread));
    let half = Signal::PrmError { factor: 0.5, mae: 0.5 };
    assert_eq!(signal(&[0.25, 0.75], half), Ok(()), "exactly at the threshold");
    assert_eq!(signal(&[0.26, 0.75], half), Err(DropReason::LowSpread));
    assert_eq!(signal(&[0.3; 3], Signal::Spread { threshold: 1e-300 }), Err(DropReason::LowSpread));
}

#[test]
fn a_batch_is_refilled_until_it_is_full() {
    let mut refill = refill(config(), 3);
    assert_eq!(refill.needed(), Need::Groups(5), "3 × 1.5, rounded up");
    refill.round();
    assert_eq!(refill.offer(0, &MIXED, 0), Decision::Kept);
    assert_eq!(refill.offer(1, &RIGHT, 1), Decision::Dropped { reason: DropReason::AllRight });
    assert_eq!(refill.offer(2, &[0.0; 2], 2), Decision::Dropped { reason: DropReason::AllWrong });
    assert_eq!(refill.needed(), Need::Groups(3));
    refill.round();
    for id in 3..6 {
        let wanted = if id < 5 { Decision::Kept } else { Decision::Surplus };
        assert_eq!(refill.offer(id, &MIXED, id), wanted);
    }
    assert_eq!(refill.needed(), Need::Nothing);
    let (batch, counts) = refill.take();
    assert_eq!(batch, [0, 3, 4]);
    assert_eq!((counts.rounds, counts.seen, counts.kept, counts.surplus), (2, 6, 3, 1));
    assert_eq!(
        counts.dropped.into_iter().collect::<Vec<_>>(),
        [(DropReason::AllRight, 1), (DropReason::AllWrong, 1)]
    );
    assert_eq!(refill.needed(), Need::Groups(5), "the surplus is discarded");
}

#[test]
fn the_cap_says_how_many_are_missing() {
    let mut refill = refill(config(), 3);
    for round in 0..3 {
        assert!(matches!(refill.needed(), Need::Groups(_)), "round {round}");
        refill.round();
        refill.offer(round, if round == 1 { &MIXED } else { &RIGHT }, round);
    }
    assert_eq!(refill.needed(), Need::Capped { missing: 2 });
    let (batch, counts) = refill.take();
    assert_eq!((batch, counts.informative_share()), (vec![1], Some(1.0 / 3.0)));
    assert_eq!(refill.needed(), Need::Groups(5), "a new batch has its own refills");
}

#[test]
fn carried_surplus_opens_the_next_batch_and_only_that() {
    let mut refill = refill(DynamicSamplingConfig { surplus: Surplus::Carry, ..config() }, 2);
    refill.round();
    for id in 0..7 {
        refill.offer(id, &MIXED, id);
    }
    assert_eq!(refill.take().0, [0, 1]);
    assert_eq!(refill.needed(), Need::Nothing, "two of five were carried");
    let (batch, counts) = refill.take();
    assert_eq!((batch, counts.carried, counts.seen), (vec![2, 3], 2, 2));
    assert_eq!(refill.needed(), Need::Groups(3), "nothing waits for two updates");
}

#[test]
fn the_control_is_a_share_of_all_groups() {
    let config = DynamicSamplingConfig { control_share: 0.1, ..config() };
    let mut refill = refill(config, usize::MAX);
    let reason = DropReason::AllRight;
    let mut control = 0;
    for id in 0..10_000 {
        let decision = refill.offer(id, &RIGHT, id);
        assert_eq!(decision == Decision::Control { reason }, refill.in_control(id));
        control += usize::from(refill.in_control(id));
    }
    // Five standard deviations of a binomial around 1,000.
    assert!((850..1150).contains(&control), "{control} of 10,000");
    let incomplete = (0..).find(|&id| refill.in_control(id)).expect("one in ten");
    let reason = DropReason::Incomplete;
    assert_eq!(refill.offer(incomplete, &[f64::NAN, 1.0], 0), Decision::Dropped { reason });
    let (batch, counts) = refill.take();
    assert_eq!(
        (batch.len(), counts.control, counts.informative_share()),
        (control, control, Some(0.0))
    );
}

#[test]
fn a_saved_batch_goes_on_where_it_was() {
    let mut refill = refill(config(), 2);
    refill.round();
    refill.offer(0, &MIXED, 0);
    let saved = serde_json::to_string(&refill).expect("saves");
    let mut resumed: Refill<u64> = serde_json::from_str(&saved).expect("loads");
    assert_eq!(resumed, refill);
    assert_eq!(resumed.offer(1, &MIXED, 1), Decision::Kept);
    assert_eq!(resumed.take().0, [0, 1]);
}

#[test]
fn nonsense_is_named() {
    let bad = |signal: Signal, oversample, control_share| {
        let config = DynamicSamplingConfig { signal, oversample, control_share, ..config() };
        config.check().expect_err("refused").to_string()
    };
    let spread = Signal::Spread { threshold: 0.0 };
    assert!(bad(spread, 1.0, 0.0).starts_with("`dynamic_sampling.signal.threshold` is 0; "));
    let error = Signal::PrmError { factor: 0.5, mae: f64::NAN };
    assert!(bad(error, 1.0, 0.0).starts_with("`dynamic_sampling.signal.mae` is NaN; "));
    assert!(bad(OUTCOME, 0.5, 0.0).starts_with("`dynamic_sampling.oversample` is 0.5; "));
    assert!(bad(OUTCOME, 1.0, 1.0).starts_with("`dynamic_sampling.control_share` is 1; "));
    let toml = "signal = { kind = 'spread', threshold = 0.001, mae = 0.1 }\nmax_refills = 9\n\
                surplus = 'carry'\noversample = 3\ncontrol_share = 0.1\nseed = 1";
    let error = toml::from_str::<DynamicSamplingConfig>(toml).expect_err("refused").to_string();
    assert!(error.contains("unknown field `mae`"), "{error}");
    let good = toml.replace(", mae = 0.1", "");
    assert!(toml::from_str::<DynamicSamplingConfig>(&good).expect("reads").check().is_ok());
}

proptest! {
    /// Whatever is offered: no more than was asked for is kept, in the order offered, and every group is counted once.
    #[test]
    fn every_group_is_kept_or_counted(
        offers in vec(vec(0u8..2, 0..4), 0..40),
        wanted in 0usize..8,
        control_share in 0.0..0.9,
    ) {
        let mut refill = refill(DynamicSamplingConfig { control_share, ..config() }, wanted);
        for (id, scores) in (0..).zip(&offers) {
            let scores: Vec<f64> = scores.iter().map(|score| f64::from(*score)).collect();
            refill.offer(id, &scores, id);
        }
        let (batch, counts) = refill.take();
        prop_assert!(batch.len() <= wanted);
        prop_assert!(batch.is_sorted());
        prop_assert_eq!(batch.len(), counts.kept);
        let dropped: usize = counts.dropped.values().sum();
        prop_assert_eq!(counts.seen, offers.len());
        prop_assert_eq!(counts.seen, counts.kept + counts.surplus + dropped);
    }
}
