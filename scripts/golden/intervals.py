"""Writes crates/eval/tests/cases/statistics_scipy.jsonl: what SciPy and statsmodels say, for `agentflow-eval`.

    pip install scipy==1.* statsmodels==0.15.* && python scripts/golden/intervals.py
"""

import itertools
import json
import pathlib

import numpy as np
from scipy import special, stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

OUT = pathlib.Path(__file__).parents[2] / "crates/eval/tests/cases/statistics_scipy.jsonl"


def sign_flip(differences):
    observed = abs(sum(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences)))
            for signs in itertools.product((-1, 1), repeat=len(differences))]
    return float(np.mean([s >= observed for s in sums]))


def clustered(right, answers):
    """Sandwich estimate of a mean with clusters, times C / (C - 1), from its definition over single answers."""
    values, groups = [], []
    for cluster, (r, n) in enumerate(zip(right, answers)):
        values += [1.0] * r + [0.0] * (n - r)
        groups += [cluster] * n
    residuals = np.array(values) - np.mean(values)
    scores = np.bincount(groups, weights=residuals)
    clusters = len(right)
    return float(np.sqrt(clusters / (clusters - 1) * np.sum(scores**2)) / len(values))


def cases():
    for degrees in [1, 2, 3, 5, 10, 29, 99, 197, 499, 1318, 9999, 100000]:
        yield "t_quantile", {"degrees": degrees}, {"t": stats.t.ppf(0.975, degrees)}
    for a, b, x in [(0.5, 0.5, 0.3), (2, 3, 0.1), (10.5, 0.5, 0.999), (45, 56, 0.35), (500, 0.5, 0.9999)]:
        yield "beta_inc", {"a": a, "b": b, "x": x}, {"value": special.betainc(a, b, x)}
    for before, n, after, m in [(10, 30, 9, 30), (40, 100, 45, 100), (0, 30, 3, 30), (30, 30, 25, 28), (5, 12, 90, 198)]:
        lower, upper = confint_proportions_2indep(after, m, before, n, method="newcomb", compare="diff")
        yield "newcombe", {"before": [before, n], "after": [after, m]}, {"lower": lower, "upper": upper}
    for a, b in [((10, 30), (9, 30)), ((40, 100), (45, 100)), ((0, 30), (7, 30)), ((3, 5), (90, 198)), ((5, 5), (5, 5))]:
        table = [[a[0], a[1] - a[0]], [b[0], b[1] - b[0]]]
        yield "fisher", {"a": a, "b": b}, {"p": stats.fisher_exact(table).pvalue}
    for p in [[0.01, 0.04, 0.03, 0.005], [0.5], [0.9, 0.8, 0.02], [0.02, 0.02, 0.02]]:
        yield "holm", {"p": p}, {"adjusted": list(multipletests(p, method="holm")[1])}
    for d in [[1, -1, 2, 0, 3], [4, 4, -1, 0, 2, 1, -3], [1] * 5 + [-1] * 6, [0, 0], [2, 2, 2, 2, 2, 2]]:
        yield "sign_flip", {"differences": d}, {"p": sign_flip(d)}
    for right, answers in [([1, 3, 0, 2], [1, 4, 2, 4]), ([5, 0, 7], [8, 8, 8]), ([1, 0], [1, 3])]:
        yield "clustered", {"right": right, "answers": answers}, {"stderr": clustered(right, answers)}


with OUT.open("w") as out:
    for index, (kind, given, expected) in enumerate(cases()):
        record = {"id": f"sp-{index:03}", "kind": kind, "input": given, "expected": expected}
        out.write(json.dumps(record) + "\n")
