"""The guarantees that hold after any number of faults, checked from history, topics and side effects."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from stepstream.contract.codec import load_json
from stepstream.contract.events import FINISHED
from stepstream.contract.history import (
    HistoryEntry,
    RunBegan,
    RunEnded,
    StepAttemptFailed,
    StepEnded,
    StepPlanned,
)
from stepstream.contract.kinds import StepKind
from stepstream.contract.topics import COMMANDS, DEAD_LETTERS, EVENTS
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.ports import LogRecord
from tests.kafka.chaos.limit_judging import is_limited
from tests.kafka.chaos.load import Load, digest
from tests.kafka.chaos.scene import (
    CLOCK_AHEAD,
    CLOCK_BACK,
    FENCED_ENGINES,
    LIMITS_REACHED,
    LIMITS_WITH_A_QUEUE,
    PARTITIONS_NOTICED,
    RECREATION_NOTICED,
    SETTINGS_NOTICED,
    SUSPECTED_ENGINES,
)
from tests.kafka.cluster.history import Runs, read_all, read_histories

_STEPS = ["first", "left", "right", "last"]
# The figures that must not be 0 after a fault; those of "" after every run.
EVIDENCE: Mapping[str, Sequence[str]] = {
    "": ["transactions aborted", LIMITS_REACHED, LIMITS_WITH_A_QUEUE],
    "engine": ["engines killed"],
    "engine-in-commit": ["engines killed", "transactions aborted"],
    "wiped": ["engines killed", "disks wiped"],
    "stale": ["engines killed", "disks rolled back"],
    "worker": ["workers killed"],
    "both": ["engines killed", "workers killed"],
    "frozen-engine": [FENCED_ENGINES, "shards moved to another engine"],
    "frozen-worker": ["runs moved to another worker"],
    "more-engines": ["shards moved to another engine"],
    "suspected": [SUSPECTED_ENGINES],
    "partition-added": [PARTITIONS_NOTICED],
    "setting-removed": [SETTINGS_NOTICED],
    "commands-recreated": [RECREATION_NOTICED],
    "engine-clock": [CLOCK_AHEAD, CLOCK_BACK],
    "worker-clock": [CLOCK_AHEAD, CLOCK_BACK],
    "repeated": ["duplicates refused"],
    "poison": ["records dead-lettered"],
}


async def judge(cluster: Cluster, load: Load, effects: Sequence[str], *, workers_died: bool) -> list[str]:
    """Return the violations of guarantees after all runs have ended, except those of limits."""
    runs = await read_histories(cluster)
    return [
        *(line for run_id, entries in runs.items() for line in judge_run(run_id, entries)),
        *judge_outputs({run_id: entries for run_id, entries in runs.items() if not is_limited(entries)}, load.sent),
        *judge_effects(runs, effects, workers_died=workers_died),
        *judge_events(runs, await read_all(cluster, EVENTS), load),
        *judge_dead_letters(await read_all(cluster, DEAD_LETTERS), load.poisoned, load.lost),
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
    applied = {(run_id, entry.id): entry.at for run_id, entry in ends if entry.kind is StepKind.RUN}
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
    """Each event of a step and each end event is in the log once, and no other event; skipped runs have none."""
    events = [json.loads(record.value) for record in records if place_of(record) not in load.poisoned]
    ids = Counter(event["id"] for event in events)
    end_events = {f"{run_id}:finished" for run_id, entries in runs.items() if not is_skipped(entries)}
    accepted = {f"{kind}-{number}" for kind in ("go", "limited") for number in range(load.sent)}
    names = Counter(
        (event["name"], event["data"].get("n")) for event in events if not event["name"].startswith("limited/")
    )
    expected = {("chaos/echo", number) for number in range(load.sent)}
    expected |= {("chaos/call", number) for number in range(0, load.sent, 2)}
    yield from (
        f"{event_id} was sent {count} times"
        for event_id, count in ids.items()
        if event_id not in accepted and count > 1
    )
    yield from (f"{event_id} is not in the log" for event_id in (end_events | accepted) - ids.keys())
    for name, number in expected ^ {key for key in names if key[0] not in ("chaos/go", FINISHED)}:
        yield f"{name} of {number} was sent {names[name, number]} times"


def is_skipped(entries: Sequence[HistoryEntry]) -> bool:
    """Return whether a limit refused a run."""
    return isinstance(entries[-1], RunEnded) and entries[-1].status == "skipped"


def judge_dead_letters(
    dead_letters: Sequence[LogRecord], poisoned: Mapping[str, str], lost: Mapping[str, Collection[str]]
) -> Iterator[str]:
    """Each record that cannot be parsed is in dead-letters with its bytes and a reason, and no other record is.

    Shards write dead letters in a transaction, so once. A worker that is killed at that moment may write one again.
    Records in a topic that was deleted may be in dead-letters; the new topic has the same offsets.
    """
    found: Counter[str] = Counter()
    for record in dead_letters:
        headers = {name: value or b"" for name, value in record.headers}
        origin = headers["stepstream-from"].decode()
        known = digest(record.value) in lost.get(origin, ())
        found[origin] += not known
        if not headers["stepstream-reason"]:
            yield f"{origin} is a dead letter without a reason"
        if known:
            continue
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
