"""Called by score_peer.sh: the same pairs through `agentflow score` and math-verify, per CPU second.

Two sets of pairs. `copies`: a gold answer and a boxed copy of it, the usual case of a right answer. `respaced`: the copy
is written with other spaces and a trailing thin space, so that the texts differ; ours still finds most of them equal but
for notation, without algebra.
"""

import json
import resource
import subprocess
import sys
import tempfile

from math_verify import parse, verify

binary, golds_path = sys.argv[1:]
with open(golds_path, encoding="utf-8") as lines:
    golds = [json.loads(line)["answer"] for line in lines if line.strip()]


def respaced(gold):
    if "\\text" in gold or "\\mbox" in gold or "\\!" in gold:
        return " " + gold + "\\,"
    return gold.replace("+", " + ").replace("{", "{ ") + "\\,"


# Golds in dollars: without them math-verify reads nothing from 108 of the 500.
SETS = {
    "copies": [(f"${gold}$", f"The answer is $\\boxed{{{gold}}}$.") for gold in golds],
    "respaced": [(f"${gold}$", f"The answer is $\\boxed{{{respaced(gold)}}}$.") for gold in golds],
}


def cpu(who):
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def ours(pairs, times):
    """Pairs a CPU second, start of the process included, and how many are equal."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        for _ in range(times):
            for gold, pred in pairs:
                file.write(json.dumps({"gold": gold, "pred": pred}) + "\n")
        file.flush()
        before = cpu(resource.RUSAGE_CHILDREN)
        out = subprocess.run([binary, "score", file.name], check=True, capture_output=True).stdout
        spent = cpu(resource.RUSAGE_CHILDREN) - before
    equal = sum(json.loads(line)["equal"] for line in out.splitlines())
    return len(pairs) * times / spent, equal // times


def theirs(pairs):
    """The same, in one process, after one pass to warm up."""
    for gold, pred in pairs:
        verify(parse(gold), parse(pred))
    before = cpu(resource.RUSAGE_SELF)
    equal = sum(bool(verify(parse(gold), parse(pred))) for gold, pred in pairs)
    return len(pairs) / (cpu(resource.RUSAGE_SELF) - before), equal


for name, pairs in SETS.items():
    our_rate, our_equal = ours(pairs, 100)
    their_rate, their_equal = theirs(pairs)
    suffix = "" if name == "copies" else f"_{name}"
    print(f"{name}: {our_equal} and {their_equal} of {len(pairs)} equal")
    print(f"figure eval.score_per_cpu_s{suffix} {our_rate:.0f} /s")
    print(f"figure eval.math_verify_per_cpu_s{suffix} {their_rate:.0f} /s")
    print(f"figure eval.score_vs_math_verify{suffix} {our_rate / their_rate:.0f} x")
