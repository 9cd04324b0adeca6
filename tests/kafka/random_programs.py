"""Random programs of steps, made from a seed, and their histories in a form that can be compared between engines."""

import asyncio
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stepstream import (
    App,
    Batch,
    Concurrency,
    Context,
    Debounce,
    Event,
    Limit,
    RateLimit,
    Singleton,
    StepError,
    Throttle,
    on,
)
from stepstream.contract.history import HistoryEntry, RunBegan, RunMoved
from stepstream.testing import VirtualEngine

ROUNDS = 8
_DEPTH_MAX = 2
# What invokes a function with a limit; the others are single steps.
_LIMITED = ("turn", "work", "single", "once", "rate", "throttle", "debounce", "batch")
LEAVES = ("run", "flaky", "broken", "sleep", "wait", "signal", "send", "invoke", "queue", "race", "limit", *_LIMITED)
# What may differ: times, ids, which derive from times or from places in a log, and the order of the branches' results.
_FREE = frozenset({"run_id", "seq", "at", "started_at", "step", "caller", "seen", "own"})
_RUN_ID = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b")


@dataclass(slots=True)
class Node:
    """A part of a program; `path` names its branch, `id` its step."""

    kind: str
    path: str
    id: str
    number: int = 0
    parts: list[list["Node"]] = field(default_factory=list)


def make_program(seed: int) -> list[Node]:
    """Return the program of a seed. Its results do not depend on which of two branches is faster."""
    draw = random.Random(seed)
    return _sequence(draw, "main", 0)


def _sequence(draw: random.Random, path: str, depth: int) -> list[Node]:
    return [_node(draw, path, f"{path}.{at}", depth) for at in range(draw.randint(1, 4))]


def _node(draw: random.Random, path: str, id: str, depth: int) -> Node:
    kinds = [*LEAVES, *(("gather", "if", "loop") * 2 if depth < _DEPTH_MAX else ())]
    node = Node(draw.choice(kinds), path, id, draw.randint(1, 3))
    if node.kind == "gather":
        node.parts = [_sequence(draw, f"{id}.{branch}", depth + 1) for branch in range(draw.randint(2, 3))]
    elif node.kind in ("if", "loop"):
        node.parts = [_sequence(draw, path + f".{id[-1]}{branch}", depth + 1) for branch in range(2)]
    return node


def names_of(program: Sequence[Node], kind: str) -> list[str]:
    """Return the ids of all steps of a kind."""
    found = [node.id for node in program if node.kind == kind]
    return found + [name for node in program for part in node.parts for name in names_of(part, kind)]


def _limited_functions(app: App) -> dict[str, Any]:
    """Return a function for each kind of limit. Runs of the one that all share end at once, in any order."""
    key = "event.data.of"

    async def handler(ctx: Context) -> int:
        return await ctx.step.run("count", lambda: len(ctx.events))

    async def parked(ctx: Context) -> int:
        await ctx.step.sleep("park", "10s")
        return await handler(ctx)

    work = Concurrency(1, counts="work", key=key)
    return {
        "work": app.function(id="work", concurrency=work, priority="1")(parked),
        "single": app.function(id="single", singleton=Singleton("wait", key=key))(parked),
        "turn": app.function(id="turn", concurrency=Concurrency(1, counts="runs", fair=key))(handler),
        "once": app.function(id="once", idempotency=key)(handler),
        "rate": app.function(id="rate", rate_limit=RateLimit(1, "1m", key=key))(handler),
        "throttle": app.function(id="throttle", throttle=Throttle(1, "50s", key=key))(handler),
        "debounce": app.function(id="debounce", debounce=Debounce("20s", key=key))(handler),
        "batch": app.function(id="batch", batch=Batch(2, "40s", key=key))(handler),
    }


