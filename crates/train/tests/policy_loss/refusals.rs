//! Inputs and configurations that make no sense are named.

use agentflow_train::policy::loss::{
    Credit, LossConfig, LossError, MicroBatch, PackedRow, Scores, Window, WindowRow, policy_loss,
};
use candle_core::{Device, Tensor};

use crate::rows::config;

const DAPO: &str = "kind = 'dapo'\naggregation = 'token_mean'\nclip_low = 0.2\nclip_high = 0.28\n";

#[test]
fn contradictory_keys_are_named() {
    let grpo = "kind = 'grpo'\nclip_low = 0.2\nclip_high = 0.28\n";
    let gspo = "kind = 'gspo'\nclip_low = 3e-4\nclip_high = 4e-4\n";
    let cispo = "kind = 'cispo'\naggregation = 'token_mean'\nclip_high = 5\n";
    for good in [DAPO, grpo, gspo, cispo] {
        config(good).check().expect("a good configuration");
    }
    let bad = [
        (grpo.replace("grpo", "dapo"), "`loss.aggregation` is absent; `dapo` and `cispo` need"),
        (DAPO.replace("dapo", "gspo"), "`loss.aggregation` is set; `grpo`, `dr_grpo` and `gspo`"),
        (format!("{gspo}top_entropy_quantile = 0.2"), "`loss.top_entropy_quantile` is 0.2; every"),
        (format!("{cispo}clip_low = 0.2"), "`loss.clip_low` is 0.2; `cispo` has no lower clip"),
        (format!("{cispo}delta = 7"), "`loss.delta` is 7; `cispo` caps every ratio"),
        (cispo.replace('5', "0.28"), "`loss.clip_high` is 0.28; for `cispo` it is the highest"),
        (DAPO.replace("0.2\n", "1\n"), "`loss.clip_low` is 1; it must be between 0 and 1"),
        (grpo.replace("clip_low = 0.2", ""), "`loss.clip_low` is absent; it must be between"),
        (
            format!("{DAPO}delta = 1.28"),
            "`loss.delta` is 1.28; it must be above 1 + `loss.clip_high`",
        ),
        (format!("{DAPO}beta = -0.1"), "`loss.beta` is -0.1; it must be 0 or positive"),
        (format!("{DAPO}entropy_coef = nan"), "`loss.entropy_coef` is NaN; it must be"),
        (format!("{DAPO}top_entropy_quantile = 0"), "`loss.top_entropy_quantile` is 0; it must be"),
        (
            format!("{DAPO}top_entropy_quantile = 0.2\nentropy_coef = 0.1"),
            "`loss.top_entropy_quantile` is 0.2; with an entropy bonus",
        ),
    ];
    for (toml, message) in bad {
        let error = config(&toml).check().expect_err(&toml).to_string();
        assert!(error.starts_with(message), "{error}");
    }
    config(&DAPO.replace("0.28", "0.1")).check().expect("an upper clip below the lower is allowed");
}

#[test]
fn unknown_and_missing_keys_are_named() {
    let error = |toml: &str| toml::from_str::<LossConfig>(toml).expect_err(toml).to_string();
    assert!(error(&format!("{DAPO}epsilon = 0.2")).contains("unknown field `epsilon`"));
    assert!(error(DAPO).contains("missing field `beta`"));
}

#[test]
fn a_micro_batch_must_fit_its_window() {
    let window = Window::new(vec![WindowRow { group: 0, loss_tokens: 2 }], 8);
    let row = |window_row, mask: &[bool], advantage| {
        MicroBatch::new(vec![PackedRow { window_row, advantage, mask: mask.to_vec() }], &window)
            .expect_err("refused")
            .to_string()
    };
    let one = Credit::Row(1.0);
    assert!(row(1, &[true, true], one.clone()).contains("is row 1 of a window of 1 rows"));
    assert!(row(0, &[true, false], one).contains("counts 1 loss tokens, the window 2"));
    let short = Credit::Tokens(vec![1.0]);
    assert!(row(0, &[true, true], short).contains("has 1 advantages for 2 tokens"));
    assert!(row(0, &[true, true], Credit::Row(f64::NAN)).contains("not finite"));
}

#[test]
fn scores_must_have_what_the_loss_reads() {
    let window = Window::new(vec![WindowRow { group: 0, loss_tokens: 2 }], 8);
    let row = PackedRow { window_row: 0, advantage: Credit::Row(1.0), mask: vec![true, true] };
    let batch = MicroBatch::new(vec![row], &window).expect("a micro-batch");
    let two = Tensor::new(&[-1.0f32, -2.0], &Device::Cpu).expect("a tensor");
    let three = Tensor::new(&[-1.0f32, -2.0, -3.0], &Device::Cpu).expect("a tensor");
    let scores = Scores {
        logprobs: &two,
        old_logprobs: None,
        reference_logprobs: None,
        entropies: None,
        entropy_threshold: None,
    };
    let error = |scores: Scores, toml: &str| -> LossError {
        policy_loss(&scores, &batch, &window, &config(toml)).expect_err(toml)
    };
    let needs = [
        ("beta = 0.1", "`loss.beta` needs `reference_logprobs`, and there are none; score the"),
        ("entropy_coef = 0.1", "`loss.entropy_coef` needs `entropies`"),
        ("top_entropy_quantile = 0.2", "`loss.top_entropy_quantile` needs `entropies` and"),
    ];
    for (key, message) in needs {
        let error = error(scores, &format!("{DAPO}{key}")).to_string();
        assert!(error.starts_with(message), "{error}");
    }
    let error = error(Scores { old_logprobs: Some(&three), ..scores }, DAPO).to_string();
    assert!(error.starts_with("`old_logprobs` has shape [3], but the micro-batch packs 2 tokens"));
}
