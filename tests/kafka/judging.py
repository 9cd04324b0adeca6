"""The guarantees that hold after any number of faults, checked from history, topics and side effects."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from stepstream.contract.codec import load_json
from stepstream.contract.events import FINISHED
from stepstream.contract.history import (
    HistoryEntry,
    RunBegan,
    RunEnded,
    RunMoved,
    StepAttemptFailed,
    StepEnded,
    StepPlanned,
    decode_history,
)
from stepstream.contract.topics import CHANGELOG, COMMANDS, DEAD_LETTERS, EVENTS, FUNCTIONS, HISTORY
from stepstream.engine.state.rows import Position
from stepstream.engine.state.tables import position_key
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.reader import Reader
from stepstream.runtime.ports import LogError, LogRecord
from tests.kafka.load import Load, digest

END_S_MAX = 60.0
_READ_MS = 500
_RECORDS_PER_READ = 5_000
_STEPS = ["first", "left", "right", "last"]
_NO_BODY = {"nap", "echo", "call"}
Runs = Mapping[str, Sequence[HistoryEntry]]
# The figures that must not be 0 after a fault; those of "" after every run.
EVIDENCE: Mapping[str, Sequence[str]] = {
    "": ["transactions aborted"],
    "engine": ["engines killed"],
    "engine-in-commit": ["engines killed", "transactions aborted"],
    "wiped": ["engines killed", "disks wiped"],
    "stale": ["engines killed", "disks rolled back"],
    "worker": ["workers killed"],
    "both": ["engines killed", "workers killed"],
    "frozen-engine": ["frozen engines fenced", "shards moved to another engine"],
    "frozen-worker": ["runs moved to another worker"],
    "more-engines": ["shards moved to another engine"],
    "repeated": ["duplicates refused"],
    "poison": ["records dead-lettered"],
}


class Tail:
    """The committed records of a topic, read incrementally."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._places: list[tuple[str, int]] = []
        self._reader: Reader | None = None

    async def read(self) -> list[LogRecord]:
        """Return new records, and wait a moment for the first."""
        if self._reader is None:
            self._places = [(self._topic, at) for at in range((await self._cluster.topics())[self._topic])]
            self._reader = await self._cluster.reader()
            self._reader.assign(self._places)
            self._reader.seek(dict.fromkeys(self._places, 0))
        return await self._reader.read(_RECORDS_PER_READ, _READ_MS)

    async def rest(self) -> list[LogRecord]:
        """Return all records that were not read yet."""
        found = await self.read()
        assert self._reader is not None
        ends = await self._reader.ends(self._places)
        while any([await self._reader.position(at) < ends[at] for at in self._places]):
            found += await self.read()
        return found

    async def close(self) -> None:
        """Disconnect."""
        if self._reader is not None:
            await self._reader.close()


async def read_all(cluster: Cluster, topic: str) -> list[LogRecord]:
    """Return all committed records of a topic."""
    tail = Tail(cluster, topic)
    try:
        return await tail.rest()
    finally:
        await tail.close()


class Ledger:
    """The history of each run, in the order of the log, read as it grows."""

    def __init__(self, cluster: Cluster) -> None:
        self._tail = Tail(cluster, HISTORY)
        self.runs: dict[str, list[HistoryEntry]] = defaultdict(list)
        self.ended = 0

    @property
    def open(self) -> int:
        """How many runs have started and not ended."""
        return len(self.runs) - self.ended

    async def follow(self) -> None:
        """Read new records without end, also across outages of the broker."""
        while True:
            try:
                self._take(await self._tail.read())
            except LogError:
                await asyncio.sleep(0)

    async def until_ended(self, runs: int, seconds: float = END_S_MAX) -> None:
        """Read until a number of runs has ended."""
        async with asyncio.timeout(seconds):
            while self.ended < runs:
                self._take(await self._tail.read())

    async def catch_up(self) -> None:
        """Read all records that exist now."""
        self._take(await self._tail.rest())

    def _take(self, records: Sequence[LogRecord]) -> None:
        for record in records:
            entry = decode_history(record.value)
            self.runs[entry.run_id].append(entry)
            self.ended += isinstance(entry, RunEnded)

    def stuck(self, before_ms: int) -> list[str]:
        """Return a line with the history of each open run whose last record is older than a time (Unix ms)."""
        return [
            f"{run_id} has not ended: {[(type(entry).__name__, getattr(entry, 'id', '')) for entry in entries]}"
            for run_id, entries in self.runs.items()
            if entries[-1].at < before_ms and not any(isinstance(entry, RunEnded) for entry in entries)
        ]

    def moves(self) -> int:
        """Return how often a worker took over a run from another."""
        return sum(isinstance(entry, RunMoved) for entries in self.runs.values() for entry in entries)

    async def close(self) -> None:
        """Disconnect."""
        await self._tail.close()


