"""What a chaos run sends: events, duplicates of them, and records that cannot be parsed; and a log of these."""

import hashlib
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from stepstream.contract.codec import encode
from stepstream.contract.events import EventRecord, event_record
from stepstream.contract.limits import LOGGED_EVENT_BYTES_MAX
from stepstream.contract.topics import COMMANDS, EVENTS, INBOX
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.producer import Producer
from stepstream.runtime.ports import LogError, NewRecord

APP = "chaos"
_COMMANDS = f"{COMMANDS}.{APP}"
_TRIES = 5
_DEEP = 5_000
_OVER_AN_EVENT = LOGGED_EVENT_BYTES_MAX + 100_000
# The largest message of the topic, less the overhead of a record.
_EVENT_BYTES_MAX = 8 * 1024 * 1024 - 200
_HUGE = 12 * 1024 * 1024

# The kinds of limits, each the function that the event limited/<kind> starts; so many events in a row are of one kind.
LIMIT_KINDS = ("steps", "runs", "shared", "throttled", "single", "debounced", "batched")
_BURST = 8

Poison = tuple[str, Callable[[str], bytes]]
POISONS: tuple[Poison, ...] = (
    (EVENTS, lambda _: b""),
    (EVENTS, lambda mark: b"\xff\xfe" + mark.encode()),
    (EVENTS, lambda mark: f'["{mark}"]'.encode()),
    (EVENTS, lambda mark: f'{{"name": "chaos/go", "data": ["{mark}"]}}'.encode()),
    (EVENTS, lambda mark: f'{{"name": "stream/function.finished", "id": "{mark}"}}'.encode()),
    (EVENTS, lambda mark: b'{"name": "chaos/go", "data": ' + b'{"a":' * _DEEP + mark.encode()),
    (
        EVENTS,
        lambda mark: f'{{"name": "chaos/go", "data": {{"n": "{mark * (_OVER_AN_EVENT // len(mark))}"}}}}'.encode(),
    ),
    (INBOX, lambda mark: f'{{"type": "{mark}"}}'.encode()),
    (INBOX, lambda mark: f'{{"type": "run.claimed", "run_id": ["{mark}"]}}'.encode()),
    (INBOX, lambda mark: b'{"type": "run.returned", "output": ' + b"[" * _DEEP + mark.encode()),
    (_COMMANDS, lambda mark: mark.encode()),
    (_COMMANDS, lambda mark: f'{{"type": "{mark}"}}'.encode()),
    (_COMMANDS, lambda mark: f'{{"type": "run.started", "run_id": "{mark}"}}'.encode()),
)
HUGE: tuple[Poison, ...] = (
    (EVENTS, lambda mark: mark.encode() * (_EVENT_BYTES_MAX // len(mark))),
    (INBOX, lambda mark: mark.encode() * (_HUGE // len(mark))),
    (_COMMANDS, lambda mark: mark.encode() * (_HUGE // len(mark))),
)


class Load:
    """The producer of a chaos run. The broker accepted the event `go-<number>` for each number below `sent`.

    If it is `limited`, the broker accepted `limited-<number>` as well.
    `poisoned` has the digest of each record that cannot be parsed, by topic-partition-offset; `lost` has those of a
    topic that was deleted, which may have been read before. `repeated` counts the duplicates that were sent.
    """

    def __init__(self, cluster: Cluster, shards: int, limited: bool = False) -> None:
        self._cluster = cluster
        self.shards = shards
        self.limited = limited
        self._times_ns: list[int] = []
        self._producer: Producer | None = None
        self.sent = 0
        self.repeated = 0
        self.poisoned: dict[str, str] = {}
        self.lost: dict[str, set[str]] = defaultdict(set)

    async def send(self, count: int) -> None:
        """Send new events."""
        await self._append(self._events(range(self.sent, self.sent + count)))
        self.sent += count

    async def repeat(self, count: int, draw: random.Random) -> None:
        """Send duplicates of earlier events, and new events twice at once."""
        old = self._events([draw.randrange(self.sent) for _ in range(count)] if self.sent else [])
        new = self._events(range(self.sent, self.sent + count))
        await self._append([*old, *new, *new])
        self.sent += count
        self.repeated += len(old) + len(new)

    async def poison(self, draw: random.Random) -> None:
        """Send one record of each kind that cannot be parsed, to random partitions; the huge ones only once."""
        for number, (topic, value_of) in enumerate(POISONS if self.poisoned else (*POISONS, *HUGE)):
            partition = draw.randrange(self.shards)
            value = value_of(f"poison-{len(self.poisoned)}-{number}-")
            ((_, offset),) = await self._append([NewRecord(topic, partition, b"poison", value)])
            self.poisoned[f"{topic}-{partition}-{offset}"] = digest(value)

    def lose(self, topic: str) -> None:
        """Expect nothing of the records of a topic that is deleted."""
        for place in [place for place in self.poisoned if place.startswith(f"{topic}-")]:
            self.lost[place].add(self.poisoned.pop(place))

    def _events(self, numbers: Iterable[int]) -> list[NewRecord]:
        return [record for number in numbers for record in self._events_of(number)]

    def _events_of(self, number: int) -> list[NewRecord]:
        go = event_record("chaos/go", {"n": number}, id=f"go-{number}")
        if not self.limited:
            return [_record(go)]
        # A duplicate has the time of the first.
        self._times_ns += [time.monotonic_ns()] * (number + 1 - len(self._times_ns))
        data = {"n": number, "key": "ab"[number % 2], "at": self._times_ns[number]}
        return [_record(go), _record(event_record(f"limited/{kind_of(number)}", data, id=f"limited-{number}"))]

    async def _append(self, records: Sequence[NewRecord]) -> list[tuple[int, int]]:
        for _ in range(_TRIES - 1):
            try:
                return await self._try(records)
            except LogError:
                # The records may have been written: the next try can duplicate them.
                self.repeated += len(records)
                await self.close()
        return await self._try(records)

    async def _try(self, records: Sequence[NewRecord]) -> list[tuple[int, int]]:
        if self._producer is None:
            self._producer = await self._cluster.producer()
        return await self._producer.send(records)

    async def close(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await self._producer.close()
            self._producer = None


def digest(value: bytes) -> str:
    """Return a digest of some bytes."""
    return hashlib.sha256(value).hexdigest()


def kind_of(number: int) -> str:
    """Return the kind of limit of an event."""
    return LIMIT_KINDS[number // _BURST % len(LIMIT_KINDS)]


def _record(event: EventRecord) -> NewRecord:
    return NewRecord(EVENTS, -1, event.id.encode(), encode(event))


async def feed(cluster: Cluster, first: int, count: int) -> None:
    """Send events by a producer that is closed afterwards."""
    load = Load(cluster, 1)
    load.sent = first
    await load.send(count)
    await load.close()
