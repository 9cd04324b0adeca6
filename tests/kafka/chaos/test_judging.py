"""The judge of the chaos runs detects violations: each rule is broken once, without a broker."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stepstream.contract.codec import Raw, encode
from stepstream.contract.events import EventRecord, event_record
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, StepEnded
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.outcomes import Value
from stepstream.contract.topics import DEAD_LETTERS, EVENTS
from stepstream.runtime.dead_letters import dead_letter_record
from stepstream.runtime.ports import LogRecord
from tests.kafka.chaos.faults import FAULTS
from tests.kafka.chaos.judging import (
    EVIDENCE,
    judge_dead_letters,
    judge_effects,
    judge_events,
    judge_evidence,
    judge_outputs,
    judge_run,
)
from tests.kafka.chaos.load import Load, digest
from tests.kafka.cluster.fleet import Fleet, Member

Runs = dict[str, list[HistoryEntry]]
OUTPUT = b'{"n":0,"steps":["first","left","right","last"],"echo":{"n":0,"by":"B"}}'


def sound() -> Runs:
    """Return the history of one event: the run of `work` is A, that of `answer` B."""
    go, call = event_record("chaos/go", {"n": 0}, id="go-0"), event_record("chaos/call", {"n": 0})
    return {
        "A": [
            RunBegan("A", 1, 10, "work", "chaos", 10, (go,)),
            StepEnded("A", 2, 20, "s1", "first", StepKind.RUN, Value(Raw(b'"first"'))),
            RunEnded("A", 3, 30, RunStatus.COMPLETED, "work", Raw(OUTPUT)),
        ],
        "B": [
            RunBegan("B", 1, 15, "answer", "chaos", 15, (call,)),
            RunEnded("B", 2, 25, RunStatus.COMPLETED, "answer", Raw(b'"answered"')),
        ],
    }


def execute_twice(runs: Runs) -> None:
    """Repeat all entries of a run."""
    runs["B"] += runs["B"]


def lose_a_run(runs: Runs) -> None:
    """Remove a run."""
    del runs["B"]


def wake_by_another_run(runs: Runs) -> None:
    """Wake the run by an event of a run that has another number."""
    runs["A"][-1] = RunEnded("A", 3, 30, RunStatus.COMPLETED, "work", Raw(OUTPUT.replace(b'"B"', b'"C"')))


def leave_a_gap(runs: Runs) -> None:
    """Remove an entry of history."""
    del runs["A"][1]


def judge_all(runs: Runs) -> list[str]:
    """Return the violations in some histories."""
    return [*(line for run_id, entries in runs.items() for line in judge_run(run_id, entries)), *judge_outputs(runs, 1)]


def test_judge_accepts_a_sound_history() -> None:
    """A correct history has no violations."""
    assert judge_all(sound()) == []


@pytest.mark.parametrize("harm", [execute_twice, lose_a_run, wake_by_another_run, leave_a_gap])
def test_judge_rejects_a_damaged_history(harm: Callable[[Runs], None]) -> None:
    """A run that ended twice, a missing run, a wait that matched another event, a gap."""
    runs = sound()
    harm(runs)
    assert judge_all(runs)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["A first 19"], ""),
        (["A first 19", "A first 21"], "ran after its result was applied"),
        (["A first 18", "A first 19"], "ran 2 times although no worker died"),
        ([], "has no effect"),
    ],
)
def test_judge_counts_the_bodies_of_each_step(lines: list[str], found: str) -> None:
    """A body that ran after its result was applied, twice without a reason, or never."""
    broken = " ".join(judge_effects(sound(), lines, workers_died=False))
    assert found in broken
    assert bool(broken) == bool(found)


def sent(*events: EventRecord) -> list[LogRecord]:
    """Return events as records of the log."""
    return [LogRecord(EVENTS, 0, at, b"", encode(event), (), 0) for at, event in enumerate(events)]


@pytest.mark.parametrize(("more", "found"), [(0, ""), (1, "was sent 2 times"), (-1, "is not in the log")])
def test_judge_counts_the_events_of_steps(more: int, found: str) -> None:
    """An event of a step, or an end event, that is in the log twice or not at all."""
    load = Load.__new__(Load)
    load.sent, load.poisoned = 1, {}
    ends = [event_record("stream/function.finished", {}, id=f"{run}:finished") for run in "AB"]
    events = [
        event_record("chaos/go", {"n": 0}, id="go-0"),
        event_record("limited/steps", {"n": 0}, id="limited-0"),
        event_record("chaos/call", {"n": 0}, id="call"),
        event_record("chaos/echo", {"n": 0}, id="echo"),
        *ends,
    ]
    broken = " ".join(
        judge_events(sound(), sent(*(events + events[-1:] if more > 0 else events[: len(events) + more])), load)
    )
    assert found in broken
    assert bool(broken) == bool(found)


def test_judge_compares_dead_letters_with_what_was_sent() -> None:
    """A dead letter that is missing, that has other bytes, that exists twice, or that was not sent."""

    def dead_letter(value: bytes, offset: int) -> LogRecord:
        made = dead_letter_record(LogRecord(EVENTS, 0, offset, b"", value, (), 0), "why")
        return LogRecord(DEAD_LETTERS, 0, 0, made.key, made.value, made.headers, 0)

    def judged(*dead_letters: LogRecord) -> str:
        return " ".join(
            judge_dead_letters(dead_letters, {"events-0-1": digest(b"bad")}, {"events-0-3": {digest(b"old")}})
        )

    assert judged(dead_letter(b"bad", 1)) == ""
    assert "is missing" in judged()
    assert "other bytes" in judged(dead_letter(b"good", 1))
    assert "is in dead-letters 2 times" in judged(*[dead_letter(b"bad", 1)] * 2)
    assert judged(dead_letter(b"bad", 1), dead_letter(b"old", 3)) == ""
    assert "events-0-3 is a dead letter" in judged(dead_letter(b"bad", 1), dead_letter(b"other", 3))
    assert "events-0-2 is a dead letter" in judged(dead_letter(b"bad", 1), dead_letter(b"fine", 2))


@pytest.mark.parametrize(
    ("struck", "zero", "found"),
    [
        (["engine"], "", ""),
        (["engine"], "transactions aborted", "0 transactions aborted after all faults"),
        (["engine", "wiped"], "disks wiped", "0 disks wiped after wiped"),
        (["frozen-engine"], "frozen engines fenced", "0 frozen engines fenced after frozen-engine"),
        (["engine"], "frozen engines fenced", ""),
        (["poison"], "records dead-lettered", "0 records dead-lettered after poison"),
    ],
)
def test_run_whose_faults_broke_nothing_is_no_evidence(struck: list[str], zero: str, found: str) -> None:
    """Kills that aborted no transaction, suspended engines that were not fenced, disks that were not lost."""
    figures = {name: 0 if name == zero else 1 for names in EVIDENCE.values() for name in names}
    broken = list(judge_evidence(struck, figures))
    assert [line.partition(":")[0] for line in broken] == ([f"there are {found}"] if found else [])
    assert all(line.endswith("this run is no evidence") for line in broken)


def test_evidence_is_required_of_existing_faults() -> None:
    """Each name in the table of evidence is the name of a fault."""
    assert EVIDENCE.keys() - {""} <= FAULTS.keys()


def test_moves_of_shards_are_counted(tmp_path: Path) -> None:
    """A shard that returns to its last engine has not moved, unless another engine had it in between."""
    fleet = Fleet("", "", tmp_path)
    assignments = {"one": [(1, "0, 1"), (3, "0"), (5, "0, 1")], "two": [(2, "1"), (4, "1")], "three": [(6, "")]}
    for name, lines in assignments.items():
        log = tmp_path / f"{name}.log"
        words = "2026-01-01T00:00:0{}.000Z INFO stepstream.runtime.kafka.fleet: shards [{}] assigned\n"
        log.write_text("".join(words.format(*line) for line in lines))
        fleet.engines.append(Member(name, [], {}, log, tmp_path))
    assert fleet.moves() == 2
