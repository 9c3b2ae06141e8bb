"""What llama.cpp does in the place of `agentflow bench engine`: the same GGUF file, batches and lengths.

    python scripts/bench/llama_cpp_speed.py --model FILE.gguf [--batch 1,16] [--prompt 512] [--tokens 128] [--threads 2]
        [--flash-attention on|off] [--cache own|shared]

Through llama.cpp's own functions: one `llama_decode` a step, with one token and one row of logits for each sequence. No
token is sampled, the next ones are made up; our engine samples, and computes log-probs. With `--cache own` every sequence
has its keys and values to itself, as replies to different prompts do; with `--cache shared` they are samples of one prompt,
which is held once.
"""

import argparse
import time
from pathlib import Path

import llama_cpp
import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--batch", default="1,16", type=lambda text: [int(one) for one in text.split(",")])
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--flash-attention", choices=["on", "off"], default="on")
    parser.add_argument("--cache", choices=["own", "shared"], default="own")
    args = parser.parse_args()

    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, None)
    llama_cpp.llama_backend_init()
    print(f"system {llama_cpp.llama_print_system_info().decode().strip()}", flush=True)
    model = llama_cpp.llama_model_load_from_file(bytes(args.model), llama_cpp.llama_model_default_params())
    if not model:
        raise SystemExit(f"llama.cpp cannot load {args.model}")
    for batch in args.batch:
        prefill, decode = speed(model, batch, args)
        print(f"figure llama_cpp.prefill {prefill:.1f} tokens/s")
        print(f"figure llama_cpp.decode_batch_{batch} {decode:.1f} tokens/s", flush=True)


def speed(model, sequences: int, args: argparse.Namespace) -> tuple[float, float]:
    """Tokens a second of one prompt, and of the replies of all sequences together."""
    context = new_context(model, sequences, args)
    memory = llama_cpp.llama_get_memory(context)
    batch = llama_cpp.llama_batch_init(max(args.prompt, sequences), 0, 1)
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    ids = np.random.default_rng(1).integers(0, vocabulary, args.prompt + args.tokens * sequences).tolist()
    prompt = [(id, at, 0) for at, id in enumerate(ids[: args.prompt])]

    run(context, batch, prompt, {len(prompt) - 1})  # weights into memory
    llama_cpp.llama_memory_clear(memory, True)
    start = time.perf_counter()
    run(context, batch, prompt, {len(prompt) - 1})
    prefill = time.perf_counter() - start

    # Speed does not depend on what the prompt says, so it is computed for one sequence and copied.
    for sequence in range(1, sequences):
        llama_cpp.llama_memory_seq_cp(memory, 0, sequence, -1, -1)
    rows = set(range(sequences))
    for step in range(args.tokens):
        if step == 1:  # the copies are made in the first
            start = time.perf_counter()
        first = args.prompt + step * sequences
        tokens = [(ids[first + sequence], args.prompt + step, sequence) for sequence in range(sequences)]
        run(context, batch, tokens, rows)
    decoding = time.perf_counter() - start

    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    return args.prompt / prefill, (args.tokens - 1) * sequences / decoding


def new_context(model, sequences: int, args: argparse.Namespace):
    parameters = llama_cpp.llama_context_default_params()
    each = -(-(args.prompt + args.tokens) // 256) * 256  # llama.cpp rounds to such steps itself
    shared = args.prompt + sequences * args.tokens
    parameters.n_ctx = max(each, shared) if args.cache == "shared" else sequences * each
    parameters.n_batch = parameters.n_ubatch = max(args.prompt, sequences)
    parameters.n_seq_max = sequences
    parameters.n_threads = parameters.n_threads_batch = args.threads
    enabled, disabled = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED, llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.flash_attn_type = enabled if args.flash_attention == "on" else disabled
    parameters.kv_unified = args.cache == "shared"
    context = llama_cpp.llama_init_from_model(model, parameters)
    if not context:
        raise SystemExit("llama.cpp cannot make a context")
    return context


def run(context, batch, tokens: list[tuple[int, int, int]], wanted: set[int]) -> None:
    """One pass over `(id, position, sequence)`s; logits of those whose place is in `wanted`."""
    batch.n_tokens = len(tokens)
    for place, (id, position, sequence) in enumerate(tokens):
        batch.token[place] = id
        batch.pos[place] = position
        batch.n_seq_id[place] = 1
        batch.seq_id[place][0] = sequence
        batch.logits[place] = place in wanted
    status = llama_cpp.llama_decode(context, batch)
    if status != 0:
        raise SystemExit(f"llama_decode failed: status {status}")
    for place in wanted:
        assert llama_cpp.llama_get_logits_ith(context, place), f"logits of token {place}"


if __name__ == "__main__":
    main()
