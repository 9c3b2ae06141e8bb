//! A process reward model: a decoder without its language-model head, and one linear output on the last token of a text.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentflow_agent::prompt::Profile;
use agentflow_model::{
    Adapter, Config, ModelError, ModelFiles, Placement, Qwen3, Sequences, Tokenizer, Weights, ops,
};
use candle_core::{DType, Tensor};
use serde_json::Value;

use super::PrmError;
use super::files::{About, class_of};
use super::text::{Encoded, TRUNCATION_SIDE, encode, shortened};

/// The tensor of the linear output, `[1, hidden]`; as HF transformers calls it.
pub(super) const SCORE: &str = "score.weight";
/// What a PEFT directory has, and a whole model has not.
const ADAPTER: &str = "adapter_config.json";
/// Most tokens whose hidden states exist at once when scoring.
const TOKENS: usize = 8192;

/// A trained PRM.
///
/// A score is the head's product with the hidden state, after the last norm, of the *last* token of a text. HF transformers
/// looks for the last token that is not the padding id instead, so it reads a text that ends in that id one token further
/// left; PRM texts end in `<|im_end|>`, where both agree.
pub struct Prm {
    dir: PathBuf,
    model: Qwen3,
    score: Tensor, // [1, hidden], f32
    tokenizer: Option<Arc<Tokenizer>>,
    about: About,
    max_length: usize,
}

impl Prm {
    /// Reads a directory of a `Qwen3ForSequenceClassification` with one output, whoever wrote it, or a PEFT directory of the task
    /// `SEQ_CLS`, whose base is a directory here.
    ///
    /// The tokenizer may be missing where only ids are scored, and so may `agentflow.json`: see [`Prm::check_prompt`].
    ///
    /// # Errors
    /// A file that is missing or damaged, or a model that is none of this kind; the message names it.
    pub fn open(dir: &Path, placement: &Placement) -> Result<Self, PrmError> {
        match dir.join("config.json").exists() || !dir.join(ADAPTER).exists() {
            true => Self::open_whole(dir, placement),
            false => Self::open_adapter(dir, placement),
        }
    }

    fn open_whole(dir: &Path, placement: &Placement) -> Result<Self, PrmError> {
        let files = ModelFiles::directory(dir)?;
        let path = dir.join("config.json");
        let text = read(&files, dir, "config.json")?;
        let config = Config::from_json(&text, &path)?;
        check_kind(&text, &config, &path)?;
        let weights = weights(&files, placement)?;
        let score = weights.get(SCORE, &[1, config.hidden_size])?.to_dtype(DType::F32)?;
        Self::new(dir, dir, &files, config, |config| Ok((Qwen3::new(config, &weights)?, score)))
    }

    fn open_adapter(dir: &Path, placement: &Placement) -> Result<Self, PrmError> {
        let adapter = Adapter::open(dir, placement.dtype, &placement.device)?;
        let not_a_prm = |problem: String| PrmError::NotAPrm { path: dir.join(ADAPTER), problem };
        let Some(score) = adapter.score().cloned() else {
            return Err(not_a_prm("it has no `score` among `modules_to_save`".to_owned()));
        };
        let named = adapter.base().unwrap_or_default().to_owned();
        let base = PathBuf::from(&named);
        if !base.join("config.json").exists() {
            return Err(not_a_prm(format!(
                "its base `{named}` is no model directory here, so merge it first"
            )));
        }
        let files = ModelFiles::directory(&base)?;
        let text = read(&files, &base, "config.json")?;
        let config = Config::from_json(&text, &base.join("config.json"))?;
        if score.dims() != [1, config.hidden_size] {
            return Err(not_a_prm(format!(
                "its `score` is {:?}, not [1, {}]",
                score.dims(),
                config.hidden_size
            )));
        }
        let weights = weights(&files, placement)?;
        Self::new(dir, &base, &files, config, |config| {
            Ok((Qwen3::new(config, &weights)?.with_adapter(&adapter)?, score))
        })
    }

    /// What both kinds have in common: `dir` says what it was trained on, `base` has the tokenizer.
    fn new(
        dir: &Path,
        base: &Path,
        files: &ModelFiles,
        mut config: Config,
        load: impl FnOnce(&Config) -> Result<(Qwen3, Tensor), PrmError>,
    ) -> Result<Self, PrmError> {
        // It has no head for tokens, tied or not.
        config.tie_word_embeddings = true;
        let tokenizer = match files.read("tokenizer.json")? {
            Some(json) => {
                Some(Arc::new(Tokenizer::from_json(&json, &base.join("tokenizer.json"))?))
            }
            None => None,
        };
        let about = About::read(dir)?;
        let max_length = about.max_length.unwrap_or(config.max_position_embeddings);
        if about.truncation_side.as_deref().is_some_and(|side| side != TRUNCATION_SIDE) {
            return Err(PrmError::Truncation { dir: dir.to_owned() });
        }
        let (model, score) = load(&config)?;
        Ok(Self { dir: dir.to_owned(), model, score, tokenizer, about, max_length })
    }

