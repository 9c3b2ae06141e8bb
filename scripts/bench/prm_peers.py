"""Trains and scores with `agentflow` and with Hugging Face's `Trainer`, in turns; prm_peers.sh makes what this needs.

    prm_peers.py --binary agentflow --models DIR [--rounds 3] [--only tiny,qwen3-0.6b] [--what train,score] [--bf16]

Texts have 100 to 400 tokens, each length as likely as any other. Both sides train on the same ones, all weights, in batches of the
same size, and score the same ones. Loading is in no figure: training is timed update by update by either side itself, without
the first one; ours says how long scoring took after the model was read. As the sides draw other texts for an update, samples
are counted in tokens: one is as long as the mean text. A figure is the median over rounds. Beside each command stands how much of the
processors others used; `cpu` ratios compare processor time instead of the clock, which others disturb less.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

HF = [sys.executable, Path(__file__).with_name("hf_prm.py")]
LENGTHS = 100, 400
WORDS = (
    "the sum of and is then we have to find how many total step use tool answer first so it was left each 12 25 3 x = + * "
    "Question Thought Action Observation calculator result is therefore correct check again number apples cost half"
).split()


class Shape:
    def __init__(self, train_texts: int, batch: int, updates: int, score_texts: int, hf_batches: list[int]):
        self.train_texts, self.batch, self.updates = train_texts, batch, updates
        self.score_texts, self.hf_batches = score_texts, hf_batches


SHAPES = {
    "tiny": Shape(640, 32, 20, 768, [1, 8, 32]),
    "qwen3-0.6b": Shape(32, 4, 3, 16, [1, 4]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True, help="with tiny/ and qwen3-0.6b/")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=list(SHAPES), type=lambda text: text.split(","))
    parser.add_argument("--what", default=["train", "score"], type=lambda text: text.split(","))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="bf16 of Hugging Face, too, once")
    args = parser.parse_args()
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    print(f"# {processor[1] if processor else 'unknown processor'}, {os.cpu_count()} cores, {args.threads} threads")
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "accelerate"))
    print(f"# {time.strftime('%Y-%m-%d %H:%M %Z')}, Python {sys.version.split()[0]}, {packages}", flush=True)
    for name in args.only:
        with tempfile.TemporaryDirectory(dir=args.models) as folder:
            bench = Bench(args, name, Path(folder))
            if "train" in args.what:
                bench.train()
            if "score" in args.what:
                bench.score()


class Bench:
    """One shape: its texts, and the two sides on them."""

    def __init__(self, args: argparse.Namespace, name: str, folder: Path):
        self.args, self.name, self.folder, self.shape = args, name, folder, SHAPES[name]
        self.model, self.prm = args.models / name, args.models / f"{name}-prm"
        self.environment = os.environ | {
            "RAYON_NUM_THREADS": str(args.threads),
            "OMP_NUM_THREADS": str(args.threads),
        }
        texts = make_texts(self.model, self.shape.train_texts + self.shape.score_texts)
        learnt, scored = texts[: self.shape.train_texts], texts[self.shape.train_texts :]
        self.labels, self.input = folder / "labels.jsonl", folder / "input.jsonl"
        self.labels.write_text("".join(map(label_line, range(len(learnt)), learnt)), encoding="utf-8")
        self.input.write_text("".join(json.dumps({"ids": ids}) + "\n" for _, ids in scored))
        self.mean_tokens = statistics.mean(len(ids) for _, ids in learnt)
        print(f"\n# {name}: texts of {self.mean_tokens:.0f} tokens on average, {self.shape.batch} an update", flush=True)

    def train(self) -> None:
        ours, theirs = [], []
        for at in range(self.args.rounds):
            ours.append(self.rates(self.train_ours(at)))
            theirs.append(self.rates(self.train_hf("f32")))
        self.compare("train", "samples/s", ours, theirs)
        if self.args.bf16:
            self.compare("train_bf16", "samples/s", ours, [self.rates(self.train_hf("bf16"))])

    def rates(self, told: dict) -> dict:
        samples = told["tokens"] / self.mean_tokens
        rates = {"wall": samples / told["wall_s"], "cpu": samples / told["cpu_s"], "peak": told["peak_mib"]}
        padding = f", {told['padded'] / told['tokens'] - 1:.1%} padding" if "padded" in told else ""
        print(f"  {rates['wall']:.3f} samples/s, {rates['cpu']:.3f} a processor second{padding}", flush=True)
        return rates

    def train_ours(self, at: int) -> dict:
        """Until there are enough updates; what a run writes at its end is not waited for."""
        runs = self.folder / f"runs-{at}"
        settings = {
            "model.base": f'"{self.model}"',
            "data.labels": f'"{self.labels}"',
            "data.held_out": 0.001,
            "batch.samples": self.shape.batch,
            "batch.max_tokens": max(8192, self.model_limit()),
            "optimizer.lr": 1e-5,
            "schedule.updates": 100_000,
            "eval.every": 100_000,
            "checkpoint.every": 100_000,
        }
        config = Path(__file__).parents[2] / "configs/tiny/prm.toml"
        command = [self.args.binary.resolve(), "train", "prm", "--device", "cpu", "--dtype", "f32", "--config", config]
        command += ["--runs", runs]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        cpu: dict[int, float] = {}
        lines: list[str] = []

        def watch(process: subprocess.Popen) -> None:
            while is_running(process.pid) and len(lines) <= self.shape.updates:
                time.sleep(0.02)
                lines[:] = [text for path in runs.glob("*/metrics.jsonl") for text in whole_lines(path)]
                cpu.setdefault(len(lines), cpu_seconds(process.pid))
            os.kill(process.pid, signal.SIGKILL)

        peak_mib = self.run(command, watch)[1]
        timed = [json.loads(line) for line in lines[1:]]
        shutil.rmtree(runs)
        return {
            "tokens": sum(update["tokens"] for update in timed),
            "wall_s": sum(update["wall_s"] for update in timed),
            "cpu_s": cpu[len(lines)] - cpu[1],
            "peak_mib": peak_mib,
        }

    def model_limit(self) -> int:
        return LENGTHS[1] * self.shape.batch

    def train_hf(self, dtype: str) -> dict:
        command = [*HF, "train", "--model", self.model, "--labels", self.labels, "--dtype", dtype]
        command += ["--batch", self.shape.batch, "--updates", self.shape.updates]
        return json.loads(self.run(command)[0].splitlines()[-1])

    def score(self) -> None:
        if not self.prm.exists():
            made = self.folder / "prm"
            self.run([*HF, "make", "--model", self.model, "--out", made])
            made.rename(self.prm)
        ours, theirs, batches = [], [], self.shape.hf_batches
        for _ in range(self.args.rounds):
            ours_now, our_scores = self.score_ours()
            ours.append(ours_now)
            theirs_now, their_scores, best = self.score_hf("f32", batches)
            theirs.append(theirs_now)
            batches = [best]
        difference = max(abs(a - b) for a, b in zip(our_scores, their_scores, strict=True))
        print(f"figure prm.{self.name}.scores_differ_at_most {difference:.1e} of_standard_deviation_"
              f"{statistics.pstdev(their_scores):.2f}")
        self.compare("score", "decisions/s", ours, theirs)
        if self.args.bf16:
            self.compare("score_bf16", "decisions/s", ours, [self.score_hf("bf16", self.shape.hf_batches)[0]])

    def score_ours(self) -> tuple[dict, list[float]]:
        command = [self.args.binary.resolve(), "prm", "score", "--force", "--device", "cpu", "--dtype", "f32"]
        command += ["--model", self.prm, "--input", self.input]
        out, peak_mib, err = self.run(command)
        rate = float(re.search(r"texts scored, (\S+)/s", err)[1])
        print(f"  {rate:.2f} decisions/s", flush=True)
        return {"wall": rate, "peak": peak_mib}, [json.loads(line)["score"] for line in out.splitlines()]

    def score_hf(self, dtype: str, batches: list[int]) -> tuple[dict, list[float], int]:
        command = [*HF, "score", "--model", self.prm, "--input", self.input, "--dtype", dtype]
        told = json.loads(self.run([*command, "--batch", ",".join(map(str, batches))])[0].splitlines()[-1])
        rates = {int(size): told["texts"] / spent["wall_s"] for size, spent in told["batches"].items()}
        print("  " + ", ".join(f"{rate:.2f} decisions/s in batches of {size}" for size, rate in rates.items()), flush=True)
        best = max(rates, key=rates.get)
        return {"wall": rates[best], "peak": told["peak_mib"]}, told["scores"], best

    def compare(self, what: str, unit: str, ours: list[dict], theirs: list[dict]) -> None:
        def median(side: list[dict], key: str) -> float:
            return statistics.median(it[key] for it in side)

        for side, of_side in (("ours", ours), ("hf", theirs)):
            print(f"figure prm.{self.name}.{what}.{side} {median(of_side, 'wall'):.4g} {unit}")
            print(f"figure prm.{self.name}.{what}.{side}_peak {median(of_side, 'peak'):.0f} MiB")
        for key, suffix in (("wall", ""), ("cpu", "_cpu")):
            if key in ours[0]:
                ratio = median(ours, key) / median(theirs, key)
                print(f"figure prm.{self.name}.{what}_vs_hf{suffix} {ratio:.2f} x", flush=True)

    def run(self, command: list, watch=None) -> tuple[str, float, str]:
        """Standard output, peak memory in MiB and standard error of a command, which runs until `watch` ends it."""
        command = [str(part) for part in command]
        busy, start = busy_seconds(), time.perf_counter()
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen(command, env=self.environment, stdout=out, stderr=err)
            try:
                if watch:
                    watch(process)
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                raise
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            err.seek(0)
            told, complaints = out.read(), err.read()
        wall, own = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
        others = max(0.0, (busy_seconds() - busy - own) / wall / (os.cpu_count() or 1))
        name = " ".join(Path(part).name for part in command[: 3 if command[0] == sys.executable else 4])
        print(f"  [{name}: {wall:.0f} s, others used {others:.0%} of the processors]", flush=True)
        if process.returncode != 0 and not (watch and process.returncode == -9):
            sys.exit(f"{command}\nfailed with {process.returncode}: {complaints[-2000:]}")
        return told, usage.ru_maxrss / 1024, complaints


def make_texts(model: Path, count: int) -> list[tuple[str, list[int]]]:
    """Texts with their ids: words, cut where they have the wanted number of tokens."""
    from tokenizers import Tokenizer

    tokenizer, draw = Tokenizer.from_file(str(model / "tokenizer.json")), random.Random(0)
    texts = []
    for _ in range(count):
        wanted = draw.randint(*LENGTHS)
        text = " ".join(draw.choices(WORDS, k=wanted))
        end = tokenizer.encode(text).offsets[wanted - 2][1]
        text = text[:end] + "."
        texts.append((text, tokenizer.encode(text).ids))
    return texts


def label_line(at: int, text: tuple[str, list[int]]) -> str:
    """As `agentflow train label` writes it."""
    label = random.Random(at).random()
    record = {
        "schema": "agentflow.label/1", "run": None, "trajectory": str(at), "step": 0, "benchmark": None,
        "problem_id": str(at), "state": str(at), "last": False, "outcome": None, "text": text[0],
        "prm_prompt": "prm-full/1", "label": label, "missing": None, "usage": {"prompt_tokens": 0, "completion_tokens": 0},
        "by": {"labeller": "consensus", "judge": label, "monte_carlo": label, "margin": 0.1}, "wall_ms": 0,
    }  # fmt: skip
    return json.dumps(record) + "\n"


def whole_lines(path: Path) -> list[str]:
    """The last one may still be being written."""
    return path.read_text().split("\n")[:-1]


def is_running(pid: int) -> bool:
    """Without collecting the process: its peak memory would be lost."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """All processors together, since the machine started; all but idle and waiting for disks."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
