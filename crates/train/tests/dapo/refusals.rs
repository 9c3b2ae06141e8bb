//! Bad input, and what is said about it.

use agentflow_model::Adapter;
use agentflow_train::dapo::{DapoConfig, Row, RowGrammar, Trainer, replay};
use agentflow_train::policy::loss::Credit;
use candle_core::{DType, Device};
use serde_json::{Value, json};

use crate::models::{CONFIG, base, config, distance, golden, rows, trainer, weights};

/// What makes good input bad.
type Change<T> = fn(&mut T);

fn refused_config(change: impl FnOnce(&mut DapoConfig)) -> String {
    let mut config = config();
    change(&mut config);
    config.check().expect_err("a contradiction").to_string()
}

#[test]
fn configurations_that_make_no_sense_are_named() {
    let refused: [(Change<DapoConfig>, &str); 9] = [
        (|c| c.sampling.temperature = 0.0, "`sampling.temperature` is 0; it must be positive"),
        (|c| c.loss.entropy_coef = 0.1, "`loss.entropy_coef` is 0.1; entropies have no gradient"),
        (|c| c.batch.workers = 0, "`batch.workers` is 0"),
        (|c| c.batch.updates_per_rollout = 0, "`batch.updates_per_rollout` is 0"),
        (|c| c.optimizer.lr = f64::NAN, "`optimizer.lr` is NaN"),
        (|c| c.optimizer.beta2 = 1.0, "`optimizer.beta2` is 1"),
        (|c| c.schedule.updates = 0, "`schedule.updates` is 0"),
        (|c| c.loss.clip_low = None, "`loss.clip_low` is absent"),
        (
            |c| c.lora.as_mut().expect("an adapter").dropout = 0.1,
            "`lora.dropout` is 0.1; with dropout, the policy that is trained is not the one",
        ),
    ];
    for (change, expected) in refused {
        let message = refused_config(change);
        assert!(message.starts_with(expected), "{message}");
    }
    let unknown = CONFIG.replace("temperature =", "temprature =");
    let error = toml::from_str::<DapoConfig>(&unknown).expect_err("an unknown key").to_string();
    assert!(error.contains("temprature"), "{error}");
}

#[test]
fn an_adapter_that_is_not_what_the_run_asks_for_is_refused() {
    let adapter = Adapter::open(&golden("lora/all-linear"), DType::F32, &Device::Cpu);
    let adapter = adapter.expect("rank 2, alpha 6");
    let refused = |change: fn(&mut DapoConfig)| {
        let mut config = config();
        change(&mut config);
        match Trainer::new(&base(), Some(&adapter), None, config) {
            Ok(_) => panic!("the adapter is accepted"),
            Err(error) => error.to_string(),
        }
    };
    let rank = refused(|_| {});
    assert!(rank.contains("it has rank 2, and `lora.rank` is 3"), "{rank}");
    let scale = refused(|config| {
        let lora = config.lora.as_mut().expect("an adapter");
        (lora.rank, lora.alpha) = (2, 12.0);
    });
    assert!(scale.contains("it is scaled by 3, and `lora.alpha` with"), "{scale}");
    let targets = refused(|config| {
        let lora = config.lora.as_mut().expect("an adapter");
        (lora.rank, lora.targets) = (2, vec!["q_proj".to_owned()]);
    });
    assert!(targets.contains("`lora.targets` does not"), "{targets}");
    let Err(none) = Trainer::new(&base(), None, None, DapoConfig { lora: None, ..config() }) else {
        panic!("a trainer without an adapter")
    };
    assert!(none.to_string().contains("no `[lora]`"), "{none}");
}

