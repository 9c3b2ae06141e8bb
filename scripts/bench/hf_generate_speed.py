"""Tokens a second of Hugging Face's `generate` on one model directory, one JSON object.

    python scripts/bench/hf_generate_speed.py DIR [--dtype bf16|f32] [--batch 1,16] [--prompt 512] [--tokens 128]
        [--threads 2]

`prefill` is of one prompt. `decode_N` is of N rows of the same prompt, without the time of their prompts, which a call for
one token measures. `generate_N` counts the whole call, where every row computes its prompt. Sampled at temperature 1
without top-k and top-p; the end token is forbidden.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--batch", default="1,16", help="rows at once, e.g. 1,16")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each reply")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[options.dtype]
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype).eval()
    prompt = torch.randint(0, model.config.vocab_size, (1, options.prompt))
    seconds(model, prompt, 2)  # weights into memory
    figures = {"prefill": options.prompt / seconds(model, prompt, 1)}
    for batch in map(int, options.batch.split(",")):
        rows = prompt.expand(batch, -1)
        first = seconds(model, rows, 1)
        whole = seconds(model, rows, options.tokens)
        figures[f"decode_{batch}"] = batch * (options.tokens - 1) / (whole - first)
        figures[f"generate_{batch}"] = batch * options.tokens / whole
    print(json.dumps(figures))


def seconds(model, rows: torch.Tensor, tokens: int) -> float:
    """Of a whole call that makes `tokens` tokens for each row."""
    start = time.perf_counter()
    with torch.inference_mode():
        made = model.generate(
            rows,
            attention_mask=torch.ones_like(rows),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            pad_token_id=model.config.eos_token_id,
        )
    assert made.shape[1] == rows.shape[1] + tokens, "min_new_tokens is kept"
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
