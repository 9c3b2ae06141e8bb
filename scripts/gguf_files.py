"""GGUF files of a Qwen3 directory: f16, and what llama.cpp quantises from it.

    python scripts/gguf_files.py MODEL OUT        # OUT/f16.gguf, OUT/q8_0.gguf, OUT/q4_k_m.gguf
    (gguf 0.19.0, torch 2.15.0, safetensors 0.8.0, llama-cpp-python 0.3.36)

A file that is there already is kept. The quantised ones have the mixture of types that published files have, for
llama.cpp chooses it: head and embedding of a Q4_K_M file are Q6_K. `agentflow model random` makes a directory to start
from; real ones come as GGUF from their makers.
"""

import json
import os
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import GGUFWriter, TokenType
from safetensors import safe_open

QUANTISED = ["Q8_0", "Q4_K_M"]


def main(model: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    make(out / "f16.gguf", lambda path: write_gguf(model, path))
    for kind in QUANTISED:
        make(out / f"{kind.lower()}.gguf", lambda path, kind=kind: quantise(out / "f16.gguf", path, kind))


def make(path: Path, write) -> None:
    """Under another name first: what has its name is whole."""
    if not path.exists():
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        write(beside)
        beside.rename(path)
    print(path)


def write_gguf(model: Path, path: Path) -> None:
    """Matrices in f16, vectors in f32, and the metadata that llama.cpp's `convert_hf_to_gguf.py` writes."""
    config = json.loads((model / "config.json").read_text())
    if config["model_type"] != "qwen3":
        sys.exit(f"{model} is a {config['model_type']} model; only qwen3 is written here")
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
    for shard in sorted(model.glob("*.safetensors")):
        with safe_open(shard, "pt") as tensors:
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
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
