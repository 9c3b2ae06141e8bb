//! Labels as training reads them: checked, as tokens, split by problem.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use agentflow_agent::prompt::Profile;
use agentflow_model::Tokenizer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::PrmError;
use super::config::PrmConfig;
use super::text::{Encoded, encode};
use crate::label::{LABELS_FILE, Label};

/// One labelled decision.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Example {
    pub ids: Vec<u32>,
    pub truncated: bool,
    /// 0 to 1.
    pub label: f32,
    /// Decisions with the same number are about the same problem, or were made in the same state.
    pub problem: usize,
    pub state: usize,
    /// Whether the trajectory ended with it.
    pub last: bool,
    /// For messages, e.g. `step 2 of trajectory arith-test-3/0`.
    pub place: String,
}

/// The decisions that are trained on, and those that are not.
pub(super) struct Data {
    pub train: Vec<Example>,
    pub held_out: Vec<Example>,
    pub summary: DataSummary,
}

/// What was read, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSummary {
    /// Version of the PRM text that all labels have.
    pub prm_prompt: String,
    pub train_decisions: usize,
    pub train_problems: usize,
    pub held_out_decisions: usize,
    pub held_out_problems: usize,
    /// Decisions without a label, which are left out.
    pub without_label: usize,
    /// Texts longer than `model.max_length`, which lost their beginning.
    pub truncated: usize,
    /// SHA-256 of the files: a resumed run must read the same.
    pub digest: String,
}

impl Data {
    /// Reads every file of the configuration.
    ///
    /// # Errors
    /// A file that cannot be read, a line that is no label, labels of several or unknown versions of the PRM text, or too few
    /// problems to hold some out.
    pub(super) fn read(config: &PrmConfig, tokenizer: &Tokenizer) -> Result<Self, PrmError> {
        let files: Vec<PathBuf> = config.data.labels.iter().map(|path| file_of(path)).collect();
        let mut reader = Reader { max_length: config.model.max_length, ..Reader::default() };
        for file in &files {
            reader.read(file, tokenizer)?;
        }
        let Some((prm_prompt, _)) = reader.version else {
            return Err(PrmError::NoLabels { files, without_label: reader.without_label });
        };
        if reader.examples.is_empty() {
            return Err(PrmError::NoLabels { files, without_label: reader.without_label });
        }
        let held_out = held_out(&reader.problems, config)?;
        let truncated = reader.examples.iter().filter(|example| example.truncated).count();
        let (held_out_examples, train): (Vec<_>, Vec<_>) =
            reader.examples.into_iter().partition(|example| held_out.contains(&example.problem));
        let summary = DataSummary {
            prm_prompt,
            train_decisions: train.len(),
            train_problems: reader.problems.len() - held_out.len(),
            held_out_decisions: held_out_examples.len(),
            held_out_problems: held_out.len(),
            without_label: reader.without_label,
            truncated,
            digest: format!("sha256:{:x}", reader.hash.finalize()),
        };
        Ok(Self { train, held_out: held_out_examples, summary })
    }

    /// The mean label of what is trained on: what a model that knows nothing should say.
    pub(super) fn mean_label(&self) -> f64 {
        let sum: f64 = self.train.iter().map(|example| f64::from(example.label)).sum();
        sum / self.train.len() as f64
    }
}

/// The labels of a run, where a run was named.
fn file_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(LABELS_FILE) } else { path.to_owned() }
}

#[derive(Default)]
struct Reader {
    max_length: usize,
    examples: Vec<Example>,
    /// The version of the PRM text, and where it was first seen.
    version: Option<(String, String)>,
    problems: BTreeMap<String, usize>,
    states: BTreeMap<String, usize>,
    without_label: usize,
    hash: Sha256,
}

impl Reader {
    fn read(&mut self, path: &Path, tokenizer: &Tokenizer) -> Result<(), PrmError> {
        let io = |problem| PrmError::Unreadable { path: path.to_owned(), problem };
        let mut reader = BufReader::new(File::open(path).map_err(io)?);
        let mut text = String::new();
        for line in 1.. {
            text.clear();
            // A line without its end is still being written, or was torn by a kill.
            if reader.read_line(&mut text).map_err(io)? == 0 || !text.ends_with('\n') {
                break;
            }
            self.hash.update(&text);
            if text.trim().is_empty() {
                continue;
            }
            let label = Label::from_line(&text, line)
                .map_err(|problem| PrmError::Label { path: path.to_owned(), problem })?;
            self.check_version(&label, path, line)?;
            match label.label {
                Some(value) => self.add(&label, value, tokenizer)?,
                None => self.without_label += 1,
            }
        }
        Ok(())
    }

    fn check_version(&mut self, label: &Label, path: &Path, line: usize) -> Result<(), PrmError> {
        let place = || format!("line {line} of `{}`", path.display());
        match &self.version {
            None => {
                let known = [Profile::Full, Profile::Compact].map(Profile::prm_version);
                if !known.contains(&label.prm_prompt.as_str()) {
                    return Err(PrmError::UnknownPrompt {
                        place: place(),
                        found: label.prm_prompt.clone(),
                        known: known.join("`, `"),
                    });
                }
                self.version = Some((label.prm_prompt.clone(), place()));
                Ok(())
            }
            Some((version, _)) if *version == label.prm_prompt => Ok(()),
            Some((version, first)) => Err(PrmError::MixedPrompts {
                place: place(),
                found: label.prm_prompt.clone(),
                first: first.clone(),
                version: version.clone(),
            }),
        }
    }

    fn add(&mut self, label: &Label, value: f64, tokenizer: &Tokenizer) -> Result<(), PrmError> {
        let number = |names: &mut BTreeMap<String, usize>, name: &str| {
            let next = names.len();
            *names.entry(name.to_owned()).or_insert(next)
        };
        let Encoded { ids, truncated } = encode(tokenizer, &label.text, self.max_length)?;
        if ids.is_empty() {
            self.without_label += 1; // there is nothing to rate
            return Ok(());
        }
        self.examples.push(Example {
            ids,
            truncated,
            label: value as f32,
            problem: number(&mut self.problems, &label.problem_id),
            state: number(&mut self.states, &label.state),
            last: label.last,
            place: format!("step {} of trajectory `{}`", label.step, label.trajectory),
        });
        Ok(())
    }
}

/// The problems that are not trained on: those with the smallest hashes of seed and id, so that the same problem is held
/// out whatever else there is in the files, as nearly as a fixed share allows.
fn held_out(
    problems: &BTreeMap<String, usize>,
    config: &PrmConfig,
) -> Result<BTreeSet<usize>, PrmError> {
    if problems.len() < 2 {
        let problem = problems.keys().next().cloned().unwrap_or_default();
        return Err(PrmError::OneProblem { problem });
    }
    let mut hashed: Vec<([u8; 32], usize)> = problems
        .iter()
        .map(|(id, number)| {
            let hash = Sha256::new().chain_update(config.seed.to_le_bytes()).chain_update(id);
            (hash.finalize().into(), *number)
        })
        .collect();
    hashed.sort_unstable();
    let share = (config.data.held_out * problems.len() as f64).round() as usize;
    Ok(hashed[..share.clamp(1, problems.len() - 1)].iter().map(|(_, number)| *number).collect())
}
