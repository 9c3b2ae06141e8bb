"""Runs our engine and its peers in turns and prints what each did, and the ratios; engine_peers.sh makes what this needs.

    engine_peers.py --binary agentflow --models DIR [--rounds 2] [--only q8_0,q4_k_m,hf,group,same] [--tokens 64]

Sections: `q8_0` and `q4_k_m` (our engine and llama.cpp on one GGUF file), `hf` (our engine and `generate` on the Hugging
Face directory), `group` (eight samples of one prompt, shared and not), `same` (that all compute the same thing).

A command's figures are tokens a second, the best of all rounds: noise only slows down. llama.cpp runs with and without
flash attention, and counts with what was faster for each figure. All use as many threads as --threads says. Before a
command the machine has to be quiet, and beside each stands how much of the processors others used meanwhile.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

SCRIPTS = Path(__file__).parent
SECTIONS = ["q8_0", "q4_k_m", "hf", "group", "same"]
ROWS = 16
PROMPT = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True, help="with hf/, q8_0.gguf and q4_k_m.gguf")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default=SECTIONS, type=lambda text: text.split(","))
    parser.add_argument("--tokens", type=int, default=64, help="of each reply")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--patience", type=float, default=600, help="seconds to wait for a quiet machine")
    parser.add_argument(
        "--pause", type=float, default=0, help="seconds before each command, for others on this machine"
    )
    parser.add_argument("--prefix", default="", type=shlex.split, help="put before each command, e.g. `taskset -c 0,1`")
    args = parser.parse_args()
    if unknown := set(args.only) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")

    describe_machine()
    run = Runner(args)
    for _ in range(args.rounds):
        for kind in ("q8_0", "q4_k_m"):
            if kind in args.only:
                run_gguf(run, kind)
    if "hf" in args.only:
        run_hf(run)
    if "group" in args.only:
        run_group(run)
    if "same" in args.only:
        for kind in ("q8_0", "q4_k_m"):
            run_same(run, kind)
    summarise(run.figures)


class Runner:
    """Runs commands and keeps their figures, `{"ours.q8_0": {"decode_batch_1": [48.0, …]}}`."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.figures: dict[str, dict[str, list[tuple[float, str]]]] = {}

    def __call__(self, name: str, command: list) -> None:
        time.sleep(self.args.pause)
        wait_for_quiet(self.args.patience)
        command = [*self.args.prefix, *map(str, command)]
        threads = str(self.args.threads)
        environment = os.environ | {"RAYON_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        load = os.getloadavg()[0]
        busy, own, start = busy_seconds(), child_seconds(), time.perf_counter()
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        wall = time.perf_counter() - start
        others = (busy_seconds() - busy - (child_seconds() - own)) / wall / (os.cpu_count() or 1)
        print(f"$ {shlex.join(command[len(self.args.prefix) :])}")
        print(f"  {wall:.0f} s, load {load:.1f} before, others used {max(0.0, others):.0%} of the processors")
        if ran.returncode != 0:
            print(f"  failed with {ran.returncode}: {ran.stderr.strip().splitlines()[-1:]}", flush=True)
            return
        for line in ran.stdout.splitlines():
            if figure := re.fullmatch(r"figure \w+\.(\S+) (\S+) (\S+)", line):
                self.figures.setdefault(name, {}).setdefault(figure[1], []).append((float(figure[2]), figure[3]))
                print(f"  {name}.{figure[1]} {figure[2]} {figure[3]}")
            elif line.startswith("system "):
                print(f"  {line}")
        sys.stdout.flush()

    def ours(self, name: str, model: Path, *more) -> None:
        self(name, [self.args.binary, "bench", "engine", "--device", "cpu", "--model", model, *self.lengths(), *more])

    def lengths(self) -> list:
        return ["--prompt", PROMPT, "--tokens", self.args.tokens]


def run_gguf(run: Runner, kind: str) -> None:
    """Replies to different prompts, then samples of one prompt."""
    model = run.args.models / f"{kind}.gguf"
    peer = [sys.executable, SCRIPTS / "llama_cpp_speed.py", "--model", model, "--threads", run.args.threads]
    peer += run.lengths()
    run.ours(f"ours.{kind}", model, "--batch", f"1,{ROWS}")
    for flash in ("on", "off"):
        run(f"llama_cpp.{kind}", [*peer, "--batch", f"1,{ROWS}", "--flash-attention", flash, "--cache", "own"])
    run.ours(f"ours.{kind}.group", model, "--batch", ROWS, "--group-size", ROWS)
    for flash in ("on", "off"):
        run(f"llama_cpp.{kind}.group", [*peer, "--batch", ROWS, "--flash-attention", flash, "--cache", "shared"])


def run_hf(run: Runner) -> None:
    model = run.args.models / "hf"
    peer = [sys.executable, SCRIPTS / "hf_generate.py", "--model", model, "--device", "cpu", *run.lengths()]
    for batch in (1, ROWS):
        run.ours("ours.bf16", model, "--batch", batch)
        run("hf.bf16", [*peer, "--dtype", "bf16", "--batch", batch])
        run.ours("ours.f32", model, "--dtype", "f32", "--batch", batch)
        run("hf.f32", [*peer, "--dtype", "f32", "--batch", batch])
    # What `generate` does for samples of one prompt, too: it computes the prompt for each.
    for dtype, name in (("auto", "bf16"), ("f32", "f32")):
        run.ours(f"ours.{name}.group", model, "--dtype", dtype, "--batch", ROWS, "--group-size", ROWS)


def run_group(run: Runner) -> None:
    """Eight samples of one prompt, which is computed once or eight times."""
    group = ["--batch", 8, "--group-size", 8]
    for name, more in (("shared", []), ("apart", ["--unshared"])):
        run.ours(f"ours.group_8_{name}", run.args.models / "q8_0.gguf", *group, *more)


def run_same(run: Runner, kind: str) -> None:
    model = run.args.models / f"{kind}.gguf"
    run(f"same.{kind}", [sys.executable, SCRIPTS / "same_logprobs.py", "--binary", run.args.binary, "--model", model])


def summarise(figures: dict) -> None:
    """One figure for each side, and the ratios that the goals are about."""

    def best(side: str, figure: str) -> float | None:
        found = figures.get(side, {}).get(figure)
        if not found:
            return None
        values, unit = [value for value, _ in found], found[0][1]
        return min(values) if unit == "s" else max(values)

    print("\n# the best of all rounds")
    for side, of_side in figures.items():
        for figure, found in of_side.items():
            print(f"figure engine.{side}.{figure} {best(side, figure):g} {found[0][1]}")

    def ratio(name: str, ours: tuple[str, str], theirs: tuple[str, str], inverse: bool = False) -> None:
        a, b = best(*ours), best(*theirs)
        if a and b:
            print(f"figure engine.{name} {b / a if inverse else a / b:.2f} x")

    for kind, short in (("q8_0", "q8"), ("q4_k_m", "q4")):
        sides = f"ours.{kind}", f"llama_cpp.{kind}"
        prefill = "prefill_batch_1", "prefill"
        ratio(f"prefill_{short}_vs_llamacpp", (sides[0], prefill[0]), (sides[1], prefill[1]))
        for batch in (1, ROWS):
            figure = f"decode_batch_{batch}"
            ratio(f"decode{batch}_{short}_vs_llamacpp", (sides[0], figure), (sides[1], figure))
        groups = f"{sides[0]}.group", f"{sides[1]}.group"
        ratio(f"decode{ROWS}_group_{short}_vs_llamacpp", (groups[0], figure), (groups[1], figure))
    for dtype in ("bf16", "f32"):
        for figure in ("prefill_batch_1", "decode_batch_1", f"prefill_batch_{ROWS}", f"decode_batch_{ROWS}"):
            ratio(f"{figure}_{dtype}_vs_hf", (f"ours.{dtype}", figure), (f"hf.{dtype}", figure))
        ours, theirs = (f"ours.{dtype}.group", f"whole_batch_{ROWS}"), (f"hf.{dtype}", f"whole_batch_{ROWS}")
        ratio(f"whole{ROWS}_group_{dtype}_vs_hf", ours, theirs, inverse=True)
    whole = "whole_batch_8"
    ratio("group_8_apart_vs_shared", ("ours.group_8_shared", whole), ("ours.group_8_apart", whole), inverse=True)


def describe_machine() -> None:
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    print(f"# {processor[1] if processor else 'unknown processor'}, {os.cpu_count()} cores")
    print(f"# {time.strftime('%Y-%m-%d %H:%M %Z')}, Python {sys.version.split()[0]}, {versions()}")


def versions() -> str:
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("llama_cpp_python", "torch", "transformers"))


def wait_for_quiet(patience: float) -> None:
    """Until all processors together are idle for nine tenths of two seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        before = busy_seconds()
        time.sleep(2)
        if busy_seconds() - before < 0.1 * 2 * (os.cpu_count() or 1):
            return
    if patience > 0:
        print(f"  not quiet after {patience:.0f} s")


def busy_seconds() -> float:
    """All processors together, since the machine started; all but idle and waiting for disks."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def child_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    main()