    /// What `agentflow.json` says of it.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Whether it was trained on the PRM text `wanted`, or, where none is given, on one that this version makes.
    ///
    /// # Errors
    /// If it was trained on another one, or does not say on which.
    pub fn check_prompt(&self, wanted: Option<Profile>) -> Result<(), PrmError> {
        let known = match wanted {
            Some(profile) => vec![profile.prm_version()],
            None => [Profile::Full, Profile::Compact].map(Profile::prm_version).to_vec(),
        };
        match &self.about.prm_prompt {
            Some(found) if known.contains(&found.as_str()) => Ok(()),
            Some(found) => Err(PrmError::OtherPrompt {
                dir: self.dir.clone(),
                found: found.clone(),
                known: known.join("` or `"),
            }),
            None => Err(PrmError::NoPrompt { dir: self.dir.clone(), known: known.join("` or `") }),
        }
    }

    /// The tokens of `text` that are read: the last ones, where it is longer than what it was trained on.
    ///
    /// # Errors
    /// If there is no tokenizer.
    pub fn encode(&self, text: &str) -> Result<Encoded, PrmError> {
        match &self.tokenizer {
            Some(tokenizer) => encode(tokenizer, text, self.max_length),
            None => Err(ModelError::MissingFile {
                dir: self.dir.clone(),
                file: "tokenizer.json".to_owned(),
            }
            .into()),
        }
    }

    /// `ids`, cut as [`Prm::encode`] cuts.
    pub fn shorten(&self, ids: Vec<u32>) -> Encoded {
        shortened(ids, self.max_length)
    }

    /// The score of each text, as the head gives it: nothing holds it between 0 and 1.
    ///
    /// On the processor in f32 a score has the same bits in whatever company.
    ///
    /// # Errors
    /// A text without tokens, with tokens outside the vocabulary, or longer than the model's context.
    pub fn scores<S: AsRef<[u32]>>(&self, texts: &[S]) -> Result<Vec<f32>, PrmError> {
        scores(&self.model, &self.score, texts)
    }
}

/// [`Prm::scores`] by a backbone and a head, `[1, hidden]` in f32.
pub(super) fn scores<S: AsRef<[u32]>>(
    model: &Qwen3,
    head: &Tensor,
    texts: &[S],
) -> Result<Vec<f32>, PrmError> {
    let length = |at: usize| texts[at].as_ref().len();
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|at| length(*at));
    let mut scores = vec![0.0; texts.len()];
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        let mut tokens = 0;
        let fits = |at: &&usize| {
            tokens += length(**at);
            tokens <= TOKENS
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (now, later) = rest.split_at(count);
        rest = later;
        let batch: Vec<&[u32]> = now.iter().map(|at| texts[*at].as_ref()).collect();
        let batch = Sequences::new(&batch)?;
        let hidden = model.hidden_packed(&batch)?;
        let last = last_tokens(&batch, &hidden)?;
        let found = ops::row_linear(&last, &head.detach())?.squeeze(1)?.to_vec1::<f32>()?;
        for (at, score) in now.iter().zip(found) {
            scores[*at] = score;
        }
    }
    Ok(scores)
}

/// The hidden states of the last tokens, `[texts, hidden]` in f32, of those of all tokens.
pub(super) fn last_tokens(texts: &Sequences, hidden: &Tensor) -> candle_core::Result<Tensor> {
    let ends: Vec<u32> = texts.ends().into_iter().map(|end| end as u32).collect();
    hidden.index_select(&Tensor::new(ends, hidden.device())?, 0)?.to_dtype(DType::F32)
}

fn read(files: &ModelFiles, dir: &Path, name: &str) -> Result<String, PrmError> {
    let missing = || ModelError::MissingFile { dir: dir.to_owned(), file: name.to_owned() };
    Ok(files.read(name)?.ok_or_else(missing)?.into_owned())
}

/// For inference: in the dtype that was asked for, or as the files store them where that is faster.
fn weights(files: &ModelFiles, placement: &Placement) -> Result<Weights, PrmError> {
    let weights = files.weights(placement.dtype, &placement.device)?;
    Ok(if placement.as_stored { weights.packed() } else { weights })
}

/// Whether `config.json` describes a classifier with one output.
fn check_kind(text: &str, config: &Config, path: &Path) -> Result<(), PrmError> {
    let json: Value = serde_json::from_str(text).unwrap_or_default();
    let wanted = class_of(config.architecture);
    let classes = json["architectures"].as_array().map_or(&[][..], Vec::as_slice);
    let refused = |problem: String| Err(PrmError::NotAPrm { path: path.to_owned(), problem });
    if !classes.iter().any(|class| class == wanted) {
        let found = classes.first().and_then(Value::as_str).unwrap_or("nothing");
        return refused(format!("its architecture is `{found}`, not `{wanted}`"));
    }
    let outputs = match &json["id2label"] {
        Value::Object(labels) => labels.len() as u64,
        // Two is what transformers assumes.
        _ => json["num_labels"].as_u64().unwrap_or(2),
    };
    if outputs != 1 {
        return refused(format!("it has {outputs} outputs, not one"));
    }
    Ok(())
}
