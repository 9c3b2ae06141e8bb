"""Whether our engine and llama.cpp compute the same thing on one GGUF file, and how far both are from float32.

    python scripts/bench/same_logprobs.py --binary agentflow --model FILE.gguf [--tokens 64]

Our engine continues a prompt at temperature 1. Of each token that it drew: its log-prob there, in llama.cpp, and in
transformers on the dequantised weights in float32; in nats. Both engines round activations to eight bits, llama.cpp beside
K-quants in blocks of 256 and ours in blocks of 32: each differs from float32, and they from each other by both roundings.
"""

import argparse
import json
import subprocess
from pathlib import Path

import llama_cpp
import numpy as np
import torch
from transformers import AutoModelForCausalLM

PROMPT = [1000 + at * 7 % 5000 for at in range(64)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=64)
    args = parser.parse_args()

    request = {"prompt_ids": PROMPT, "max_tokens": args.tokens, "temperature": 1.0, "seed": 1}
    command = [args.binary, "model", "generate", "--device", "cpu", "--model", args.model]
    ran = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=True)
    reply = json.loads(ran.stdout)
    ours = np.array(reply["logprobs"])
    sequence = PROMPT + reply["ids"]
    rows = {
        "llama_cpp": of_llama_cpp(args.model, sequence),
        "f32": of_transformers(args.model, sequence),
    }
    # Row `at` says what comes at `at + 1`.
    places = np.arange(len(PROMPT) - 1, len(sequence) - 1)
    theirs = {name: table[places, reply["ids"]] for name, table in rows.items()}
    compare("ours_vs_llama_cpp", ours, theirs["llama_cpp"])
    compare("ours_vs_f32", ours, theirs["f32"])
    compare("llama_cpp_vs_f32", theirs["llama_cpp"], theirs["f32"])
    compare("llama_cpp_vs_f32_all_tokens", rows["llama_cpp"], rows["f32"])
    print(f"figure same.deviation_of_logits {rows['f32'].std(axis=1).mean():.3g} nats")


def compare(name: str, a: np.ndarray, b: np.ndarray) -> None:
    difference = np.abs(a - b)
    print(f"figure same.{name}.largest {difference.max():.3g} nats")
    print(f"figure same.{name}.mean {difference.mean():.3g} nats", flush=True)


def of_llama_cpp(path: Path, sequence: list[int]) -> np.ndarray:
    model = llama_cpp.Llama(str(path), n_ctx=512, n_threads=2, logits_all=True, verbose=False)
    model.eval(sequence)
    return log_softmax(torch.from_numpy(model.scores[: len(sequence)]))


def of_transformers(path: Path, sequence: list[int]) -> np.ndarray:
    torch.set_num_threads(2)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    with torch.inference_mode():
        return log_softmax(model(torch.tensor([sequence])).logits[0])


def log_softmax(logits: torch.Tensor) -> np.ndarray:
    return torch.log_softmax(logits.double(), dim=-1).numpy()


if __name__ == "__main__":
    main()
