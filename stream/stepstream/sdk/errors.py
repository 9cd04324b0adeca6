"""The errors that functions raise and catch; each message says what to do about it."""

import re
import sysconfig
import traceback
from datetime import datetime
from pathlib import Path
from typing import Any

from stepstream.contract.codec import NULL, Raw
from stepstream.contract.errors import InvalidInput, StepstreamError
from stepstream.contract.limits import (
    ERROR_MESSAGE_CHARACTERS_MAX,
    ERROR_STACK_CHARACTERS_MAX,
    RETRY_AFTER_MS_MAX,
    RETRY_AFTER_MS_MIN,
)
from stepstream.contract.outcomes import ErrorInfo
from stepstream.contract.text.durations import Duration, duration_ms, moment_ms


class StepError(StepstreamError):
    """A step has failed for good: it has no attempts left, or another attempt cannot help.

    The function may catch it and continue; uncaught, it fails the run without a retry. A replay raises it again at the
    same step.

    Attributes:
        step_id: The id of the step.
        name: The class name of the last error, for example `ValueError`.
        message: Its message.
        stack: Its traceback as text; empty if the engine found the error.
        code: `step-error` for an error that the step's own code raised, the `code` of that error if it is a
            `StepstreamError`, or one of the codes below.

    | code | the step |
    | --- | --- |
    | `step-timeout` | took longer than `options(timeout=)` in its last attempt |
    | `heartbeat-timeout` | sent no heartbeat for `options(heartbeat_timeout=)` in its last attempt |
    | `not-json` | returned a value that JSON cannot represent without loss |
    | `output-too-large` | returned more than 4 MiB |
    | `token-budget` | would ask a model in a run that has used its `ai_budget` of tokens |
    | `unfit-answer` | asked a model, whose answer did not fit `output_type` in the last attempt |
    | `result-type` | has a stored result that does not fit the return type that its callable declares now |
    | `queue-not-found` | names a queue that the registered app does not have |
    | `invoke-timeout` | invoked a run that did not end within `timeout=`; that run continues |
    | `function-not-found` | invoked a function that is not registered |
    | `chain-limit` | sends events or invokes a function in the last run of a chain, see `App(chain_max=)` |
    | `invoked-run-failed` | invoked a run that failed |
    | `run-cancelled` | invoked a run that was cancelled |
    | `signal-conflict` | waits for a signal that another run waits for |
    | `invalid-approval` | waits for an approval, and got a signal without a decision |
    | `invalid-request` | waits for a request, and got a signal without one |
    | `signal-replaced` | waited for a signal until another run with `on_conflict="replace"` took its place |
    | `invalid-expression` | has a `match=` or `if_=` that cannot be evaluated with the event that started the run |
    | `expression-limit` | has a `match=` or `if_=` that captures too much of the event that started the run |

    Example:
        ```python
        try:
            receipt = await ctx.step.run("charge", charge, order)
        except StepError as error:
            await ctx.step.run("apologize", apologize, error.message)
        ```
    """

    def __init__(self, step_id: str, error: ErrorInfo) -> None:
        super().__init__(f"step {step_id!r}: {error.name}: {error.message}")
        self.step_id = step_id
        self.name = error.name
        self.message = error.message
        self.stack = error.stack
        self.code = error.code or "step-error"
        self.info = error

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what pickles and copies the error."""
        return StepError, (self.step_id, self.info)


class NonRetriableError(StepstreamError):
    """Raise it in a step or in a function when a retry cannot help: no further attempt is made.

    Example:
        ```python
        async def charge(order: dict) -> str:
            if order["total"] <= 0:
                raise NonRetriableError(f"order {order['id']} has no total")
        ```
    """

    code = "non-retriable"


class ChainLimitError(NonRetriableError):
    """The last run of a chain of runs that started one another called `App.send` or `App.signal_with_start`."""

    code = "chain-limit"

    def __init__(self, app: str, longest: int) -> None:
        super().__init__(
            f"this run is the last of a chain of {longest} runs that started one another, which is the limit of app "
            f"{app!r}; end the loop by a condition, or set App({app!r}, chain_max=)"
        )


class RetryAfterError(StepstreamError):
    """Raise it in a step or in a function to set the time of the next attempt in place of the back-off.

    Args:
        message: What went wrong.
        after: A duration (`"30s"`, a `timedelta`, a number of seconds) or a `datetime`; one without a time zone is in
            UTC. A delay below 1 s becomes 1 s, and one above 24 h becomes 24 h.

    The attempt counts: after the last one there is no retry. Raises `InvalidDuration` for a duration that
    cannot be read.

    Example:
        ```python
        if response.status_code == 429:
            raise RetryAfterError("rate limited", response.headers["Retry-After"] + "s")
        ```
    """

    code = "retry-after"

    def __init__(self, message: str, after: datetime | Duration) -> None:
        super().__init__(message)
        if not isinstance(after, datetime):
            duration_ms(after)  # An invalid one is refused here, in the code that made it.
        self.after = after

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what pickles and copies the error."""
        return RetryAfterError, (str(self), self.after)

    def delay_ms(self, now_ms: int) -> int:
        """Return how long to wait from `now_ms` (Unix ms, the engine's clock), in milliseconds, within the bounds."""
        after = self.after
        delay = moment_ms(after) - now_ms if isinstance(after, datetime) else duration_ms(after)
        return min(max(delay, RETRY_AFTER_MS_MIN), RETRY_AFTER_MS_MAX)


