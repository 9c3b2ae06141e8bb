"""Golden logits of tiny random Qwen3 models, from transformers' `Qwen3ForCausalLM` in float32 on the CPU.

    python scripts/golden/qwen3.py [OUT]        # OUT: crates/model/tests/golden
    (torch 2.15.0, transformers 5.23.0, safetensors 0.8.0, numpy 2.4.6; see README.md)

Three models, one directory each (config.json, safetensors, golden.json, ragged.json), that between them use everything
a Qwen3 checkpoint may vary: tied or own output head, grouped or full key-value heads, `head_dim` unlike
`hidden_size / num_attention_heads`, one file or shards, f32 or bf16 weights, and `rope_theta` where old
(top level) and new (`rope_parameters`) configs keep it. Weights are scaled up, norm weights are not one,
and two models have epsilons large enough to matter, so a wrong implementation is far off: `wrong_versions` computes
how far, for each model, and the script fails if one of them comes close.

Left out on purpose: `attention_bias`, sliding windows, rope scaling. No released dense Qwen3 uses them by default.
"""

import contextlib
import copy
import json
import shutil
import sys
from pathlib import Path
from unittest import mock

import safetensors
import torch
import transformers
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.models.qwen3 import modeling_qwen3

DEFAULT_OUT = Path(__file__).resolve().parents[2] / "crates/model/tests/golden"
GREEDY_TOKENS = 16
COMPLETION_TOKENS = 9
PROMPT_LENGTHS = {"one-token": 1, "short": 5, "medium": 13, "long": 40}
# Rows of the ragged batch: tokens of the prefill, then single tokens over its cache.
RAGGED_LENGTHS = (5, 19, 1, 14)
RAGGED_STEPS = 3
TEMPERATURES = (1.0, 0.7)
# A greedy choice closer than this could fall the other way in another order of float additions.
MIN_GREEDY_MARGIN = 2e-3
# A wrong implementation must be at least this far off, ten times what a test should tolerate.
MIN_WRONG_DIFFERENCE = 1e-3

MODELS = {
    "tied-gqa": {
        "config": dict(
            vocab_size=96, hidden_size=40, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-3, tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        ),
        "seed": 1, "hub_style_config": True,
    },
    "untied-mha": {
        "config": dict(
            vocab_size=80, hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=4, head_dim=8, rms_norm_eps=1e-6, tie_word_embeddings=False,
            rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        ),
        "seed": 5, "max_shard_size": 72_000,
    },
    "wide-gqa-bf16": {
        "config": dict(
            vocab_size=96, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=1, head_dim=16, rms_norm_eps=1e-4, tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        ),
        "seed": 8, "dtype": torch.bfloat16,
    },
}  # fmt: skip


def main(out: Path) -> None:
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    for name, spec in MODELS.items():
        directory = out / name
        save_model(directory, spec)
        golden = golden_values(name, directory, spec)
        (directory / "golden.json").write_text(to_json(golden))
        (directory / "ragged.json").write_text(to_json(ragged_values(directory, spec)))
        sizes = ", ".join(f"{file.name} {file.stat().st_size}" for file in sorted(directory.iterdir()))
        print(f"{name}: {sizes}")


