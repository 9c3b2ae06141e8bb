"""Golden logits of tiny random Qwen2 models, and of a Qwen3 in f16, from transformers in float32 on the CPU.

    python scripts/golden/qwen2.py [OUT]        # OUT: crates/model/tests/golden/variants
    (torch 2.15.0, transformers 5.23.0, safetensors 0.8.0; see README.md)

With those of qwen3.py every combination that changes how weights are read is there: f32, f16 and bf16, one file and
shards, tied and own head, with Qwen2's attention biases and without. Biases are as large as what they are added to,
so leaving one out is far off.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import transformers
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

DEFAULT_OUT = Path(__file__).resolve().parents[2] / "crates/model/tests/golden/variants"
PROMPT_LENGTHS = (1, 7)
GREEDY_TOKENS = 12

MODELS = {
    "qwen2-tied-f16": (Qwen2Config, Qwen2ForCausalLM, True, torch.float16, "1GB"),
    "qwen2-untied-bf16": (Qwen2Config, Qwen2ForCausalLM, False, torch.bfloat16, 5_000),
    "qwen3-untied-f16": (Qwen3Config, Qwen3ForCausalLM, False, torch.float16, 5_000),
}


def main(out: Path) -> None:
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    for seed, (name, (config_class, model_class, tied, dtype, shard)) in enumerate(MODELS.items()):
        directory = out / name
        shutil.rmtree(directory, ignore_errors=True)
        config = config_class(
            vocab_size=32, hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, rms_norm_eps=1e-4, tie_word_embeddings=tied, max_position_embeddings=64,
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0}, bos_token_id=0, eos_token_id=1,
            **({"head_dim": 8} if config_class is Qwen3Config else {}),
        )  # fmt: skip
        model = model_class(config)
        generator = torch.Generator().manual_seed(seed)
        for weight_name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in weight_name:
                weight.data = 1.0 + 0.3 * noise
            elif weight_name.endswith("bias"):
                weight.data = noise
            else:
                weight.data = (0.3 if "embed_tokens" in weight_name else 1.5 / weight.shape[1] ** 0.5) * noise
        model.to(dtype).save_pretrained(directory, max_shard_size=shard)
        (directory / "generation_config.json").unlink(missing_ok=True)
        # The values are those of the stored weights, computed in float32.
        model = model_class.from_pretrained(directory, dtype=torch.float32).eval()
        lengths = {length: torch.randint(2, 32, (1, length), generator=generator) for length in PROMPT_LENGTHS}
        golden = {"cases": [case(model, ids) for ids in lengths.values()]}
        (directory / "golden.json").write_text(json.dumps(golden) + "\n")
        print(f"{name}: {sorted(file.name for file in directory.iterdir())}")


def case(model, ids: torch.Tensor) -> dict:
    with torch.no_grad():
        logits = model(ids).logits[0]
        greedy = ids
        for _ in range(GREEDY_TOKENS):
            greedy = torch.cat([greedy, model(greedy).logits[:, -1:].argmax(-1)], dim=1)
    return {
        "ids": ids[0].tolist(),
        "logits": [[float(f"{value:.7g}") for value in row] for row in logits.tolist()],
        "greedy": greedy[0, ids.shape[1] :].tolist(),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_OUT)
