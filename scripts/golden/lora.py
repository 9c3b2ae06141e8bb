"""Golden logits of LoRA adapters on the `tied-gqa` model, from PEFT in float32 on the CPU.

    python scripts/golden/lora.py [OUT]        # OUT: crates/model/tests/golden/lora
    (peft 0.21.0, torch 2.15.0, transformers 5.23.0; after qwen3.py; see README.md)

`all-linear` adapts every linear layer with α / r = 3; `rslora` adapts two in bf16, scaled by α / √r, with another rank and
another alpha for one layer each. `dora` is there to be refused.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import Qwen3ForCausalLM

GOLDEN = Path(__file__).resolve().parents[2] / "crates/model/tests/golden"
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS = {
    "all-linear": (dict(r=2, lora_alpha=6, target_modules=ALL), torch.float32),
    "rslora": (
        dict(
            r=4, lora_alpha=5, use_rslora=True, target_modules=["q_proj", "v_proj"],
            rank_pattern={"layers.1.self_attn.q_proj": 2}, alpha_pattern={"layers.0.self_attn.v_proj": 9},
        ),
        torch.bfloat16,
    ),
    "dora": (dict(r=1, lora_alpha=1, use_dora=True, target_modules=["k_proj"]), torch.float32),
}  # fmt: skip
IDS = [5, 9, 2, 40, 7, 88, 31]


def main(out: Path) -> None:
    torch.set_num_threads(1)
    golden = {}
    for seed, (name, (settings, dtype)) in enumerate(ADAPTERS.items()):
        directory = out / name
        shutil.rmtree(directory, ignore_errors=True)
        model = get_peft_model(base(), LoraConfig(task_type="CAUSAL_LM", **settings))
        generator = torch.Generator().manual_seed(seed)
        for weight_name, weight in model.named_parameters():
            if "lora_" in weight_name and "magnitude" not in weight_name:
                weight.data = (0.3 * torch.randn(weight.shape, generator=generator)).to(dtype)
        model.save_pretrained(directory)
        (directory / "README.md").unlink(missing_ok=True)
        date_from_nowhere(directory / "adapter_config.json")
        loaded = PeftModel.from_pretrained(base(), directory).eval()
        with torch.no_grad():
            logits = loaded(torch.tensor([IDS])).logits[0]
            plain = base()(torch.tensor([IDS])).logits[0]
        difference = float((logits - plain).abs().max())
        print(f"{name}: moves logits by up to {difference:.2f}")
        if name != "dora":
            golden[name] = [[float(f"{value:.7g}") for value in row] for row in logits[-2:].tolist()]
    (out / "golden.json").write_text(json.dumps({"ids": IDS, "last_logits": golden}) + "\n")


def base() -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM.from_pretrained(GOLDEN / "tied-gqa", dtype=torch.float32).eval()


def date_from_nowhere(path: Path) -> None:
    """Takes out where the base lay on this machine, and sorts what PEFT writes in the order of a set."""
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = "tied-gqa"
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN / "lora")