class ForeignError(StepstreamError):
    """An SDK of another language reported this error; `raw` is its error object, null if there is none."""

    code = "foreign"

    def __init__(self, info: ErrorInfo, raw: Raw = NULL) -> None:
        StepstreamError.__init__(self, info.message)  # Not that of a second base.
        self.info = info
        self.raw = raw


class FinalForeignError(ForeignError, NonRetriableError):
    """No attempt follows an error that an SDK of another language reported.

    It is `non_retriable` if the SDK says so, and not because the step has no attempts left.
    """

    def __init__(self, info: ErrorInfo, raw: Raw = NULL, *, non_retriable: bool = True) -> None:
        super().__init__(info, raw)
        self.non_retriable = non_retriable


class DelayedForeignError(ForeignError, RetryAfterError):
    """An SDK of another language reported an error and the time of the next attempt."""

    def __init__(self, info: ErrorInfo, raw: Raw, after: datetime | Duration) -> None:
        super().__init__(info, raw)
        self.after = after


class DefinitionError(StepstreamError, ValueError):
    """An app, a function, a trigger or a source is defined in a way that cannot work; raised where it is defined."""

    code = "definition"


class TokenBudgetError(NonRetriableError):
    """The run has used the tokens of `@app.function(ai_budget=)`."""

    code = "token-budget"


class StepUsageError(NonRetriableError):
    """A step is used in a way that cannot work: inside another step, without `await`, twice under one identity."""

    code = "step-usage"


class HistoryMismatchError(StepstreamError):
    """The code of a run does not fit its history, so that it would repeat or mix up side effects.

    The code does not see this error: the run stops where it is, gets a warning, and is retried without limit until
    code that fits is deployed.
    """

    code = "history-mismatch"


class StepTimeoutError(StepstreamError, TimeoutError):
    """An attempt of a step took longer than `options(timeout=)`; it is retried like any other error."""

    code = "step-timeout"

    def __init__(self, timeout_ms: int) -> None:
        super().__init__(
            f"the attempt took longer than its limit of {timeout_ms / 1_000:g} s; "
            "raise timeout= of step.options, or split the step"
        )
        self.timeout_ms = timeout_ms

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what pickles and copies the error."""
        return StepTimeoutError, (self.timeout_ms,)


class HeartbeatTimeoutError(StepstreamError, TimeoutError):
    """A body sent no heartbeat for `options(heartbeat_timeout=)`; its attempt is retried like after any other error."""

    code = "heartbeat-timeout"

    def __init__(self, timeout_ms: int) -> None:
        super().__init__(
            f"the body sent no heartbeat for {timeout_ms / 1_000:g} s; "
            "call ctx.heartbeat() more often, or raise heartbeat_timeout= of step.options"
        )
        self.timeout_ms = timeout_ms

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what pickles and copies the error."""
        return HeartbeatTimeoutError, (self.timeout_ms,)


class StepLimitError(NonRetriableError):
    """The run has reached its limit of steps (1,000); the run fails, even if the function catches this error."""

    code = "step-limit"


_INTERRUPTED = (
    "the run is suspended here and continues later from its first line, with the results of its steps; this is not an "
    "error: catch Exception or StepError, not BaseException"
)


