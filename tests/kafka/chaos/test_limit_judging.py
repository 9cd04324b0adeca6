"""The judge of the chaos runs detects limits that were exceeded or leaked: each rule is broken once."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from stepstream.contract.codec import dump_json, encode
from stepstream.contract.events import event_record
from stepstream.contract.gates import Gate
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded
from stepstream.contract.ids import run_hash, run_id_at
from stepstream.contract.kinds import RunStatus
from stepstream.contract.outcomes import ErrorInfo
from stepstream.contract.topics import CHANGELOG
from stepstream.engine.state.gate_keys import gate_key, gate_place_key, gate_run_key
from stepstream.engine.state.gate_rows import GateRun, GateState, GateWaiter
from stepstream.engine.state.keys import Key
from stepstream.engine.state.rows import Row
from stepstream.runtime.ports import LogRecord
from tests.kafka.chaos.limit_judging import (
    Body,
    bodies_of,
    interrupted,
    judge_active,
    judge_limited,
    judge_starts,
    limits_reached,
)
from tests.kafka.chaos.limit_rows import LimitRows
from tests.kafka.chaos.load import LIMIT_KINDS, kind_of
from tests.kafka.cluster.fleet import Life

SECOND_NS = 1_000_000_000
ALIVE = [Life(1, 0), Life(2, 0)]


def log_of(*bodies: str) -> list[str]:
    """Return the lines of bodies, each as `function key run step start-end process`; one that was killed has no end."""
    edges: list[tuple[int, str]] = []
    for body in bodies:
        *names, span, pid = body.split()
        for edge, at in zip(("started", "ended"), span.split("-"), strict=True):
            edges += [(int(at), f"{edge} {at} {pid} {' '.join(names)}")] if at else []
    return [line for _, line in sorted(edges)]


@pytest.mark.parametrize(
    ("bodies", "found"),
    [
        (["steps a R1 left 10-20 1", "steps a R1 right 10-20 1"], ""),
        (["steps a R1 left 10-20 1", "steps a R1 right 10-20 1", "steps a R2 left 20-30 2"], ""),
        (["steps a R1 left 10-20 1", "steps a R1 right 10-20 1", "steps b R2 left 10-30 2"], ""),
        (["steps a R1 left 10-20 1", "steps a R1 left 15-25 2", "steps a R2 left 15-25 1"], ""),
        (
            ["steps a R1 left 10-20 1", "steps a R1 right 10-20 1", "steps a R2 left 19-30 2"],
            "3 steps of steps with key a were running at a time, of 2",
        ),
        (
            ["steps a R1 left 10- 1", "steps a R1 right 10-20 1", "steps a R2 left 15-30 2"],
            "3 steps of steps with key a were running at a time, of 2",
        ),
        (["runs a R1 first 10-20 1", "runs a R1 last 30-40 1", "runs a R2 first 40-50 2"], ""),
        (
            ["runs a R1 first 10-20 1", "runs a R1 last 30-40 1", "runs a R2 first 22-28 2"],
            "2 runs of runs with key a were running at a time, of 1",
        ),
        (
            ["single a R1 first 10-20 1", "single a R2 first 15-25 2"],
            "2 runs of single with key a were running at a time, of 1",
        ),
    ],
)
def test_judge_counts_what_is_running(bodies: list[str], found: str) -> None:
    """Bodies of a key at the same time, and runs between their first body and their last; a step counts once."""
    assert "".join(judge_active(bodies_of(log_of(*bodies), ALIVE))) == found


@pytest.mark.parametrize(
    ("lives", "found"),
    [
        ([Life(1, 0, ended_ns=15), Life(2, 0)], True),
        ([Life(1, 0, ended_ns=14), Life(2, 0)], False),
        ([Life(1, 0, ended_ns=14), Life(1, 16), Life(2, 0)], False),
        ([Life(1, 0, frozen=[(13, 14)]), Life(2, 0)], False),
        ([Life(1, 0, frozen=[(15, 19)]), Life(2, 0)], True),
        ([Life(1, 0, frozen=[(5, 8)]), Life(2, 0)], False),
    ],
)
def test_bodies_of_a_lost_worker_count_until_it_is_lost(lives: list[Life], found: bool) -> None:
    """A worker that was killed or frozen before another body starts, or just after; a process id that is used again."""
    lines = log_of("runs a R1 first 10- 1", "runs a R2 first 14-18 2")
    assert bool(list(judge_active(bodies_of(lines, lives)))) == found
    assert interrupted(lines) == 1


def test_body_of_an_unknown_process_is_an_error() -> None:
    """A body that no worker of the fleet can have run is not left out."""
    with pytest.raises(LookupError, match="ran in no known process"):
        bodies_of(log_of("runs a R1 first 10-20 3"), ALIVE)


def test_limits_of_steps_that_were_reached_are_counted() -> None:
    """A run in which no two bodies are running at a time shows nothing."""
    one_by_one = log_of("steps a R1 left 10-20 1", "steps a R1 right 20-30 1", "runs a R2 first 1-2 1")
    together = log_of("steps a R1 left 10-20 1", "steps a R1 right 15-30 1")
    assert [limits_reached(bodies_of(lines, ALIVE)) for lines in (one_by_one, together)] == [0, 1]


def run_of(number: int, skipped: str = "", **output: object) -> list[HistoryEntry]:
    """Return the history of a run that an event with a limit started: completed, or skipped with a code."""
    kind = kind_of(number)
    event = event_record(f"limited/{kind}", {"n": number, "key": "a", "at": number * SECOND_NS})
    steps = {"steps": ["left", "middle", "right"], "shared": ["left", "right"]}.get(kind, ["first", "last"])
    batch = {"batch": [number]} if kind == "batched" else {}
    result, run_id = dump_json({"n": number, "steps": steps, **batch, **output}, "output"), id_of(number)
    ended: HistoryEntry = RunEnded(run_id, 2, 20, RunStatus.COMPLETED, kind, result)
    if skipped:
        ended = RunEnded(run_id, 2, 20, RunStatus.SKIPPED, kind, error=ErrorInfo("Refused", code=skipped))
    return [RunBegan(run_id, 1, 10, kind, "chaos", 10, (event,)), ended]


def id_of(number: int) -> str:
    """Return the id of the run of an event; later events have later ids."""
    return run_id_at(1_000 + number, run_hash("limited", str(number)))


FIRST = {kind: next(number for number in range(999) if kind_of(number) == kind) for kind in LIMIT_KINDS}
SENT = max(FIRST.values()) + 3
Runs = dict[str, list[HistoryEntry]]


def unfinished(runs: Runs) -> None:
    """Leave a run in the queue of its limit."""
    runs[id_of(FIRST["runs"])].pop()


def lost(runs: Runs) -> None:
    """Remove a run."""
    del runs[id_of(FIRST["throttled"])]


def skip(kind: str, code: str, more: int = 0) -> Callable[[Runs], None]:
    """Let a run of a kind be skipped: the first, or a later one."""

    def harm(runs: Runs) -> None:
        runs[id_of(FIRST[kind] + more)] = run_of(FIRST[kind] + more, code)

    harm.__name__ = f"{kind} {code} {more}"
    return harm


def skip_all(runs: Runs) -> None:
    """Skip all runs of a singleton, as if a permit had leaked."""
    for number in range(8):
        skip("single", "skipped", number)(runs)


def batched_as(*batch: int) -> Callable[[Runs], None]:
    """Let the first run of a batch have these events, counted from its own."""

    def harm(runs: Runs) -> None:
        first = FIRST["batched"]
        runs[id_of(first)] = run_of(first, batch=[first + more for more in batch])

    harm.__name__ = f"batch of {batch}"
    return harm


def sound() -> Runs:
    """Return the histories of all events: of two singletons one is skipped, and of two batches one has both events."""
    runs = {id_of(number): run_of(number) for number in range(SENT)}
    for harm in (skip("single", "skipped", 1), skip("debounced", "debounced"), skip("batched", "batched", 1)):
        harm(runs)
    batched_as(0, 1)(runs)
    return runs


def test_judge_accepts_sound_runs_of_limits() -> None:
    """Runs that completed, and those that their limits may skip."""
    assert list(judge_limited(sound(), SENT)) == []


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (unfinished, "of runs has not ended"),
        (lost, "0 runs instead of one"),
        (skip("runs", "skipped"), "of runs: skipped"),
        (skip("single", "debounced"), "of single: skipped"),
        (skip_all, "no run of single with key a completed"),
        (skip("debounced", "debounced", 7), "the latest run of debounced with key a was skipped"),
        (skip("batched", "batched", 2), "is in 0 batches"),
        (batched_as(0), "is in 0 batches"),
        (batched_as(0, 1, 2), "is in 2 batches"),
        (batched_as(0, 1, 1, 0), "has a batch of 4 events, of 3"),
    ],
)
def test_judge_rejects_unfinished_or_lost_work_of_limits(harm: Callable[[Runs], None], found: str) -> None:
    """A run that is queued at the end, lost, or skipped without a reason; batches that share events."""
    runs = sound()
    harm(runs)
    assert found in " ".join(judge_limited(runs, SENT))


@pytest.mark.parametrize(
    ("starts", "until", "found"),
    [
        ([3.0, 3.0, 3.0, 3.1, 3.2], 9.0, False),
        ([3.0, 3.0, 3.0, 3.05], 9.0, True),
        ([3.0, 3.0, 3.0, 3.05], 3.01, False),
        ([0.0, 0.1, 2.0, 2.0, 2.0, 2.0], 9.0, True),
    ],
)
def test_judge_compares_starts_with_the_throttle(starts: list[float], until: float, found: bool) -> None:
    """Starts at once beyond the burst, also after a pause, unless the clock of an engine was wrong by then."""
    first = FIRST["throttled"]
    runs = {id_of(first + number): run_of(first + number) for number in range(len(starts))}
    for number, (run_id, entries) in enumerate(runs.items()):
        requested = {"n": first + number, "key": "a", "at": int(starts[number] // 1 * SECOND_NS)}
        runs[run_id][0] = replace(entries[0], events=(event_record("limited/throttled", requested),))
    bodies = [
        Body("throttled", "a", run_id, step, int(at * SECOND_NS), int(at * SECOND_NS) + 1)
        for run_id, at in zip(runs, starts, strict=True)
        for step in ("first", "last")
    ]
    assert bool(list(judge_starts(runs, bodies, int(until * SECOND_NS)))) == found


GATE = Gate("sessions", 2, "a")
HOLDER = gate_run_key(GATE.id, "R1", "s1")
PLACE = gate_place_key(GATE.id, (5, 1))


def put(key: Key[Any], row: Row | None) -> LogRecord:
    """Return a record of the changelog that writes a row, or deletes it."""
    return LogRecord(CHANGELOG, 0, 0, key.encode(), b"" if row is None else encode(row), (), 0)


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([put(HOLDER, GateRun()), put(HOLDER, None)], ""),
        ([put(gate_key(GATE.id), GateState(GATE, held=2, waiting=7))], ""),
        ([put(HOLDER, GateRun())], "R1/s1 holds the limit 'sessions\\x00a' after its end"),
        ([put(HOLDER, GateRun((5, 1)))], "R1/s1 waits for the limit 'sessions\\x00a' after its end"),
        ([put(PLACE, GateWaiter("R1")), put(PLACE, None)], ""),
        ([put(PLACE, GateWaiter("R1"))], "a row of a queue is left"),
        (
            [put(gate_key(GATE.id), GateState(GATE, held=3)), put(gate_key(GATE.id), None)],
            "3 hold the limit 'sessions\\x00a' of 2",
        ),
    ],
)
def test_judge_rejects_permits_and_places_that_are_left(records: list[LogRecord], found: str) -> None:
    """A permit that was not returned, a place in a queue without a run, and a limit that had too many holders."""
    rows = LimitRows()
    rows.take(records)
    broken = " ".join(rows.judge())
    assert found in broken
    assert bool(broken) == bool(found)


def test_limits_with_a_queue_are_named() -> None:
    """A run in which nothing waited shows nothing."""
    rows = LimitRows()
    rows.take([put(gate_key(GATE.id), GateState(GATE, held=2))])
    assert not rows.queues
    rows.take([put(gate_key(GATE.id), GateState(GATE, held=2, waiting=1))])
    assert rows.queues == {"sessions"}
