"""Tokens a second of llama.cpp on one GGUF file, one JSON object: `prefill`, and `decode_N` for each batch size N.

    python scripts/bench/llama_cpp_speed.py MODEL.gguf [--batch 1,16] [--prompt 512] [--tokens 128] [--threads 2]
        [--flash-attention on|off] [--unified-cache]

Through llama.cpp's own functions: N sequences, one `llama_decode` a step with one token and one row of logits for each.
The prompt is computed once and copied to the others, as our engine does. No token is sampled: the next ones are made up,
so llama.cpp pays less here than it would in use, and our engine, which samples, pays all.
"""

import argparse
import json
import time
from pathlib import Path

import llama_cpp
import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--batch", default="1,16", help="sequences at once, e.g. 1,16")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each reply")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--flash-attention", choices=["on", "off"], default="on")
    parser.add_argument("--unified-cache", action="store_true", help="one cache for all sequences, not one for each")
    options = parser.parse_args()

    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, None)
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(bytes(options.model), llama_cpp.llama_model_default_params())
    if not model:
        raise SystemExit(f"llama.cpp cannot load {options.model}")
    figures = {"system": llama_cpp.llama_print_system_info().decode()}
    for batch in map(int, options.batch.split(",")):
        figures |= speed(model, batch, options)
    print(json.dumps(figures))


def speed(model, sequences: int, options: argparse.Namespace) -> dict[str, float]:
    context = new_context(model, sequences, options)
    batch = llama_cpp.llama_batch_init(max(options.prompt, sequences), 0, 1)
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    ids = np.random.default_rng(1).integers(0, vocabulary, options.prompt + sequences * options.tokens)
    prompt = [(int(id), at, 0) for at, id in enumerate(ids[: options.prompt])]
    memory = llama_cpp.llama_get_memory(context)

    decode(context, batch, prompt, logits="last")  # weights into memory
    llama_cpp.llama_memory_clear(memory, True)
    start = time.perf_counter()
    decode(context, batch, prompt, logits="last")
    prefill = time.perf_counter() - start

    for sequence in range(1, sequences):
        llama_cpp.llama_memory_seq_cp(memory, 0, sequence, -1, -1)
    replies = ids[options.prompt :].reshape(options.tokens, sequences)
    # The first step copies the cache and is not counted, as the first token of ours belongs to the prompt.
    for step, row in enumerate(replies):
        if step == 1:
            start = time.perf_counter()
        tokens = [(int(id), options.prompt + step, sequence) for sequence, id in enumerate(row)]
        decode(context, batch, tokens, logits="all")
        for index in range(sequences):
            assert llama_cpp.llama_get_logits_ith(context, index), "a row of logits for each sequence"
    decoding = time.perf_counter() - start

    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    return {
        "prefill": options.prompt / prefill,
        f"decode_{sequences}": (options.tokens - 1) * sequences / decoding,
    }


def new_context(model, sequences: int, options: argparse.Namespace):
    parameters = llama_cpp.llama_context_default_params()
    each = options.prompt + options.tokens
    parameters.n_ctx = sequences * (-(-each // 256) * 256)  # a sequence's share is a multiple of 256
    parameters.n_batch = parameters.n_ubatch = options.prompt
    parameters.n_seq_max = sequences
    parameters.n_threads = parameters.n_threads_batch = options.threads
    parameters.flash_attn_type = {
        "on": llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
        "off": llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
    }[options.flash_attention]
    parameters.kv_unified = options.unified_cache
    context = llama_cpp.llama_init_from_model(model, parameters)
    if not context:
        raise SystemExit("llama.cpp cannot make a context")
    return context


def decode(context, batch, tokens: list[tuple[int, int, int]], logits: str) -> None:
    """One pass over `(id, position, sequence)`s."""
    batch.n_tokens = len(tokens)
    for index, (id, position, sequence) in enumerate(tokens):
        batch.token[index] = id
        batch.pos[index] = position
        batch.n_seq_id[index] = 1
        batch.seq_id[index][0] = sequence
        batch.logits[index] = logits == "all" or index == len(tokens) - 1
    status = llama_cpp.llama_decode(context, batch)
    if status != 0:
        raise SystemExit(f"llama_decode failed: status {status}")


if __name__ == "__main__":
    main()
