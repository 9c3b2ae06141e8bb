#!/usr/bin/env python3
"""Four Python workflow libraries and ours on the same work, in turns; run by flow_peers.sh, which installs them.

    python flow_peers.py --bench target/release/deps/flow-...  # ours beside them
    python flow_peers.py --only a,d --rounds 3                 # the peers alone

  a  one run of 1,000 steps that do nothing, one after another   per step
  b  a group of 1,000 branches that do nothing                   per branch
  c  10,000 runs (or messages) through 3 such steps              per run
  d  a checkpoint of 1 MB of JSON after each of 20 steps         per step
  e  a checkpoint of 10 kB outputs: first and last of a run      per step

What is built before the run (flows, steps, payloads) is outside the clock. A round measures every row once, ours among
them; a figure is the median over the rounds. A ratio is the peer's time over ours. Ours always has a reader of its live
events and keeps its trace; the peers have their defaults, and what the row says. Their logging is off.
"""
from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.metadata
import inspect
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter as clock

logging.disable(logging.CRITICAL)  # penguiflow logs each event of each node

STEPS, BRANCHES, RUNS, CHECKPOINTS, SOME = 1000, 1000, 10_000, 20, 20

# Our figures of each part, and what they are called where they are compared.
PARTS = {
    "a": {"sequential_step": "sequential"},
    "b": {"each_branch": "branch", "each_branch_64_at_once": "branch_64_at_once"},
    "c": {"three_step_run": "three_step_run"},
    "d": {"record_1mb": "record_1mb", "record_1mb_fsync": "record_1mb_fsync"},
    "e": {"journal_first_100": "journal_first", "journal_last_100": "journal_last"},
}
MICROSECONDS = {"us": 1.0, "ms": 1e3}


@dataclass
class Row:
    peer: str
    what: str
    per: int
    """How many steps, branches or runs `measure` does."""
    measure: Callable[[], float | Awaitable[float]]
    """Does them; the seconds that took."""
    ours: tuple[str, ...]
    """Our figures that do the same."""
    unit: str = "us"
    measured: list[float] = field(default_factory=list)

    @property
    def part(self) -> str:
        return next(part for part, figures in PARTS.items() if self.ours[0] in figures)

    @property
    def figure(self) -> str:
        return f"{PARTS[self.part][self.ours[0]]}_{self.peer}"

    def once(self) -> float:
        gc.collect()
        seconds = self.measure()
        if inspect.isawaitable(seconds):
            seconds = asyncio.run(seconds)
        return seconds / self.per * 1e6 / MICROSECONDS[self.unit]


def orchflow() -> Iterator[Row]:
    from orchflow import Flow, JsonCheckpointStore
    from orchflow.step import Step

    async def nothing(input, context):
        return None

    def nothing_sync(input, context):
        return None

    def chain(steps, function=nothing):
        return Flow([Step(func=function, name=f"s{i}") for i in range(steps)])

    async def run(flow, **options):
        start = clock()
        result = await flow.run("x", **options)
        took = clock() - start
        assert result.success
        return took

    async def run_and_read(flow):
        start = clock()
        events = 0
        async for _ in flow.events("x"):
            events += 1
        took = clock() - start
        assert events == 2 * STEPS + 2
        return took

    async def run_often(flow):
        start = clock()
        for _ in range(RUNS):
            await flow.run("x")
        return clock() - start

    yield Row("orchflow", "run()", STEPS, lambda: run(chain(STEPS)), ("sequential_step",))
    yield Row("orchflow_events", "events() read", STEPS, lambda: run_and_read(chain(STEPS)),
              ("sequential_step",))
    yield Row("orchflow_threads", "sync steps, on worker threads", STEPS,
              lambda: run(chain(STEPS, nothing_sync)), ("sequential_step",))

    group = [Step(func=nothing, name=f"b{i}") for i in range(BRANCHES)]
    yield Row("orchflow", "a parallel group", BRANCHES, lambda: run(Flow([group])),
              ("each_branch",))
    yield Row("orchflow", "run() after run()", RUNS, lambda: run_often(chain(3)),
              ("three_step_run",))

    lines = ["x" * 1000] * 1000

    async def fill(input, context):
        context.state.setdefault("lines", lines)

    def large():
        steps = [Step(func=nothing, name=f"s{i}") for i in range(CHECKPOINTS - 1)]
        return Flow([Step(func=fill, name="fill"), *steps])

    async def run_kept():
        with tempfile.TemporaryDirectory() as dir:
            return await run(large(), checkpoint=JsonCheckpointStore(f"{dir}/checkpoint.json"))

    def dump():
        with tempfile.TemporaryDirectory() as dir:
            start = clock()
            for _ in range(CHECKPOINTS):
                Path(dir, "new").write_text(json.dumps({"state": {"lines": lines}}))
                os.replace(f"{dir}/new", f"{dir}/checkpoint.json")
            return clock() - start

    yield Row("orchflow", "1 MB of state, no fsync", CHECKPOINTS, run_kept,
              ("record_1mb", "record_1mb_fsync"), "ms")
    yield Row("python", "json.dumps, write and rename alone", CHECKPOINTS, dump, ("record_1mb",),
              "ms")

    text = "y" * 10_000
    saved: list[float] = []

    async def tell(input, context):
        return text

    class Timed(JsonCheckpointStore):
        def save(self, payload):
            super().save(payload)
            saved.append(clock())

    async def growth(first):
        saved.clear()
        with tempfile.TemporaryDirectory() as dir:
            await run(chain(200, tell), checkpoint=Timed(f"{dir}/checkpoint.json"))
        return saved[SOME] - saved[0] if first else saved[-1] - saved[-1 - SOME]

    yield Row("orchflow", "the first 20 of 200 steps", SOME, lambda: growth(True),
              ("journal_first_100",))
    yield Row("orchflow", "the last 20 of 200 steps", SOME, lambda: growth(False),
              ("journal_last_100",))


