"""Golden scores and updates of tiny random PRMs, from transformers' `Qwen3ForSequenceClassification` in float32 on the CPU.

    python scripts/golden/prm_scores.py [OUT]                        # OUT: crates/train/tests/golden/prm
    python scripts/golden/prm_scores.py check MODEL_DIR AGENTFLOW    # the other direction: what we wrote, read by transformers
    (torch 2.15.0, transformers 5.23.0, safetensors 0.8.0; see README.md)

Two models, as `save_pretrained` writes them: one file, and shards with an index. `golden.json` has rows of ids with
`score`, by the hidden state of the last token; `hf_left` and `hf_right`, by transformers on the batch padded at that side. The
last row ends in the padding id: transformers looks for the last id that is not it, so it pools one token too far left there,
and the script fails if that does not show.

`updates` of the first model: five AdamW updates on batches of six, accumulated from micro-batches of two, with the gradient
clipped to norm 1; `after.safetensors` holds the weights then. Matrices decay, vectors do not.
"""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification, Qwen3Config, Qwen3ForSequenceClassification

OUT = Path(__file__).resolve().parents[2] / "crates/train/tests/golden/prm"
PAD = 3
SHAPES = {
    "one-file": dict(
        vocab_size=64, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, tie_word_embeddings=True,
    ),
    "shards": dict(
        vocab_size=48, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, tie_word_embeddings=False,
    ),
}  # fmt: skip
LENGTHS = (1, 7, 20, 33, 2, 12)
UPDATES, BATCH, MICRO = 5, 6, 2
RATES = (1e-3, 2e-3, 1.5e-3, 1e-3, 5e-4)
SETTINGS = dict(betas=(0.9, 0.98), eps=1e-8)
DECAY = 0.05


def main(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    for seed, (name, shape) in enumerate(SHAPES.items()):
        model = new_model(shape, seed)
        model.save_pretrained(out / name, max_shard_size="20KB" if name == "shards" else "1GB")
        golden = {"pad_token_id": PAD, "rows": scored_rows(model, seed)}
        if name == "one-file":
            golden["updates"] = train(model, seed)
            weights = {key: value.contiguous() for key, value in model.state_dict().items()}
            save_file(weights, out / name / "after.safetensors")
        (out / name / "golden.json").write_text(json.dumps(golden) + "\n")


def new_model(shape: dict, seed: int) -> Qwen3ForSequenceClassification:
    config = Qwen3Config(
        **shape, max_position_embeddings=64, num_labels=1, problem_type="regression", pad_token_id=PAD,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )  # fmt: skip
    model = Qwen3ForSequenceClassification(config).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        weight.data = 1 + 0.2 * noise if weight.dim() == 1 else 0.3 * noise
    return model


def scored_rows(model, seed: int) -> list[dict]:
    draw = random.Random(seed)
    rows = [ids(draw, model, length) for length in LENGTHS]
    rows.append(ids(draw, model, 9) + [PAD])
    left, right = batch_scores(model, rows, "left"), batch_scores(model, rows, "right")
    scores = [last_token_score(model, row) for row in rows]
    for row, score, *padded in zip(rows, scores, left, right):
        differs = max(abs(score - other) for other in padded)
        assert (differs > 1e-2) if row[-1] == PAD else (differs < 1e-5), (row, score, padded)
    return [
        {"ids": row, "score": score, "hf_left": one, "hf_right": other}
        for row, score, one, other in zip(rows, scores, left, right)
    ]


def ids(draw: random.Random, model, length: int) -> list[int]:
    """Ordinary tokens; the padding id may stand anywhere but at the end."""
    some = [draw.randrange(model.config.vocab_size) for _ in range(length)]
    return some[:-1] + [some[-1] if some[-1] != PAD else PAD + 1]


def padded(rows: list[list[int]], side: str) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    fill = lambda row, value: [value] * (width - len(row))  # noqa: E731
    if side == "left":
        return (
            torch.tensor([fill(row, PAD) + row for row in rows]),
            torch.tensor([fill(row, 0) + [1] * len(row) for row in rows]),
        )
    return (
        torch.tensor([row + fill(row, PAD) for row in rows]),
        torch.tensor([[1] * len(row) + fill(row, 0) for row in rows]),
    )


@torch.no_grad()
def batch_scores(model, rows: list[list[int]], side: str) -> list[float]:
    tokens, mask = padded(rows, side)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return model(tokens, attention_mask=mask, position_ids=positions).logits.squeeze(1).tolist()


@torch.no_grad()
def last_token_score(model, row: list[int]) -> float:
    hidden = model.model(torch.tensor([row])).last_hidden_state
    return float(model.score(hidden[0, -1]))


def train(model, seed: int) -> dict:
    """Trains in place; gives the batches, and what each update measured."""
    draw = random.Random(seed + 100)
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    vectors = [weight for weight in model.parameters() if weight.dim() == 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, **SETTINGS)
    updates = []
    for rate in RATES[:UPDATES]:
        # transformers gives the embedding of the padding id no gradient, wherever it stands; PRM texts do not hold it.
        drawn = [ids(draw, model, draw.randrange(2, 30)) for _ in range(BATCH)]
        rows = [[PAD + 1 if token == PAD else token for token in row] for row in drawn]
        labels = [draw.random() for _ in range(BATCH)]
        total = 0.0
        for start in range(0, BATCH, MICRO):
            tokens, mask = padded(rows[start : start + MICRO], "right")
            scores = model(tokens, attention_mask=mask).logits.squeeze(1)
            loss = (scores - torch.tensor(labels[start : start + MICRO])).square().sum() / BATCH
            loss.backward()
            total += float(loss.detach())
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        updates.append({"ids": rows, "labels": labels, "lr": rate, "loss": total, "grad_norm": norm})
    assert max(update["grad_norm"] for update in updates) > 1, "nothing was clipped"
    return {"weight_decay": DECAY, "beta1": 0.9, "beta2": 0.98, "eps": 1e-8, "updates": updates}


def check(directory: Path, agentflow: str) -> None:
    """What we wrote gives the same scores there: alone, and in padded batches."""
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    assert type(model) is Qwen3ForSequenceClassification and model.config.num_labels == 1, model.config
    draw = random.Random(7)
    pad = model.config.pad_token_id
    rows = [[draw.randrange(pad + 1, model.config.vocab_size) for _ in range(length)] for length in (1, 5, 40, 200)]
    lines = "".join(json.dumps({"ids": row}) + "\n" for row in rows)
    command = [agentflow, "prm", "score", "--input", "-", "--model", str(directory)]
    out = subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout
    ours = [json.loads(line)["score"] for line in out.splitlines()]
    global PAD
    PAD = pad
    theirs = [last_token_score(model, row) for row in rows]
    for side in ("left", "right"):
        batch = batch_scores(model, rows, side)
        print(f"{side}: largest difference {max(abs(a - b) for a, b in zip(ours, batch)):.1e}")
    difference = max(abs(a - b) for a, b in zip(ours, theirs))
    print(f"alone: largest difference {difference:.1e}")
    assert difference < 1e-5


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["check"]:
        check(Path(sys.argv[2]), sys.argv[3])
    else:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
