//! The sampler's log-probs are the trainer's, under grammar and temperature, on the bundled planner.

use std::sync::Arc;

use agentflow_agent::prompt;
use agentflow_eval::arith::{self, Split};
use agentflow_llm::Sampling;
use agentflow_model::{Adapter, Engine, Grammar, Limits, LoadedModel, Request, Sample, bundled};
use agentflow_train::dapo::{DapoConfig, GroupOrigin, Row, Trainer};
use agentflow_train::policy::loss::Credit;
use candle_core::{DType, Device};

use crate::models::{config, stir};

const TEMPERATURE: f64 = 0.7;

struct Place {
    planner: LoadedModel,
    grammar: Arc<Grammar>,
}

impl Place {
    fn new() -> Self {
        let planner = bundled::files().load(DType::F32, &Device::Cpu).expect("the planner");
        let vocabulary = planner.model.config().vocab_size;
        let grammar = Grammar::new(planner.tokenizer.clone(), vocabulary, planner.stop_ids[0]);
        Self { planner, grammar: Arc::new(grammar.expect("a grammar")) }
    }

    fn trainer(&self, change: impl FnOnce(&mut DapoConfig)) -> Trainer {
        let mut config = config();
        config.batch.micro_batch_tokens = 4000;
        change(&mut config);
        let grammar = Some(self.grammar.clone());
        let trainer = Trainer::new(&self.planner.model, None, grammar, config).expect("a trainer");
        stir(trainer.adapter(), 0.02, 11);
        trainer
    }

    fn engine(&self, trainer: &Trainer) -> Engine {
        let LoadedModel { tokenizer, stop_ids, .. } = &self.planner;
        let (model, limits) = (trainer.policy().clone(), Limits::default());
        Engine::from_parts(model, tokenizer.clone(), stop_ids.clone(), 1024, limits)
    }

    /// Replies to problems, in groups of 8; some run out of room.
    fn sample(&self, engine: &Engine, groups: u64, first: u64) -> Vec<Row> {
        // Not the tools that this planner knows: what it would say itself is forbidden in one place.
        let schema = prompt::planner_schema(&["think", "search"]);
        let constraint = self.grammar.constraint(&schema).expect("a schema");
        let schema = Arc::new(schema);
        let begin = |group: u64| {
            let problem = arith::problem(5, Split::Train, first + group);
            let messages = prompt::compact(&problem.question, std::iter::empty());
            let text = self.planner.template.render(&messages, false).expect("a prompt");
            let prompt = self.planner.tokenizer.encode(&text).expect("ids");
            let seed = Some(group);
            let sampling =
                Sampling { temperature: TEMPERATURE, top_p: 1.0, top_k: None, min_p: 0.0, seed };
            let max_tokens = if group % 5 == 4 { 20 } else { 70 };
            let sample = Sample {
                constraint: Some(constraint.clone()),
                ..Sample::new(sampling, max_tokens)
            };
            let origin = GroupOrigin {
                prompt: prompt.clone().into(),
                group,
                temperature: TEMPERATURE,
                schema: Some(schema.clone()),
                think_end: None,
                plain_logprobs: false,
            };
            (origin, engine.submit(Request::group(prompt, sample, 8)).expect("submitted"))
        };
        let begun: Vec<_> = (0..groups).map(begin).collect();
        let rows = begun.into_iter().flat_map(|(origin, replies)| {
            replies.into_iter().zip(0..).map(move |(reply, index)| {
                let mut row = origin.row(&reply.wait().expect("a reply"));
                row.advantage = Credit::Row(if index < 4 { 1.0 } else { -1.0 });
                row
            })
        });
        rows.collect()
    }
}

/// The largest difference on a token that counts, and the number of such tokens.
fn gap(trainer: &Trainer, rows: &[Row]) -> (f32, usize) {
    let scored = trainer.logprobs(rows).expect("log-probs");
    let (mut worst, mut tokens) = (0.0_f32, 0);
    for (row, trained) in rows.iter().zip(scored) {
        let mask = row.loss_mask(&trainer.config().overlong);
        let sampled = row.sampled_logprobs.as_ref().expect("the sampler's");
        for token in (0..mask.len()).filter(|token| mask[*token]) {
            worst = worst.max((sampled[token] - trained[token]).abs());
            tokens += 1;
        }
    }
    (worst, tokens)
}

