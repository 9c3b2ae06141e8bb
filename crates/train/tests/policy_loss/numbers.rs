//! Small cases with numbers worked out by hand or by another implementation's formula.

use agentflow_train::policy::loss::{
    Credit, MicroBatch, PackedRow, Scores, Window, WindowRow, policy_loss,
};
use candle_core::{DType, Device, Tensor, Var};

use crate::rows::{Row, assert_close, config, evaluate, whole};

const DAPO: &str = "kind = 'dapo'\naggregation = 'token_mean'\nclip_low = 0.2\nclip_high = 0.28";

fn row(group: u64, advantage: f64, mask: &[u8], logprobs: &[f64], old: &[f64]) -> Row {
    Row {
        group,
        advantage,
        mask: mask.to_vec(),
        logprobs: logprobs.to_vec(),
        old_logprobs: old.to_vec(),
        reference_logprobs: logprobs.to_vec(),
        entropies: vec![0.0; mask.len()],
    }
}

/// Two completions with three and two tokens; ratios e⁰·⁴ above the clip under A = 1, e⁻⁰·³ below it under A = -½.
fn two_rows() -> Vec<Row> {
    vec![
        row(0, 1.0, &[1, 1, 1], &[-1.0, -0.5, -2.0], &[-1.0, -0.9, -2.0]),
        row(0, -0.5, &[1, 1], &[-0.7, -0.1], &[-0.4, -0.1]),
    ]
}

fn loss(rows: &[Row], toml: &str) -> f64 {
    evaluate(rows, &whole(rows), &config(toml), 4, DType::F64).expect("a loss").loss
}

#[test]
fn two_rows_give_the_numbers_of_the_formulas() {
    let clip = "clip_low = 0.2\nclip_high = 0.28";
    // Token losses -1, -1.28, -1 and .4, .5.
    assert_close(loss(&two_rows(), DAPO), -2.38 / 5.0, 0.0, 1e-12, "dapo");
    let grpo = loss(&two_rows(), &format!("kind = 'grpo'\n{clip}"));
    assert_close(grpo, (-3.28 / 3.0 + 0.45) / 2.0, 0.0, 1e-12, "grpo");
    assert_close(grpo, -0.321_666_7, 0.0, 1e-7, "grpo");
    let dr_grpo = loss(&two_rows(), &format!("kind = 'dr_grpo'\n{clip}"));
    assert_close(dr_grpo, -2.38 / 8.0, 0.0, 1e-12, "dr_grpo");
}

#[test]
fn clipped_tokens_are_counted_on_their_side() {
    let rows = two_rows();
    let outcome = evaluate(&rows, &whole(&rows), &config(DAPO), 4, DType::F64).expect("a loss");
    let wanted = [
        ("clip_ratio/low_mean", 0.2),
        ("clip_ratio/high_mean", 0.2),
        ("clip_ratio/region_mean", 0.4),
        ("clip_ratio/low_min", 0.0),
        ("clip_ratio/high_max", 1.0 / 3.0),
        ("log_ratio/abs_mean", 0.7 / 5.0),
        ("log_ratio/abs_max", 0.4),
        ("zero_advantage_tokens", 0.0),
        // e^ℓ - 1 - ℓ of ℓ = .4 and -.3, over five tokens.
        ("approx_kl", (0.091_824_697_641 + 0.040_818_220_682) / 5.0),
    ];
    for (key, wanted) in wanted {
        assert_close(outcome.metrics[key], wanted, 0.0, 1e-12, key);
    }
    assert_eq!(outcome.gradients[0][1], 0.0, "a token clipped from above has no gradient");
    assert_eq!(outcome.gradients[1][0], 0.0, "a token clipped from below has no gradient");
    // -ρ·A / 5 with ρ = 1.
    assert_close(outcome.gradients[0][0], -0.2, 0.0, 1e-12, "gradient inside the clip");
    assert_close(outcome.gradients[1][1], 0.1, 0.0, 1e-12, "gradient inside the clip");
}

/// The `loss_type="dapo"` branch of TRL's `_compute_loss` (f2cd577): a ratio above the clip under each sign, a masked token.
#[test]
fn dapo_matches_trl_on_a_masked_token() {
    let rows = [
        row(0, 1.0, &[1, 1, 1], &[-0.9, -0.5, -2.0], &[-1.4, -0.6, -2.0]),
        row(0, -0.5, &[1, 0, 1], &[-0.7, -1.2, -0.3], &[-0.6, -1.2, -0.9]),
    ];
    assert_close(loss(&rows, DAPO), -0.404_338_561_8, 0.0, 1e-10, "dapo");
}

