//! A run as inspect_ai's JSON eval log (version 2), for `inspect view` and everything else that reads those.
//!
//! A step becomes an assistant message with the reply as the model wrote it and, where a tool was called, a tool call,
//! followed by the tool's message. What inspect_ai has no field for travels in `metadata`.

use std::io::Write;
use std::path::Path;

use agentflow_agent::trajectory::{Step, Stop, Trajectory};
use serde_json::{Map, Value, json};

use crate::report::problem_id;
use crate::samples::last_samples;
use crate::{Gold, Outcome, Report, RunDirError, RunInfo, Sample};

/// Writes the log of the run at `run`, one sample at a time.
///
/// # Errors
/// If the run cannot be read, or `out` refuses; `path` names it in the error.
pub fn write_inspect_log(
    run: &Path,
    report: &Report,
    out: &mut dyn Write,
    path: &Path,
) -> Result<(), RunDirError> {
    let refused = |source| RunDirError::Io { action: "write", path: path.to_owned(), source };
    let head = head(&report.run, report, created(run)).to_string();
    // The head is an object: without its closing brace, the samples follow as its last field.
    write!(out, "{},\"samples\":[", &head[..head.len() - 1]).map_err(refused)?;
    for (index, read) in last_samples(run)?.enumerate() {
        let (_, sample) = read?;
        let comma = if index > 0 { "," } else { "" };
        write!(out, "{comma}\n{}", sample_value(&sample)).map_err(refused)?;
    }
    writeln!(out, "\n]}}").map_err(refused)
}

/// A file name under which `inspect view` finds the log: time, task, id.
pub fn inspect_log_name(run: &Path, info: &RunInfo) -> String {
    let plain = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let id = info.run.rsplit('-').next().unwrap_or_default();
    format!("{}_{}_{}.json", created(run).replace(':', "-"), plain(&info.benchmark), plain(id))
}

/// When the run began, as its record says.
fn created(run: &Path) -> String {
    let modified = std::fs::metadata(run.join("run.toml")).and_then(|meta| meta.modified());
    let stamp = modified.ok().and_then(|time| jiff::Timestamp::try_from(time).ok());
    // Whole seconds, in the form that Python writes.
    stamp.unwrap_or(jiff::Timestamp::UNIX_EPOCH).strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

fn head(info: &RunInfo, report: &Report, created: String) -> Value {
    let name = model_name(info);
    let counts = &report.counts;
    let usage = usage(report.tokens.prompt, report.tokens.completion);
    json!({
        "version": 2,
        "status": if report.partial { "cancelled" } else { "success" },
        "eval": {
            "eval_id": info.run,
            "run_id": info.run,
            "created": created,
            "task": info.benchmark,
            "task_id": format!("{}@{}", info.benchmark, info.prompts),
            "task_version": 0,
            "task_attribs": {},
            "task_args": { "max_steps": info.max_steps, "prompts": info.prompts },
            "dataset": {
                "name": info.dataset.as_ref().map_or(&info.benchmark, |set| &set.id),
                "samples": info.problems,
                "shuffled": false,
            },
            "model": name,
            "model_generate_config": {
                "temperature": info.sampling.temperature,
                "top_p": info.sampling.top_p,
                "seed": info.sampling.seed,
            },
            "model_args": {},
            "config": { "epochs": info.repeats, "epochs_reducer": ["mean"] },
            "packages": { "agentflow": info.version },
            "metadata": {
                "commit": info.commit,
                "digest": info.model.digest,
                "adapter": info.model.adapter,
                "dataset": info.dataset,
                "choices_seed": info.choices_seed,
            },
            "scorers": [{ "name": "agentflow", "options": {}, "metrics": [{ "name": "accuracy", "options": {} }] }],
        },
        "plan": { "name": "plan", "steps": [{ "solver": "agentflow", "params": {} }], "config": {} },
        "results": {
            "total_samples": counts.asked,
            "completed_samples": counts.samples - counts.failed,
            "scores": [{
                "name": "agentflow",
                "scorer": "agentflow",
                "reducer": "mean",
                "scored_samples": counts.samples,
                "params": {},
                "metrics": {
                    "accuracy": {
                        "name": "accuracy",
                        "value": report.accuracy.value,
                        "params": {},
                        "metadata": { "interval_95": report.accuracy.interval, "method": report.accuracy.method },
                    },
                },
            }],
        },
        "stats": {
            "started_at": created,
            "completed_at": "",
            "model_usage": { name: usage },
        },
    })
}

fn model_name(info: &RunInfo) -> String {
    format!("{}/{}", info.model.backend, info.model_name())
}

fn usage(prompt: u64, completion: u64) -> Value {
    json!({ "input_tokens": prompt, "output_tokens": completion, "total_tokens": prompt + completion })
}

fn sample_value(sample: &Sample) -> Value {
    let Sample { trajectory, eval } = sample;
    let model = match &trajectory.model.adapter {
        Some(adapter) => {
            format!("{}/{} + {adapter}", trajectory.model.backend, trajectory.model.name)
        }
        None => format!("{}/{}", trajectory.model.backend, trajectory.model.name),
    };
    let verdict = &eval.verdict;
    let usage = usage(trajectory.usage.prompt_tokens, trajectory.usage.completion_tokens);
    let messages = messages(trajectory, &model);
    let mut value = json!({
        "id": problem_id(trajectory),
        // Counts from 1 there.
        "epoch": eval.repeat + 1,
        "input": trajectory.question,
        "target": eval.gold.text(),
        "choices": match &eval.gold {
            Gold::Choice { shown, .. } => Some(shown),
            Gold::Math { .. } => None,
        },
        "messages": messages,
        "output": output(trajectory, &model, &usage),
        "scores": {
            "agentflow": {
                "value": if verdict.outcome == Outcome::Right { "C" } else { "I" },
                "answer": verdict.pred_read,
                "explanation": format!(
                    "{}: read as {}, gold {} ({})",
                    outcome_name(verdict.outcome),
                    verdict.pred_read.as_deref().unwrap_or("nothing"),
                    verdict.gold_read,
                    verdict.how
                ),
                "metadata": { "outcome": verdict.outcome, "how": verdict.how },
            },
        },
        "metadata": {
            "tags": eval.tags,
            "stop": trajectory.stop,
            "sandbox": trajectory.sandbox,
            "prompts": trajectory.prompts,
            "trajectory": trajectory.id,
        },
        "store": {},
        "events": [],
        "model_usage": { model: usage },
        "total_time": trajectory.wall_s,
        "attachments": {},
    });
    if let Some(error) = &trajectory.error {
        value["error"] = json!({ "message": error, "traceback": "", "traceback_ansi": "" });
    }
    value
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Right => "right",
        Outcome::Wrong => "wrong",
        Outcome::NoAnswer => "no answer",
        Outcome::Failed => "failed",
    }
}

