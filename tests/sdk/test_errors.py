"""Errors can be copied and pickled, and those that are shown to users say what to do."""

import copy

import pytest

from stepstream import NonRetriableError, RetryAfterError, StepError, StepLimitError, StepUsageError
from stepstream.contract.outcomes import ErrorInfo
from stepstream.sdk.errors import RunInterrupted, StepTimeoutError, format_error

ERRORS: list[BaseException] = [
    StepError("charge", ErrorInfo("ValueError", "no", "stack", "invoke-timeout")),
    StepTimeoutError(1_500),
    RetryAfterError("busy", "30s"),
    NonRetriableError("no"),
    StepUsageError("no"),
    StepLimitError("no"),
    RunInterrupted(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_can_be_copied_and_pickled(error: BaseException) -> None:
    """An error that crosses a process, as in a pool or a test runner, keeps its message and its fields.

    `copy` and the pickle protocol rebuild an object by the same method.
    """
    other = copy.copy(error)
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other).keys() == vars(error).keys()
    assert getattr(other, "info", None) == getattr(error, "info", None)


def test_the_interrupt_says_what_to_catch_instead() -> None:
    """RunInterrupted is raised without a message of its own; users who log it read the remedy."""
    assert "catch Exception or StepError, not BaseException" in str(RunInterrupted())
    assert not issubclass(RunInterrupted, Exception)


def test_an_error_is_formatted_in_one_line() -> None:
    """The first line of the message is shown, and no place if the stack has no frame of the user."""
    assert format_error(ErrorInfo("ValueError", "first\nsecond")) == "ValueError: first"