def save_model(directory: Path, spec: dict) -> None:
    """Writes a random model as `save_pretrained` does; `hub_style_config` then dates the config back to 2025."""
    shutil.rmtree(directory, ignore_errors=True)
    config = Qwen3Config(
        **spec["config"],
        attention_bias=False,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = Qwen3ForCausalLM(config)
    randomize(model, torch.Generator().manual_seed(spec["seed"]))
    model = model.to(spec.get("dtype", torch.float32))
    model.save_pretrained(directory, max_shard_size=spec.get("max_shard_size", "1GB"))
    (directory / "generation_config.json").unlink(missing_ok=True)
    if spec.get("hub_style_config"):
        date_config_back(directory / "config.json")


def randomize(model: Qwen3ForCausalLM, generator: torch.Generator) -> None:
    """Projections keep the variance of their input; logits get a standard deviation of 1 to 3."""
    for name, weight in model.named_parameters():  # a tied head is the embedding, and is not listed again
        noise = torch.randn(weight.shape, generator=generator)
        if "norm" in name:
            weight.data = 1.0 + 0.3 * noise
        elif "embed_tokens" in name:
            weight.data = 0.35 * noise
        else:
            weight.data = 1.5 * noise / weight.shape[1] ** 0.5


def date_config_back(path: Path) -> None:
    """Rewrites `rope_parameters` and `dtype` to the keys of the configs Qwen published with Qwen3."""
    config = json.loads(path.read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["rope_scaling"] = None
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.51.0"
    config.pop("layer_types", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load(directory: Path, dtype: torch.dtype) -> Qwen3ForCausalLM:
    model, report = Qwen3ForCausalLM.from_pretrained(
        directory, dtype=dtype, attn_implementation="eager", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    return model.eval()


@torch.no_grad()
def golden_values(name: str, directory: Path, spec: dict) -> dict:
    model = load(directory, torch.float32)
    theta = spec["config"]["rope_parameters"]["rope_theta"]
    assert model.config.rope_parameters["rope_theta"] == theta, "the saved config must carry rope_theta"
    exact = load(directory, torch.float64)
    generator = torch.Generator().manual_seed(1000 + spec["seed"])
    cases, rounding = [], 0.0
    for prompt, length in PROMPT_LENGTHS.items():
        ids = torch.randint(0, model.config.vocab_size, (length,), generator=generator).tolist()
        completion = torch.randint(0, model.config.vocab_size, (COMPLETION_TOKENS,), generator=generator).tolist()
        logits = forward(model, ids)
        rounding = max(rounding, (logits.double() - forward(exact, ids)).abs().max().item())
        greedy, margin = greedy_continuation(model, ids)
        case = {
            "name": prompt,
            "ids": ids,
            "greedy": greedy,
            "greedy_min_margin": digits(margin),
            "completion": completion,
            "logprobs": {str(t): rounded(logprobs(model, ids, completion, t)) for t in TEMPERATURES},
            "logits": [rounded(row) for row in logits],
        }
        cases.append(case)
    if spec.get("dtype") == torch.bfloat16:
        low = load(directory, torch.bfloat16)
        for case in cases:
            case["bf16"] = loose_reference(low, case["ids"])
    logits = torch.tensor([row for case in cases for row in case["logits"]])
    wrong = wrong_versions(model, cases[-1]["ids"])
    print(f"{name}: logits std {logits.std():.2f}, float32 rounding {rounding:.1e}, wrong versions off by {wrong}")
    return {
        "reference": {
            "class": "transformers.Qwen3ForCausalLM",
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "safetensors": safetensors.__version__,
            "compute_dtype": "float32",
            "attention": "eager",
        },
        "max_abs_difference_to_float64": digits(rounding),
        "max_abs_difference_of_wrong_versions": wrong,
        "cases": cases,
    }


@torch.no_grad()
def ragged_values(directory: Path, spec: dict) -> dict:
    """One batch of rows of different lengths: a prefill, then cached decoding; in float32 and in bf16."""
    model = load(directory, torch.float32)
    generator = torch.Generator().manual_seed(2000 + spec["seed"])
    lengths = [length + RAGGED_STEPS for length in RAGGED_LENGTHS]
    rows = [torch.randint(0, model.config.vocab_size, (length,), generator=generator).tolist() for length in lengths]
    logits = ragged_logits(model, rows)
    for row, of_row in zip(rows, logits):
        off = (of_row - forward(model, row)).abs().max().item()
        assert off < 1e-4, f"the batch differs from its rows by {off}: padding is visible"
    low = [row.float() for row in ragged_logits(load(directory, torch.bfloat16), rows)]
    off = max((a - b).abs().max().item() for a, b in zip(low, logits))
    print(f"{directory.name}, ragged: bfloat16 differs by {off:.2g}")
    return {
        "steps": RAGGED_STEPS,
        "bf16_max_abs_difference": digits(off, 3),
        "rows": [
            {
                "ids": row,
                "logits": [[round(value, 5) for value in at] for at in of_row.tolist()],
                "bf16_argmax": of_low.argmax(-1).tolist(),
            }
            for row, of_row, of_low in zip(rows, logits, low)
        ],
    }


def ragged_logits(model: Qwen3ForCausalLM, rows: list[list[int]]) -> list[torch.Tensor]:
    """Logits `[tokens, vocab]` of each row: all but its last tokens left-padded in one batch, those one by one."""
    heads = [row[:-RAGGED_STEPS] for row in rows]
    longest = max(map(len, heads))
    ids = torch.tensor([[0] * (longest - len(head)) + head for head in heads])
    mask = torch.tensor([[0] * (longest - len(head)) + [1] * len(head) for head in heads])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    out = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True)
    pieces = [[logits[longest - len(head) :]] for logits, head in zip(out.logits, heads)]
    for step in range(-RAGGED_STEPS, 0):
        mask = torch.cat([mask, torch.ones(len(rows), 1, dtype=mask.dtype)], -1)
        out = model(
            input_ids=torch.tensor([[row[step]] for row in rows]),
            attention_mask=mask,
            position_ids=mask.sum(-1, keepdim=True) - 1,
            past_key_values=out.past_key_values,
            use_cache=True,
        )
        for row, logits in zip(pieces, out.logits):
            row.append(logits)
    return [torch.cat(row) for row in pieces]


def forward(model: Qwen3ForCausalLM, ids: list[int]) -> torch.Tensor:
    """Logits `[tokens, vocab]` of one sequence, no cache."""
    return model(torch.tensor([ids]), use_cache=False).logits[0]


def greedy_continuation(model: Qwen3ForCausalLM, ids: list[int]) -> tuple[list[int], float]:
    """The argmax continuation, past any end token, and the smallest lead of the chosen logit over the second."""
    sequence, margin = list(ids), float("inf")
    for _ in range(GREEDY_TOKENS):
        top = forward(model, sequence)[-1].topk(2)
        margin = min(margin, (top.values[0] - top.values[1]).item())
        sequence.append(top.indices[0].item())
    assert margin > MIN_GREEDY_MARGIN, f"greedy choice is nearly a tie ({margin}): change the seed"
    return sequence[len(ids) :], margin


def logprobs(model: Qwen3ForCausalLM, ids: list[int], completion: list[int], temperature: float) -> torch.Tensor:
    """Log-probability in nats of each completion token under softmax(logits / temperature)."""
    rows = forward(model, ids + completion)[len(ids) - 1 : -1]
    return (rows / temperature).log_softmax(-1)[torch.arange(len(completion)), completion]


def loose_reference(model: Qwen3ForCausalLM, ids: list[int]) -> dict:
    """What bf16 arithmetic gives: near-ties may fall either way on another machine, so compare loosely."""
    logits = forward(model, ids).float()
    return {"argmax": logits.argmax(-1).tolist(), "top5": logits.topk(5).indices.tolist()}


def wrong_versions(model: Qwen3ForCausalLM, ids: list[int]) -> dict[str, float]:
    """The largest logit error of implementations with one plausible mistake each."""
    right = forward(model, ids)
    off = {}
    for mistake, (edit, patches, matters) in MISTAKES.items():
        if not matters(model.config):
            continue
        wrong = copy.deepcopy(model)
        edit(wrong)
        with contextlib.ExitStack() as stack:
            for attribute, replacement in patches.items():
                stack.enter_context(mock.patch.object(modeling_qwen3, attribute, replacement))
            off[mistake] = digits((forward(wrong, ids) - right).abs().max().item(), 3)
        assert off[mistake] > MIN_WRONG_DIFFERENCE, f"{mistake}: off by {off[mistake]} only, cannot be told apart"
    return off


def unchanged(model: Qwen3ForCausalLM) -> None:
    pass


def set_theta(theta: float):
    def edit(model: Qwen3ForCausalLM) -> None:
        config = copy.deepcopy(model.config)
        config.rope_parameters = {"rope_type": "default", "rope_theta": theta}
        model.model.rotary_emb = modeling_qwen3.Qwen3RotaryEmbedding(config)

    return edit


def set_epsilon(factor: float):
    def edit(model: Qwen3ForCausalLM) -> None:
        for norm in norms(model, ""):
            norm.variance_epsilon *= factor

    return edit


def ones(part: str):
    def edit(model: Qwen3ForCausalLM) -> None:
        for norm in norms(model, part):
            norm.weight.data.fill_(1.0)

    return edit


def norms(model: Qwen3ForCausalLM, part: str) -> list:
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, modeling_qwen3.Qwen3RMSNorm) and part in name
    ]


def skip_query_key_norm(model: Qwen3ForCausalLM) -> None:
    for layer in model.model.layers:
        layer.self_attn.q_norm = layer.self_attn.k_norm = torch.nn.Identity()


def scale_by_hidden_over_heads(model: Qwen3ForCausalLM) -> None:
    config = model.config
    for layer in model.model.layers:
        layer.self_attn.scaling = (config.hidden_size / config.num_attention_heads) ** -0.5


def use_gelu(model: Qwen3ForCausalLM) -> None:
    for layer in model.model.layers:
        layer.mlp.act_fn = torch.nn.GELU()


def swap_gate_and_up(model: Qwen3ForCausalLM) -> None:
    for layer in model.model.layers:
        layer.mlp.gate_proj, layer.mlp.up_proj = layer.mlp.up_proj, layer.mlp.gate_proj


def untie(model: Qwen3ForCausalLM) -> None:
    weight = model.lm_head.weight
    model.lm_head.weight = torch.nn.Parameter(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))


