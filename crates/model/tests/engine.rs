//! The engine: what it gives must not depend on what else it does, and must be what the scorer computes.

mod common;

use std::time::{Duration, Instant};

use agentflow_llm::Finish;
use agentflow_model::{
    Completion, Engine, Event, Limits, Local, ModelError, Qwen3, Request, Sample, TokenMask,
    bundled, logprobs, ops,
};
use candle_core::{DType, Device, Tensor};
use common::{
    SHAPES, complete, config, engine, grammar, mixture, model, planner_schema, prompt, sampling,
};
use serde_json::{Value, json};

/// Everything about a reply that must not change, to the bit.
type Bits = (Vec<(u32, u32, u32, bool)>, String, Finish);

fn bits(completion: &Completion) -> Bits {
    let tokens = completion.tokens.iter();
    let tokens =
        tokens.map(|t| (t.id, t.logprob.to_bits(), t.plain_logprob.to_bits(), t.forced)).collect();
    (tokens, completion.text.clone(), completion.finish)
}

fn all_bits(completions: &[Vec<Completion>]) -> Vec<Vec<Bits>> {
    completions.iter().map(|group| group.iter().map(bits).collect()).collect()
}

#[test]
fn a_reply_does_not_depend_on_what_shares_its_passes() {
    for shape in 0..SHAPES.len() {
        let model = model(&config(shape), 3 + shape as u64, DType::F32);
        let requests = mixture();
        let together = complete(&engine(&model, Limits::default()), requests.clone());
        let wanted = all_bits(&together);
        assert!(wanted.iter().flatten().any(|reply| reply.0.len() > 10), "replies of some length");

        let reversed = requests.iter().rev().cloned().collect();
        let mut found = all_bits(&complete(&engine(&model, Limits::default()), reversed));
        found.reverse();
        assert!(found == wanted, "shape {shape}: another order of admission");

        let variants = [
            ("one row", Limits { rows: 1, ..Limits::default() }),
            ("three rows", Limits { rows: 3, ..Limits::default() }),
            ("prompts in pieces of 5", Limits { prefill_tokens: 5, ..Limits::default() }),
            ("prompts token by token", Limits { prefill_tokens: 1, rows: 4, ..Limits::default() }),
            ("no sharing", Limits { share_prefixes: false, ..Limits::default() }),
            ("nothing kept", Limits { kept_tokens: 0, ..Limits::default() }),
            ("little kept", Limits { kept_tokens: 48, rows: 2, ..Limits::default() }),
            ("little room", Limits { kv_tokens: 320, ..Limits::default() }),
        ];
        for (name, limits) in variants {
            let found = all_bits(&complete(&engine(&model, limits), requests.clone()));
            assert!(found == wanted, "shape {shape}: {name}");
        }

        // One by one in an engine each, and samples without their siblings.
        for (request, wanted) in requests.into_iter().zip(&wanted) {
            for (sample, wanted) in request.samples.iter().zip(wanted) {
                let alone = Request { samples: vec![sample.clone()], ..request.clone() };
                let found = complete(&engine(&model, Limits::default()), vec![alone]);
                assert!(bits(&found[0][0]) == *wanted, "shape {shape}: alone");
            }
        }
    }
}

#[test]
fn a_reply_does_not_depend_on_when_it_is_admitted_or_on_threads() {
    let model = model(&config(0), 5, DType::F32);
    let requests = mixture();
    let wanted = all_bits(&complete(&engine(&model, Limits::default()), requests.clone()));
    let busy = engine(&model, Limits { rows: 4, prefill_tokens: 7, ..Limits::default() });
    // From several threads, while other replies run and are given up.
    let found: Vec<Vec<Bits>> = std::thread::scope(|scope| {
        let handles: Vec<_> = requests
            .into_iter()
            .enumerate()
            .map(|(i, request)| {
                let busy = &busy;
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(i as u64 * 3 % 7));
                    let noise = Sample::new(sampling(1.0, i as u64), 300);
                    let noise = busy.submit(Request::group(prompt(20, 90 + i as u64), noise, 2));
                    let mut noise = noise.expect("it fits");
                    noise[0].next_blocking();
                    let replies = busy.submit(request).expect("it fits");
                    drop(noise);
                    replies.into_iter().map(|r| bits(&r.wait().expect("a reply"))).collect()
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().expect("no panic")).collect()
    });
    assert!(found == wanted);
}

