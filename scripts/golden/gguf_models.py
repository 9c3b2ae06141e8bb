"""Two tiny GGUF models, one Qwen3 and one Qwen2, and what the `gguf` package, transformers and llama.cpp make of them.

    python scripts/golden/gguf_models.py [OUT]        # OUT: crates/model/tests/golden/gguf
    (gguf 0.19.0, torch 2.15.0, transformers 5.23.0, llama-cpp-python 0.3.36; after tokenizer.py; see README.md)

`qwen3-k.gguf` mixes Q4_K, Q6_K and Q8_0 as a Q4_K_M file does, with a tied head; `qwen2-half.gguf` mixes F32, F16 and BF16,
with an own head and attention biases. The blocks of the K-quants are random bytes under a fixed scale: every bit of the
layout counts, which quantised weights would not promise. Metadata is what llama.cpp's `convert_hf_to_gguf.py` writes,
the vocabulary is padded as it pads it.

Reference logits are transformers' in float32 on the dequantised weights. llama.cpp's are kept beside them: it rounds the
activations, too, so they only bound how far another engine is from the same weights.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as T
from gguf import GGUFWriter
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from gguf_files import add_tokenizer

GOLDEN = Path(__file__).resolve().parents[2] / "crates/model/tests/golden"
VOCABULARY = 405  # five more than the tokenizer has
PROMPTS = ["<|im_start|>user\nWhat is 17 * 23?<|im_end|>\n<|im_start|>assistant\n", "中文 café 🙂"]
GREEDY_TOKENS = 8
SAMPLES = 10

MODELS = {
    "qwen3-k": {
        "class": (Qwen3Config, Qwen3ForCausalLM),
        "config": dict(
            hidden_size=256, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
            head_dim=16, rms_norm_eps=1e-3, tie_word_embeddings=True, max_position_embeddings=256,
        ),
        "rope_theta": 500_000.0,
        "types": {
            "embed_tokens": T.Q4_K, "q_proj": T.Q4_K, "k_proj": T.Q4_K, "v_proj": T.Q6_K, "o_proj": T.Q8_0,
            "gate_proj": T.Q4_K, "up_proj": T.Q6_K, "down_proj": T.Q8_0,
        },
        "seed": 3,
    },
    "qwen2-half": {
        "class": (Qwen2Config, Qwen2ForCausalLM),
        "config": dict(
            hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            rms_norm_eps=1e-4, tie_word_embeddings=False, max_position_embeddings=256,
        ),
        "rope_theta": 10_000.0,
        "types": {
            "embed_tokens": T.F16, "lm_head": T.BF16, "q_proj": T.F16, "k_proj": T.BF16, "v_proj": T.F32,
            "o_proj": T.F16, "gate_proj": T.BF16, "up_proj": T.F16, "down_proj": T.F32,
        },
        "seed": 4,
    },
}  # fmt: skip


def main(out: Path) -> None:
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    golden = {}
    for name, spec in MODELS.items():
        path = out / f"{name}.gguf"
        model = random_model(spec)
        tensors = quantise(model, spec)
        write(path, spec, model.config, tensors)
        golden[name] = golden_values(path, model)
        print(f"{name}: {path.stat().st_size} bytes")
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in golden.items())
    (out / "golden.json").write_text(f"{{\n{lines}\n}}\n")


def random_model(spec: dict):
    config_class, model_class = spec["class"]
    config = config_class(
        vocab_size=VOCABULARY,
        rope_parameters={"rope_type": "default", "rope_theta": spec["rope_theta"]},
        **spec["config"],
    )
    model = model_class(config).eval()
    generator = torch.Generator().manual_seed(spec["seed"])
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if "norm" in name:
            weight.data = 1.0 + 0.3 * noise
        elif name.endswith("bias"):
            weight.data = 0.5 * noise
        else:
            weight.data = scale(name, weight.shape[1]) * noise
    return model


def scale(name: str, inputs: int) -> float:
    """Standard deviation of a weight that keeps logits between 1 and 3."""
    return (1.4 if "embed_tokens" in name else 1.5) / inputs**0.5


def quantise(model, spec: dict) -> dict:
    """Bytes of every tensor under its GGUF name; the model gets the values that they stand for."""
    bits = np.random.default_rng(spec["seed"])
    names = gguf.get_tensor_name_map(architecture(spec), model.config.num_hidden_layers)
    tensors = {}
    for name, weight in model.named_parameters():
        kind = next((kind for part, kind in spec["types"].items() if f"{part}.weight" in name), T.F32)
        if kind in (T.Q4_K, T.Q6_K):
            data = random_blocks(kind, weight.shape, scale(name, weight.shape[1]), bits)
        else:
            data = gguf.quants.quantize(weight.detach().numpy(), kind)
        values = gguf.quants.dequantize(data, kind)
        weight.data = torch.from_numpy(np.array(values, dtype=np.float32).reshape(tuple(weight.shape)))
        tensors[names.get_name(name, try_suffixes=(".weight", ".bias"))] = (data, kind)
    return tensors


def random_blocks(kind: T, shape: torch.Size, deviation: float, bits: np.random.Generator) -> np.ndarray:
    """`[rows, bytes]` of random quants and sub-scales; the scale of a block gives `deviation`."""
    rows, blocks = shape[0], shape[1] // 256
    _, size = gguf.GGML_QUANT_SIZES[kind]
    data = bits.integers(0, 256, (rows, blocks, size), dtype=np.uint8)
    spread = bits.uniform(0.8, 1.2, (rows, blocks, 1)) * deviation
    if kind is T.Q4_K:  # d and dmin first; 7.5 is the middle of a nibble
        data[..., 0:2] = (spread / 220).astype("<f2").view(np.uint8)
        data[..., 2:4] = (spread / 220 * 7.5).astype("<f2").view(np.uint8)
    else:  # Q6_K: d last
        data[..., -2:] = (spread / 1370).astype("<f2").view(np.uint8)
    return data.reshape(rows, blocks * size)


def architecture(spec: dict):
    return gguf.MODEL_ARCH.QWEN3 if spec["class"][0] is Qwen3Config else gguf.MODEL_ARCH.QWEN2


def write(path: Path, spec: dict, config, tensors: dict) -> None:
    writer = GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture(spec)])
    writer.add_type("model")
    writer.add_name(path.stem)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(spec["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if "head_dim" in spec["config"]:
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_tokenizer(writer, GOLDEN / "tokenizer", VOCABULARY)
    for name, (data, kind) in tensors.items():
        if data.dtype == np.uint8:
            writer.add_tensor(name, data, raw_dtype=kind)
        else:
            writer.add_tensor(name, np.array(data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def golden_values(path: Path, model) -> dict:
    tokenizer = load_tokenizer()
    cases = []
    for text in PROMPTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
            greedy = list(ids)
            for _ in range(GREEDY_TOKENS):
                greedy.append(int(model(torch.tensor([greedy])).logits[0, -1].argmax()))
        case = {"text": text, "ids": ids, "logits": rounded(logits[-1]), "greedy": greedy[len(ids) :]}
        case["llama_cpp"] = llama_cpp_logits(path, text, ids)
        difference = np.abs(np.array(case["llama_cpp"]) - logits[-1].numpy()).max()
        case["llama_cpp_max_difference"] = float(f"{difference:.3g}")
        print(f"{path.stem}: logits of deviation {logits.std():.2f}; llama.cpp differs by {difference:.4f}")
        cases.append(case)
    return {"tensors": tensor_samples(path), "cases": cases}


def load_tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(GOLDEN / "tokenizer")


def tensor_samples(path: Path) -> dict:
    """For each tensor what the package's `dequantize` gives at places spread over it."""
    samples = {}
    for tensor in gguf.GGUFReader(path).tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(-1)
        step = max(1, len(values) // SAMPLES)
        places = list(range(0, len(values), step + 1 if step > 1 else 1))[: SAMPLES + 1]
        samples[tensor.name] = {
            "type": tensor.tensor_type.name,
            "shape": [int(size) for size in reversed(tensor.shape)],
            "sum_of_squares": float(f"{np.square(values.astype(np.float64)).sum():.9g}"),
            "places": places,
            "values": [float(f"{values[place]:.9g}") for place in places],
        }
    return samples


def llama_cpp_logits(path: Path, text: str, ids: list[int]) -> list[float]:
    """The last row of logits; also checks that llama.cpp reads the vocabulary as transformers does."""
    import llama_cpp

    model = llama_cpp.Llama(str(path), n_ctx=128, n_threads=1, logits_all=True, verbose=False)
    found = model.tokenize(text.encode(), add_bos=False, special=True)
    assert found == ids, f"llama.cpp encodes {text!r} as {found}, not {ids}"
    model.eval(ids)
    return rounded(torch.from_numpy(model.scores[len(ids) - 1].astype(np.float32)))


def rounded(tensor: torch.Tensor) -> list:
    return [float(f"{value:.6g}") for value in tensor.tolist()]


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN / "gguf")
