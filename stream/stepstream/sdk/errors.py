"""The errors that functions raise and catch; each says what to do about it."""

import re
import sysconfig
import traceback
from datetime import datetime
from pathlib import Path

from stepstream.contract.durations import Duration, duration_ms, moment_ms
from stepstream.contract.errors import InvalidInput, StepstreamError
from stepstream.contract.limits import (
    ERROR_MESSAGE_CHARACTERS_MAX,
    ERROR_STACK_CHARACTERS_MAX,
    RETRY_AFTER_MS_MAX,
    RETRY_AFTER_MS_MIN,
)
from stepstream.contract.outcomes import ErrorInfo


class StepError(StepstreamError):
    """A step has no attempts left; the function may catch this and go on.

    `name`, `message` and `stack` are those of the last error, `code` is set for errors that the engine found itself:
    `output-too-large`, `not-json`, `invoke-timeout`, `function-not-found`, `invoked-run-failed`, `run-cancelled`,
    `signal-conflict`, `signal-replaced`, `invalid-expression`, `expression-limit`.
    """

    def __init__(self, step_id: str, error: ErrorInfo) -> None:
        super().__init__(f"step {step_id!r}: {error.name}: {error.message}")
        self.step_id = step_id
        self.name = error.name
        self.message = error.message
        self.stack = error.stack
        self.code = error.code or "step-error"
        self.info = error


class NonRetriableError(StepstreamError):
    """Raise it in a step or a function to end its attempts at once."""

    code = "non-retriable"


class RetryAfterError(StepstreamError):
    """Raise it to say when the next attempt is made: a datetime, a timedelta or text as "30s" (1 s to 24 h)."""

    code = "retry-after"

    def __init__(self, message: str, after: datetime | Duration) -> None:
        super().__init__(message)
        if not isinstance(after, datetime):
            duration_ms(after)  # A wrong one is told where it stands.
        self.after = after

    def delay_ms(self, now_ms: int) -> int:
        """Return how long to wait from `now_ms` (Unix ms, the engine's clock), in milliseconds, within the bounds."""
        after = self.after
        delay = moment_ms(after) - now_ms if isinstance(after, datetime) else duration_ms(after)
        return min(max(delay, RETRY_AFTER_MS_MIN), RETRY_AFTER_MS_MAX)


class DefinitionError(StepstreamError, ValueError):
    """A function or a trigger is defined wrongly."""

    code = "definition"


class StepUsageError(NonRetriableError):
    """A step is used in a way that cannot work: inside another step, without `await`, twice under one identity."""

    code = "step-usage"


class StepLimitError(NonRetriableError):
    """The run has as many steps as it may have; it fails, also when this error is caught."""

    code = "step-limit"


class RunInterrupted(BaseException):
    """Suspends a plain `def` function; not an Exception, so that user code does not swallow it."""


_FRAME = re.compile(r'^[ |]*File "(.+)", line (\d+)', re.MULTILINE)
_OURS = str(Path(__file__).parent.parent)
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


def stack_of(error: BaseException) -> str:
    """Return the traceback of an error as text."""
    return "".join(traceback.format_exception(error))


def place_of(stack: str) -> str:
    """Return FILE:LINE of the user's own code that is the nearest to where an error was raised; "" when there is none.

    `stack` is text as of stack_of; frames of libraries and of ours say less.
    """
    frames = [found for found in _FRAME.findall(stack) if not found[0].startswith((_OURS, *_LIBRARIES, "<"))]
    return f"{Path(frames[-1][0]).name}:{frames[-1][1]}" if frames else ""


def told(error: ErrorInfo) -> str:
    """Return an error in one line: its name, its message, and where it was raised."""
    place = place_of(error.stack)
    message = error.message.partition("\n")[0]
    return f"{error.name}: {message}{f' ({place})' if place else ''}"


def error_info(error: BaseException, stack: str = "") -> ErrorInfo:
    """Return an exception as it travels, cut to the limits."""
    if isinstance(error, StepError):
        return error.info
    code = str(error.code) if isinstance(error, StepstreamError) else ""
    try:
        text = str(error)
    except Exception as broken:  # noqa: BLE001 - the text is the user's own code
        text = f"(no text: {type(broken).__name__} in its __str__)"
    message = text[:ERROR_MESSAGE_CHARACTERS_MAX].encode(errors="replace").decode()
    cut = stack[-ERROR_STACK_CHARACTERS_MAX:].encode(errors="replace").decode()
    return ErrorInfo(type(error).__name__, message, cut, code)


def is_final(error: BaseException) -> bool:
    """Tell whether another attempt is pointless; a group is final when every error in it is."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_final(part) for part in error.exceptions)
    # What is given wrongly to a step is as wrong the next time.
    return isinstance(error, StepError | NonRetriableError | InvalidInput | DefinitionError)
