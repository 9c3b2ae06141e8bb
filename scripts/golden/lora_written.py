"""What PEFT computes with adapters that `Adapter::save` wrote for the `tied-gqa` model, in float32 on the CPU.

    cargo test -p agentflow-model --test lora -- --ignored write_golden_adapters
    python scripts/golden/lora_written.py        # reads lora/written, lora/written-score; writes lora/written.json
    (peft 0.21.0, torch 2.15.0, transformers 5.23.0; after qwen3.py; see README.md)

Missing and unexpected keys, about which PEFT only warns, are errors here.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, Qwen3ForCausalLM

GOLDEN = Path(__file__).resolve().parents[2] / "crates/model/tests/golden"
IDS = [5, 9, 2, 40, 7, 88, 31, 12, 60]


def main(out: Path) -> None:
    torch.set_num_threads(1)
    with torch.no_grad():
        base = Qwen3ForCausalLM.from_pretrained(GOLDEN / "tied-gqa", dtype=torch.float32)
        logits = adapted(base, "written")(torch.tensor([IDS])).logits[0, -2:]
        base = AutoModelForSequenceClassification.from_pretrained(
            GOLDEN / "tied-gqa", dtype=torch.float32, num_labels=1, pad_token_id=0
        )
        score = adapted(base, "written-score")(torch.tensor([IDS])).logits
    golden = {"ids": IDS, "last_logits": rounded(logits), "score": rounded(score)}
    out.write_text(json.dumps(golden) + "\n")


def adapted(base: torch.nn.Module, name: str) -> PeftModel:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="(?i).*(missing|unexpected).*keys")
        model = PeftModel.from_pretrained(base, GOLDEN / "lora" / name).eval()
    files = {key: value for key, value in model.named_parameters() if "lora_" in key or "modules_to_save" in key}
    print(f"{name}: {len(files)} tensors, {model.peft_config['default'].task_type}")
    assert not any(bool((value == 0).all()) for value in files.values()), "a tensor was not read"
    return model


def rounded(rows: torch.Tensor) -> list:
    return [[float(f"{value:.8g}") for value in row] for row in rows.tolist()]


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN / "lora" / "written.json")
