"""Golden DAPO updates of a LoRA adapter: TRL's loss, PEFT's adapter and torch's AdamW on a tiny Qwen3, in float64.

    python scripts/golden/dapo_update.py [OUT]        # OUT: crates/train/tests/golden/dapo_update
    (trl 1.16.0, peft 0.21.0, torch 2.15.0, transformers 5.23.0; after lora.py; see README.md)

Base and first adapter are `tied-gqa` and `lora/all-linear` of crates/model/tests/golden. Each case makes three updates: one
without old log-probs, one far off policy, so that ratios leave the clip on both sides, and one on the rows of the first
with their old log-probs frozen before it. Rows are ragged, with tokens of a tool inside, and one is masked as a whole.

Writes of each case the lines that `agentflow train dapo --replay` reads, what TRL says of every update, and the adapter
after the first and the last.
"""

import json
import random
import sys
from pathlib import Path

import torch
from peft import PeftModel
from policy_loss import trainer
from safetensors.torch import save_file
from transformers import Qwen3ForCausalLM

MODELS = Path(__file__).resolve().parents[2] / "crates/model/tests/golden"
VOCABULARY = 96
OFF = {"kl_bias_correction": True, "entropy_coef": 0.0, "top_entropy_quantile": 1.0}
CASES = {
    "dapo": {
        "loss": {"kind": "dapo", "aggregation": "token_mean", "clip_low": 0.2, "clip_high": 0.28, "beta": 0.0, **OFF},
        "temperature": 1.0,
        "optimizer": {"lr": 3e-3, "weight_decay": 0.0, "max_grad_norm": 0.05},
    },
    "gspo_kl": {
        "loss": {"kind": "gspo", "clip_low": 0.03, "clip_high": 0.05, "beta": 0.001, **OFF},
        "temperature": 0.7,
        "optimizer": {"lr": 1e-3, "weight_decay": 0.1, "max_grad_norm": 100.0},
    },
}


def main(out: Path) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    out.mkdir(parents=True, exist_ok=True)
    cases = [case(name, config, out) for name, config in CASES.items()]
    (out / "cases.json").write_text(json.dumps({"cases": cases}, separators=(",", ":")) + "\n")


def case(name: str, config: dict, out: Path) -> dict:
    rng = random.Random(name)
    base = Qwen3ForCausalLM.from_pretrained(MODELS / "tied-gqa", dtype=torch.float64, attn_implementation="eager")
    assert base.config.vocab_size >= VOCABULARY
    model = PeftModel.from_pretrained(
        base, MODELS / "lora/all-linear", is_trainable=True, autocast_adapter_dtype=False
    ).to(torch.float64)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    settings = {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, **config["optimizer"]}
    optimizer = torch.optim.AdamW(
        trained,
        lr=settings["lr"],
        betas=(settings["beta1"], settings["beta2"]),
        eps=settings["eps"],
        weight_decay=settings["weight_decay"],
    )
    temperature = config["temperature"]
    first, second = window(rng), window(rng)
    frozen = [old.tolist() for old in scores(model, first, temperature)]
    second["old_logprobs"] = [
        [p + rng.choice([-1, 1]) * rng.uniform(0.1, 0.5) for p in old.tolist()]
        for old in scores(model, second, temperature)
    ]
    lines = [first, second, {**first, "old_logprobs": frozen}]
    lines = [json.loads(json.dumps(line)) for line in lines]  # the same numbers as a reader of the file has

    updates = []
    for index, line in enumerate(lines):
        loss, metrics = loss_of(model, line, config)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, settings["max_grad_norm"])
        optimizer.step()
        updates.append({"loss": loss.item(), "grad_norm": norm.item(), **metrics})
        print(f"{name} {index + 1}: {updates[-1]}")
        if index in (0, 2):
            state = {
                key.replace(".default", ""): value.detach().float().contiguous()
                for key, value in model.named_parameters()
                if "lora_" in key
            }
            save_file(state, out / f"{name}-{index + 1}.safetensors", metadata={"format": "pt"})
    settings_of_loss = config["loss"]
    return {
        "name": name,
        "loss": settings_of_loss,
        "optimizer": settings,
        "temperature": temperature,
        "lines": lines,
        "updates": updates,
    }


def window(rng: random.Random) -> dict:
    """Two groups of three rows."""
    line = {"prompt_ids": [], "completion_ids": [], "completion_mask": [], "advantages": []}
    for group in range(2):
        prompt = [rng.randrange(VOCABULARY) for _ in range(rng.randint(3, 9))]
        for index in range(3):
            completion = [rng.randrange(VOCABULARY) for _ in range(rng.randint(2, 9))]
            mask = [1] * len(completion)
            if index == 1 and len(mask) > 3:  # a tool wrote some tokens in the middle
                mask[1] = mask[2] = 0
            if group == 1 and index == 2:  # truncated, and filtered
                mask = [0] * len(mask)
            line["prompt_ids"].append(prompt)
            line["completion_ids"].append(completion)
            line["completion_mask"].append(mask)
            line["advantages"].append(round(rng.choice([-1, 1]) * rng.uniform(0.2, 1.6), 4))
    return line


def scores(model: torch.nn.Module, line: dict, temperature: float, entropies: bool = False) -> list:
    """Log-probs, or entropies, of every token of the completions, of one row at a time: no padding."""
    result = []
    for prompt, completion in zip(line["prompt_ids"], line["completion_ids"]):
        ids = torch.tensor([prompt + completion])
        logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1] / temperature
        logprobs = torch.log_softmax(logits, dim=-1)
        if entropies:
            result.append(-(logprobs.exp() * logprobs).sum(-1))
        else:
            result.append(logprobs.gather(1, torch.tensor(completion).unsqueeze(1)).squeeze(1))
    return result


def loss_of(model: torch.nn.Module, line: dict, config: dict) -> tuple[torch.Tensor, dict]:
    temperature = config["temperature"]
    made = trainer(config["loss"], 1)
    padded = torch.nn.utils.rnn.pad_sequence
    mask = padded([torch.tensor(mask) for mask in line["completion_mask"]], batch_first=True)
    truncated = mask.sum(1, keepdim=True) == 0
    completion = padded([torch.ones(len(ids), dtype=torch.long) for ids in line["completion_ids"]], batch_first=True)
    inputs = {
        "prompt_ids": torch.zeros(len(mask), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(mask), 1, dtype=torch.long),
        "completion_ids": torch.zeros_like(mask),
        "completion_mask": torch.where(truncated, 0, completion),
        "tool_mask": mask,
        "advantages": torch.tensor(line["advantages"]),
        "num_items_in_batch": mask.sum(),
    }
    if "old_logprobs" in line:
        inputs["old_per_token_logps"] = padded([torch.tensor(old) for old in line["old_logprobs"]], batch_first=True)
    if config["loss"]["beta"] != 0:
        with torch.no_grad(), model.disable_adapter():
            inputs["ref_per_token_logps"] = padded(scores(model, line, temperature), batch_first=True)
    logprobs = padded(scores(model, line, temperature), batch_first=True)
    with torch.no_grad():
        entropies = padded(scores(model, line, temperature, entropies=True), batch_first=True)
    made._get_per_token_logps_and_entropies = lambda *_, **__: (logprobs, entropies, None)
    loss = made._compute_loss(None, inputs)
    metrics = {key: value[0] for key, value in made._metrics["train"].items()}
    return loss, {key: value for key, value in metrics.items() if key not in ("policy_loss", "entropy_coef")}


if __name__ == "__main__":
    golden = Path(__file__).resolve().parents[2] / "crates/train/tests/golden/dapo_update"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else golden)
