"""Golden losses, gradients and metrics of policy optimisation, computed by TRL's own `GRPOTrainer`.

    python scripts/golden/policy_loss.py [OUT]        # OUT: crates/train/tests/golden
    (trl 1.16.0, torch 2.15.0; see README.md)

Calls `GRPOTrainer._compute_loss` on a trainer made without its constructor: the method reads the attributes set in
`trainer`, and of the model only the log-probs and entropies, which are leaves here so that their gradients can be read.
All in float64. Every window holds two micro-batches of two groups of three, ragged, with tokens of a tool inside and a
truncated completion that is masked as a whole; ratios leave the clip on both sides under both signs of the advantage.

`group_token_mean` is not in TRL: it is its dapo loss of one prompt group at a time, averaged over the groups.
"""

import json
import math
import random
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
from trl import GRPOTrainer

GROUPS, GROUP_SIZE, LONGEST = 4, 3, 9
MAX_COMPLETION_LENGTH = 12
CLIP = {"clip_low": 0.2, "clip_high": 0.28}
DAPO = {"kind": "dapo", "aggregation": "token_mean", **CLIP}
GSPO = {"kind": "gspo", "clip_low": 0.03, "clip_high": 0.05}
CISPO = {"kind": "cispo", "aggregation": "token_mean", "clip_high": 1.5}
OFF = {"beta": 0.0, "kl_bias_correction": True, "entropy_coef": 0.0, "top_entropy_quantile": 1.0}
CASES = {
    "dapo": DAPO,
    "dapo_first_pass": DAPO,
    "dapo_delta": {**DAPO, "delta": 1.6},
    "dapo_kl": {**DAPO, "beta": 0.3},
    "dapo_kl_uncorrected": {**DAPO, "beta": 0.3, "kl_bias_correction": False},
    "dapo_top_entropy": {**DAPO, "top_entropy_quantile": 0.4, "beta": 0.3},
    "dapo_entropy_bonus": {**DAPO, "entropy_coef": 0.05},
    "dapo_group_token_mean": {**DAPO, "aggregation": "group_token_mean", "beta": 0.3},
    "dapo_all_masked": DAPO,
    "grpo": {"kind": "grpo", **CLIP},
    "grpo_kl_delta": {"kind": "grpo", **CLIP, "beta": 0.3, "delta": 1.6},
    "dr_grpo": {"kind": "dr_grpo", **CLIP},
    "dr_grpo_kl": {"kind": "dr_grpo", **CLIP, "beta": 0.3},
    "gspo": GSPO,
    "gspo_kl": {**GSPO, "beta": 0.3},
    "gspo_kl_delta": {**GSPO, "beta": 0.3, "kl_bias_correction": False, "delta": 1.1},
    "cispo": CISPO,
    "cispo_kl": {**CISPO, "beta": 0.3},
}


def main(out: Path) -> None:
    torch.set_num_threads(1)
    cases = []
    for seed, (name, config) in enumerate(CASES.items()):
        config = {**OFF, **config}
        rows = window(random.Random(seed), name)
        loss, metrics = compute(rows, config, name)
        cases.append(
            {
                "name": name,
                "config": config,
                "max_completion_length": MAX_COMPLETION_LENGTH,
                "loss": loss,
                "metrics": metrics,
                "rows": rows,
            }
        )
        print(f"{name:24} {loss: .9f}  {metrics}")
    (out / "policy_loss.json").write_text(json.dumps({"cases": cases}, separators=(",", ":")) + "\n")


def window(rng: random.Random, name: str) -> list[dict]:
    """The rows of one optimizer window; numbers with few digits, so that JSON holds them exactly."""
    rows = []
    for index in range(GROUPS * GROUP_SIZE):
        length = rng.randint(3, LONGEST)
        mask = [1] * length
        if index % 3 == 1:  # a tool wrote some tokens in the middle
            mask[1] = mask[2] = 0
        # Under a sequence-level ratio TRL counts a row without tokens as not clipped; we leave it out.
        if (index == 5 and not name.startswith("gspo")) or name == "dapo_all_masked":
            mask = [0] * length  # truncated, and filtered
        logprobs = [-round(rng.expovariate(1.0), 4) for _ in mask]
        drift = rng.choice([-0.1, 0.1])  # so that ratios of whole sequences leave their clip, too
        rows.append(
            {
                "group": index // GROUP_SIZE,
                "micro_batch": index // (GROUPS * GROUP_SIZE // 2),
                "advantage": round(rng.choice([-1, 1]) * rng.uniform(0.2, 1.6), 4),
                "mask": mask,
                "logprobs": logprobs,
                "old_logprobs": [round(p - rng.gauss(drift, 0.35), 4) for p in logprobs],
                "reference_logprobs": [round(p + rng.gauss(0, 0.5), 4) for p in logprobs],
                "entropies": [rng.randint(0, 191) / 64 for _ in mask],
            }
        )
        if name == "dapo_first_pass":
            del rows[-1]["old_logprobs"]
    return rows