class RunInterrupted(BaseException):
    """Unwinds the code of a waiting run that its worker drops from memory. It is not an error, and must not be caught.

    The worker needs the memory or the thread elsewhere. The run continues later, perhaps in another process: the
    function runs again from its first line, and finished steps return their stored results. It derives from
    `BaseException`, so `except Exception` does not catch it. Code in a `finally` or a `with` may run at each wait, not
    only at the end.

    Don't:
        ```python
        try:
            ctx.step.sleep("cool-off", "1h")
        except:  # also catches RunInterrupted
            ctx.step.run("alert", alert)
        finally:
            release(ctx.event.data["item"])  # runs while the order still waits
        ```

    Do:
        ```python
        try:
            ctx.step.sleep("cool-off", "1h")
        except Exception:
            ctx.step.run("alert", alert)
        ctx.step.run("release", release, ctx.event.data["item"])
        ```
    """

    def __init__(self, message: str = _INTERRUPTED) -> None:
        super().__init__(message)


class ContinuedAsNew(BaseException):
    """Unwinds the code of a run that continues as new (`ctx.continue_as_new`). It must not be caught."""

    def __init__(self, data: Raw) -> None:
        super().__init__("the run ends here, and its successor begins: catch Exception or StepError, not BaseException")
        self.data = data


_FRAME = re.compile(r'^[ |]*File "(.+)", line (\d+)', re.MULTILINE)
_OURS = str(Path(__file__).parent.parent)
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


def stack_of(error: BaseException) -> str:
    """Return the traceback of an error as text, from the user's first frame on and without frames of stepstream."""
    report = traceback.TracebackException.from_exception(error)
    pending = [report]
    while pending:  # Not recursive: a chain of errors may be longer than Python's stack.
        part = pending.pop()
        _keep_frames_of_users(part.stack)
        pending += filter(None, (part.__cause__, part.__context__, *(part.exceptions or ())))
    return "".join(report.format())


def _keep_frames_of_users(stack: traceback.StackSummary) -> None:
    foreign = [frame for frame in stack if not frame.filename.startswith(_OURS)]
    # The frames that call the user's code belong to stepstream or the event loop; those that it calls may be a
    # library's.
    first = next((at for at, frame in enumerate(foreign) if not frame.filename.startswith((*_LIBRARIES, "<"))), 0)
    # An error that only our frames raised keeps them.
    if foreign:
        stack[:] = foreign[first:]


def place_of(stack: str) -> str:
    """Return FILE:LINE of the innermost frame that is neither in a library nor in stepstream, "" if there is none.

    `stack` is text as stack_of returns it.
    """
    frames = [found for found in _FRAME.findall(stack) if not found[0].startswith((_OURS, *_LIBRARIES, "<"))]
    return f"{Path(frames[-1][0]).name}:{frames[-1][1]}" if frames else ""


def format_error(error: ErrorInfo) -> str:
    """Return an error in one line: its name, the first line of its message, and where it was raised."""
    place = place_of(error.stack)
    message = error.message.partition("\n")[0]
    return f"{error.name}: {message}{f' ({place})' if place else ''}"


def error_info(error: BaseException, stack: str = "") -> ErrorInfo:
    """Return an exception as a record, cut to the limits of a message and a stack."""
    if isinstance(error, StepError | ForeignError):
        return error.info
    code = str(error.code) if isinstance(error, StepstreamError) else ""
    try:
        text = str(error)
    except Exception as broken:  # noqa: BLE001 - __str__ is the user's code
        text = f"(no message: its __str__ raised {type(broken).__name__})"
    message = text[:ERROR_MESSAGE_CHARACTERS_MAX].encode(errors="replace").decode()
    cut = stack[-ERROR_STACK_CHARACTERS_MAX:].encode(errors="replace").decode()
    return ErrorInfo(type(error).__name__, message, cut, code)


def raw_error(error: BaseException) -> Raw:
    """Return the error object of an SDK of another language, null for any other error."""
    return error.raw if isinstance(error, ForeignError) else NULL


def is_final(error: BaseException) -> bool:
    """Return whether another attempt cannot help; for a group, whether that holds for each of its errors."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_final(part) for part in error.exceptions)
    # The same code gives the same wrong input again.
    return isinstance(error, StepError | NonRetriableError | InvalidInput | DefinitionError)


def is_non_retriable(error: BaseException) -> bool:
    """Return whether an error says itself that another attempt cannot help."""
    return error.non_retriable if isinstance(error, FinalForeignError) else is_final(error)