def interleaved_rope(q, k, cos, sin, unsqueeze_dim=1, **_):
    """Rotates neighbouring pairs, as GPT-J does, instead of halves."""
    half = cos.shape[-1] // 2
    cos, sin = (x[..., :half].repeat_interleave(2, -1).unsqueeze(unsqueeze_dim) for x in (cos, sin))

    def rotate(x):
        return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)

    return q * cos + rotate(q) * sin, k * cos + rotate(k) * sin


def tiled_heads(states: torch.Tensor, repeats: int) -> torch.Tensor:
    return states.repeat(1, repeats, 1, 1)


def always(config: Qwen3Config) -> bool:
    return True


def grouped(config: Qwen3Config) -> bool:
    """Whether the order of repeated key-value heads can be seen: copies of one head, or no copies, have none."""
    return 1 < config.num_key_value_heads < config.num_attention_heads


def own_head_dim(config: Qwen3Config) -> bool:
    return config.head_dim != config.hidden_size // config.num_attention_heads


def tied(config: Qwen3Config) -> bool:
    return config.tie_word_embeddings


def visible_epsilon(config: Qwen3Config) -> bool:
    return config.rms_norm_eps > 1e-5  # 1e-6, Qwen's own, drowns in float32


# name: (edit of the model, replacements in transformers' module, which models can show it)
MISTAKES = {
    "rope interleaved": (unchanged, {"apply_rotary_pos_emb": interleaved_rope}, always),
    "rope left out": (unchanged, {"apply_rotary_pos_emb": lambda q, k, cos, sin, **_: (q, k)}, always),
    "rope theta 20000": (set_theta(20_000.0), {}, always),
    "key-value heads tiled": (unchanged, {"repeat_kv": tiled_heads}, grouped),
    "query and key norms skipped": (skip_query_key_norm, {}, always),
    "query norm weight ignored": (ones("q_norm"), {}, always),
    "key norm weight ignored": (ones("k_norm"), {}, always),
    "final norm weight ignored": (ones("model.norm"), {}, always),
    "norm epsilon ten times too large": (set_epsilon(10.0), {}, visible_epsilon),
    "scores scaled by hidden / heads": (scale_by_hidden_over_heads, {}, own_head_dim),
    "gelu for silu": (use_gelu, {}, always),
    "gate and up swapped": (swap_gate_and_up, {}, always),
    "output head not tied": (untie, {}, tied),
}


def digits(value: float, significant: int = 7) -> float:
    return float(f"{value:.{significant}g}")


def rounded(values: torch.Tensor) -> list[float]:
    return [digits(value) for value in values.tolist()]


def to_json(golden: dict) -> str:
    """One line per list of numbers: small, and a diff shows which row moved."""
    lines = []

    def write(value, indent: str, lead: str, tail: str) -> None:
        nested = isinstance(value, (dict, list)) and any(isinstance(v, (dict, list)) for v in items(value))
        if not nested:
            lines.append(f"{indent}{lead}{json.dumps(value)}{tail}")
            return
        opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
        lines.append(f"{indent}{lead}{opening}")
        entries = list(value.items()) if isinstance(value, dict) else [(None, v) for v in value]
        for index, (key, entry) in enumerate(entries):
            label = "" if key is None else f"{json.dumps(key)}: "
            write(entry, indent + " ", label, "," if index + 1 < len(entries) else "")
        lines.append(f"{indent}{closing}{tail}")

    write(golden, "", "", "")
    return "\n".join(lines) + "\n"


def items(value: dict | list):
    return value.values() if isinstance(value, dict) else value


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_OUT)