async def until_ended(cluster: Cluster, runs: int) -> Runs:
    """Return all histories once a number of runs has ended."""
    ledger = Ledger(cluster)
    try:
        await ledger.until_ended(runs)
        return ledger.runs
    finally:
        await ledger.close()


async def until_registered(cluster: Cluster, shards: int) -> None:
    """Return when every shard knows the functions: earlier events start no run."""
    key = position_key(FUNCTIONS, 0).encode()
    known = dict.fromkeys(range(shards), 0)
    functions, changelog = Tail(cluster, FUNCTIONS), Tail(cluster, CHANGELOG)
    try:
        async with asyncio.timeout(END_S_MAX):
            count = 0
            while count < 2 or min(known.values()) < count:
                count += len(await functions.rest())
                for record in await changelog.read():
                    if record.key == key:
                        known[record.partition] = msgspec.json.decode(record.value, type=Position).offset
    finally:
        await functions.close()
        await changelog.close()


async def judge(cluster: Cluster, load: Load, effects: Sequence[str], *, workers_died: bool) -> list[str]:
    """Return the violations of guarantees after all runs have ended."""
    ledger = Ledger(cluster)
    try:
        await ledger.catch_up()
    finally:
        await ledger.close()
    runs = ledger.runs
    return [
        *(line for run_id, entries in runs.items() for line in judge_run(run_id, entries)),
        *judge_outputs(runs, load.sent),
        *judge_effects(runs, effects, workers_died=workers_died),
        *judge_events(runs, await read_all(cluster, EVENTS), load),
        *judge_dead_letters(await read_all(cluster, DEAD_LETTERS), load.poisoned),
    ]


def judge_evidence(struck: Collection[str], figures: Mapping[str, int]) -> Iterator[str]:
    """Each fault had an effect: a run whose faults broke nothing proves nothing."""
    for fault, names in EVIDENCE.items():
        if fault in struck or not fault:
            yield from (
                f"there are 0 {name} after {fault or 'all faults'}: this run is no evidence"
                for name in names
                if not figures[name]
            )


def judge_run(run_id: str, entries: Sequence[HistoryEntry]) -> Iterator[str]:
    """A run ends once, each step has one result, no sleep ends early, and history has neither gaps nor repeats."""
    numbers = [entry.seq for entry in entries]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"{run_id}: history has gaps or repeats: {numbers}"
    if sum(isinstance(entry, RunEnded) for entry in entries) != 1 or not isinstance(entries[-1], RunEnded):
        yield f"{run_id}: does not end once: {[type(entry).__name__ for entry in entries]}"
    results = Counter(entry.step for entry in entries if isinstance(entry, StepEnded))
    yield from (f"{run_id}: step {step} has {count} results" for step, count in results.items() if count > 1)
    due = {entry.step: entry.until for entry in entries if isinstance(entry, StepPlanned)}
    for entry in entries:
        # A sleep that was over when its plan arrived has no entry that planned it.
        if isinstance(entry, StepEnded) and entry.kind == "sleep" and entry.at < due.get(entry.step, 0):
            yield f"{run_id}: {entry.id} ended early"


def judge_outputs(runs: Runs, sent: int) -> Iterator[str]:
    """Each accepted event has one run of `work` and one of `answer`, and nothing else ran.

    The event that woke the run of `work` was sent by the run of `answer` with the same number.
    """
    found: dict[tuple[str, int], list[str]] = defaultdict(list)
    outputs: dict[str, object] = {}
    for run_id, entries in runs.items():
        began, ended = entries[0], entries[-1]
        if isinstance(began, RunBegan) and isinstance(ended, RunEnded):
            data = load_json(began.events[0].data)
            number = data.get("n") if isinstance(data, dict) else None
            found[began.function, number if isinstance(number, int) else -1].append(run_id)
            outputs[run_id] = load_json(ended.output) if ended.status == "completed" else ended.error
    expected_runs = {(function, number) for function in ("work", "answer") for number in range(sent)}
    yield from (f"{runs_of} of {key} were not requested" for key, runs_of in found.items() if key not in expected_runs)
    for function, number in sorted(expected_runs):
        runs_of = found[function, number]
        if len(runs_of) != 1:
            yield f"go-{number}: {len(runs_of)} runs of {function} instead of one: {runs_of}"
            continue
        expected: object = "answered"
        if function == "work":
            expected = {"n": number, "steps": _STEPS, "echo": {"n": number, "by": "".join(found["answer", number])}}
        if outputs[runs_of[0]] != expected:
            yield f"{runs_of[0]} of {function}: {outputs[runs_of[0]]} instead of {expected}"


