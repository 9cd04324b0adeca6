"""A cluster as the on-call trial has it: its processes, what their probes say, and orders that must still end."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

from stepstream.contract.codec import encode
from stepstream.contract.events import EventRecord, event_record
from stepstream.contract.topics import EVENTS
from stepstream.runtime.ports import NewRecord
from tests.kafka.chaos.faults import short_log
from tests.kafka.cluster.broker import Broker, free_port
from tests.kafka.cluster.fleet import Fleet, Member
from tests.kafka.cluster.observed import Observed
from tests.kafka.operators.faults import Site

NO_ANSWER = "no answer"
POLL_S = 0.2
# On a loaded machine a healthy process may take seconds.
_ANSWER_S_MAX = 4.0
# How often an order is looked at before another one is sent.
_LOOKS = 15
_ENGINE = "tests.kafka.cluster.shifted_clock"


@dataclass(slots=True)
class Stage:
    """The processes of a namespace; a fault that works on some of them has them in `held`."""

    broker: Broker
    site: Site
    draw: random.Random
    client: httpx.AsyncClient
    observed: Observed = field(init=False)
    held: list[Member] = field(default_factory=list)
    workers_died: bool = False
    # The orders that a fault must not lose, by number.
    produced: list[int] = field(default_factory=list)
    _orders: int = 0

    def __post_init__(self) -> None:
        self.observed = Observed(self.fleet)

    @property
    def fleet(self) -> Fleet:
        """The processes."""
        return self.site.fleet

    @property
    def members(self) -> list[Member]:
        """All processes."""
        return [*self.fleet.engines, *self.fleet.workers]

    def add_engine(self, *options: str, **environment: str) -> Member:
        """Start an engine whose clock can be set."""
        return self.fleet.add_engine(*options, module=_ENGINE, **environment)

    def add_worker(self) -> Member:
        """Start a worker with a short log."""
        return self.fleet.add_worker("--metrics-port", str(free_port()), **short_log("worker"))

    def engine_urls(self) -> Sequence[str]:
        """Return the URLs of the engines."""
        return [url for engine in self.fleet.engines if (url := self.observed.url(engine))]

    def pick(self, role: str) -> Member:
        """Return a random engine or worker, which is held from now on."""
        member = self.draw.choice(self.fleet.engines if role == "engine" else self.fleet.workers)
        self.held.append(member)
        return member

    async def states(self) -> dict[str, str]:
        """Return why each process is not ready, empty for one that is."""
        found = await asyncio.gather(*(self._state(member) for member in self.members))
        return {member.name: state for member, state in zip(self.members, found, strict=True)}

    async def _state(self, member: Member) -> str:
        try:
            answer = await self.client.get(f"{self.observed.url(member)}/ready", timeout=_ANSWER_S_MAX)
        except (httpx.TransportError, httpx.UnsupportedProtocol):
            return NO_ANSWER
        return "" if answer.status_code == 200 else str(answer.json().get("reason", answer.text))

    async def until(self, holds: Callable[[dict[str, str]], bool], seconds: float) -> tuple[float, dict[str, str]]:
        """Return after how many seconds the states of all processes were as expected, infinity if never, and them."""
        began = time.monotonic()
        while True:
            states = await self.states()
            if holds(states):
                return time.monotonic() - began, states
            if time.monotonic() - began > seconds:
                return float("inf"), states
            await asyncio.sleep(POLL_S)

    def ended(self) -> list[str]:
        """Return the names of processes that ended by themselves, which start again, as under an orchestrator."""
        found = [member for member in self.members if member.ended and member not in self.held]
        for member in found:
            member.start()
        return [f"{member.name} ended by itself" for member in found]

    def _next_order(self, text: str = "") -> tuple[int, list[EventRecord]]:
        number = self._orders
        self._orders += 1
        data = {"n": number, "timeout": "1h", "text": text}
        return number, [event_record(f"order/{name}", data, f"{name}-{number}") for name in ("placed", "paid")]

    async def order(self, text: str = "") -> str:
        """Send a new paid order to the first engine; return the path of its runs. Raises httpx.HTTPError."""
        number, events = self._next_order(text)
        answer = await self.client.post(f"{self._url}/e/key", content=encode(events))
        answer.raise_for_status()
        return _runs_of(number)

    async def produce(self, text: str = "") -> None:
        """Write a new paid order to `events`, for which no engine needs to run; no fault that lasts may lose it."""
        number, events = self._next_order(text)
        producer = await self.site.cluster.producer()
        try:
            await producer.send([NewRecord(EVENTS, -1, event.id.encode(), encode(event)) for event in events])
        finally:
            await producer.close()
        self.produced.append(number)

    async def wrong_orders(self, seconds: float) -> list[str]:
        """Return what is wrong with the produced orders after so many seconds: each has one run, which ships it.

        They are not looked at again.
        """
        began = time.monotonic()
        while True:
            wrong = await self._wrong_orders()
            if not wrong or time.monotonic() - began > seconds:
                self.produced.clear()
                return wrong
            await asyncio.sleep(POLL_S)

    async def _wrong_orders(self) -> list[str]:
        found = [(number, await self._runs(number)) for number in self.produced]
        shipped = Counter(line.split()[0] for line in self.fleet.effects.read_text(encoding="utf-8").splitlines())
        return [
            f"order {number} has runs {runs}, shipped {[shipped[run] for run in runs]} times"
            for number, runs in found
            if list(runs.values()) != ["completed"] or not all(shipped[run] for run in runs)
        ]

    async def _runs(self, number: int) -> dict[str, str]:
        try:
            runs = (await self.client.get(self._url + _runs_of(number))).json()["runs"]
        except (httpx.HTTPError, httpx.UnsupportedProtocol):
            return {}
        return {run["run_id"]: run["status"] for run in runs}

    @property
    def _url(self) -> str:
        return self.observed.url(self.fleet.engines[0])

    async def complete(self, seconds: float) -> float:
        """Return after how many seconds a new order has completed, infinity if none does.

        An order that precedes the registration of its function starts no run, so others are sent.
        """
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            try:
                path = await self.order()
                for _ in range(_LOOKS):
                    runs = (await self.client.get(self._url + path)).json()["runs"]
                    if [run["status"] for run in runs] == ["completed"]:
                        return time.monotonic() - began
                    await asyncio.sleep(POLL_S)
            except (httpx.HTTPError, httpx.UnsupportedProtocol):
                await asyncio.sleep(POLL_S)
        return float("inf")


def _runs_of(number: int) -> str:
    return f"/v1/events/placed-{number}/runs"