/// Groups of four tokens and of one: the paper weighs the groups, TRL the tokens.
#[test]
fn the_two_token_means_differ_on_unequal_groups() {
    let rows = [
        row(0, 1.0, &[1, 1, 1], &[-1.0; 3], &[-1.0; 3]),
        row(0, -1.0, &[1], &[-1.0], &[-1.0]),
        row(1, -0.5, &[1], &[-1.0], &[-1.0]),
        row(2, 9.0, &[0], &[-1.0], &[-1.0]), // truncated: its group counts in neither
    ];
    assert_close(loss(&rows, DAPO), (-3.0 + 1.0 + 0.5) / 5.0, 0.0, 1e-12, "token_mean");
    let group = DAPO.replace("token_mean", "group_token_mean");
    assert_close(loss(&rows, &group), (-2.0 / 4.0 + 0.5) / 2.0, 0.0, 1e-12, "group_token_mean");
}

/// k3 at d = .1, -.1, .5.
#[test]
fn kl_has_the_values_of_k3() {
    for (difference, wanted) in [(0.1, 0.005_171), (-0.1, 0.004_837), (0.5, 0.148_721)] {
        let mut rows = [row(0, 0.0, &[1], &[-1.0], &[-1.0])];
        rows[0].reference_logprobs[0] += difference;
        let found = loss(&rows, &format!("{DAPO}\nbeta = 1"));
        assert_close(found, wanted, 0.0, 1e-6, "k3");
    }
}

/// verl's `compute_policy_loss_vanilla`: `min(-A·c, max(-A·ρ, -A·clip(ρ)))` where A < 0.
#[test]
fn delta_is_the_dual_clip_of_verl() {
    let verl = |ratio: f64, advantage: f64, c: f64| {
        let clipped = (-advantage * ratio).max(-advantage * ratio.clamp(0.8, 1.28));
        if advantage < 0.0 { clipped.min(-advantage * c) } else { clipped }
    };
    for advantage in [-0.7, 0.7] {
        for log_ratio in [-2.0, -0.3, -0.1, 0.0, 0.2, 0.4, 1.0, 1.2, 3.0] {
            let rows = [row(0, advantage, &[1], &[-1.0], &[-1.0 - log_ratio])];
            let wanted = verl(f64::exp(log_ratio), advantage, 3.0);
            let found = loss(&rows, &format!("{DAPO}\ndual_clip = 3"));
            assert_close(found, wanted, 1e-12, 0.0, &format!("A {advantage}, ℓ {log_ratio}"));
        }
    }
}

/// Credit by step: on the first pass the gradient of each token is its own advantage, over N. In half precision, too.
#[test]
fn each_token_may_have_its_own_advantage() -> Result<(), Box<dyn std::error::Error>> {
    let advantages = [0.5, -2.0, 9.0, 0.25];
    let mask = vec![true, true, false, true];
    let window = Window::new(vec![WindowRow { group: 0, loss_tokens: 3 }], 4);
    let advantage = Credit::Tokens(advantages.to_vec());
    let batch = MicroBatch::new(vec![PackedRow { window_row: 0, advantage, mask }], &window)?;
    for dtype in [DType::F64, DType::F32, DType::BF16] {
        let logprobs = Tensor::new(&[-1.0, -2.0, -3.0, -4.0], &Device::Cpu)?.to_dtype(dtype)?;
        let logprobs = Var::from_tensor(&logprobs)?;
        let scores = Scores {
            logprobs: &logprobs,
            old_logprobs: None,
            reference_logprobs: None,
            entropies: None,
            entropy_threshold: None,
        };
        let loss = policy_loss(&scores, &batch, &window, &config(DAPO))?.loss;
        assert_eq!(loss.dtype(), if dtype == DType::F64 { dtype } else { DType::F32 });
        let gradients = loss.backward()?;
        let gradient = gradients.get(&logprobs).ok_or("a gradient")?.to_dtype(DType::F64)?;
        let rounding = if dtype == DType::BF16 { 1e-2 } else { 1e-6 };
        for (found, wanted) in gradient.to_vec1::<f64>()?.iter().zip([0.5, -2.0, 0.0, 0.25]) {
            assert_close(*found, -wanted / 3.0, rounding, 0.0, &format!("{dtype:?}"));
        }
    }
    Ok(())
}