#[test]
fn what_was_sampled_scores_the_same_before_and_after_an_update() {
    let place = Place::new();
    let mut trainer = place.trainer(|config| config.overlong.filter_truncated = false);
    let engine = place.engine(&trainer);
    let rows = place.sample(&engine, 25, 0);
    assert_eq!(rows.len(), 200);
    let (worst, tokens) = gap(&trainer, &rows);
    assert!(worst <= 1e-4, "{worst} over {tokens} tokens");

    // The test says something: there are forced tokens, which do not count, truncated rows, and improbable tokens.
    let forced = rows.iter().flat_map(|row| &row.sampled).filter(|sampled| !**sampled).count();
    assert!(forced > 100 && tokens > 1000, "{forced} forced, {tokens} sampled");
    assert!(rows.iter().any(|row| row.truncated) && rows.iter().any(|row| !row.truncated));
    let logprobs = rows.iter().flat_map(|row| row.sampled_logprobs.iter().flatten());
    assert!(logprobs.fold(0.0_f32, |least, logprob| least.min(*logprob)) < -1.0);
    let plain = place.trainer(|config| config.sampling.plain_logprobs = true);
    assert!(gap(&plain, &rows).0 > 1e-2, "the grammar makes no difference");
    let mut warm = rows.clone();
    warm.iter_mut().for_each(|row| row.temperature = 1.0);
    let one = place.trainer(|config| config.sampling.temperature = 1.0);
    assert!(gap(&one, &warm).0 > 1e-2, "the temperature makes no difference");

    let metrics = trainer.update(&rows).expect("an update");
    assert!(metrics.values["sampling/sampling_logp_difference/max"] <= 1e-4, "{metrics:?}");
    engine.forget_prefixes().expect("a running engine");
    assert!(gap(&trainer, &rows).0 > 1e-2, "the update does nothing");
    let rows = place.sample(&engine, 5, 100);
    let (worst, _) = gap(&trainer, &rows);
    assert!(worst <= 1e-4, "{worst} after an update: the engine samples from other weights");
}

#[test]
fn thinking_is_free_and_the_grammar_begins_behind_it() {
    let place = Place::new();
    let trainer = place.trainer(|_| {});
    let rows = place.sample(&place.engine(&trainer), 1, 200);
    // The same reply behind two tokens of thinking: free ones have other log-probs, those of the JSON are masked as before.
    let mut row = rows.into_iter().find(|row| !row.truncated).expect("a whole reply");
    let masked = trainer.logprobs(std::slice::from_ref(&row)).expect("log-probs").remove(0);
    row.prompt = row.prompt.iter().copied().chain([row.completion[0]]).collect();
    row.completion.remove(0);
    row.sampled.remove(0);
    row.sampled_logprobs = None;
    let off = trainer.logprobs(std::slice::from_ref(&row)).expect_err("the JSON lacks its start");
    assert!(off.to_string().contains("not allowed"), "{off}");

    row.completion.insert(0, *row.prompt.last().expect("a prompt"));
    row.sampled.insert(0, false);
    row.prompt = row.prompt[..row.prompt.len() - 1].into();
    let thinking = [5, 6];
    row.completion.splice(0..0, thinking);
    row.sampled.splice(0..0, [true; 2]);
    row.grammar.as_mut().expect("a schema").free_tokens = 2;
    let behind = trainer.logprobs(std::slice::from_ref(&row)).expect("log-probs").remove(0);
    assert!(behind[0] < -1.0 && behind[1] < -1.0, "thinking is scored under all tokens");
    assert_eq!(behind.len(), masked.len() + 2);
    let mut plain = row.clone();
    plain.grammar = None;
    let plain = trainer.logprobs(std::slice::from_ref(&plain)).expect("log-probs").remove(0);
    assert_eq!(plain[..2], behind[..2]);
    let raised = (2..behind.len()).filter(|token| behind[*token] > plain[*token] + 1e-4).count();
    assert!(raised > 0, "the grammar takes nothing away");
    let never = |token: usize| behind[token] < plain[token] - 1e-4;
    assert!(!(2..behind.len()).any(never), "a mask makes a token less likely");
}

#[test]
fn an_adapter_of_another_base_is_refused() {
    let place = Place::new();
    let dir = crate::models::golden("lora/all-linear");
    let adapter = Adapter::open(&dir, DType::F32, &Device::Cpu).expect("an adapter");
    let config = DapoConfig { lora: None, ..config() };
    let Err(error) = Trainer::new(&place.planner.model, Some(&adapter), None, config) else {
        panic!("another base is accepted")
    };
    assert!(error.to_string().contains("is for another model"), "{error}");
}
