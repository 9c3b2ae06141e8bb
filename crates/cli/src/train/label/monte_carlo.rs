//! `--monte-carlo K`: the policy that goes on, and the loop that it goes on in.

use std::sync::{Arc, Mutex};

use agentflow_agent::trajectory::ModelRecord;
use agentflow_llm::PoolConfig;
use agentflow_train::label::MonteCarlo;
use anyhow::anyhow;
use tokio_util::sync::CancellationToken;

use super::{Recorded, Who};
use crate::arguments::{LabelArgs, ModelArgs};
use crate::backend;
use crate::eval::{Measured, PATIENCE};
use crate::narrate::Narrator;
use crate::{Failure, solve};

/// `rollouts` continuations of each decision, in the loop that the runs were made in.
pub(super) async fn who(
    args: &mut LabelArgs,
    rollouts: u32,
    recorded: &[Recorded],
    cancel: &CancellationToken,
    narrator: &Narrator,
) -> Result<Who, Failure> {
    let (first, others) = recorded
        .split_first()
        .ok_or_else(|| Failure::usage(anyhow!("name a run to label, see `agentflow runs list`")))?;
    let agent = &first.arguments.agent;
    if let Some(other) = others.iter().find(|other| other.arguments.agent != *agent) {
        return Err(Failure::usage(anyhow!(
            "runs `{}` and `{}` were made with other settings of the agent loop, and a continuation has those of its \
             run; label them one by one",
            first.info.run,
            other.info.run
        )));
    }
    if args.resume.is_none() {
        args.model = policy(args, &first.arguments.model);
    }
    let pool = PoolConfig { patience: PATIENCE, ..PoolConfig::new(args.concurrency as usize) };
    let chosen = backend::choose(&args.model, pool, narrator).await?;
    for run in recorded {
        check(run, &ModelRecord::from(chosen.model.info()), chosen.profile.version(), narrator)?;
    }
    if args.model.temperature == 0.0 && rollouts > 1 {
        narrator.warning(
            "at temperature 0 all continuations of a decision are the same; give them a --temperature",
        );
    }
    let executors =
        (0..args.concurrency).map(|_| solve::executor(agent)).collect::<Result<Vec<_>, _>>()?;
    let sandbox = executors[0].sandbox().report().level.to_string();
    let mut measured = Measured::default();
    measured.add_model(&chosen);
    measured.add_loop(agent, &sandbox);
    measured.set("monte_carlo.rollouts", rollouts);
    // A pattern: each continuation has one of `executors`.
    let executor = Arc::new(Mutex::new(solve::executor(agent)?));
    let solver = solve::solver(&chosen, executor, agent, cancel.clone());
    let labeller = Arc::new(MonteCarlo::new(solver, executors, rollouts, args.model.seed));
    let plural = if rollouts == 1 { "" } else { "s" };
    Ok(Who {
        labeller,
        judge: None,
        name: format!("monte-carlo, {rollouts} continuation{plural}"),
        chosen,
        // With one continuation of each under way, no executor waits for the slowest one of a label.
        concurrency: args.concurrency as usize,
        measured,
    })
}

/// The model that made the run, unless another was typed; how it draws is this command's own.
fn policy(args: &LabelArgs, made: &ModelArgs) -> ModelArgs {
    let another = ["backend", "model", "adapter", "url"];
    if another.iter().any(|name| args.typed.contains(*name)) {
        return args.model.clone();
    }
    let typed = |name: &str| args.typed.contains(name);
    let ModelArgs { temperature, top_p, seed, .. } = args.model;
    let mut policy =
        ModelArgs { temperature, top_p, seed, record: args.model.record.clone(), ..made.clone() };
    if typed("num_ctx") {
        policy.num_ctx = args.model.num_ctx;
    }
    if typed("think") {
        policy.think = args.model.think;
    }
    if typed("max_tokens") {
        policy.max_tokens = args.model.max_tokens;
    }
    if typed("timeout") {
        policy.timeout = args.model.timeout;
    }
    if args.model.placement.is_chosen() {
        policy.placement = args.model.placement;
    }
    policy
}

/// Whether `policy` can go on where the run stopped, and is the one that made it.
fn check(
    run: &Recorded,
    policy: &ModelRecord,
    prompts: &str,
    narrator: &Narrator,
) -> Result<(), Failure> {
    let (name, made) = (&run.info.run, &run.info.model);
    if run.info.prompts != prompts {
        return Err(Failure::usage(anyhow!(
            "run `{name}` was made with prompts `{}`, and `{}` reads `{prompts}`: it cannot go on where the run \
             stopped; take a model with the prompts of the run",
            run.info.prompts,
            policy.name
        )));
    }
    if (&made.digest, &made.adapter) != (&policy.digest, &policy.adapter) {
        narrator.warning(&format!(
            "run `{name}` was made by {}, and is gone on with by {}: the labels are those of the latter",
            described(made),
            described(policy)
        ));
    }
    Ok(())
}

/// E.g. `tiny-planner` (sha256:…).
fn described(model: &ModelRecord) -> String {
    let adapter = model.adapter.as_ref().map_or(String::new(), |it| format!(" with adapter {it}"));
    let digest = model.digest.as_ref().map_or(String::new(), |it| format!(" ({it})"));
    format!("`{}`{digest}{adapter}", model.name)
}
