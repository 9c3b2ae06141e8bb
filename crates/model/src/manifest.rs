//! All of a model but its weights: how it is built, how text becomes tokens, how messages become text.

use std::sync::Arc;

use crate::chat_template::ChatTemplate;
use crate::config::Config;
use crate::tokenizer::Tokenizer;

/// What [`ModelFiles::manifest`](crate::ModelFiles::manifest) reads: a matter of milliseconds for a small vocabulary,
/// of a second for a large one, and of no weights.
pub struct Manifest {
    pub config: Config,
    pub tokenizer: Arc<Tokenizer>,
    /// Base models have none.
    pub template: Option<ChatTemplate>,
    /// Tokens that end a reply; the first one is the grammar's end token.
    pub stop_ids: Vec<u32>,
    /// Name of the prompt profile that the model was trained with; `full` where it does not say.
    pub prompt_profile: String,
}