def judge_effects(runs: Runs, lines: Sequence[str], *, workers_died: bool) -> Iterator[str]:
    """No body ran after its result was applied, none ran twice without a reason, and each result had a body."""
    ends = [(run_id, entry) for run_id, entries in runs.items() for entry in entries if isinstance(entry, StepEnded)]
    applied = {(run_id, entry.id): entry.at for run_id, entry in ends if entry.id not in _NO_BODY}
    retries = Counter(
        (run_id, entry.id)
        for run_id, entries in runs.items()
        for entry in entries
        if isinstance(entry, StepAttemptFailed)
    )
    ran: Counter[tuple[str, str]] = Counter()
    for line in lines:
        run_id, step, at = line.split()
        ran[run_id, step] += 1
        if int(at) > applied.get((run_id, step), 2**62):
            yield f"{run_id}: {step} ran after its result was applied"
    yield from (f"{run_id}: {step} has no effect" for run_id, step in applied.keys() - ran.keys())
    if not workers_died:
        extra = {key: count for key, count in ran.items() if count != 1 + retries[key]}
        yield from (f"{key} ran {count} times although no worker died" for key, count in extra.items())


def judge_events(runs: Runs, records: Sequence[LogRecord], load: Load) -> Iterator[str]:
    """Each event of a step and each end event is in the log once, and no other event."""
    ours = [record for record in records if place_of(record) not in load.poisoned]
    ids = Counter(json.loads(record.value)["id"] for record in ours)
    end_events = {f"{run_id}:finished" for run_id in runs}
    accepted = {f"go-{number}" for number in range(load.sent)}
    names = Counter((event["name"], event["data"].get("n")) for record in ours if (event := json.loads(record.value)))
    expected = {("chaos/echo", number) for number in range(load.sent)}
    expected |= {("chaos/call", number) for number in range(0, load.sent, 2)}
    yield from (
        f"{event_id} was sent {count} times"
        for event_id, count in ids.items()
        if not event_id.startswith("go-") and count > 1
    )
    yield from (f"{event_id} is not in the log" for event_id in (end_events | accepted) - ids.keys())
    for name, number in expected ^ {key for key in names if key[0] not in ("chaos/go", FINISHED)}:
        yield f"{name} of {number} was sent {names[name, number]} times"


def judge_dead_letters(dead_letters: Sequence[LogRecord], poisoned: Mapping[str, str]) -> Iterator[str]:
    """Each record that cannot be parsed is in dead-letters with its bytes and a reason, and no other record is.

    Shards write dead letters in a transaction, so once. A worker that is killed at that moment may write one again.
    """
    found: Counter[str] = Counter()
    for record in dead_letters:
        headers = {name: value or b"" for name, value in record.headers}
        origin = headers["stepstream-from"].decode()
        found[origin] += 1
        if not headers["stepstream-reason"]:
            yield f"{origin} is a dead letter without a reason"
        if origin not in poisoned:
            yield f"{origin} is a dead letter: {headers['stepstream-reason'].decode()}: {record.value[:200]!r}"
        elif digest(record.value) != poisoned[origin]:
            yield f"{origin} is a dead letter with other bytes: {record.value[:200]!r}"
    yield from (f"{origin} is missing in dead-letters" for origin in poisoned.keys() - found.keys())
    yield from (
        f"{origin} is in dead-letters {count} times"
        for origin, count in found.items()
        if count > 1 and not origin.startswith(COMMANDS)
    )


def place_of(record: LogRecord) -> str:
    """Return the place of a record as topic-partition-offset."""
    return f"{record.topic}-{record.partition}-{record.offset}"
