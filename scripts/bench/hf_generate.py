#!/usr/bin/env python3
"""Hugging Face's `generate` on what `agentflow bench engine` measures: the same model, device, dtype, batch and lengths.

    python scripts/bench/hf_generate.py --model DIR --device cuda --dtype bf16 --batch 1,16 --prompt 512 --tokens 128

Needs torch and transformers. Prompts are arbitrary tokens, replies are drawn at temperature 1 and run to full length.
Prefill is the time of the same call with one token; what the rest of the tokens take beyond it is decoding; whole is the
call. After a warm-up, the best of --rounds counts.
"""

import argparse
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bf16", choices=["f32", "bf16", "f16"])
    parser.add_argument("--batch", default="1,16", type=lambda text: [int(one) for one in text.split(",")])
    parser.add_argument("--prompt", default=512, type=int)
    parser.add_argument("--tokens", default=128, type=int)
    parser.add_argument("--rounds", default=1, type=int)
    args = parser.parse_args()

    import torch
    from transformers import AutoModelForCausalLM

    dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[args.dtype]
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype).to(args.device).eval()
    words = model.config.vocab_size

    def generate(ids, tokens):
        """Wall seconds of one call that draws exactly `tokens` for each row of `ids`."""
        if args.device.startswith("cuda"):
            torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.inference_mode():
            made = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), pad_token_id=0, do_sample=True, temperature=1.0,
                top_k=0, top_p=1.0, max_new_tokens=tokens, min_new_tokens=tokens,
            )
        if args.device.startswith("cuda"):
            torch.cuda.synchronize()
        assert made.shape[1] == ids.shape[1] + tokens, made.shape
        return time.perf_counter() - start

    for batch in args.batch:
        random = torch.Generator().manual_seed(batch)
        ids = torch.randint(0, words, (batch, args.prompt), generator=random).to(args.device)
        generate(ids[:, :16], 4)
        first, whole = (min(generate(ids, tokens) for _ in range(args.rounds)) for tokens in (1, args.tokens))
        print(f"figure hf.prefill_batch_{batch} {batch * args.prompt / first:.1f} tokens/s", flush=True)
        print(f"figure hf.whole_batch_{batch} {whole:.3f} s", flush=True)
        decoding = max(whole - first, 1e-9)
        print(f"figure hf.decode_batch_{batch} {batch * (args.tokens - 1) / decoding:.1f} tokens/s", flush=True)


if __name__ == "__main__":
    main()