#[test]
fn rows_that_cannot_be_used_are_named_and_nothing_has_changed() {
    let refused: [(Change<Row>, &str); 9] = [
        (|row| row.prompt = [].into(), "it has no prompt"),
        (|row| row.completion[0] = 96, "token 96 is outside the vocabulary of 96"),
        (|row| row.sampled.push(true), "but `sampled` has"),
        (|row| row.old_logprobs = Some(vec![]), "but `old_logprobs` has 0"),
        (|row| row.advantage = Credit::Row(f64::NAN), "`advantage` has a value that is not finite"),
        (|row| row.advantage = Credit::Tokens(vec![1.0]), "but `advantage` has 1"),
        (|row| row.temperature = 1.0, "it was sampled at temperature 1, but"),
        (
            |row| row.old_logprobs = Some(vec![f32::NEG_INFINITY; row.completion.len()]),
            "`old_logprobs` has a value that is not finite on token 0",
        ),
        (|row| row.prompt = vec![1; 5000].into(), "more than the model's context of"),
    ];
    let mut trainer = trainer(config());
    let before = weights(&trainer);
    for (change, expected) in refused {
        let mut rows = rows(2, 40);
        change(&mut rows[1]);
        let error = trainer.update(&rows).expect_err("refused").to_string();
        assert!(error.starts_with("row 1 cannot be used: ") && error.contains(expected), "{error}");
    }
    let mut some = rows(2, 40);
    some[0].old_logprobs = Some(vec![-1.0; some[0].completion.len()]);
    let error = trainer.update(&some).expect_err("refused").to_string();
    assert!(error.contains("it has no `old_logprobs`, but other rows"), "{error}");

    let mut constrained = rows(2, 40);
    let schema = json!({"type": "object"}).into();
    constrained[0].grammar = Some(RowGrammar { schema, free_tokens: 0 });
    let error = trainer.update(&constrained).expect_err("refused").to_string();
    assert!(error.contains("without a grammar"), "{error}");
    assert_eq!((distance(&before, &weights(&trainer)), trainer.updates()), (0.0, 0));
}

fn line() -> Value {
    json!({
        "prompt_ids": [[1, 2], [1, 2], [3]],
        "completion_ids": [[4, 5], [6], [7, 8, 9]],
        "completion_mask": [[1, 1], [true], [1, 0, 1]],
        "advantages": [1.0, -1.0, [0.5, 0.0, 0.25]],
    })
}

#[test]
fn a_line_of_a_replay_is_a_window() {
    let rows = replay::windows(&format!("{}\n", line()), 0.9).expect("a window").remove(0);
    assert_eq!(rows.iter().map(|row| row.group).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(rows[2].sampled, [true, false, true]);
    assert_eq!(rows[2].advantage, Credit::Tokens(vec![0.5, 0.0, 0.25]));
    assert_eq!((rows[0].temperature, rows[0].old_logprobs.is_none()), (0.9, true));
}

#[test]
fn a_line_that_is_no_window_is_named() {
    let with = |key: &str, value: Value| {
        let mut line = line();
        line[key] = value;
        line.to_string()
    };
    let good = line().to_string();
    let cases = [
        (format!("{good}\n\n{good}"), "line 2 is empty"),
        (json!({"prompt_ids": [], "completion_ids": [], "completion_mask": [], "advantages": []})
            .to_string(), "line 1 has no rows"),
        (with("advantages", json!([1.0, -1.0])), "3 rows in `prompt_ids`, but 2 in `advantages`"),
        (with("advantages", json!([1.0, null, 0.0])), "line 1, row 1: the advantage is not a number"),
        (with("completion_mask", json!([[1, 2], [1], [1, 0, 1]])), "`completion_mask` has 2"),
        (with("old_logprobs", json!([[-1.0]])), "but 1 in `old_logprobs`"),
        (
            with("completion_mask", json!([[1, 1], [1], [1, 0]])),
            "line 1, row 2: `completion_ids` has 3 tokens, but `completion_mask` 2",
        ),
        (with("advantage", json!([])), "unknown field `advantage`"),
        (good.replace("-1.0", "NaN"), "JSON has no NaN"),
        ("{".to_owned(), "line 1 is not what is read here"),
    ];
    for (text, expected) in cases {
        let error = replay::windows(&text, 1.0).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
}
