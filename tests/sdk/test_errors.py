"""Errors can be copied and pickled, and those that are shown to users say what to do."""

import copy
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from stepstream import (
    DefinitionError,
    NonRetriableError,
    RetryAfterError,
    StepError,
    StepLimitError,
    StepUsageError,
    on,
)
from stepstream.contract.outcomes import ErrorInfo
from stepstream.sdk.errors import HeartbeatTimeoutError, RunInterrupted, StepTimeoutError, format_error, stack_of

ERRORS: list[BaseException] = [
    StepError("charge", ErrorInfo("ValueError", "no", "stack", "invoke-timeout")),
    StepTimeoutError(1_500),
    HeartbeatTimeoutError(1_500),
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
    """RunInterrupted is raised without its own message; users who log it read the remedy."""
    assert "catch Exception or StepError, not BaseException" in str(RunInterrupted())
    assert not issubclass(RunInterrupted, Exception)


def test_an_error_is_formatted_in_one_line() -> None:
    """The first line of the message is shown, and no place if the stack has no frame of the user."""
    assert format_error(ErrorInfo("ValueError", "first\nsecond")) == "ValueError: first"


def parse(text: str) -> object:
    """Fail in a library, and with a cause."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise LookupError("no order") from error


def test_a_stack_has_the_frames_of_users_and_of_what_they_call() -> None:
    """It starts in the user's code: neither stepstream nor the thread pool that calls it is shown."""
    with ThreadPoolExecutor(1) as pool:
        error = pool.submit(parse, "[").exception()
    assert error is not None
    frames = re.findall(r'File ".*?([^/"]+)", line \d+, in (\w+)', stack_of(error))
    assert frames[0] == ("test_errors.py", "parse")
    assert ("decoder.py", "decode") in frames
    assert frames[-1] == ("test_errors.py", "parse")
    assert "thread.py" not in dict(frames)
    with pytest.raises(DefinitionError) as caught:
        on("")
    assert [place for place, _ in re.findall(r'File ".*?([^/"]+)", line \d+, in (\w+)', stack_of(caught.value))] == [
        "test_errors.py"
    ]


def test_stack_of_an_error_with_a_long_chain() -> None:
    """Code that raises while it handles an error, over and over, has an error with any number of contexts."""
    error = ValueError("first")
    for number in range(3_000):
        following = ValueError(str(number))
        following.__context__ = error
        error = following
    assert stack_of(error).startswith("ValueError: first\n")