class Programs:
    """An app with a function for each seed, and the script that drives it in any world."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds = seeds
        self.app = App("random", queues=["other"])
        self._programs = {seed: make_program(seed) for seed in seeds}
        self._tries: Counter[tuple[int, str]] = Counter()

        @self.app.function(id="child", retries=1, backoff="10s")
        async def child(ctx: Context) -> int:
            number = int(ctx.event.data["n"])
            if number == 3:
                raise ValueError("three")
            return await ctx.step.run("double", lambda: 2 * number)

        self._child = child
        self._limited = _limited_functions(self.app)
        self._limit = Limit("bodies", 2, fair="event.name")
        for seed in seeds:
            self.app.function(on(f"go-{seed}"), id=f"program-{seed}", retries=1, backoff="10s")(self._handler(seed))

    def _handler(self, seed: int) -> Any:
        async def handler(ctx: Context) -> list[Any]:
            return await self._run(ctx, seed, self._programs[seed])

        return handler

    async def _run(self, ctx: Context, seed: int, nodes: Sequence[Node]) -> list[Any]:
        return [await self._step(ctx, seed, node) for node in nodes]

    async def _step(self, ctx: Context, seed: int, node: Node) -> Any:
        match node.kind:
            case "gather":
                return await asyncio.gather(*(self._run(ctx, seed, part) for part in node.parts))
            case "if":
                chosen = await ctx.step.run(node.id, lambda: node.number % 2)
                return await self._run(ctx, seed, node.parts[chosen])
            case "loop":
                return [await self._run(ctx, seed, node.parts[0]) for _ in range(node.number)]
            case "race":
                naps = (ctx.step.sleep(f"{node.id}.{at}", 60 * (at + node.number)) for at in range(3))
                return await ctx.group.race(*naps)
            case "limit":
                limited = ctx.step.options(limit=self._limit, retries=3, backoff="20s")
                return await limited.run(node.id, self._flaky, seed, node)
            case kind if kind in _LIMITED:
                return await self._twice(ctx, node, f"{seed}/{node.id}")
            case _:
                return await self._leaf(ctx, seed, node)

    async def _leaf(self, ctx: Context, seed: int, node: Node) -> Any:
        step, id, name = ctx.step.options(retries=3, backoff="20s"), node.id, f"{seed}/{node.id}"
        try:
            match node.kind:
                case "run":
                    return await step.run(id, lambda: node.number)
                case "flaky":
                    return await step.run(id, self._flaky, seed, node)
                case "broken":
                    return await step.options(retries=1).run(id, self._broken, node)
                case "queue":
                    return await step.options(queue="other").run(id, self._flaky, seed, node)
                case "sleep":
                    return await step.sleep(id, 30 * node.number)
                case "wait":
                    found = await step.wait_for_event(id, event="news", if_=f"async.data.of == '{name}'", timeout="6m")
                    return found and found.data
                case "signal":
                    return await step.wait_for_signal(id, signal=name, timeout="4m")
                case "send":
                    return len(await step.send_event(id, [Event("sent", {"n": node.number})] * node.number))
                case _:
                    return await step.invoke(id, function=self._child, data={"n": node.number})
        except StepError as error:
            return f"{error.name}: {error.code}"

    async def _twice(self, ctx: Context, node: Node, name: str) -> list[Any]:
        """Invoke a function with a limit twice; the value of its key is that of this node, so their order is known."""
        function, found = self._limited[node.kind], list[Any]()
        for id in (node.id, f"{node.id}-again"):
            try:
                found.append(await ctx.step.invoke(id, function=function, data={"of": name}))
            except StepError as error:
                found.append(error.code)
        return found

    def _flaky(self, seed: int, node: Node) -> int:
        self._tries[seed, node.id] += 1
        if self._tries[seed, node.id] <= node.number - 1:
            raise ValueError(f"try {self._tries[seed, node.id]}")
        return node.number

    def _broken(self, node: Node) -> None:
        raise LookupError(f"number {node.number}")

    async def play(self, engine: VirtualEngine) -> None:
        """Start each program and advance the time; half of the waits get their event, and some a signal."""
        await engine.send(*(Event(f"go-{seed}", id=f"start-{seed}") for seed in self.seeds))
        waits = [f"{seed}/{name}" for seed in self.seeds for name in names_of(self._programs[seed], "wait")]
        signals = [f"{seed}/{name}" for seed in self.seeds for name in names_of(self._programs[seed], "signal")]
        for number in range(ROUNDS):
            await engine.advance("70s")
            due = [name for at, name in enumerate(waits) if at % ROUNDS == number or at % 2]
            if due:
                await engine.send(*(Event("news", {"of": name, "round": number}) for name in due))
            for name in signals[number % 2 :: 2] if number in (1, 4) else ():
                await engine.signal(name, number)
        await engine.advance("3h")


Lines = dict[str, dict[str, list[str]]]


def comparable(history: Sequence[HistoryEntry]) -> Lines:
    """Return the entries of each run and branch in order; a run is named by its function and trigger event.

    Omitted are times and the ids that derive from them or from places in a log, the interleaving of the branches of a
    gather, and moves of runs between workers.
    """
    runs: dict[str, list[HistoryEntry]] = defaultdict(list)
    for entry in history:
        runs[entry.run_id].append(entry)
    found: Lines = {}
    for entries in runs.values():
        began = entries[0]
        assert isinstance(began, RunBegan)
        name = f"{began.function} {bytes(began.events[0].data).decode()}"
        if began.caller and isinstance(caller := runs[began.caller][0], RunBegan):
            name += f" for {caller.function}"
        while name in found:
            name += "'"
        lines: dict[str, list[str]] = defaultdict(list)
        for entry in entries:
            if not isinstance(entry, RunMoved):
                lines[_branch(entry)].append(_line(entry))
        found[name] = dict(lines)
    return found


def _branch(entry: HistoryEntry) -> str:
    return str(getattr(entry, "id", "")).rpartition(".")[0]


def _line(entry: HistoryEntry) -> str:
    line = json.loads(msgspec.json.encode(entry))
    kept = {name: value for name, value in line.items() if name not in _FREE}
    for moment in ("until", "retry_at", "start_at"):
        if kept.get(moment):
            kept[moment] -= line["at"]
    for event in kept.get("events", ()):
        _forget(event)
    for passed in kept.get("passed", ()):
        # Of runs that ask in the same millisecond, the order in which the shards read them decides.
        passed.pop("place", None)
    outcome = kept.get("outcome")
    if outcome and kept.get("kind") == "wait" and isinstance(outcome.get("data"), dict):
        _forget(outcome["data"])
    if outcome and kept.get("kind") == "send":
        outcome["data"] = len(outcome["data"])
    for place in (kept, outcome or {}):
        if place.get("error"):
            place["error"].pop("stack", None)
            place["error"]["message"] = _RUN_ID.sub("", place["error"]["message"])
    return str(kept)


def _forget(event: Any) -> None:
    for name in ("id", "ts"):
        event.pop(name, None)
