//! `--judge WHERE`: the model that rates, and how well it agrees with itself.

use std::collections::HashMap;
use std::sync::Arc;

use agentflow_agent::prompt::Profile;
use agentflow_eval::RunDir;
use agentflow_llm::PoolConfig;
use agentflow_train::label::judge::{Judge, Rubric};
use agentflow_train::label::{
    self, AGREEMENT_FILE, Case, End, Kept, LABELS_FILE, Labeller, Plan, agreement, read_labels,
};
use anyhow::{Context, anyhow};
use tokio_util::sync::CancellationToken;

use super::watch::Watch;
use super::{Who, prices};
use crate::arguments::{Backend, LabelArgs};
use crate::eval::{Measured, PATIENCE};
use crate::narrate::Narrator;
use crate::{Failure, backend};

/// Beside the first question and its reply: that reply again, shortened, and what was wrong with it.
const SECOND_TRY: u32 = 1000;

/// How the two ratings of the same decisions compare.
const SUMMARY_FILE: &str = "agreement.json";

/// A model at `backend` rates each decision.
pub(super) async fn who(
    args: &mut LabelArgs,
    backend: Backend,
    narrator: &Narrator,
) -> Result<Who, Failure> {
    if args.resume.is_none() {
        args.model.backend = backend;
        // The default is for rollouts, which are drawn.
        if !args.typed.contains("temperature") {
            args.model.temperature = 0.0;
        }
    }
    if backend == Backend::Auto {
        return Err(Failure::usage(anyhow!(
            "a judge is chosen by whoever trusts it: say where it runs with --judge openai, ollama or local"
        )));
    }
    let pool = PoolConfig { patience: PATIENCE, ..PoolConfig::new(args.concurrency as usize) };
    let chosen = backend::choose(&args.model, pool, narrator).await?;
    if chosen.profile == Profile::Compact {
        return Err(Failure::usage(anyhow!(
            "`{}` knows nothing but the prompts of a small planner, so it cannot judge; name another with --model",
            chosen.model.info().name
        )));
    }
    let window = chosen.model.info().num_ctx.unwrap_or_else(|| args.model.num_ctx());
    let most = window.saturating_sub(chosen.settings.max_tokens.saturating_add(SECOND_TRY));
    if most == 0 {
        return Err(Failure::usage(anyhow!(
            "a window of {window} tokens has no room for a question beside replies of {}; raise --num-ctx, or lower \
             --max-tokens",
            chosen.settings.max_tokens
        )));
    }
    let rubric = Rubric { sight: args.judge_sees.into(), ..Rubric::default() };
    let judge = Judge {
        model: chosen.model.clone(),
        rubric,
        settings: chosen.settings.clone(),
        most_prompt_tokens: most.into(),
    };
    let mut measured = Measured::default();
    measured.add_model(&chosen);
    measured.set("judge.rubric", rubric.version());
    measured.set("judge.most_prompt_tokens", most);
    Ok(Who {
        labeller: Arc::new(judge.clone()),
        judge: Some(judge),
        name: format!("judge, {}", rubric.version()),
        chosen,
        concurrency: args.concurrency as usize,
        measured,
    })
}

/// Has `count` of the decisions rated once more, and says how the two ratings compare. Resumable as the first rating is.
pub(super) async fn again(
    dir: &RunDir,
    judge: &Judge,
    cases: &[Case],
    count: usize,
    args: &LabelArgs,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    let narrator = Narrator::new(false);
    let first = read_labels(&dir.path().join(LABELS_FILE)).map_err(Failure::work)?;
    let chosen = drawn(judge, cases, count);
    let prices = prices(args);
    let spent = prices
        .map_or(0.0, |prices| first.iter().map(|label| label::dollars(prices, label.usage)).sum());
    let record = Kept::open_second(dir).map_err(Failure::work)?;
    let mut watch = Watch::new(chosen.len() as u64, record.tally());
    watch.say(&format!("self-agreement: {} decisions are rated once more", chosen.len()));
    let plan = Plan {
        cases: chosen,
        concurrency: args.concurrency as usize,
        retries: args.retries,
        budget: args.budget_usd.map(|budget| budget - spent).zip(prices),
    };
    let on_event = &mut |event| watch.event(event);
    let finished = label::run(record, plan, Arc::new(judge.again()), cancel, on_event).await;
    watch.finish();
    let finished = finished.map_err(Failure::work)?;
    if finished.end == End::Interrupted {
        return Err(Failure::Interrupted);
    }
    let second = read_labels(&dir.path().join(AGREEMENT_FILE)).map_err(Failure::work)?;
    let agreement = agreement::of_labels(&first, &second);
    let text = serde_json::to_vec_pretty(&agreement).context("cannot serialize the agreement")?;
    dir.write(SUMMARY_FILE, &text).map_err(Failure::work)?;
    narrator.notice(&agreement.to_string());
    let usage = finished.tally.usage;
    let tokens = usage.prompt_tokens + usage.completion_tokens;
    let dollars = prices.map(|prices| format!(", ${:.4}", label::dollars(prices, usage)));
    narrator.notice(&format!("it took {tokens} tokens{}", dollars.unwrap_or_default()));
    if finished.end == End::Complete && finished.tally.failed == 0 {
        return Ok(());
    }
    let how = format!("agentflow train label --resume {}", dir.path().display());
    narrator
        .notice(&format!("not all of them were rated again ({}); go on with: {how}", finished.end));
    Ok(())
}

/// The decisions that are rated twice: of those with the same question to the judge, one.
fn drawn(judge: &Judge, cases: &[Case], count: usize) -> Vec<Case> {
    let mut first_of = HashMap::new();
    let mut keys = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        first_of.entry(judge.key(case)).or_insert_with_key(|key| {
            keys.push(key.clone());
            at
        });
    }
    let places = agreement::drawn(&keys, count);
    places.into_iter().map(|place| cases[first_of[&keys[place]]].clone()).collect()
}
