"""Agents with parallel tools run and stream while engines and workers are killed: exact calls, each message once."""

import asyncio
import contextlib
import itertools
import json
import secrets
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stepstream import Client, StreamClient
from stepstream.client.errors import EngineUnreachable
from stepstream.client.messages import StreamMessage
from stepstream.contract.history import HistoryEntry, StepAttemptFailed, StepEnded
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from tests.kafka.cluster.broker import free_port
from tests.kafka.cluster.fleet import Fleet
from tests.kafka.cluster.history import Runs, until_ended, until_registered
from tests.kafka.members.agents_app import ROUNDS, TOOLS, WORDS
from tests.polling import until

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]
SHARDS = 2
APP = Path(__file__).with_name("agents_app.py")
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

    async def strike(self) -> None:
        """Kill the engines and the worker, alone and together, each time while agents run."""
        (one, other), (worker,) = self.fleet.engines, self.fleet.workers
        for members in ([worker], [one], [worker, one, other]):
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


async def observe(fleet: Fleet, cluster: Cluster) -> tuple[Runs, Mapping[str, Seen]]:
    """Run agents on two engines and a worker that are killed."""
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
        await agents.strike()
        histories = await until_ended(cluster, len(agents.seen))
        return histories, {run_id: await seen for run_id, seen in agents.seen.items()}


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


def test_agents_run_and_stream_while_processes_are_killed(bootstrap: str, tmp_path: Path) -> None:
    """Only calls of killed workers are repeated, each once, and clients that were cut off show the text once."""
    with Fleet(bootstrap, "agents", tmp_path, APP) as fleet:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "agents")
        histories, streams = asyncio.run(observe(fleet, Cluster(KafkaSettings(bootstrap, "agents"))))
        calls = calls_in(fleet.effects)
        killed = [life.pid for worker in fleet.workers for life in worker.lives[:-1]]
        for run_id, entries in histories.items():
            own = [call for call in calls if call.run_id == run_id]
            assert [*wrong_calls(entries, own, killed)] == []
            assert [*wrong_messages(streams[run_id])] == []
        # Without these, nothing was killed that mattered.
        once = len(histories) * (len(MODEL_STEPS) + len(TOOL_STEPS) + 1)
        assert len(calls) > once
        assert sum(len(seen.all) - len(seen.shown) for seen in streams.values()) > len(histories)
