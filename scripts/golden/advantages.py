"""Golden group advantages and loss-token counts, computed by TRL's own `GRPOTrainer`.

    python scripts/golden/advantages.py [OUT]        # OUT: crates/train/tests/golden
    (trl 1.16.0, torch 2.15.0; see README.md)

Calls `GRPOTrainer._generate_and_score_completions`, whole, on a trainer made without its constructor: what a model would
generate and what reward functions would return is given. TRL computes rewards and advantages in float32.
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

GROUP_SIZE = 4
EOS, PAD = 1, 0
NAN = math.nan


def main(out: Path) -> None:
    torch.set_num_threads(1)
    rng = random.Random(7)
    scores = [[round(rng.random(), 4)] for _ in range(8)]
    one = scores + [[1], [0], [0], [0]] + [[0.5]] * 4 + [[NAN], [0.2], [0.9], [0.4]] + [[NAN], [NAN], [0.7], [NAN]]
    one += [[0.9], [0.7], [0.5], [0.1]] + [[1], [1], [0], [0]] + [[NAN]] * 4
    two = [[round(rng.random(), 4), rng.choice([0, 1])] for _ in range(12)]
    two += [[0.3, NAN], [NAN, 1], [0.6, 0], [NAN, NAN]] + [[0.25, 1]] * 4
    cases = []
    for scale in ["group", "batch", "none"]:
        cases.append(case(one, [1.0], "sum_then_normalize", scale))
        cases.append(case(two, [0.7, 0.3], "sum_then_normalize", scale))
    cases.append(case(two, [0.7, 0.3], "normalize_then_sum", "group"))
    counts = [loss_tokens(filtered) for filtered in (False, True)]
    for item in cases:
        print(item["scale_rewards"], item["multi_objective_aggregation"], item["advantages"])
    print(counts)
    golden = {"group_size": GROUP_SIZE, "cases": cases, "loss_tokens": counts}
    (out / "advantages.json").write_text(json.dumps(golden, separators=(",", ":"), allow_nan=False) + "\n")


def case(rewards: list[list[float]], weights: list[float], aggregation: str, scale: str) -> dict:
    made = trainer(len(weights), len(rewards))
    made.scale_rewards, made.multi_objective_aggregation = scale, aggregation
    made.reward_weights = torch.tensor(weights, dtype=torch.float32)
    made._calculate_rewards = lambda *_: torch.tensor(rewards, dtype=torch.float32)
    output = made._generate_and_score_completions([{"prompt": "?"}] * len(rewards))
    return {
        "scale_rewards": scale,
        "multi_objective_aggregation": aggregation,
        "weights": weights,
        "rewards": [[None if math.isnan(value) else value for value in row] for row in rewards],
        "advantages": output["advantages"].tolist(),
    }


def loss_tokens(filtered: bool) -> dict:
    """A finished completion, one cut off, one with a tool's tokens in it, one with those and cut off."""
    ids = [[5, 6, EOS], [5, 6, 7, 8], [5, 9, 9, 6, EOS], [5, 9, 9, 6]]
    tool_mask = [[1] * 3, [1] * 4, [1, 0, 0, 1, 1], [1, 0, 0, 1]]
    made = trainer(1, len(ids))
    made.scale_rewards, made.multi_objective_aggregation = "group", "sum_then_normalize"
    made.reward_weights = torch.ones(1)
    made.mask_truncated_completions = filtered
    made._generate = lambda prompts: generated(ids, tool_mask)
    made._calculate_rewards = lambda *_: torch.arange(4.0).unsqueeze(1)
    output = made._generate_and_score_completions([{"prompt": "?"}] * len(ids))
    mask = output["completion_mask"] * output["tool_mask"]
    return {
        "filter_truncated": filtered,
        "truncated": [row[-1] != EOS for row in ids],
        "sampled": tool_mask,
        "mask": [row[: len(tokens)] for row, tokens in zip(mask.tolist(), ids, strict=True)],
        "loss_tokens": output["num_items_in_batch"].item(),
    }


def generated(ids: list[list[int]], tool_mask: list[list[int]] | None) -> tuple:
    return [[3]] * len(ids), ids, tool_mask, [""] * len(ids), None, {}, None, None


def trainer(rewards: int, rows: int) -> GRPOTrainer:
    """As much of a trainer as scoring reads, on one process, in training mode."""
    made = object.__new__(GRPOTrainer)
    made.model = SimpleNamespace(training=True, is_gradient_checkpointing=False)
    made.accelerator = SimpleNamespace(device="cpu", process_index=0, gather=lambda x: x)
    made.args = SimpleNamespace(
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=1,
        steps_per_generation=1,
        gradient_checkpointing_kwargs=None,
        report_to=[],
    )
    made._tokenizer = SimpleNamespace(pad_token_id=PAD)
    made.processing_class = SimpleNamespace(batch_decode=lambda ids, **_: [""] * len(ids))
    made.eos_token_ids = [EOS]
    made.environment_factories = made.environments = made.tools = None
    made.pad_to_multiple_of = None
    made.mask_truncated_completions = False
    made.num_generations, made.num_iterations = GROUP_SIZE, 1
    made.beta, made.use_vllm, made.log_multimodal = 0.0, False, False
    made.reward_funcs = made.reward_func_names = [f"reward_{index}" for index in range(rewards)]
    made._generate = lambda prompts: generated([[5, EOS]] * rows, None)
    made._pending_extra_logs, made._pending_metrics = defaultdict(list), defaultdict(list)
    made._metrics = {"train": defaultdict(list)}
    made._logs = {key: [] for key in ("prompt", "completion", "advantages")}
    made._logs["rewards"], made._logs["extra"] = defaultdict(list), defaultdict(list)
    return made


if __name__ == "__main__":
    golden = Path(__file__).resolve().parents[2] / "crates/train/tests/golden"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else golden)
