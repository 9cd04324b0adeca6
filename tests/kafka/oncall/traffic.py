"""The load of the on-call trial: orders and their payments, sent by HTTP as an application does, and when they end."""

import asyncio
import heapq
import itertools
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

from stepstream.contract.codec import load_json
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded

FUNCTION = "fulfil"
# No order expires because of a fault, or because the clock of an engine jumps ahead by less than that.
PAID_TIMEOUT = "1h"
UNPAID_TIMEOUT_S = 20
# One order in so many is never paid; its payment names an order that does not exist.
UNPAID_EVERY = 50
_TICK_S = 0.05
_TRIES_PAUSE_S = 0.2
# A client that waits longer for a frozen engine has most of its requests there.
_ANSWER_S_MAX = 3.0
_EARLIEST_S, _LATEST_S = 0.5, 3.0

Due = tuple[float, int, dict[str, object]]


@dataclass(frozen=True, slots=True)
class Latency:
    """How long a paid order took after its later event was due (s), and when that was."""

    due: float
    seconds: float
    looked_back: bool


@dataclass(slots=True)
class Traffic:
    """Sends orders at a steady rate, each with a payment some seconds before or after it, and notes when they end.

    `targets` returns the URLs of the engines, which are used alternately. An event that is not accepted is sent again
    under its id until it is. `answers` counts the answers by status, 0 for none; times are those of `time.monotonic()`.
    """

    targets: Callable[[], Sequence[str]]
    per_s: float = 25.0
    seed: int = 1
    answers: Counter[int] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)
    orders: int = 0
    ended: int = 0
    _posts: int = 0
    _due: dict[int, tuple[float, bool]] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)
    _sending: set[asyncio.Task[None]] = field(default_factory=set)

    def paid(self, number: int) -> bool:
        """Return whether an order is paid."""
        return number % UNPAID_EVERY != 0

    async def send(self, stop: asyncio.Event) -> None:
        """Send new orders and their payments until `stop`; return when all of them were accepted."""
        draw, serial = random.Random(self.seed), itertools.count()
        waiting: list[Due] = []
        began = time.monotonic() + _LATEST_S
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        async with httpx.AsyncClient(timeout=_ANSWER_S_MAX, limits=limits, trust_env=False) as client:
            while waiting or not stop.is_set():
                now = time.monotonic()
                # A payment may be due earlier than its order by this long.
                while not stop.is_set() and (due := began + self.orders / self.per_s) <= now + _LATEST_S:
                    for at, event in self._order(due, draw):
                        heapq.heappush(waiting, (at, next(serial), event))
                ready = []
                while waiting and waiting[0][0] <= now:
                    ready.append(heapq.heappop(waiting)[2])
                if ready:
                    task = asyncio.ensure_future(self._post(client, ready))
                    self._sending.add(task)
                    task.add_done_callback(self._sending.discard)
                await asyncio.sleep(_TICK_S)
            await asyncio.gather(*self._sending)

    def _order(self, due: float, draw: random.Random) -> list[tuple[float, dict[str, object]]]:
        """Return the two events of the next order, each with the time at which it is due."""
        number = self.orders
        self.orders += 1
        paid = self.paid(number)
        pay_due = due + draw.choice((-1, 1)) * draw.uniform(_EARLIEST_S, _LATEST_S)
        if paid:
            self._due[number] = (max(due, pay_due), pay_due < due)
        timeout = PAID_TIMEOUT if paid else f"{UNPAID_TIMEOUT_S}s"
        return [
            (due, {"name": "order/placed", "id": f"order-{number}", "data": {"n": number, "timeout": timeout}}),
            (pay_due, {"name": "order/paid", "id": f"paid-{number}", "data": {"n": number if paid else -number - 1}}),
        ]

    async def _post(self, client: httpx.AsyncClient, events: list[dict[str, object]]) -> None:
        self._posts += 1
        # Each try of a request is at another engine than the one before.
        for number in itertools.count(self._posts):
            status, text, targets = 0, "", self.targets()
            if targets:
                try:
                    answer = await client.post(f"{targets[number % len(targets)]}/e/key", json=events)
                    status, text = answer.status_code, answer.text
                except httpx.TransportError:
                    pass
            self.answers[status] += 1
            if status == 200:
                return
            if status not in (0, 503):
                self.unexpected.append(f"an engine answered {status} to events: {text[:300]}")
            await asyncio.sleep(_TRIES_PAUSE_S)

    def note(self, entry: HistoryEntry) -> None:
        """Note that a run began or ended."""
        if isinstance(entry, RunBegan) and entry.function == FUNCTION:
            data = load_json(entry.events[0].data)
            assert isinstance(data, dict)
            number = data["n"]
            assert isinstance(number, int)
            self._numbers[entry.run_id] = number
        elif isinstance(entry, RunEnded) and entry.run_id in self._numbers:
            self.ended += 1
            due = self._due.get(self._numbers.pop(entry.run_id))
            if due:
                self.latencies.append(Latency(due[0], time.monotonic() - due[0], due[1]))


def percentiles(latencies: Sequence[Latency]) -> str:
    """Return count, median, 99th percentile and maximum in a line."""
    if len(latencies) < 2:
        return f"{len(latencies):6} orders"
    seconds = [each.seconds for each in latencies]
    p99 = statistics.quantiles(seconds, n=100, method="inclusive")[98]
    return (
        f"{len(seconds):6} orders: p50 {statistics.median(seconds):6.3f} s, p99 {p99:6.3f} s, max {max(seconds):6.3f} s"
    )


def by_minute(latencies: Sequence[Latency], began: float) -> list[str]:
    """Return a line for each minute in which orders were due."""
    minutes: dict[int, list[Latency]] = {}
    for each in latencies:
        minutes.setdefault(int((each.due - began) // 60), []).append(each)
    return [f"minute {minute + 1:2}: {percentiles(minutes[minute])}" for minute in sorted(minutes)]