/// What the planner was first told, then each reply and what came of it.
fn messages(trajectory: &Trajectory, model: &str) -> Vec<Value> {
    let mut messages = Vec::new();
    let mut id = 0;
    let mut push = |mut message: Map<String, Value>| {
        message.insert("id".to_owned(), Value::from(format!("m{id}")));
        id += 1;
        messages.push(Value::Object(message));
    };
    match trajectory.steps.first() {
        Some(first) => {
            for message in &first.prompt {
                push(object(
                    json!({ "role": message.role, "content": message.content, "source": "input" }),
                ));
            }
        }
        None => push(object(
            json!({ "role": "user", "content": trajectory.question, "source": "input" }),
        )),
    }
    for step in &trajectory.steps {
        push(assistant(step, model));
        if let Some(call) = call_id(step) {
            push(tool_result(step, &call));
        }
    }
    messages
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// An id of the tool call, where the step is one: `answer` is none, and neither is a reply that could not be read.
fn call_id(step: &Step) -> Option<String> {
    let reply = step.reply.as_ref().filter(|reply| reply.action != "answer")?;
    Some(format!("{}-{}", reply.action, step.index))
}

fn assistant(step: &Step, model: &str) -> Map<String, Value> {
    let text = step.reply.as_ref().map_or(step.raw.as_str(), |reply| match &*reply.action {
        "answer" => &reply.action_input,
        _ => &reply.thought,
    });
    let content = match &step.thinking {
        Some(thinking) => {
            json!([{ "type": "reasoning", "reasoning": thinking }, { "type": "text", "text": text }])
        }
        None => Value::from(text),
    };
    let mut message = object(json!({
        "role": "assistant",
        "content": content,
        "source": "generate",
        "model": model,
        "metadata": { "raw": step.raw, "verdict": step.verdict },
    }));
    if let Some(score) = step.prm_score {
        message["metadata"]["prm_score"] = Value::from(score);
    }
    if let (Some(id), Some(reply)) = (call_id(step), &step.reply) {
        let call = json!({
            "id": id,
            "function": reply.action,
            "arguments": { "input": reply.action_input },
            "type": "function",
        });
        message.insert("tool_calls".to_owned(), Value::from(vec![call]));
    }
    message
}

fn tool_result(step: &Step, call: &str) -> Map<String, Value> {
    let function = step.reply.as_ref().map(|reply| &reply.action);
    let observation = &step.observation;
    let mut message = object(json!({
        "role": "tool",
        "content": observation.text,
        "tool_call_id": call,
        "function": function,
    }));
    if !observation.ok {
        message
            .insert("error".to_owned(), json!({ "type": "unknown", "message": observation.text }));
    }
    message
}

fn output(trajectory: &Trajectory, model: &str, usage: &Value) -> Value {
    let answer = trajectory.answer.as_deref().unwrap_or_default();
    let stop = match trajectory.stop {
        Stop::Answered => "stop",
        Stop::MaxSteps | Stop::Budget => "max_tokens",
        Stop::Failed => "unknown",
    };
    json!({
        "model": model,
        "choices": [{
            "message": { "role": "assistant", "content": answer, "source": "generate", "model": model },
            "stop_reason": stop,
        }],
        "completion": answer,
        "usage": usage,
        "time": trajectory.wall_s,
        "error": trajectory.error,
    })
}
