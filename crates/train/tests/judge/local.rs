//! A model in this process as a judge. Its weights are random, so it says nothing, but the grammar keeps it on the scale:
//! whatever comes is a rating of some step, or missing for rating another.

use std::sync::Arc;

use agentflow_model::random_model::{self, Shape};
use agentflow_model::{Local, ModelFiles};
use agentflow_train::label::judge::{Judge, Rubric};
use agentflow_train::label::{Labeller, Provenance};
use candle_core::{DType, Device};

use crate::sample::{case, usual};
use crate::server::settings;

#[tokio::test]
async fn a_grammar_keeps_any_model_on_the_scale() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut labels = 0;
    for seed in 0..3 {
        let dir = dir.path().join(seed.to_string());
        random_model::write(Shape::Tiny, DType::F32, seed, &dir).expect("writes");
        let files = ModelFiles::open(&dir).expect("a model");
        let local = Local::load(&files, "random", None, DType::F32, &Device::Cpu).expect("loads");
        let judge = Judge {
            model: Arc::new(local),
            rubric: Rubric::default(),
            settings: settings(),
            most_prompt_tokens: 3000,
        };
        for step in 0..2 {
            let labelled = judge.label(&case(usual(), step)).await.expect("it replies");
            let Provenance::Judge { raw, scores, .. } = &labelled.by else { panic!("a judge") };
            let raw = raw.as_deref().expect("a reply");
            assert!(serde_json::from_str::<serde_json::Value>(raw).is_ok(), "{raw}");
            match &labelled.label {
                Ok(label) => {
                    assert!((0.0..=1.0).contains(label) && scores.is_some(), "{labelled:?}");
                    labels += 1;
                }
                Err(problem) => {
                    assert!(problem.contains("was to be rated"), "{problem}: {raw}");
                    assert_eq!(*scores, None);
                }
            }
        }
    }
    assert!(labels > 0, "one of two steps is rated now and then");
}
