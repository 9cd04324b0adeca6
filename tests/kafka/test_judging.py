"""The judge of the chaos runs sees what must not be: each rule is broken once, without a broker."""

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
from tests.kafka.faults import FAULTS
from tests.kafka.fleet import Fleet, Member
from tests.kafka.judging import (
    EVIDENCE,
    judge_effects,
    judge_events,
    judge_evidence,
    judge_letters,
    judge_outputs,
    judge_run,
)
from tests.kafka.load import Load, digest

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
            RunEnded("B", 2, 25, RunStatus.COMPLETED, "answer", Raw(b'"told"')),
        ],
    }


def begin_again(runs: Runs) -> None:
    """Have a run done once more."""
    runs["B"] += runs["B"]


def lose_a_run(runs: Runs) -> None:
    """Have a run that never was."""
    del runs["B"]


def answer_by_another(runs: Runs) -> None:
    """Have the run woken by an event of another run."""
    runs["A"][-1] = RunEnded("A", 3, 30, RunStatus.COMPLETED, "work", Raw(OUTPUT.replace(b'"B"', b'"C"')))


def leave_a_gap(runs: Runs) -> None:
    """Have an entry of history lost."""
    del runs["A"][1]


def judge_all(runs: Runs) -> list[str]:
    """Return what is wrong with some histories."""
    return [*(line for run_id, entries in runs.items() for line in judge_run(run_id, entries)), *judge_outputs(runs, 1)]


def test_a_sound_history_passes() -> None:
    """Nothing is wrong with what should be."""
    assert judge_all(sound()) == []


@pytest.mark.parametrize("harm", [begin_again, lose_a_run, answer_by_another, leave_a_gap])
def test_a_harmed_history_is_seen(harm: Callable[[Runs], None]) -> None:
    """A run that is there twice or never, a wait that met another event, a gap."""
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
def test_bodies_that_ran_too_often_are_seen(lines: list[str], found: str) -> None:
    """A body that ran after its result was applied, or twice for nothing, or never."""
    broken = " ".join(judge_effects(sound(), lines, workers_died=False))
    assert found in broken
    assert bool(broken) == bool(found)


def sent(*events: EventRecord) -> list[LogRecord]:
    """Return events as they are in the log."""
    return [LogRecord(EVENTS, 0, at, b"", encode(event), (), 0) for at, event in enumerate(events)]


@pytest.mark.parametrize(("more", "found"), [(0, ""), (1, "was sent 2 times"), (-1, "is not in the log")])
def test_events_that_steps_sent_twice_are_seen(more: int, found: str) -> None:
    """An event of a step or of an end that is there twice, or not at all."""
    load = Load.__new__(Load)
    load.sent, load.letters = 1, {}
    ends = [event_record("stream/function.finished", {}, id=f"{run}:finished") for run in "AB"]
    events = [
        event_record("chaos/go", {"n": 0}, id="go-0"),
        event_record("chaos/call", {"n": 0}, id="call"),
        event_record("chaos/echo", {"n": 0}, id="echo"),
        *ends,
    ]
    broken = " ".join(
        judge_events(sound(), sent(*(events + events[-1:] if more > 0 else events[: len(events) + more])), load)
    )
    assert found in broken
    assert bool(broken) == bool(found)


def test_poison_that_went_astray_is_seen() -> None:
    """A letter that is missing, has other bytes or no business there."""

    def letter(value: bytes, offset: int) -> LogRecord:
        made = dead_letter_record(LogRecord(EVENTS, 0, offset, b"", value, (), 0), "why")
        return LogRecord(DEAD_LETTERS, 0, 0, made.key, made.value, made.headers, 0)

    poison = {"events-0-1": digest(b"bad")}
    assert list(judge_letters([letter(b"bad", 1)], poison)) == []
    assert "was not put aside" in " ".join(judge_letters([], poison))
    assert "other bytes" in " ".join(judge_letters([letter(b"good", 1)], poison))
    assert "put aside 2 times" in " ".join(judge_letters([letter(b"bad", 1)] * 2, poison))
    assert "events-0-2 was put aside" in " ".join(judge_letters([letter(b"bad", 1), letter(b"fine", 2)], poison))


def figures(**less: int) -> dict[str, int]:
    """Return what a run has done that left a trace of everything, but for some, whose words have `_` between them."""
    return {name: less.get(name.replace(" ", "_"), 1) for names in EVIDENCE.values() for name in names}


@pytest.mark.parametrize(
    ("struck", "less", "found"),
    [
        (["engine"], "", ""),
        (["engine"], "transactions_aborted", "0 transactions aborted after all"),
        (["engine", "wiped"], "disks_wiped", "0 disks wiped after wiped"),
        (["frozen-engine"], "frozen_engines_fenced", "0 frozen engines fenced after frozen-engine"),
        (["engine"], "frozen_engines_fenced", ""),
        (["poison"], "records_put_aside", "0 records put aside after poison"),
    ],
)
def test_a_run_that_broke_nothing_is_no_evidence(struck: list[str], less: str, found: str) -> None:
    """Kills that aborted no transaction, frozen engines that nobody had to fence, disks that were not lost."""
    broken = list(judge_evidence(struck, figures(**({less: 0} if less else {}))))
    assert [line.partition(":")[0] for line in broken] == ([f"there are {found}"] if found else [])
    assert all(line.endswith("this run is no evidence") for line in broken)


def test_what_is_evidence_is_known_of_faults_that_there_are() -> None:
    """No name in the table is one that no fault has."""
    assert EVIDENCE.keys() - {""} <= FAULTS.keys()


def test_shards_that_moved_are_counted(tmp_path: Path) -> None:
    """A shard that comes back to the engine that had it last has not moved; it has if another had it meanwhile."""
    fleet = Fleet("", "", tmp_path)
    told = {"one": [(1, "0, 1"), (3, "0"), (5, "0, 1")], "two": [(2, "1"), (4, "1")], "three": [(6, "")]}
    for name, lines in told.items():
        log = tmp_path / f"{name}.log"
        words = "2026-01-01T00:00:0{}.000Z INFO stepstream.runtime.kafka.fleet: shards [{}] are ours\n"
        log.write_text("".join(words.format(*line) for line in lines))
        fleet.engines.append(Member(name, [], {}, log, tmp_path))
    assert fleet.moves() == 2
