//! A made-up byte-level tokenizer: the bytes, words of two to five letters, and Qwen3's special tokens.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// Ids beyond the words: Qwen3 has 26 special tokens there, and pads its vocabulary with the rest.
pub(super) const SPECIAL_ROOM: usize = 151_936 - 151_643;

/// The token that ends a reply.
pub(super) const END_OF_REPLY: &str = "<|im_end|>";

/// Qwen3's, in the order of their ids; those from `<tool_call>` on are not hidden in text.
const SPECIAL: [&str; 26] = [
    "<|endoftext|>",
    "<|im_start|>",
    END_OF_REPLY,
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
];

/// `tokenizer.json` with `words` tokens and the special ones after them, and the ids of those.
pub(super) fn tokenizer_json(words: usize) -> (Value, HashMap<&'static str, u32>) {
    let (vocabulary, merges) = vocabulary(words);
    let ids: HashMap<&str, u32> = SPECIAL.into_iter().zip(words as u32..).collect();
    let added: Vec<Value> = SPECIAL
        .iter()
        .map(|token| {
            json!({
                "id": ids[token], "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": token.starts_with("<|") && !token.starts_with("<|fim"),
            })
        })
        .collect();
    let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": use_regex});
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": bytes(true), "post_processor": null, "decoder": bytes(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": merges,
        },
    });
    (json, ids)
}

/// `words` tokens with their ids, and the merges that make the longer ones, in order: every word is made of the word
/// without its last letter.
fn vocabulary(words: usize) -> (Map<String, Value>, Vec<[String; 2]>) {
    let mut vocabulary = Map::new();
    for letter in byte_letters() {
        vocabulary.insert(letter.to_string(), vocabulary.len().into());
    }
    let alphabet: Vec<String> = "etaoinshrdlcumwfgypbvkjxqz".chars().map(String::from).collect();
    let mut merges = Vec::new();
    // A space in front of a word is written so.
    let mut shorter: Vec<String> = [alphabet.as_slice(), &["Ġ".to_owned()]].concat();
    while vocabulary.len() < words {
        let mut longer = Vec::new();
        for start in &shorter {
            for letter in alphabet.iter().take(words - vocabulary.len()) {
                let word = format!("{start}{letter}");
                vocabulary.insert(word.clone(), vocabulary.len().into());
                merges.push([start.clone(), letter.clone()]);
                longer.push(word);
            }
        }
        shorter = longer;
    }
    (vocabulary, merges)
}

/// GPT-2's letters for the 256 bytes: printable ones stand for themselves, others follow from U+0100 on.
fn byte_letters() -> impl Iterator<Item = char> {
    let printable = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..256).filter(|byte| !printable(byte)).count() as u32;
    (0..256).filter(printable).chain(0x100..0x100 + others).filter_map(char::from_u32)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Tokenizer;
    use crate::error::Result;

    #[test]
    fn a_full_one_has_the_ids_of_qwen3() -> Result<()> {
        let (json, ids) = tokenizer_json(151_936 - SPECIAL_ROOM);
        assert_eq!(
            (ids["<|endoftext|>"], ids["<|im_end|>"], ids["</think>"]),
            (151_643, 151_645, 151_668)
        );
        let tokenizer = Tokenizer::from_json(&json.to_string(), Path::new("tokenizer.json"))?;
        assert_eq!(tokenizer.len(), 151_669);
        assert_eq!(tokenizer.id("</think>"), Some(151_668));
        let ids = tokenizer.encode("the tea is hot; 3 + 4 = 7 €")?;
        assert_eq!(tokenizer.decode(&ids), "the tea is hot; 3 + 4 = 7 €");
        assert_eq!(tokenizer.token(ids[0]).as_deref(), Some("the"), "words are one token");
        Ok(())
    }
}
