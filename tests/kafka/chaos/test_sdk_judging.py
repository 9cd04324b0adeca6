"""The judge of the chaos runs with gateways detects violations: each rule is broken once, without a broker."""

import re
from collections.abc import Callable

import pytest

from stepstream.contract.codec import Raw
from stepstream.contract.events import event_record
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, StepEnded
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.outcomes import Value
from tests.kafka.chaos.faults import FAULTS
from tests.kafka.chaos.sdk_judging import (
    ANSWER,
    EVIDENCE,
    REPORTED,
    WORK,
    acknowledged,
    judge_all,
    judge_evidence,
    repeated,
)

OUTPUT = b'{"n":0,"steps":["t1","t2","t3","t4"],"echo":{"n":0,"by":"B"}}'
Runs = dict[str, list[HistoryEntry]]


def ended(run_id: str, seq: int, step: str, token: str) -> StepEnded:
    """Return the end of a step with a body, whose result is a token."""
    return StepEnded(run_id, seq, 10 * seq, f"hash-{step}", step, StepKind.RUN, Value(Raw(f'"{token}"'.encode())))


def sound() -> tuple[Runs, list[str]]:
    """Return the history of one event and what its bodies appended; the body of `left` ran twice."""
    go, call = (event_record(name, {"n": 0}) for name in ("chaos/go", "chaos/call"))
    runs: Runs = {
        "A": [
            RunBegan("A", 1, 10, WORK, "chaos", 10, (go,)),
            ended("A", 2, "first", "t1"),
            ended("A", 3, "left", "t2"),
            ended("A", 4, "right", "t3"),
            ended("A", 5, "last", "t4"),
            RunEnded("A", 6, 60, RunStatus.COMPLETED, WORK, Raw(OUTPUT)),
        ],
        "B": [
            RunBegan("B", 1, 15, ANSWER, "chaos", 15, (call,)),
            ended("B", 2, "answered", "t5"),
            RunEnded("B", 3, 25, RunStatus.COMPLETED, ANSWER, Raw(b'"t5"')),
        ],
    }
    seen = ["A first t1", "A left t0 t1", "A left t2 t1", "A right t3 t1", "A last t4 t1 t2 t3", "B answered t5"]
    return runs, seen


def lose_a_run(runs: Runs, _lines: list[str]) -> None:
    """The run that an accepted event starts does not exist."""
    del runs["B"]


def start_twice(runs: Runs, _lines: list[str]) -> None:
    """An event has two runs of a function."""
    runs["C"] = runs["B"]


def end_twice(runs: Runs, _lines: list[str]) -> None:
    """A run ends twice."""
    runs["B"] += runs["B"]


def fail(runs: Runs, _lines: list[str]) -> None:
    """A run fails."""
    runs["B"][-1] = RunEnded("B", 3, 25, RunStatus.FAILED, ANSWER)


def keep_two_results(runs: Runs, _lines: list[str]) -> None:
    """A step has two results."""
    runs["B"].insert(2, ended("B", 3, "answered", "t6"))


def return_another_result(runs: Runs, lines: list[str]) -> None:
    """The code saw a result that is not the stored one."""
    runs["A"][-1] = RunEnded("A", 6, 60, RunStatus.COMPLETED, WORK, Raw(OUTPUT.replace(b"t2", b"t0")))


def wake_by_another_run(runs: Runs, _lines: list[str]) -> None:
    """The event that woke the run is not that of the run which it called."""
    runs["A"][-1] = RunEnded("A", 6, 60, RunStatus.COMPLETED, WORK, Raw(OUTPUT.replace(b'"B"', b'"C"')))


def run_no_body(_runs: Runs, lines: list[str]) -> None:
    """A result is of no body that ran."""
    lines.remove("B answered t5")


def show_another_result(_runs: Runs, lines: list[str]) -> None:
    """A body saw the result of another attempt."""
    lines[lines.index("A last t4 t1 t2 t3")] = "A last t4 t1 t0 t3"


HARMS = {
    lose_a_run: "0 runs of chaos-answer",
    start_twice: "2 runs of chaos-answer",
    end_twice: "does not end once",
    fail: "B: ended as failed",
    keep_two_results: "has 2 results",
    return_another_result: "A: returned",
    wake_by_another_run: "A: returned",
    run_no_body: "of answered is of no body",
    show_another_result: "last saw",
}


def test_judge_accepts_a_sound_history() -> None:
    """A body that ran twice is no violation: the result of one of its attempts counts."""
    runs, lines = sound()
    assert judge_all(runs, lines, 1) == []
    assert repeated(lines) == 1


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_judge_rejects_a_violation(harm: Callable[[Runs, list[str]], None]) -> None:
    """It says which rule is broken."""
    runs, lines = sound()
    harm(runs, lines)
    broken = "\n".join(judge_all(runs, lines, 1))
    assert re.search(HARMS[harm], broken), broken


def test_judge_accepts_steps_that_are_acknowledged() -> None:
    """The lines about them are no bodies."""
    runs, lines = sound()
    lines.append("A acknowledged:first t1")
    assert judge_all(runs, lines, 1) == []
    assert (acknowledged(lines), repeated(lines)) == ({("A", "first"): (6, "t1")}, 1)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["A acknowledged:first t9"], "the result t9 of first was acknowledged, and t1 is stored"),
        (["A acknowledged:lost t9"], "the result t9 of lost was acknowledged, and None is stored"),
        (["A acknowledged:first t1", "A first t9"], "first ran again after its report was acknowledged"),
    ],
)
def test_judge_rejects_an_acknowledgement_that_does_not_hold(more: list[str], reason: str) -> None:
    """The acknowledged result is stored, and the body does not run again."""
    runs, lines = sound()
    assert any(reason in line for line in judge_all(runs, lines + more, 1))


def test_app_that_reports_sees_the_results_of_all_earlier_steps() -> None:
    """Parallel steps see those before both."""
    assert REPORTED[WORK]["left"] == REPORTED[WORK]["right"] == ("first", "second", "third")
    assert REPORTED[WORK]["fourth"] == ("first", "second", "third", "left", "right")


def test_run_whose_faults_broke_nothing_is_no_evidence() -> None:
    """Each fault that struck has a figure, and each name is the name of a fault."""
    assert EVIDENCE.keys() <= FAULTS.keys()
    figures = dict.fromkeys(EVIDENCE.values(), 1)
    assert list(judge_evidence(EVIDENCE, figures)) == []
    (line,) = judge_evidence(EVIDENCE, {**figures, "gateways killed": 0})
    assert line == "there are 0 gateways killed after gateway: this run is no evidence"
    assert list(judge_evidence({"app"}, {**figures, "gateways killed": 0})) == []