#[test]
fn samples_of_a_prompt_compute_it_once() {
    let model = model(&config(0), 5, DType::F32);
    let group = || Request::group(prompt(100, 1), Sample::new(sampling(1.0, 1), 10), 8);
    let shared = engine(&model, Limits::default());
    let replies = complete(&shared, vec![group()]);
    assert_eq!(shared.statistics().prefilled_tokens, 100);
    assert_eq!(replies[0][0].shared_tokens, 0);
    assert!(replies[0][1..].iter().all(|reply| reply.shared_tokens == 100));
    let distinct: std::collections::HashSet<_> = replies[0].iter().map(|r| r.ids()).collect();
    assert!(distinct.len() > 4, "samples differ");

    // The same prompt again, and one that goes on from it: whole blocks of 16 are there already.
    let mut longer = prompt(100, 1);
    longer.extend(prompt(30, 2));
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

/// Waits, at most long, until an engine has nothing left to do.
fn idle(engine: &Engine) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        let now = engine.statistics();
        if (now.rows, now.waiting, now.kv_tokens) == (0, 0, 0) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

#[test]
fn dropped_replies_free_their_rows_and_their_room() {
    let model = model(&config(0), 5, DType::F32);
    let engine = engine(&model, Limits { rows: 4, kv_tokens: 2048, ..Limits::default() });
    let mut next = common::noise(4);
    let mut kept = Vec::new();
    for i in 0..60 {
        let sample = Sample::new(sampling(1.0, i), 60);
        let request = Request::group(prompt(1 + i as usize * 3, i % 9), sample, 1 + i as usize % 5);
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
    assert!(idle(&engine), "{:?}", engine.statistics());
}

#[test]
fn what_cannot_run_is_refused_with_numbers() {
    let model = model(&config(0), 5, DType::F32);
    let engine = engine(&model, Limits { kv_tokens: 128, ..Limits::default() });
    let refused = |prompt: Vec<u32>, max_tokens: u32| {
        let sample = Sample::new(sampling(1.0, 1), max_tokens);
        match engine.submit(Request::group(prompt, sample, 1)) {
            Err(error) => error,
            Ok(_) => panic!("it was taken"),
        }
    };
    assert!(matches!(
        refused(prompt(100, 1), 60),
        ModelError::TooLarge { needed: 192, limit: 128 }
    ));
    assert!(refused(Vec::new(), 5).to_string().contains("the prompt is empty"));
    assert!(refused(vec![5, 512], 5).to_string().contains("token 512 is outside"));
    assert!(matches!(
        refused(vec![5; 512], 5),
        ModelError::ContextTooLong { prompt: 512, context: 512 }
    ));
    // As much as asked for, but always a whole context. A token of this model has 2 layers of 2 keys and 2 values of 16.
    let limits = Limits::of_memory(&model, 512, 9 * 1000 * 512);
    assert_eq!((limits.kv_tokens, limits.kept_tokens), (8000, 1000));
    assert_eq!(Limits::of_memory(&model, 512, 0).kv_tokens, 512 + 32);
    let none = Request::group(vec![5], Sample::new(sampling(1.0, 1), 0), 1);
    let none = &complete(&engine, vec![none])[0][0];
    assert_eq!((none.tokens.len(), none.finish), (0, Finish::Length));
}

#[test]
fn the_scorer_gives_the_logprobs_of_the_sampler_again() {
    let grammar = grammar();
    let constraint = grammar.constraint(&planner_schema()).expect("a schema");
    let (mut replies, mut tokens, mut worst) = (0, 0, 0.0_f32);
    for shape in 0..SHAPES.len() {
        let model = model(&config(shape), 40 + shape as u64, DType::F32);
        let engine = engine(&model, Limits::default());
        for (temperature, constrained) in [(1.0, false), (0.7, true), (1.5, true), (1.3, false)] {
            let requests: Vec<Request> = (0..9)
                .map(|i| {
                    let mut sample = Sample::new(sampling(temperature, i), 30);
                    sample.constraint = constrained.then(|| constraint.clone());
                    Request::group(prompt(5 + 13 * i as usize, 70 + i), sample, 7)
                })
                .collect();
            let completions = complete(&engine, requests.clone());
            for (request, completions) in requests.iter().zip(completions) {
                for completion in completions {
                    let ids = completion.ids();
                    let masks: Option<Vec<Option<TokenMask>>> = constrained.then(|| {
                        let masks = constraint.masks(&ids).expect("the grammar allowed them");
                        masks.into_iter().map(Some).collect()
                    });
                    let all = [request.prompt.as_slice(), &ids].concat();
                    let mask: Vec<bool> =
                        (0..all.len()).map(|i| i >= request.prompt.len()).collect();
                    let scores = logprobs(&model, &all, &mask, temperature, masks.as_deref());
                    for (token, score) in completion.tokens.iter().zip(scores.expect("scores")) {
                        let difference = (token.logprob - score.logprob).abs();
                        worst = worst.max(difference);
                        assert!(difference < 1e-5, "{token:?} {score:?}");
                        assert!(token.logprob <= 0.0 && (!token.forced || token.logprob == 0.0));
                        if !token.forced {
                            let plain = (token.plain_logprob - score.plain_logprob).abs();
                            worst = worst.max(plain);
                            assert!(plain < 1e-5, "{token:?} {score:?}");
                        }
                        tokens += 1;
                    }
                    replies += 1;
                }
            }
        }
    }
    assert!(replies >= 1000 && tokens > 10_000, "{replies} replies, {tokens} tokens, {worst:e}");
}

/// Log-probabilities of `ids[from..]` by the forward pass that the trainer differentiates: no cache, other kernels.
fn trained(model: &Qwen3, ids: &[u32], from: usize) -> Vec<f32> {
    let input = Tensor::new(ids, &Device::Cpu).and_then(|ids| ids.unsqueeze(0)).expect("a row");
    let hidden = model.forward(&input, None).expect("a forward pass");
    let logits = model
        .logits(&hidden)
        .and_then(|l| Ok(l.squeeze(0)?.narrow(0, from - 1, ids.len() - from)?));
    let targets = Tensor::new(&ids[from..], &Device::Cpu).expect("targets");
    let scores = ops::token_logprobs(&logits.expect("logits"), &targets).expect("scores");
    scores.to_vec1().expect("a vector")
}

#[test]
fn the_forward_pass_of_training_gives_the_logprobs_again() {
    let (mut worst, mut tokens) = (0.0_f32, 0);
    for shape in 0..SHAPES.len() {
        let model = model(&config(shape), 60 + shape as u64, DType::F32);
        let requests: Vec<Request> = (0..6)
            .map(|i| Request::group(prompt(5 + 23 * i, 70), Sample::new(sampling(1.0, 3), 40), 8))
            .collect();
        let completions = complete(&engine(&model, Limits::default()), requests.clone());
        for (request, completions) in requests.iter().zip(completions) {
            for completion in completions {
                let all = [request.prompt.as_slice(), &completion.ids()].concat();
                let again = trained(&model, &all, request.prompt.len());
                for (token, again) in completion.tokens.iter().zip(again) {
                    worst = worst.max((token.logprob - again).abs() / again.abs().max(1.0));
                    tokens += 1;
                }
            }
        }
    }
    assert!(tokens > 4000 && worst < 1e-5, "{tokens} tokens, off by {worst:e}");
}

#[test]
fn the_scorer_agrees_with_the_bundled_planner() {
    let local = Local::load(&bundled::files(), "tiny", None, DType::F32, &Device::Cpu)
        .expect("the bundled planner");
    let constraint = local
        .grammar()
        .and_then(|grammar| grammar.constraint(&planner_schema()))
        .expect("a schema");
    let text = "<|im_start|>user\nWhat is 15% of 240?<|im_end|>\n<|im_start|>assistant\n";
    let prompt = local.loaded().tokenizer.encode(text).expect("it encodes");
    let sample =
        Sample { constraint: Some(constraint.clone()), ..Sample::new(sampling(1.5, 3), 150) };
    let completions =
        complete(local.engine(), vec![Request::group(prompt.clone(), sample, 24)]).remove(0);
    assert!(completions.iter().any(|completion| completion.finish == Finish::Stop));
    for completion in completions {
        let ids = completion.ids();
        let masks = constraint.masks(&ids).expect("the grammar allowed them");
        let masks: Vec<_> = masks.into_iter().map(Some).collect();
        let all = [prompt.as_slice(), &ids].concat();
        let mask: Vec<bool> = (0..all.len()).map(|i| i >= prompt.len()).collect();
        let plain = trained(&local.loaded().model, &all, prompt.len());
        for (token, plain) in completion.tokens.iter().zip(plain).filter(|(t, _)| !t.forced) {
            let difference = (token.plain_logprob - plain).abs();
            assert!(difference < 1e-5 * plain.abs().max(1.0), "{token:?} {plain}");
        }
        let scores = logprobs(&local.loaded().model, &all, &mask, 1.5, Some(&masks));
        for (token, score) in completion.tokens.iter().zip(scores.expect("scores")) {
            assert!((token.logprob - score.logprob).abs() < 1e-5, "{token:?} {score:?}");
        }
    }
}

#[test]
fn the_scorer_says_what_is_wrong_with_its_input() {
    let model = model(&config(0), 5, DType::F32);
    let complaint = |ids: &[u32], mask: &[bool], masks: Option<&[Option<TokenMask>]>| {
        logprobs(&model, ids, mask, 1.0, masks).expect_err("it is wrong").to_string()
    };
    assert!(complaint(&[1, 2], &[true], None).contains("2 ids, but a mask of 1"));
    assert!(complaint(&[1, 2], &[true, true], None).contains("nothing stands before it"));
    assert!(complaint(&[1, 600], &[false, true], None).contains("token 600 is outside"));
    assert!(complaint(&[1, 2], &[false, true], Some(&[])).contains("0 masks for 1 scored tokens"));
    let none = logprobs(&model, &[1, 2], &[false, false], 1.0, None).expect("nothing to score");
    assert!(none.is_empty());
}

/// What the schemas of the property test are about: every kind of value, and text between values to force.
fn schemas() -> Vec<Value> {
    vec![
        planner_schema(),
        json!({
            "type": "object",
            "properties": {"reason": {"type": "string"}, "sufficient": {"type": "boolean"}},
            "required": ["reason", "sufficient"], "additionalProperties": false,
        }),
        json!({
            "type": "object",
            "properties": {
                "n": {"type": "integer", "minimum": -20, "maximum": 300},
                "x": {"type": "number"},
                "list": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
            },
            "required": ["n", "list"], "additionalProperties": false,
        }),
        json!({
            "type": "object",
            "properties": {
                "inner": {
                    "type": "object",
                    "properties": {"kind": {"const": "über"}, "flag": {"type": ["boolean", "null"]}},
                    "required": ["kind", "flag"], "additionalProperties": false,
                },
                "short": {"type": "string", "maxLength": 4},
            },
            "required": ["inner", "short"], "additionalProperties": false,
        }),
        json!({"type": "array", "items": {"enum": ["a", "bc", 1, null]}, "minItems": 1, "maxItems": 4}),
        json!({"anyOf": [{"type": "boolean"}, {"type": "integer"}, {"type": "string"}]}),
    ]
}

#[test]
fn no_grammar_ever_yields_text_that_breaks_its_schema() {
    let model = model(&config(0), 77, DType::F32);
    let engine = engine(&model, Limits { rows: 64, ..Limits::default() });
    let grammar = grammar();
    let (mut whole, mut cut, mut forced) = (0, 0, 0);
    for (index, schema) in schemas().iter().enumerate() {
        let constraint = grammar.constraint(schema).expect("a schema");
        let requests: Vec<Request> = (0..42)
            .map(|i| {
                let sample = Sample {
                    constraint: Some(constraint.clone()),
                    ..Sample::new(sampling(1.5, i), [10, 40, 64][i as usize % 3])
                };
                Request::group(prompt(3 + i as usize, i), sample, 40)
            })
            .collect();
        for completion in complete(&engine, requests).into_iter().flatten() {
            forced += completion.tokens.iter().filter(|token| token.forced).count();
            match completion.finish {
                Finish::Refused => panic!("nothing filters a local model"),
                Finish::Length => cut += 1,
                Finish::Stop => {
                    let checked = agentflow_llm::schema::validate(schema, &completion.text);
                    assert!(checked.is_ok(), "schema {index}: `{}`: {checked:?}", completion.text);
                    assert_eq!(completion.text.trim(), completion.text, "blanks around JSON");
                    whole += 1;
                }
            }
        }
    }
    assert_eq!(whole + cut, 6 * 42 * 40);
    assert!(whole > 4000 && cut > 100 && forced > 20_000, "{whole} whole, {cut} cut, {forced}");
}

#[test]
fn forced_text_costs_no_pass_a_token() {
    let model = model(&config(0), 5, DType::F32);
    let engine = engine(&model, Limits::default());
    let schema = json!({
        "type": "object",
        "properties": {
            "a_rather_long_name_of_a_property": {"const": "whose value is known as well"},
            "and_another_one": {"type": "boolean"},
        },
        "required": ["a_rather_long_name_of_a_property", "and_another_one"],
        "additionalProperties": false,
    });
    let constraint = grammar().constraint(&schema).expect("a schema");
    let sample = Sample { constraint: Some(constraint), ..Sample::new(sampling(1.0, 1), 200) };
    let reply = &complete(&engine, vec![Request::group(prompt(8, 1), sample, 1)])[0][0];
    let drawn = reply.tokens.iter().filter(|token| !token.forced).count();
    assert!(serde_json::from_str::<Value>(&reply.text).is_ok(), "{}", reply.text);
    assert!(reply.tokens.len() > 20 && drawn <= 6, "{reply:?}");
    // The prompt, the forced beginning, and one pass a drawn token.
    let passes = engine.statistics().passes;
    assert!(passes <= 3 + drawn as u64, "{passes} passes for {drawn} drawn tokens");
    // Forced text is split as the tokenizer splits it.
    let canonical = common::tokenizer().encode(&reply.text).expect("it encodes");
    let agree = canonical.iter().zip(reply.ids()).take_while(|(a, b)| **a == *b).count();
    assert!(agree * 10 >= canonical.len() * 8, "{agree} of {}", canonical.len());
}

#[test]
fn pieces_are_the_text_and_no_piece_holds_a_stop_text() {
    let model = model(&config(0), 9, DType::F32);
    let engine = engine(&model, Limits::default());
    let (mut stopped, mut samples) = (0, 0);
    for seed in 0..40 {
        let stop = vec!["in".to_owned(), " th".to_owned(), "é".to_owned(), String::new()];
        let sample = Sample { stop: stop.clone(), ..Sample::new(sampling(1.2, seed), 60) };
        let request = Request::group(prompt(9, seed), sample, 3);
        for mut reply in engine.submit(request).expect("it fits") {
            let (mut text, mut ids) = (String::new(), Vec::new());
            while let Some(event) = reply.next_blocking() {
                match event {
                    Event::Token(token) => ids.push(token.id),
                    Event::Text(piece) => text.push_str(&piece),
                    Event::Thinking(piece) => panic!("`{piece}` was not asked for"),
                    Event::Failed(error) => panic!("{error}"),
                    Event::Done(completion) => {
                        assert_eq!(completion.text, text);
                        assert_eq!(completion.ids(), ids);
                        stopped += usize::from(completion.finish == Finish::Stop);
                    }
                }
            }
            assert!(stop[..3].iter().all(|stop| !text.contains(stop)), "`{text}`");
            samples += 1;
        }
    }
    assert!(stopped > 5 && samples == 120, "{stopped} of {samples}");
}

/// There is no continuation of half a reply: what a run lacks is sampled anew, and comes out as it would have.
#[test]
fn a_resumed_run_samples_what_the_whole_run_sampled() {
    let model = model(&config(0), 5, DType::F32);
    let key = |i: u64| Sample { prompt_key: Some(40 + i), ..Sample::new(sampling(1.1, 9), 30) };
    let groups: Vec<Request> =
        (0..4).map(|i| Request::group(prompt(20 + 9 * i as usize, i), key(i), 6)).collect();
    let wanted = all_bits(&complete(&engine(&model, Limits::default()), groups.clone()));

    // A run that ends in the middle: some replies are there, one is half done, the rest never began.
    let first = engine(&model, Limits { rows: 4, ..Limits::default() });
    let mut replies: Vec<_> =
        groups.iter().map(|group| first.submit(group.clone()).expect("it fits")).collect();
    let done: Vec<Bits> =
        replies[0].drain(..3).map(|reply| bits(&reply.wait().expect("a reply"))).collect();
    assert!(done == wanted[0][..3]);
    replies[0][0].next_blocking();
    drop((replies, first));

    // The next run, with other limits, asks for the missing ones alone.
    let second = engine(&model, Limits { rows: 3, prefill_tokens: 7, ..Limits::default() });
    let missing = groups.into_iter().enumerate().map(|(i, mut group)| {
        group.samples.drain(..if i == 0 { 3 } else { 0 });
        group
    });
    let found = all_bits(&complete(&second, missing.collect()));
    assert!(found[0] == wanted[0][3..] && found[1..] == wanted[1..]);
}
