//! The tokenizer of small planners: a byte-level BPE learnt from demonstrations.
//!
//! Digits are single tokens, so that numbers are copied digit by digit. The JSON around a reply is four tokens, for it
//! is the same in every reply; they are ordinary tokens to the grammar.

use agentflow_eval::arith::{self, Split};
use agentflow_tools::{Sandbox, SandboxConfig};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split as SplitBy, SplitPattern};
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior,
    TokenizerBuilder,
};

use super::config::SftConfig;
use super::{SftError, demonstration};

/// Ends every turn, as in Qwen3.
pub(super) const END: &str = "<|im_end|>";
const START: &str = "<|im_start|>";
const PADDING: &str = "<|endoftext|>";

/// The fixed parts of a planner reply.
const REPLY_PARTS: [&str; 4] =
    ["{\"thought\": \"", "\", \"action\": \"", "\", \"action_input\": \"", "\"}"];

/// ChatML, as Qwen3's template without tools and thinking.
pub(super) const CHAT_TEMPLATE: &str = "\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
";

/// Qwen2's pre-tokenizer pattern, which splits digits singly.
const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What goes into `tokenizer_config.json`.
pub(super) fn tokenizer_config() -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PADDING,
        "clean_up_tokenization_spaces": false,
    })
}

/// Learns the tokenizer of a run; gives `tokenizer.json`.
pub(super) fn train(config: &SftConfig) -> Result<String, SftError> {
    let problems: Vec<_> = (0..config.tokenizer.problems)
        .map(|index| arith::problem(config.seed, Split::Train, index))
        .map(|problem| (problem.clone(), problem.question))
        .collect();
    let mut sandbox = Sandbox::new(SandboxConfig::default())?;
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let texts =
        demonstration::texts(&problems, config.data.recovery_share, &mut sandbox, &mut rng)?;

    let failed = |error: tokenizers::Error| SftError::Tokenizer(error.to_string());
    let byte_level = ByteLevel::new(false, false, false);
    let split = SplitBy::new(
        SplitPattern::Regex(PATTERN.to_owned()),
        SplitDelimiterBehavior::Isolated,
        false,
    )
    .map_err(failed)?;
    let mut tokenizer = TokenizerBuilder::<
        BPE,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    >::new()
    .with_model(BPE::default())
    .with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Sequence::new(vec![
        split.into(),
        byte_level.into(),
    ]))))
    .with_decoder(Some(byte_level.into()))
    .build()
    .map_err(failed)?;

    let specials = [PADDING, START, END].map(|token| AddedToken::from(token, true));
    let parts = REPLY_PARTS.map(|part| AddedToken::from(part, false).normalized(false));
    let mut trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        // The reply's parts are added after training and count too.
        .vocab_size(config.tokenizer.vocab_size - parts.len())
        .special_tokens(specials.to_vec())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    // The parts are cut out of the text, so that no merge is spent on them.
    let pieces = texts.iter().flat_map(|text| {
        let cut = REPLY_PARTS.iter().fold(text.clone(), |text, part| text.replace(part, "\u{0}"));
        cut.split('\u{0}').map(str::to_owned).collect::<Vec<_>>()
    });
    // Who speaks is written before every turn and deserves a token, too.
    let roles =
        texts.iter().flat_map(|_| ["system", "user", "assistant", "tool"].map(str::to_owned));
    tokenizer.train(&mut trainer, pieces.chain(roles)).map_err(failed)?;
    tokenizer.add_tokens(parts.to_vec()).map_err(failed)?;
    tokenizer.to_string(true).map_err(failed)
}
