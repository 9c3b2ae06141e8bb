//! `agentflow bench engine`: how fast the engine reads prompts and writes replies, for any model, device and batch.
//!
//! Prompts are arbitrary tokens, all different; a group of replies has one in common. Replies are drawn at temperature 1 and nothing ends them early, so every row
//! runs to full length and a batch stays one.

use std::time::Instant;

use agentflow_llm::Sampling;
use agentflow_model::{Completion, Engine, Limits, LoadedModel, Request, Sample};
use anyhow::anyhow;

use crate::arguments::BenchEngineArgs;
use crate::{Failure, model, output};

/// What one batch took.
struct Timed {
    /// Prompt tokens a second, from the first to the last.
    prefill: f64,
    /// Tokens of replies a second, all rows together, after the first token of each.
    decode: f64,
    /// Seconds of prompts and replies together.
    whole: f64,
    /// Prompt tokens that went through the model, as the engine counts them.
    computed: u64,
}

pub(super) fn run(args: &BenchEngineArgs) -> Result<(), Failure> {
    let start = Instant::now();
    let loaded = model::load(args.model.as_deref(), None, &args.placement)?;
    let load = start.elapsed();
    let (context, wanted) =
        (loaded.model.config().max_position_embeddings, args.prompt + args.tokens);
    if wanted as usize > context {
        return Err(Failure::usage(anyhow!(
            "--prompt and --tokens are {wanted} tokens together, but the model's context is {context}; lower one"
        )));
    }
    output::print(|out| {
        writeln!(out, "figure engine.load {:.2} s", load.as_secs_f64())?;
        out.flush()
    })?;
    for &batch in &args.batch {
        let bench = Bench { loaded: &loaded, args, batch: batch as usize };
        // The first passes compile kernels and touch new memory.
        bench.once(args.prompt.min(16), args.tokens.min(4)).map_err(Failure::work)?;
        let mut best = Timed { prefill: 0.0, decode: 0.0, whole: f64::INFINITY, computed: 0 };
        for _ in 0..args.rounds {
            let timed = bench.once(args.prompt, args.tokens).map_err(Failure::work)?;
            best = Timed {
                prefill: best.prefill.max(timed.prefill),
                decode: best.decode.max(timed.decode),
                whole: best.whole.min(timed.whole),
                computed: timed.computed,
            };
        }
        output::print(|out| {
            writeln!(out, "figure engine.prefill_batch_{batch} {:.1} tokens/s", best.prefill)?;
            writeln!(out, "figure engine.decode_batch_{batch} {:.1} tokens/s", best.decode)?;
            writeln!(out, "figure engine.whole_batch_{batch} {:.3} s", best.whole)?;
            writeln!(out, "figure engine.computed_batch_{batch} {} tokens", best.computed)?;
            out.flush()
        })?;
    }
    Ok(())
}

struct Bench<'a> {
    loaded: &'a LoadedModel,
    args: &'a BenchEngineArgs,
    batch: usize,
}

impl Bench<'_> {
    fn once(&self, prompt: u32, tokens: u32) -> agentflow_model::Result<Timed> {
        let prompts = match self.args.unshared {
            true => self.batch,
            false => self.batch.div_ceil(self.args.group_size as usize),
        };
        let tokens_in_all = prompts * prompt as usize;
        // Prompts in passes as the engine usually cuts them, and one token of reply.
        let start = Instant::now();
        self.replies(prompt, 1, Limits::on(self.loaded.model.device()).prefill_tokens)?;
        let prefill = tokens_in_all as f64 / start.elapsed().as_secs_f64();
        // All prompts in one pass, so that the replies begin together.
        let start = Instant::now();
        let (replies, computed) = self.replies(prompt, tokens, tokens_in_all)?;
        let whole = start.elapsed().as_secs_f64();
        // Of the reply that began last, for from then on no prompt is in the way: the others began with it, or a pass
        // earlier.
        let decoding = replies.iter().map(|reply| reply.times.decode).min().unwrap_or_default();
        let after_first: usize = replies.iter().map(|reply| reply.tokens.len() - 1).sum();
        let decode = after_first as f64 / decoding.as_secs_f64();
        Ok(Timed { prefill, decode, whole, computed })
    }

    /// One reply of `tokens` for each row, by an engine that reads `pass` prompt tokens at a time, and how many of those
    /// it computed.
    fn replies(
        &self,
        prompt: u32,
        tokens: u32,
        pass: usize,
    ) -> agentflow_model::Result<(Vec<Completion>, u64)> {
        let LoadedModel { model, tokenizer, .. } = self.loaded;
        let (prompt, room) = (prompt as usize, (prompt + tokens) as usize + 64);
        let limits = Limits {
            rows: self.batch,
            kv_tokens: self.batch * room,
            prefill_tokens: pass,
            share_prefixes: !self.args.unshared,
            kept_tokens: 0,
        };
        // No token ends a reply.
        let engine = Engine::from_parts(model.clone(), tokenizer.clone(), Vec::new(), room, limits);
        let sampling = Sampling {
            temperature: 1.0,
            top_p: 1.0,
            top_k: None,
            min_p: 0.0,
            seed: Some(self.args.seed),
        };
        let sample = Sample::new(sampling, tokens);
        let group_size = self.args.group_size as usize;
        let mut replies = Vec::with_capacity(self.batch);
        for (group, first) in (0..self.batch).step_by(group_size).enumerate() {
            let ids = (group * prompt..(group + 1) * prompt).map(|at| self.token(at)).collect();
            let samples = group_size.min(self.batch - first);
            replies.extend(engine.submit(Request::group(ids, sample.clone(), samples))?);
        }
        let replies: Vec<Completion> =
            replies.into_iter().map(|reply| reply.wait()).collect::<Result<_, _>>()?;
        Ok((replies, engine.statistics().prefilled_tokens))
    }

    /// An arbitrary token, spread over the vocabulary (Knuth's multiplicative hash).
    fn token(&self, at: usize) -> u32 {
        let words = self.loaded.tokenizer.len() as u64;
        ((at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 % words as u32
    }
}
