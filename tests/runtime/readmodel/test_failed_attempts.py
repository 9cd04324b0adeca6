"""The attempts of the code between steps that failed, as a run lists them."""

import pytest

from stepstream.contract.codec import Raw
from stepstream.contract.history import RunAttemptFailed, StepEnded
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import ErrorInfo, Value
from tests.runtime.readmodel.conftest import NewTables
from tests.runtime.readmodel.one_run import BEGAN, folded


@pytest.mark.parametrize("size", [1, 3, 100])
def test_failed_attempts_of_the_code_are_kept(size: int, new_tables: NewTables) -> None:
    """Those before a step, and those after it, which count from 0 again."""
    error = ErrorInfo("OSError", "away\nat line 2", "Traceback")
    first = [RunAttemptFailed("r", 2 + n, 2_000 + n, n, error, 3_000 + n) for n in range(2)]
    step = StepEnded("r", 4, 4_000, "s", "pay", StepKind.RUN, Value(Raw(b"1")), 0, 3_500)
    later = RunAttemptFailed("r", 5, 5_000, 0, error, 6_000)
    index = folded([BEGAN, *first, step, later], size, new_tables)
    run = index.show("r")
    assert run is not None
    assert [(each.attempt, each.at, each.retry_at) for each in run.failures] == [
        (0, 2_000, 3_000),
        (1, 2_001, 3_001),
        (0, 5_000, 6_000),
    ]
    assert {(each.name, each.message, each.stack) for each in run.failures} == {("OSError", "away", "Traceback")}
    index.close()


@pytest.mark.parametrize("size", [1, 500])
def test_failed_attempts_of_the_code_are_bounded(size: int, new_tables: NewTables) -> None:
    """A run of many steps may fail after each of them."""
    error = ErrorInfo("OSError", "away", "x" * 4_000)
    failed = [RunAttemptFailed("r", 2 + n, 2_000 + n, 0, error, 3_000 + n) for n in range(100)]
    index = folded([BEGAN, *failed], size, new_tables)
    run = index.show("r")
    assert run is not None
    assert 20 < len(run.failures) < 30
    index.close()
