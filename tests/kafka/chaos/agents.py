"""Agents with parallel tools that run and stream while engines and workers are killed, and what must hold of them."""

import asyncio
import contextlib
import itertools
import json
import secrets
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stepstream import Client, StreamClient
from stepstream.client.errors import EngineUnreachable
from stepstream.client.messages import StreamMessage
from stepstream.contract.history import HistoryEntry, StepAttemptFailed, StepEnded
from stepstream.runtime.kafka.client.cluster import Cluster
from tests.kafka.chaos.agents_app import ROUNDS, TOOLS, WORDS
from tests.kafka.cluster.broker import free_port
from tests.kafka.cluster.fleet import Fleet, Member
from tests.kafka.cluster.history import Runs, until_ended, until_registered
from tests.polling import until

SHARDS = 2
MODEL_STEPS = [f"agent/model {number + 1}" for number in range(ROUNDS + 1)]
TOOL_STEPS = [f"agent/tool/{name}/{name}-{number}" for number in range(ROUNDS) for name in TOOLS]
ANSWER = ",".join(sorted(f"{name}-{number}={name}/{number}" for number in range(ROUNDS) for name in TOOLS))
TEXT = "".join(f"{made}/{number} " for made in range(ROUNDS + 1) for number in range(WORDS)) + ANSWER


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a model or of a tool: the step, its attempt, and the process that made it."""

    run_id: str
    step: str
    attempt: int
    pid: int
    at: int


@dataclass(slots=True)
class Seen:
    """What a client of a stream got, and what it shows: without what was replaced."""

    all: list[StreamMessage[Any]] = field(default_factory=list)
    shown: list[StreamMessage[Any]] = field(default_factory=list)

    def take(self, message: StreamMessage[Any]) -> None:
        """Add a message as docs/streams.md says."""
        self.all.append(message)
        self.shown = [each for each in self.shown if not message.replaces(each)]
        self.shown.append(message)


def calls_in(effects: Path) -> list[Call]:
    """Return the calls so far, in order; a process that was killed may have written a part of a line."""
    if not effects.exists():
        return []
    return [Call(*json.loads(line)) for line in effects.read_text().splitlines() if line.endswith("]")]


@dataclass(slots=True)
class Agents:
    """The agents that run on a fleet, and those that read what they say, at one engine or the other."""

    fleet: Fleet
    clients: Sequence[Client]
    readers: Sequence[StreamClient]
    seen: dict[str, asyncio.Task[Seen]] = field(default_factory=dict)

    async def start(self) -> None:
        """Start some agents, and return once one of them is running."""
        calls = len(calls_in(self.fleet.effects))
        for reader in (*self.readers, *self.readers):
            run_id = await self._started(secrets.token_hex(8))
            self.seen[run_id] = asyncio.create_task(follow(reader, run_id))
        await asyncio.to_thread(until, lambda: len(calls_in(self.fleet.effects)) > calls + len(self.readers))

    async def _started(self, request_id: str) -> str:
        """Start an agent at an engine that answers."""
        for client in itertools.cycle(self.clients):
            with contextlib.suppress(EngineUnreachable):
                return (await client.start("support", {}, request_id=request_id)).run_id
        raise AssertionError

    async def strike(self, plan: Iterable[Sequence[Member]]) -> None:
        """Kill some members and start them again, one group after the other, each time while agents run."""
        for members in plan:
            await self.start()
            for member in members:
                member.kill()
            for member in members:
                member.start()


async def follow(client: StreamClient, run_id: str) -> Seen:
    """Read the stream of a run to its end."""
    seen = Seen()
    async for message in client.run(run_id, "tokens"):
        seen.take(message)
    return seen


async def observe(fleet: Fleet, cluster: Cluster, plan: Callable[[Fleet], Iterable[Sequence[Member]]]) -> list[str]:
    """Run agents on two engines and a worker that are killed as planned; return what is wrong, [] if nothing is."""
    ports = [free_port(), free_port()]
    for port in ports:
        fleet.add_engine("--port", str(port))
    fleet.add_worker()
    await until_registered(cluster, SHARDS)
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(url)) for url in urls]
        readers = [await stack.enter_async_context(StreamClient(url)) for url in urls]
        agents = Agents(fleet, clients, readers)
        await agents.strike(plan(fleet))
        histories = await until_ended(cluster, len(agents.seen))
        return [*judge(fleet, histories, {run_id: await seen for run_id, seen in agents.seen.items()})]


def judge(fleet: Fleet, histories: Runs, streams: Mapping[str, Seen]) -> Iterator[str]:
    """Yield what is wrong with the runs and the streams of agents, or that makes them no evidence."""
    calls = calls_in(fleet.effects)
    killed = [life.pid for worker in fleet.workers for life in worker.lives[:-1]]
    if histories.keys() != streams.keys():
        yield f"{histories.keys() ^ streams.keys()} were not requested, or did not run"
    for run_id, entries in histories.items():
        own = [call for call in calls if call.run_id == run_id]
        yield from (f"{run_id}: {line}" for line in wrong_calls(entries, own, killed))
        yield from (f"{run_id}: {line}" for line in wrong_messages(streams[run_id]))
    if len(calls) <= len(histories) * (len(MODEL_STEPS) + len(TOOL_STEPS) + 1):
        yield "no call was interrupted: this run is no evidence"
    if sum(len(seen.all) - len(seen.shown) for seen in streams.values()) <= len(histories):
        yield "no message was replaced: this run is no evidence"


def wrong_calls(entries: Sequence[HistoryEntry], calls: Sequence[Call], killed: Collection[int]) -> Iterator[str]:
    """Yield what is wrong with the calls of a run: only a killed process leaves one to another, and no result is lost.

    An attempt has one call for each process that was killed while it made it, and one by the process that ended it.
    """
    ended = {entry.id: entry for entry in entries if isinstance(entry, StepEnded)}
    if sorted(ended) != sorted([*MODEL_STEPS, *TOOL_STEPS]):
        yield f"the steps are {sorted(ended)}"
    failed = sorted((entry.id, entry.attempt) for entry in entries if isinstance(entry, StepAttemptFailed))
    if failed != [("agent/model 2", 0)]:
        yield f"the failed attempts are {failed}"
    attempts: dict[tuple[str, int], list[Call]] = defaultdict(list)
    for call in calls:
        attempts[call.step, call.attempt].append(call)
        if call.at > ended[call.step].at:
            yield f"{call} was made after its result was stored"
    if sorted(attempts) != sorted([*((step, 0) for step in ended), ("agent/model 2", 1)]):
        yield f"the attempts are {sorted(attempts)}"
    for made in attempts.values():
        pids = [call.pid for call in made]
        if len({*pids}) != len(pids) or not {*pids[:-1]} <= {*killed}:
            yield f"{made} repeats a call of a process that was not killed: {killed}"


def wrong_messages(seen: Seen) -> Iterator[str]:
    """Yield what is wrong with what a client got: each message once and in order, without those of failed attempts."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for message in seen.all:
        numbers[message.execution].append(message.number)
    yield from (f"{name} sent {sent}" for name, sent in numbers.items() if sent != [*range(len(sent))])
    if "".join(message.data for message in seen.shown) != TEXT:
        yield f"the client shows {[message.data for message in seen.shown]}"