def compute(rows: list[dict], config: dict, name: str) -> tuple[float, dict]:
    """Sums the losses of the micro-batches of a window, and leaves the gradients in `rows`."""
    groups = sorted({row["group"] for row in rows if any(row["mask"])})
    per_group = config.get("aggregation") == "group_token_mean"
    # The quantile, and the mean of the bonus, are TRL's per micro-batch, ours per window: one micro-batch, then.
    whole = config["top_entropy_quantile"] < 1 or config["entropy_coef"] != 0
    if per_group:
        parts = [[row for row in rows if row["group"] == group] for group in groups]
    elif whole:
        parts = [rows]
    else:
        parts = [[row for row in rows if row["micro_batch"] == part] for part in (0, 1)]
    total, metrics = 0.0, {}
    for part in parts:
        tokens = sum(sum(row["mask"]) for row in (part if per_group else rows))
        steps = len(parts)
        made = trainer(config, 1 if per_group else steps)
        inputs, logprobs, entropies = padded(part, config, tokens)
        made._get_per_token_logps_and_entropies = lambda *_, **__: (logprobs, entropies, None)
        loss = made._compute_loss(None, inputs) / (steps if per_group else 1)
        loss.backward()
        total += loss.item()
        for index, row in enumerate(part):
            row["gradient"] = digits(logprobs.grad[index, : len(row["mask"])])
            if config["entropy_coef"] != 0:
                row["entropy_gradient"] = digits(entropies.grad[index, : len(row["mask"])])
    if not per_group:  # metrics of the window, as of one batch
        made = trainer(config, 1)
        inputs, logprobs, entropies = padded(rows, config, tokens)
        made._get_per_token_logps_and_entropies = lambda *_, **__: (logprobs, entropies, None)
        made._compute_loss(None, inputs)
        metrics = {key: value[0] for key, value in made._metrics["train"].items()}
        metrics = {key: None if math.isnan(value) else value for key, value in metrics.items()}
        metrics = {key: value for key, value in metrics.items() if key not in ("policy_loss", "entropy_coef")}
    return total, metrics


def padded(rows: list[dict], config: dict, tokens: int) -> tuple[dict, torch.Tensor, torch.Tensor]:
    width = max(len(row["mask"]) for row in rows)

    def tensor(key: str, fill: float) -> torch.Tensor:
        return torch.tensor([row[key] + [fill] * (width - len(row[key])) for row in rows], dtype=torch.float64)

    mask = tensor("mask", 0).long()
    # A tool token is 1 in the completion mask and 0 in the tool mask; a truncated row is 0 in both.
    completion = torch.tensor([[int(any(row["mask"])) * (i < len(row["mask"])) for i in range(width)] for row in rows])
    inputs = {
        "prompt_ids": torch.zeros(len(rows), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(rows), 1, dtype=torch.long),
        "completion_ids": torch.zeros(len(rows), width, dtype=torch.long),
        "completion_mask": completion,
        "tool_mask": torch.where(completion.bool(), mask, 0),
        "advantages": torch.tensor([row["advantage"] for row in rows], dtype=torch.float64),
        "num_items_in_batch": torch.tensor(tokens),
        "ref_per_token_logps": tensor("reference_logprobs", -3.0),
    }
    if "old_logprobs" in rows[0]:
        inputs["old_per_token_logps"] = tensor("old_logprobs", -5.0)
    logprobs = tensor("logprobs", -0.5).requires_grad_()
    entropies = tensor("entropies", 7.0).requires_grad_(config["entropy_coef"] != 0)
    return inputs, logprobs, entropies


def trainer(config: dict, accumulation: int) -> GRPOTrainer:
    """As much of a trainer as `_compute_loss` reads, on one process, in training mode."""
    made = object.__new__(GRPOTrainer)
    kind = config["kind"]
    made.model = SimpleNamespace(training=True)
    made.accelerator = SimpleNamespace(
        num_processes=1,
        sync_gradients=False,
        gather=lambda x: x,
        reduce=lambda x, reduction: x,
        pad_across_processes=lambda x, dim, pad_index: x,
    )
    made.args = SimpleNamespace(
        delta=config.get("delta"),
        use_bias_correction_kl=config["kl_bias_correction"],
        steps_per_generation=accumulation,
    )
    made.current_gradient_accumulation_steps = accumulation
    made.loss_type = "grpo" if kind == "gspo" else kind
    made.importance_sampling_level = "sequence" if kind == "gspo" else "token"
    made.epsilon_low, made.epsilon_high = config.get("clip_low", 0.2), config["clip_high"]
    made.beta = config["beta"]
    made.top_entropy_quantile = config["top_entropy_quantile"]
    made.entropy_coef = config["entropy_coef"]
    made._entropy_bonus_enabled = config["entropy_coef"] != 0
    made.use_adaptive_entropy = False
    made.max_completion_length = MAX_COMPLETION_LENGTH
    made.aux_loss_enabled = False
    made.off_policy_mask_threshold = None
    made.use_vllm = False
    made._metrics = {"train": defaultdict(list)}
    return made


def digits(values: torch.Tensor) -> list[float]:
    return [float(f"{value:.12g}") for value in values.tolist()]


if __name__ == "__main__":
    golden = Path(__file__).resolve().parents[2] / "crates/train/tests/golden"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else golden)
