"""Hugging Face's side of prm_peers.py: a process reward model trained by `Trainer`, or texts scored by a forward pass.

    hf_prm.py make  --model DIR --out DIR
    hf_prm.py train --model DIR --labels FILE --batch 4 --updates 4 [--dtype bf16]
    hf_prm.py score --model DIR --input FILE --batch 1,8 [--dtype bf16]

Prints one JSON object. `make` turns a language model into a classifier with one output, in f32. `train` is a full fine-tune with
everything as `Trainer` has it by default (fused AdamW, clipping at 1, padding to the longest of a batch, sdpa), with texts
grouped by length; an update is timed from the start of its step to its end, so fetching batches and logging are not in it; the
first one is left out. `score` pads batches of texts that were sorted by length, after one batch to warm up. bf16 is autocast beside
f32 weights in training, and bf16 weights in scoring.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForSequenceClassification

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "train", "score"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--batch", type=lambda text: [int(size) for size in text.split(",")], default=[8])
    parser.add_argument("--updates", type=int, default=4, help="timed ones")
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    told = {"make": make, "train": train, "score": score}[args.what](args)
    told["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(told))


def load(args: argparse.Namespace, dtype: torch.dtype):
    return AutoModelForSequenceClassification.from_pretrained(
        args.model, num_labels=1, problem_type="regression", dtype=dtype, pad_token_id=0
    )


def make(args: argparse.Namespace) -> dict:
    torch.manual_seed(0)
    load(args, torch.float32).save_pretrained(args.out)
    return {}


def padded(texts: list[list[int]]) -> dict[str, torch.Tensor]:
    """On the right, with an id that no text ends in."""
    width = max(map(len, texts))
    ids = torch.tensor([text + [0] * (width - len(text)) for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts])
    return {"input_ids": ids, "attention_mask": mask}


def train(args: argparse.Namespace) -> dict:
    from tokenizers import Tokenizer
    from transformers import Trainer, TrainerCallback, TrainingArguments

    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    lines = [json.loads(line) for line in args.labels.read_text(encoding="utf-8").splitlines()]
    examples = [{"input_ids": tokenizer.encode(it["text"]).ids, "label": it["label"]} for it in lines]

    def collate(examples: list[dict]) -> dict[str, torch.Tensor]:
        labels = torch.tensor([it["label"] for it in examples], dtype=torch.float32)
        return padded([it["input_ids"] for it in examples]) | {"labels": labels}

    class Clock(TrainerCallback):
        updates: list[dict] = []
        now: dict = {}

        def on_step_begin(self, *_, **__) -> None:
            self.now = {"tokens": 0, "padded": 0, "wall_s": time.perf_counter(), "cpu_s": time.process_time()}

        def on_step_end(self, *_, **__) -> None:
            self.now["wall_s"] = time.perf_counter() - self.now["wall_s"]
            self.now["cpu_s"] = time.process_time() - self.now["cpu_s"]
            self.updates.append(self.now)

    clock = Clock()

    def count(_, __, inputs: dict) -> None:
        clock.now["tokens"] += int(inputs["attention_mask"].sum())
        clock.now["padded"] += inputs["attention_mask"].numel()

    model = load(args, torch.float32)
    model.config.use_cache = False
    model.register_forward_pre_hook(count, with_kwargs=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=args.batch[0],
            max_steps=args.updates + 1,
            train_sampling_strategy="group_by_length",
            learning_rate=1e-5,
            max_grad_norm=1.0,
            bf16=args.dtype == "bf16",
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        Trainer(
            model=model, args=settings, train_dataset=examples, data_collator=collate, callbacks=[clock]
        ).train()
    timed = clock.updates[1:]
    total = {key: sum(update[key] for update in timed) for key in ("tokens", "padded", "wall_s", "cpu_s")}
    return total | {"samples": len(timed) * args.batch[0]}


def score(args: argparse.Namespace) -> dict:
    lines = args.input.read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["ids"] for line in lines]
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    model = load(args, DTYPES[args.dtype]).eval()
    model.config.use_cache = False
    told = {"texts": len(texts), "batches": {}}
    with torch.inference_mode():
        for size in args.batch:
            batches = [order[at : at + size] for at in range(0, len(order), size)]
            model(**padded([texts[at] for at in batches[0]]))
            scores = [0.0] * len(texts)
            wall, cpu = time.perf_counter(), time.process_time()
            for batch in batches:
                logits = model(**padded([texts[at] for at in batch])).logits[:, 0]
                for at, found in zip(batch, logits.tolist(), strict=True):
                    scores[at] = found
            spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
            told["batches"][size] = spent
            told["scores"] = scores
    return told


if __name__ == "__main__":
    main()
