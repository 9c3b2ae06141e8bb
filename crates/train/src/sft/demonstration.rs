//! A solved problem as the token sequence that the planner is trained on.

use std::sync::Arc;

use agentflow_agent::prompt::{self, Profile};
use agentflow_agent::trajectory::Decision;
use agentflow_eval::arith::Problem;
use agentflow_llm::Message;
use agentflow_model::{ChatTemplate, Tokenizer};
use agentflow_tools::{Observation, Sandbox, observe};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::SftError;
use super::bpe;

/// The prompts that the trained model will know.
pub(super) const PROMPTS: &str = Profile::Compact.version();

/// One row of training data: a whole attempt, prompt and replies and tool results in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demonstration {
    pub ids: Vec<u32>,
    /// True where the planner wrote the token and should learn it: replies with their end token, except calls that
    /// were made to fail.
    pub completion_mask: Vec<bool>,
}

/// One step of a demonstration before it is tokens.
struct DemonstratedStep {
    decision: Decision,
    observation: Observation,
    trained: bool,
}

/// Turns problems into demonstrations.
pub struct DemonstrationBuilder {
    tokenizer: Arc<Tokenizer>,
    template: ChatTemplate,
    end: u32,
}

impl DemonstrationBuilder {
    /// # Errors
    /// If the chat template of small planners does not compile.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Result<Self, SftError> {
        let template = ChatTemplate::new(bpe::CHAT_TEMPLATE, "the small planner")?;
        let end = tokenizer.id(bpe::END).expect("the tokenizer was trained with its end token");
        Ok(Self { tokenizer, template, end })
    }

    /// The demonstrations of `problems`, each asked as the `question` beside it; `rng` decides which calls fail first.
    ///
    /// # Errors
    /// If the sandbox fails, or a program does not print what the generator says.
    pub fn build(
        &self,
        problems: &[(Problem, String)],
        recovery_share: f64,
        sandbox: &mut Sandbox,
        rng: &mut ChaCha8Rng,
    ) -> Result<Vec<Demonstration>, SftError> {
        let attempts = attempts(problems, recovery_share, sandbox, rng)?;
        problems
            .iter()
            .zip(&attempts)
            .map(|((problem, question), steps)| self.tokens(&problem.id, question, steps))
            .collect()
    }

    fn tokens(
        &self,
        id: &str,
        question: &str,
        steps: &[DemonstratedStep],
    ) -> Result<Demonstration, SftError> {
        let mut ids = Vec::new();
        let mut completion_mask = Vec::new();
        for (done, step) in steps.iter().enumerate() {
            let messages = messages(question, &steps[..done]);
            let prompt = self.tokenizer.encode(&self.template.render(&messages, false)?)?;
            // What follows a reply must tokenize as it did when the reply was sampled, or the cache and the training
            // row would hold another sequence than the conversation.
            if !prompt.starts_with(&ids) {
                return Err(SftError::Demonstration {
                    id: id.to_owned(),
                    problem: "a prompt does not continue the tokens before it".to_owned(),
                });
            }
            completion_mask.resize(prompt.len(), false);
            ids = prompt;
            ids.extend(self.tokenizer.encode(&step.decision.to_json())?);
            ids.push(self.end);
            completion_mask.resize(ids.len(), step.trained);
        }
        Ok(Demonstration { ids, completion_mask })
    }
}

fn messages(question: &str, steps: &[DemonstratedStep]) -> Vec<Message> {
    prompt::compact(question, steps.iter().map(|step| (step.decision.to_json(), &step.observation)))
}

/// The text of demonstrations, for the tokenizer to learn its merges from.
pub(super) fn texts(
    problems: &[(Problem, String)],
    recovery_share: f64,
    sandbox: &mut Sandbox,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<String>, SftError> {
    let attempts = attempts(problems, recovery_share, sandbox, rng)?;
    let contents = |((_, question), steps): (&(Problem, String), &Vec<DemonstratedStep>)| {
        messages(question, steps).into_iter().map(|message| message.content).collect::<Vec<_>>()
    };
    Ok(problems.iter().zip(&attempts).flat_map(contents).collect())
}

/// Solves the problems with the real tool, all programs in one call of the sandbox.
fn attempts(
    problems: &[(Problem, String)],
    recovery_share: f64,
    sandbox: &mut Sandbox,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Vec<DemonstratedStep>>, SftError> {
    let mut planned = Vec::with_capacity(problems.len());
    let mut programs = Vec::new();
    for (problem, _) in problems {
        let failing =
            rng.random_bool(recovery_share).then(|| rng.random_range(0..problem.calls.len()));
        let mut calls: Vec<(&str, String, Option<i64>)> = Vec::new();
        for (index, call) in problem.calls.iter().enumerate() {
            let mut thought = call.thought.as_str();
            if failing == Some(index) {
                calls.push((thought, broken(&call.code, rng), None));
                thought = "The call failed. Write it correctly.";
            }
            calls.push((thought, call.code.clone(), Some(call.result)));
        }
        programs.extend(calls.iter().map(|(_, code, _)| code.clone()));
        planned.push(calls);
    }
    let programs: Vec<&str> = programs.iter().map(String::as_str).collect();
    let mut observations = sandbox.run_batch(&programs)?.into_iter().map(|run| observe(&run));

    let mut attempts = Vec::with_capacity(problems.len());
    for ((problem, _), calls) in problems.iter().zip(planned) {
        let mut steps = Vec::with_capacity(calls.len() + 1);
        for (thought, code, result) in calls {
            let observation = observations.next().expect("one observation a program");
            let as_planned = match result {
                Some(result) => observation.ok && observation.text == result.to_string(),
                None => !observation.ok,
            };
            if !as_planned {
                return Err(SftError::Demonstration {
                    id: problem.id.clone(),
                    problem: format!("`{code}` gave `{}`, not {result:?}", observation.text),
                });
            }
            steps.push(DemonstratedStep {
                decision: decision(thought, "code", code),
                observation,
                trained: result.is_some(),
            });
        }
        steps.push(DemonstratedStep {
            decision: decision("This is the answer.", "answer", problem.answer.to_string()),
            observation: Observation::new(true, problem.answer.to_string()),
            trained: true,
        });
        attempts.push(steps);
    }
    Ok(attempts)
}

fn decision(thought: &str, action: &str, action_input: String) -> Decision {
    Decision { thought: thought.to_owned(), action: action.to_owned(), action_input }
}

/// A program with one of the mistakes that small planners make.
fn broken(code: &str, rng: &mut ChaCha8Rng) -> String {
    match code.strip_prefix("import math\n") {
        Some(without_import) if rng.random_bool(0.5) => without_import.to_owned(),
        _ if rng.random_bool(0.5) => code.strip_suffix(')').unwrap_or(code).to_owned(),
        _ => code.replacen("print", "pint", 1),
    }
}