def stepflow() -> Iterator[Row]:
    from agentflow import step, workflow

    def chain(steps):
        def method(i):
            def body(self):
                return None

            body.__name__ = f"s{i}"
            return step(body)

        return workflow(type("Chain", (), {f"s{i}": method(i) for i in range(steps)}))

    def run(flow, hooks=None):
        start = clock()
        result = flow.run({"k": 0}, hooks=hooks)
        took = clock() - start
        assert result.status.value == "succeeded"
        return took

    def run_often(flow):
        start = clock()
        for _ in range(RUNS):
            flow.run({"k": 0})
        return clock() - start

    thousand, three = chain(STEPS), chain(3)
    yield Row("stepflow", "run()", STEPS, lambda: run(thousand()), ("sequential_step",))
    yield Row("stepflow_hook", "run() with one hook", STEPS,
              lambda: run(thousand(), [lambda event: None]), ("sequential_step",))
    yield Row("stepflow", "run() after run()", RUNS, lambda: run_often(three()),
              ("three_step_run",))


def penguiflow() -> Iterator[Row]:
    from penguiflow import Headers, Message, ModelRegistry, Node, NodePolicy, create
    from penguiflow.patterns import map_concurrent
    from pydantic import BaseModel

    async def same(message, context):
        return message

    def node(name, validate="none"):
        return Node(same, name=name, policy=NodePolicy(validate=validate))

    def chain(steps, validate="none"):
        nodes = [node(f"n{i}", validate) for i in range(steps)]
        return nodes, create(*[a.to(b) for a, b in zip(nodes, nodes[1:])])

    def message():
        return Message(payload="x", headers=Headers(tenant="t"))

    async def send_one(flow, outputs):
        flow.run()
        await asyncio.sleep(0)
        start = clock()
        await flow.emit(message())
        for _ in range(outputs):
            await flow.fetch()
        took = clock() - start
        await flow.stop()
        return took

    async def send_many(flow, make, registry=None):
        async def feed():
            for _ in range(RUNS):
                await flow.emit(make())

        flow.run(registry=registry)
        start = clock()
        feeding = asyncio.create_task(feed())
        for _ in range(RUNS):
            await flow.fetch()
        took = clock() - start
        await feeding
        await flow.stop()
        return took

    def fan():
        return create(node("head").to(*[node(f"b{i}") for i in range(BRANCHES)]))

    async def map_all():
        async def one(x):
            return x

        start = clock()
        await map_concurrent(range(BRANCHES), one, max_concurrency=64)
        return clock() - start

    class Document(BaseModel):
        text: str
        n: int = 0

    def validated():
        nodes, flow = chain(3, "both")
        registry = ModelRegistry()
        for each in nodes:
            registry.register(each.name, Document, Document)
        return send_many(flow, lambda: Document(text="x"), registry)

    yield Row("penguiflow", "a message through a chain", STEPS,
              lambda: send_one(chain(STEPS)[1], 1), ("sequential_step",))
    yield Row("penguiflow", "a node with 1,000 successors", BRANCHES,
              lambda: send_one(fan(), BRANCHES), ("each_branch",))
    yield Row("penguiflow_map", "map_concurrent, 64 at once", BRANCHES, map_all,
              ("each_branch_64_at_once",))
    yield Row("penguiflow", "messages", RUNS, lambda: send_many(chain(3)[1], message),
              ("three_step_run",))
    yield Row("penguiflow_strings", "bare strings", RUNS,
              lambda: send_many(chain(3)[1], lambda: "x"), ("three_step_run",))
    yield Row("penguiflow_models", "models, validated in and out", RUNS, validated,
              ("three_step_run",))


