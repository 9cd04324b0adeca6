"""The limits that a run and its steps have passed, as the read model keeps them and people read them."""

import pytest

from stepstream.contract.codec import Raw
from stepstream.contract.gates import PassedGate
from stepstream.contract.history import (
    HistoryEntry,
    RunAdmitted,
    RunEnded,
    RunWoken,
    StepAttemptFailed,
    StepCancelled,
    StepEnded,
)
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.outcomes import ErrorInfo, Value
from stepstream.runtime.readmodel.passed_limits import LimitDecision, PassedLimit, passed_sentence
from tests.runtime.readmodel.conftest import NewTables
from tests.runtime.readmodel.one_run import BEGAN, folded

_ONE = Value(Raw(b"1"))
_AT_ONCE = (PassedGate("db"),)
_WAITED = (PassedGate("db", "acme", 7, 2, 40, 38),)
_HISTORY: list[HistoryEntry] = [
    BEGAN,
    RunAdmitted("r", 2, 1_100, 7, _WAITED),
    StepAttemptFailed("r", 3, 1_200, "s", "pay", 0, ErrorInfo("OSError"), 1_300, passed=_AT_ONCE),
    StepEnded("r", 4, 1_400, "s", "pay", StepKind.RUN, _ONE, 1, 1_350, passed=_WAITED),
    StepEnded("r", 5, 1_500, "t", "free", StepKind.RUN, _ONE, 0, 1_450),
    StepAttemptFailed("r", 6, 1_600, "u", "slow", 0, ErrorInfo("OSError"), 1_700),
    StepCancelled("r", 7, 1_650, "u", "slow", _AT_ONCE),
    RunWoken("r", 8, 1_800, 1_660),
    RunEnded("r", 9, 1_900, RunStatus.CANCELLED, "function", passed=_AT_ONCE, parked_at=1_890),
]
_PASSED, _PASSED_AT_ONCE = (PassedLimit("db", "acme", 7, 2, 40, 38),), (PassedLimit("db"),)


@pytest.mark.parametrize("size", [1, 2, 100])
def test_decisions_on_limits_are_kept(size: int, new_tables: NewTables) -> None:
    """Those of the run, and of each attempt of its steps, in order of time and however many are folded at a time."""
    run = folded(_HISTORY, size, new_tables).show("r")
    assert run is not None
    assert run.limits == (
        LimitDecision(1_100, _PASSED),
        LimitDecision(1_660, returned=True),
        LimitDecision(1_890, returned=True),
        LimitDecision(1_900, _PASSED_AT_ONCE, returned=True),
    )
    assert {step.id: step.limits for step in run.steps} == {
        "pay": (LimitDecision(1_200, _PASSED_AT_ONCE, True), LimitDecision(1_400, _PASSED, True, 1)),
        "free": (),
        "slow": (LimitDecision(1_650, _PASSED_AT_ONCE, True),),
    }


def test_a_limit_that_was_passed_is_a_sentence() -> None:
    """With the value of its key, its wait and its units, if it has them."""
    assert passed_sentence(*_PASSED_AT_ONCE) == "db: at once"
    assert passed_sentence(*_PASSED) == "db of acme: place 2, waited 7 ms, asked for 40 units, used 38"
    assert passed_sentence(PassedLimit("db", units=1)) == "db: at once, asked for 1 unit"
