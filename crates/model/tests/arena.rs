//! The engine where keys and values lie in an arena: half precision, and by force f32. What it gives must be what the
//! exact path gives, up to rounding, and nothing may be left behind.

mod common;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use agentflow_llm::Finish;
use agentflow_model::{Engine, Limits, ModelError, Qwen3, Request, Sample, TokenMask, logprobs};
use candle_core::DType;
use common::{
    SHAPES, complete, config, engine, grammar, mixture, model, planner_schema, prompt, sampling,
};

/// How engines may differ in what they do at once. In some the arena has not one block to spare.
fn variants() -> Vec<(&'static str, Limits)> {
    let all = Limits::default;
    vec![
        ("as it comes", all()),
        ("one row", Limits { rows: 1, ..all() }),
        ("three rows", Limits { rows: 3, ..all() }),
        ("prompts in pieces of 5", Limits { prefill_tokens: 5, ..all() }),
        ("no sharing", Limits { share_prefixes: false, ..all() }),
        ("nothing kept", Limits { kept_tokens: 0, ..all() }),
        ("little kept", Limits { kept_tokens: 48, rows: 2, ..all() }),
        ("little room", Limits { kv_tokens: 240, kept_tokens: 0, ..all() }),
        ("little room, little kept", Limits { kv_tokens: 320, kept_tokens: 32, ..all() }),
    ]
}

#[test]
fn in_f32_the_arena_samples_what_the_exact_path_samples() {
    for shape in 0..SHAPES.len() {
        let exact = model(&config(shape), 3 + shape as u64, DType::F32);
        let general = exact.without_paged_kernels();
        let wanted = complete(&engine(&exact, Limits::default()), mixture());
        for (name, limits) in variants() {
            let engine = engine(&general, limits);
            assert!(!engine.is_exact());
            let found = complete(&engine, mixture());
            for (found, wanted) in found.iter().flatten().zip(wanted.iter().flatten()) {
                assert_eq!(found.ids(), wanted.ids(), "shape {shape}: {name}");
                for (found, wanted) in found.tokens.iter().zip(&wanted.tokens) {
                    let off = (found.logprob - wanted.logprob).abs();
                    let plain = (found.plain_logprob - wanted.plain_logprob).abs();
                    let off = off.max(plain) / wanted.plain_logprob.abs().max(1.0);
                    assert!(off < 1e-5, "shape {shape}: {name}: {found:?} for {wanted:?}");
                }
            }
        }
    }
}

/// Log-probabilities of replies as an engine sampled them in its batches, against each reply scored alone.
fn differences(model: &Qwen3, limits: Limits) -> Vec<f32> {
    let constraint = grammar().constraint(&planner_schema()).expect("a schema");
    let requests = mixture();
    let completions = complete(&engine(model, limits), requests.clone());
    let mut differences = Vec::new();
    for (request, completions) in requests.iter().zip(completions) {
        for (sample, completion) in request.samples.iter().zip(completions) {
            let ids = completion.ids();
            let masks: Option<Vec<Option<TokenMask>>> = sample.constraint.as_ref().map(|_| {
                let masks = constraint.masks(&ids).expect("the grammar allowed them");
                masks.into_iter().map(Some).collect()
            });
            let all = [request.prompt.as_slice(), &ids].concat();
            let mask: Vec<bool> = (0..all.len()).map(|i| i >= request.prompt.len()).collect();
            let temperature = sample.sampling.temperature;
            let scores = logprobs(model, &all, &mask, temperature, masks.as_deref());
            let pairs = completion.tokens.iter().zip(scores.expect("scores"));
            differences.extend(
                pairs
                    .filter(|(token, _)| !token.forced)
                    .map(|(token, score)| (token.logprob - score.logprob).abs()),
            );
        }
    }
    differences
}

#[test]
fn in_half_precision_a_batch_gives_what_its_replies_give_alone() {
    for (dtype, mean, most) in [(DType::BF16, 0.02, 0.5), (DType::F16, 0.003, 0.08)] {
        for shape in 0..SHAPES.len() {
            let model = model(&config(shape), 3 + shape as u64, dtype);
            for (name, limits) in variants().into_iter().step_by(4) {
                let found = differences(&model, limits);
                let average = found.iter().sum::<f32>() / found.len() as f32;
                let worst = found.iter().copied().fold(0.0, f32::max);
                assert!(found.len() > 100);
                assert!(
                    average < mean && worst < most,
                    "{dtype:?}, shape {shape}: {name}: {average} on average, {worst} at most"
                );
            }
        }
    }
}