def microflow() -> Iterator[Row]:
    from microflow import WorkflowEvent, WorkflowManager

    def chain(steps):
        manager = WorkflowManager({})

        def to(name):
            async def handler(event, context):
                yield WorkflowEvent(name=name)

            return handler

        for i in range(steps):
            manager.register(f"e{i}", to(f"e{i + 1}"))
        return manager

    async def run(steps, times):
        manager = chain(steps)
        start = clock()
        for _ in range(times):
            events = 0
            async for _ in manager.process(WorkflowEvent(name="e0")):
                events += 1
        took = clock() - start
        assert events == steps + 1
        return took

    yield Row("microflow", "chained handlers; no traces, retries or checks", STEPS,
              lambda: run(STEPS, 1), ("sequential_step",))
    yield Row("microflow", "events through 3 handlers", RUNS, lambda: run(3, RUNS),
              ("three_step_run",))


LIBRARIES = {
    "orchflow": orchflow, "stepflow-agent": stepflow, "penguiflow": penguiflow, "microflow": microflow,
}


class Bench:
    """Our side: the program of `cargo bench -p agentflow-flow`."""

    def __init__(self, program: str | None):
        self.program = program
        self.measured: dict[str, list[float]] = {}
        self.units: dict[str, str] = {}

    def measure(self, names: Iterable[str]) -> None:
        if self.program is None:
            return
        command = [self.program, "--exact", "--runs", "5", *names]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for line in output.splitlines():
            match line.split():
                case ["figure", name, value, unit]:
                    name = name.removeprefix("flow.")
                    self.measured.setdefault(name, []).append(float(value))
                    self.units[name] = unit

    def microseconds(self, name: str) -> float:
        return statistics.median(self.measured[name]) * MICROSECONDS[self.units[name]]


def installed() -> dict[str, str]:
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            print(f"skipped: {library} is not installed", file=sys.stderr)
    return versions


def show(name: str, what: str, measured: list[float], unit: str) -> None:
    low, high = min(measured), max(measured)
    median = statistics.median(measured)
    print(f"{name:36} {median:12.3f} {unit}  [{low:.3f} .. {high:.3f}]  {what}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", help="our program; without it the peers are measured alone")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="a,b,c,d,e", help="parts, such as a,c")
    arguments = parser.parse_args()
    parts = arguments.only.split(",")

    versions = installed()
    rows = [row for library in versions for row in LIBRARIES[library]() if row.part in parts]
    ours = Bench(arguments.bench)
    load = " ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"CPython {platform.python_version()}, {os.cpu_count()} CPUs, load {load};",
          ", ".join(f"{library} {version}" for library, version in versions.items()))
    print(f"median of {arguments.rounds} rounds [lowest .. highest]")

    for part in parts:
        mine = [row for row in rows if row.part == part]
        for row in mine:
            row.once()  # imports, caches
        for _ in range(arguments.rounds):
            for row in mine:
                row.measured.append(row.once())
            ours.measure(PARTS[part])
        for name in PARTS[part]:
            if name in ours.measured:
                show(name, "ours", ours.measured[name], ours.units[name])
        for row in mine:
            show(row.figure, row.what, row.measured, row.unit)

    for name, measured in ours.measured.items():
        print(f"figure flow.{name} {statistics.median(measured):.3f} {ours.units[name]}")
    for row in rows:
        print(f"figure flow.{row.figure} {statistics.median(row.measured):.3f} {row.unit}")
    for row in rows:
        peer = statistics.median(row.measured) * MICROSECONDS[row.unit]
        for name in row.ours:
            if name in ours.measured:
                ratio = peer / ours.microseconds(name)
                print(f"figure flow.{PARTS[row.part][name]}_vs_{row.peer} {ratio:.1f} x")


if __name__ == "__main__":
    main()
