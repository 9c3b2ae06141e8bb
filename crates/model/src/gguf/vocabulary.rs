//! The tokenizer in a GGUF file, as the `tokenizer.json` that it was made from.

use serde_json::{Map, Value as Json, json};

use super::Gguf;
use super::header::Value;
use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// How Qwen2 and Qwen3 cut text before merging (`pre_tokenizer` of their tokenizer.json); llama.cpp calls it `qwen2`.
const QWEN2_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// `tokenizer.ggml.token_type` of llama.cpp.
const NORMAL: u64 = 1;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

/// The tokenizer.json that the metadata stands for.
///
/// Two things are not in the metadata and are known of `qwen2`: text is brought to NFC first, and added tokens are
/// looked for before that.
pub(super) fn tokenizer_json(gguf: &Gguf) -> Result<Json> {
    let header = &gguf.header;
    let kind = header.text("tokenizer.ggml.model").unwrap_or("missing");
    if kind != "gpt2" {
        return Err(gguf.unsupported(&format!(
            "`tokenizer.ggml.model` is `{kind}`; only `gpt2`, byte-level BPE, is known"
        )));
    }
    let pre = header.text("tokenizer.ggml.pre").unwrap_or("missing");
    if pre != "qwen2" {
        return Err(
            gguf.unsupported(&format!("`tokenizer.ggml.pre` is `{pre}`; only `qwen2` is known"))
        );
    }
    let tokens = texts(gguf, "tokenizer.ggml.tokens")?;
    let merges = texts(gguf, "tokenizer.ggml.merges")?;
    let kinds = kinds(gguf, tokens.len())?;
    let mut vocabulary = Map::new();
    let mut added = Vec::new();
    for (id, (token, kind)) in tokens.iter().zip(kinds).enumerate() {
        match kind {
            NORMAL => {}
            CONTROL | USER_DEFINED => added.push(json!({
                "id": id, "content": token, "special": kind == CONTROL,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            })),
            _ => continue, // padding up to the size of the matrix
        }
        // Added tokens stand here as well: an added token takes its id from the vocabulary.
        if vocabulary.insert((*token).to_owned(), id.into()).is_some() {
            return Err(gguf.invalid(format!("`tokenizer.ggml.tokens` has `{token}` twice")));
        }
    }
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
    });
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN2_PATTERN}, "behavior": "Isolated", "invert": false},
            byte_level,
        ]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": merges,
        },
    }))
}

/// Tokens that end a reply: the file's end token, then what llama.cpp also takes for one.
pub(super) fn stop_ids(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let keys = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];
    let listed = keys.iter().filter_map(|key| gguf.header.unsigned(key)).map(|id| id as u32);
    let known = ["<|im_end|>", "<|endoftext|>"].into_iter().filter_map(|token| tokenizer.id(token));
    let mut ids: Vec<u32> = Vec::new();
    for id in listed.chain(known) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if ids.is_empty() {
        return Err(gguf.invalid("it has no `tokenizer.ggml.eos_token_id`".to_owned()));
    }
    Ok(ids)
}

fn texts<'a>(gguf: &'a Gguf, key: &str) -> Result<Vec<&'a str>> {
    let texts = gguf.header.array(key).map(|values| {
        let texts = values.iter().map(|value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect::<Option<Vec<_>>>()
    });
    texts.flatten().ok_or_else(|| gguf.invalid(format!("`{key}` is missing or no list of texts")))
}

fn kinds(gguf: &Gguf, count: usize) -> Result<Vec<u64>> {
    let key = "tokenizer.ggml.token_type";
    let kinds = gguf.header.array(key).map(|values| {
        let kinds = values.iter().map(|value| match value {
            Value::Signed(kind) => u64::try_from(*kind).ok(),
            Value::Unsigned(kind) => Some(*kind),
            _ => None,
        });
        kinds.collect::<Option<Vec<_>>>()
    });
    kinds
        .flatten()
        .filter(|kinds| kinds.len() == count)
        .ok_or_else(|| gguf.invalid(format!("`{key}` is missing, or has not one number a token")))
}