#[test]
fn prompts_are_computed_once_and_shared() {
    let model = model(&config(0), 5, DType::BF16);
    let group = || Request::group(prompt(100, 1), Sample::new(sampling(1.0, 1), 10), 8);
    let shared = engine(&model, Limits::default());
    let replies = complete(&shared, vec![group()]);
    assert_eq!(shared.statistics().prefilled_tokens, 100);
    assert!(replies[0][1..].iter().all(|reply| reply.shared_tokens == 100));
    let distinct: HashSet<_> = replies[0].iter().map(|reply| reply.ids()).collect();
    assert!(distinct.len() > 4, "samples differ");

    // Again, and one that goes on from it: whole blocks of 16 are there already.
    let longer = [prompt(100, 1), prompt(30, 2)].concat();
    let more = Request::group(longer, Sample::new(sampling(1.0, 1), 10), 2);
    let replies = complete(&shared, vec![group(), more]);
    assert_eq!((replies[0][0].shared_tokens, replies[1][0].shared_tokens), (96, 96));
    assert_eq!(shared.statistics().prefilled_tokens, 100 + 4 + 34);

    // Asked for at the same time, a common beginning is computed once, too.
    let cold = engine(&model, Limits { prefill_tokens: 16, ..Limits::default() });
    complete(&cold, vec![group(), group(), group()]);
    assert_eq!(cold.statistics().prefilled_tokens, 100 + 4 + 4);

    shared.forget_prefixes().expect("the engine lives");
    complete(&shared, vec![group()]);
    assert_eq!(shared.statistics().prefilled_tokens, 138 + 100);

    let alone = engine(&model, Limits { share_prefixes: false, ..Limits::default() });
    complete(&alone, vec![group()]);
    assert_eq!(alone.statistics().prefilled_tokens, 800);
}

/// Waits, at most long, until what an engine holds is as asked for.
fn settles(engine: &Engine, held_tokens: impl Fn(u64) -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        let now = engine.statistics();
        if (now.rows, now.waiting, now.kv_tokens) == (0, 0, 0) && held_tokens(now.held_tokens) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

#[test]
fn no_block_is_left_behind() {
    for dtype in [DType::BF16, DType::F32] {
        let model = model(&config(0), 5, dtype);
        let limits = Limits { rows: 6, kv_tokens: 640, kept_tokens: 256, ..Limits::default() };
        let engine = engine(&model, limits);
        let mut next = common::noise(4);
        for round in 0..3 {
            let mut kept = Vec::new();
            for i in 0..40 {
                let sample = Sample::new(sampling(1.0, i), 60);
                let tokens = prompt(1 + i as usize * 5, i % 9 + round);
                let request = Request::group(tokens, sample, 1 + i as usize % 5);
                for mut reply in engine.submit(request).expect("it fits") {
                    match (next() * 4.0) as i32 {
                        0 => {
                            reply.next_blocking();
                        }
                        1 => kept.push(reply),
                        _ => {}
                    }
                }
            }
            for reply in kept {
                let completion = reply.wait().expect("a reply");
                assert!(completion.tokens.len() == 60 || completion.finish == Finish::Stop);
            }
            let now = || engine.statistics();
            assert!(settles(&engine, |held| 0 < held && held <= 256), "{dtype:?}: {:?}", now());
            engine.forget_prefixes().expect("the engine lives");
            assert!(settles(&engine, |held| held == 0), "{dtype:?}: {:?}", now());
        }
    }
}

#[test]
fn what_can_never_fit_is_refused_with_numbers() {
    let model = model(&config(0), 5, DType::BF16);
    let engine = engine(&model, Limits { kv_tokens: 128, ..Limits::default() });
    let request = Request::group(prompt(100, 1), Sample::new(sampling(1.0, 1), 60), 1);
    let error = engine.submit(request).err().expect("it is too large");
    assert!(matches!(error, ModelError::TooLarge { needed: 192, limit: 128 }));
    // A token of this model has 2 layers of 2 keys and 2 values of 16 numbers of 2 bytes.
    let limits = Limits::of_memory(&model, 512, 9 * 1000 * 256);
    assert_eq!((limits.kv_tokens, limits.kept_tokens), (8000, 1000));
}
