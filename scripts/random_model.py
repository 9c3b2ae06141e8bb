"""A model of random weights in the shape of Qwen3-0.6B: a Hugging Face directory, and GGUF files of the same weights.

    python scripts/random_model.py OUT        # OUT/hf, OUT/f16.gguf, OUT/q8_0.gguf, OUT/q4_k_m.gguf: 3.5 GB
    (gguf 0.19.0, torch 2.15.0, safetensors 0.8.0, llama-cpp-python 0.3.36)

What is there already is kept. Speed depends on shapes and types, not on values, so such a model measures an engine as a
trained one does, without a download. The quantised files are llama.cpp's own work on the f16 file, with the mixture of
types that a published one has.

The tokenizer is the golden one (scripts/golden/tokenizer.py) with a vocabulary of Qwen3's size: behind the 256 bytes
come made-up words, each the merge of the word without its last letter and that letter.
"""

import itertools
import json
import os
import string
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from safetensors import safe_open
from safetensors.torch import save_file

GOLDEN_TOKENIZER = Path(__file__).resolve().parents[1] / "crates/model/tests/golden/tokenizer"
# config.json of Qwen/Qwen3-0.6B.
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "model_type": "qwen3",
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
LEARNED_TOKENS = 151643  # before the added ones, as in Qwen3
DEVIATION = 0.02
SEED = 17
QUANTISED = ["Q8_0", "Q4_K_M"]


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    make(out / "hf", write_model)
    make(out / "f16.gguf", lambda path: write_gguf(out / "hf", path))
    for kind in QUANTISED:
        make(out / f"{kind.lower()}.gguf", lambda path, kind=kind: quantise(out / "f16.gguf", path, kind))


def make(path: Path, write) -> None:
    """Under another name first: what has its name is whole."""
    if not path.exists():
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        write(beside)
        beside.rename(path)
    print(path)


def write_model(directory: Path) -> None:
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(CONFIG, indent=2))
    write_tokenizer(directory)
    generator = torch.Generator().manual_seed(SEED)
    tensors = {name: random_tensor(name, shape, generator) for name, shape in shapes()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def shapes():
    """Name and shape of every tensor; the head is the embedding."""
    hidden, inner, head = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["head_dim"]
    queries, keys = CONFIG["num_attention_heads"] * head, CONFIG["num_key_value_heads"] * head
    yield "model.embed_tokens.weight", (CONFIG["vocab_size"], hidden)
    for layer in range(CONFIG["num_hidden_layers"]):
        block = f"model.layers.{layer}"
        yield f"{block}.input_layernorm.weight", (hidden,)
        yield f"{block}.self_attn.q_proj.weight", (queries, hidden)
        yield f"{block}.self_attn.k_proj.weight", (keys, hidden)
        yield f"{block}.self_attn.v_proj.weight", (keys, hidden)
        yield f"{block}.self_attn.q_norm.weight", (head,)
        yield f"{block}.self_attn.k_norm.weight", (head,)
        yield f"{block}.self_attn.o_proj.weight", (hidden, queries)
        yield f"{block}.post_attention_layernorm.weight", (hidden,)
        yield f"{block}.mlp.gate_proj.weight", (inner, hidden)
        yield f"{block}.mlp.up_proj.weight", (inner, hidden)
        yield f"{block}.mlp.down_proj.weight", (hidden, inner)
    yield "model.norm.weight", (hidden,)


def random_tensor(name: str, shape: tuple, generator: torch.Generator) -> torch.Tensor:
    if "norm" in name:
        return torch.ones(shape, dtype=torch.bfloat16)
    return (DEVIATION * torch.randn(shape, generator=generator)).to(torch.bfloat16)


def write_tokenizer(directory: Path) -> None:
    source = json.loads((GOLDEN_TOKENIZER / "tokenizer.json").read_text())
    settings = json.loads((GOLDEN_TOKENIZER / "tokenizer_config.json").read_text())
    learned = source["model"]["vocab"]
    alphabet = [token for token in sorted(learned, key=learned.get) if len(token) == 1]
    words = made_up_words(LEARNED_TOKENS - len(alphabet))
    source["model"]["vocab"] = {token: id for id, token in enumerate(alphabet + words)}
    source["model"]["merges"] = [[word[:-1], word[-1]] for word in words]
    for id, added in enumerate(source["added_tokens"], LEARNED_TOKENS):
        added["id"] = id
    settings["added_tokens_decoder"] = {
        str(added["id"]): {key: value for key, value in added.items() if key != "id"}
        for added in source["added_tokens"]
    }
    (directory / "tokenizer.json").write_text(json.dumps(source, ensure_ascii=False))
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False))


def made_up_words(count: int) -> list[str]:
    """All of two letters, then of three, and so on, also with a space before; a word's start is a word or a letter."""
    letters = [start + letter for start in ("", "Ġ") for letter in string.ascii_lowercase]
    spaced = [f"Ġ{letter}" for letter in string.ascii_lowercase]
    longer = (
        "".join(parts)
        for length in itertools.count(1)
        for parts in itertools.product(letters, *[string.ascii_lowercase] * length)
    )
    return list(itertools.islice(itertools.chain(spaced, longer), count))


def write_gguf(model: Path, path: Path) -> None:
    """Matrices in f16, vectors in f32, and the metadata that llama.cpp's `convert_hf_to_gguf.py` writes."""
    config = json.loads((model / "config.json").read_text())
    writer = GGUFWriter(path, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.QWEN3])
    writer.add_type("model")
    writer.add_name(model.name)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_tokenizer(writer, model, config["vocab_size"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, config["num_hidden_layers"])
    with safe_open(model / "model.safetensors", "pt") as tensors:
        for name in tensors.keys():
            tensor = tensors.get_tensor(name).float().numpy()
            kind = np.float16 if tensor.ndim == 2 else np.float32
            writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), tensor.astype(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: GGUFWriter, model: Path, vocabulary: int) -> None:
    """What `_set_vocab_gpt2` of llama.cpp's converter writes."""
    source = json.loads((model / "tokenizer.json").read_text())
    settings = json.loads((model / "tokenizer_config.json").read_text())
    by_id = {id: (token, TokenType.NORMAL) for token, id in source["model"]["vocab"].items()}
    for added in source["added_tokens"]:
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        by_id[added["id"]] = (added["content"], kind)
    listed = [by_id.get(id, (f"[PAD{id}]", TokenType.UNUSED)) for id in range(vocabulary)]
    ids = {token: id for id, (token, _) in by_id.items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([token for token, _ in listed])
    writer.add_token_types([kind for _, kind in listed])
    writer.add_token_merges([" ".join(pair) for pair in source["model"]["merges"]])
    writer.add_eos_token_id(ids[settings["eos_token"]])
    writer.add_pad_token_id(ids[settings["pad_token"]])
    writer.add_add_bos_token(False)
    writer.add_chat_template(settings["chat_template"])


def quantise(source: Path, path: Path, kind: str) -> None:
    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    status = llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(path), parameters)
    if status != 0:
        sys.exit(f"llama.cpp cannot quantise {source} to {kind}: status {status}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
