//! The configuration in GGUF's words, and what its tensors are called.

use super::Gguf;
use crate::config::{Architecture, Config};
use crate::error::Result;

/// The configuration that metadata and tensors imply.
pub(super) fn config(gguf: &Gguf) -> Result<Config> {
    let header = &gguf.header;
    let name = header
        .text("general.architecture")
        .ok_or_else(|| gguf.invalid("it has no `general.architecture`".to_owned()))?;
    let architecture = Architecture::from_name(name).ok_or_else(|| {
        gguf.unsupported(&format!(
            "`general.architecture` is `{name}`; only `qwen3` and `qwen2` are known"
        ))
    })?;
    let key = |part: &str| format!("{name}.{part}");
    let size = |part: &str| {
        let value = header.unsigned(&key(part)).and_then(|value| usize::try_from(value).ok());
        value.ok_or_else(|| gguf.invalid(format!("`{}` is missing or no number", key(part))))
    };
    let number = |part: &str| {
        let value = header.float(&key(part));
        value.ok_or_else(|| gguf.invalid(format!("`{}` is missing or no number", key(part))))
    };
    if let Some(kind) = header.text(&key("rope.scaling.type")).filter(|kind| *kind != "none") {
        return Err(gguf.unsupported(&format!(
            "`{}` is `{kind}`; only plain RoPE is known",
            key("rope.scaling.type")
        )));
    }
    let (hidden_size, heads) = (size("embedding_length")?, size("attention.head_count")?);
    let head_dim = match header.unsigned(&key("attention.key_length")) {
        Some(length) => length as usize,
        None => hidden_size.checked_div(heads).unwrap_or(0),
    };
    if header.unsigned(&key("attention.value_length")).is_some_and(|v| v as usize != head_dim) {
        return Err(gguf.unsupported("keys and values are of different lengths"));
    }
    let embedding = header
        .tensors
        .get("token_embd.weight")
        .ok_or_else(|| gguf.invalid("it has no tensor `token_embd.weight`".to_owned()))?;
    let config = Config {
        architecture,
        // Not the number of tokens listed: the matrix may be padded.
        vocab_size: embedding.shape[0],
        hidden_size,
        intermediate_size: size("feed_forward_length")?,
        num_hidden_layers: size("block_count")?,
        num_attention_heads: heads,
        num_key_value_heads: match header.metadata.get(&key("attention.head_count_kv")) {
            Some(_) => size("attention.head_count_kv")?,
            None => heads,
        },
        head_dim,
        // Stored as f32: 1e-6 would come back as 9.999999974752427e-7, and HF computes with the former.
        rms_norm_eps: shortest(number("attention.layer_norm_rms_epsilon")?),
        rope_theta: shortest(number("rope.freq_base")?),
        max_position_embeddings: size("context_length")?,
        tie_word_embeddings: !header.tensors.contains_key("output.weight"),
    };
    config.check().map_err(|problem| gguf.invalid(problem))?;
    Ok(config)
}

/// The number with the fewest digits that is this one in f32.
fn shortest(value: f64) -> f64 {
    format!("{}", value as f32).parse().unwrap_or(value)
}

/// What llama.cpp calls the tensor that HF transformers calls `name`.
pub(super) fn tensor_name(name: &str) -> Option<String> {
    match name {
        "model.embed_tokens.weight" => return Some("token_embd.weight".to_owned()),
        "model.norm.weight" => return Some("output_norm.weight".to_owned()),
        "lm_head.weight" => return Some("output.weight".to_owned()),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (module, parameter) = part.rsplit_once('.')?;
    let module = match module {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{module}.{parameter}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stored_as_f32_come_back_as_they_were_written() {
        assert_eq!(shortest(f64::from(1e-6_f32)), 1e-6);
        assert_eq!(shortest(f64::from(1_000_000_f32)), 1e6);
    }
}
