//! `agentflow model`: what a model is, and its parts one by one, for scripts and tests of other implementations.
//!
//! All but `inspect` and `random` read JSON lines and write one JSON line for each, in the same order. A line that fails gives
//! `{"error": …}`, and the exit code is 1 at the end.

mod inspect;
mod random;

use std::io::Read;
use std::path::Path;

use agentflow_llm::{Finish, Message, Sampling};
use agentflow_model::{Adapter, LoadedModel, Local, ModelError, Request, Sample, Scored};
use anyhow::{Context, anyhow};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Failure;
use crate::arguments::{
    GenerateArgs, LogprobsArgs, ModelCommand, PlacementArgs, RenderArgs, WeightsArgs,
};
use crate::{model_source, output, placement};

pub(crate) fn run(command: ModelCommand) -> Result<(), Failure> {
    match command {
        ModelCommand::Inspect(args) => inspect::run(&args),
        ModelCommand::Render(args) => render(&args),
        ModelCommand::Logprobs(args) => logprobs(&args),
        ModelCommand::Generate(args) => generate(&args),
        ModelCommand::Random(args) => random::run(&args),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RenderLine {
    messages: Vec<Message>,
    /// Absent, the template's own default holds.
    think: Option<bool>,
}

fn render(args: &RenderArgs) -> Result<(), Failure> {
    let input = read(&args.input)?;
    let files = files(args.model.as_deref())?;
    let manifest = files.manifest().map_err(Failure::work)?;
    let template = manifest.template.ok_or_else(|| {
        Failure::work(anyhow!(
            "model `{}` has no chat template; base models have none",
            files.place()
        ))
    })?;
    each_line(&input, |line: RenderLine| {
        let text = template.render_with(&line.messages, line.think, true)?;
        let ids = manifest.tokenizer.encode(&text)?;
        Ok(json!({"text": text, "ids": ids}))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogprobsLine {
    prompt_ids: Vec<u32>,
    completion_ids: Vec<u32>,
}

fn logprobs(args: &LogprobsArgs) -> Result<(), Failure> {
    let input = read(&args.weights.input)?;
    let loaded = args.weights.load()?;
    each_line(&input, |line: LogprobsLine| {
        let LogprobsLine { prompt_ids, completion_ids } = line;
        let ids = [prompt_ids.as_slice(), completion_ids.as_slice()].concat();
        let completion_mask: Vec<bool> = (0..ids.len()).map(|at| at >= prompt_ids.len()).collect();
        let (model, temperature) = (&loaded.model, args.temperature);
        let scored = agentflow_model::logprobs(model, &ids, &completion_mask, temperature, None)?;
        let logprobs: Vec<f32> = scored.iter().map(|Scored { logprob, .. }| *logprob).collect();
        let sum: f64 = logprobs.iter().map(|logprob| f64::from(*logprob)).sum();
        Ok(json!({"logprobs": logprobs, "sum": sum}))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenerateLine {
    prompt_ids: Vec<u32>,
    max_tokens: u32,
    #[serde(default)]
    temperature: f64,
    #[serde(default)]
    seed: u64,
    schema: Option<Value>,
}

fn generate(args: &GenerateArgs) -> Result<(), Failure> {
    let input = read(&args.weights.input)?;
    let model = Local::new(args.weights.load()?, "model", None);
    // All lines are generated together; the answers come in their order.
    let begin = |line: GenerateLine| {
        let sampling = Sampling {
            temperature: line.temperature,
            top_p: 1.0,
            top_k: None,
            min_p: 0.0,
            seed: Some(line.seed),
        };
        let constraint = match &line.schema {
            Some(schema) => Some(model.grammar()?.constraint(schema)?),
            None => None,
        };
        let sample = Sample { constraint, ..Sample::new(sampling, line.max_tokens) };
        model.engine().submit(Request::group(line.prompt_ids, sample, 1))
    };
    each_begun(&input, begin, |replies| {
        let mut answers = Vec::with_capacity(replies.len());
        for reply in replies {
            let completion = reply.wait()?;
            let finish = match completion.finish {
                Finish::Stop => "stop",
                Finish::Length => "length",
                Finish::Refused => "refused",
            };
            answers.push(json!({
                "ids": completion.ids(), "text": completion.text, "finish": finish,
                "logprobs": completion.logprobs(),
            }));
        }
        Ok(answers.pop().unwrap_or_default())
    })
}

/// Answers each line of `input` that is not blank.
fn each_line<Line: DeserializeOwned>(
    input: &str,
    answer: impl FnMut(Line) -> Result<Value, ModelError>,
) -> Result<(), Failure> {
    each_begun(input, Ok, answer)
}

/// The same in two steps: every line is begun before the first answer is waited for.
fn each_begun<Line: DeserializeOwned, Begun>(
    input: &str,
    mut begin: impl FnMut(Line) -> Result<Begun, ModelError>,
    mut answer: impl FnMut(Begun) -> Result<Value, ModelError>,
) -> Result<(), Failure> {
    let lines = input.lines().filter(|line| !line.trim().is_empty());
    let begun: Vec<Result<Begun, String>> = lines
        .map(|line| match serde_json::from_str(line) {
            Ok(line) => begin(line).map_err(|error| error.to_string()),
            Err(error) => Err(format!("this line is not what is read here: {error}")),
        })
        .collect();
    let (lines, mut failed) = (begun.len(), 0);
    output::print(|out| {
        for begun in begun {
            let answered = begun.and_then(|begun| answer(begun).map_err(|error| error.to_string()));
            let answered = answered.unwrap_or_else(|error| {
                failed += 1;
                json!({"error": error})
            });
            writeln!(out, "{answered}")?;
            out.flush()?; // a reader may wait for each answer
        }
        Ok(())
    })?;
    match failed {
        0 => Ok(()),
        _ => Err(Failure::work(anyhow!("{failed} of {lines} lines failed; their answers say why"))),
    }
}

/// The text of a file, or of standard input where it is called `-`.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    } else {
        text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
    }
    Ok(text)
}

/// Loads what was named, and the adapter beside it.
pub(crate) fn load(
    model: Option<&str>,
    adapter: Option<&Path>,
    placement: &PlacementArgs,
) -> Result<LoadedModel, Failure> {
    let placement = placement::choose(placement)?;
    let loaded = placement.load(&files(model)?).map_err(Failure::work)?;
    let Some(dir) = adapter else { return Ok(loaded) };
    let adapter = Adapter::open(dir, placement.dtype, &placement.device).map_err(Failure::work)?;
    loaded.with_adapter(&adapter).map_err(Failure::work)
}

impl WeightsArgs {
    fn load(&self) -> Result<LoadedModel, Failure> {
        load(self.model.as_deref(), self.adapter.as_deref(), &self.placement)
    }
}

/// The files of a model, fetched where they are not here.
pub(crate) fn files(name: Option<&str>) -> Result<agentflow_model::ModelFiles, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(model_source::files(name))
}
