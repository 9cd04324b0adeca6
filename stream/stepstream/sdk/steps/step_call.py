"""A step that was called: what the code awaits, and how its outcome becomes a value."""

import inspect
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextvars import ContextVar
from typing import Any, Generic, NoReturn, TypeVar

from stepstream.contract.codec import Raw
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import decode_stored_event
from stepstream.contract.ids import StepHash
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, TimedOut, Value
from stepstream.sdk.errors import StepError, StepUsageError
from stepstream.sdk.event import Event, from_record
from stepstream.sdk.replay.calls import Call
from stepstream.sdk.replay.replay import Replay
from stepstream.sdk.values import ReturnType, load_value

T = TypeVar("T")
StepObserver = Callable[[str, Call, Mapping[str, Any]], None]
# A test that compares a run with its replay sets it: it receives the run id, each step that the code awaits, and what
# the code passes to it.
step_observer: ContextVar[StepObserver | None] = ContextVar("stepstream_step_observer", default=None)


class StepCall(Coroutine[Any, Any, T], Generic[T]):
    """A step that was called: await it once, or pass it to `asyncio.gather`, a `TaskGroup` or `ctx.group`.

    It gets its identity when it is called, and starts when it is first awaited.
    """

    is_step = True

    def __init__(
        self,
        replay: Replay,
        step_id: str,
        call_of: Callable[[StepHash], Call],
        value_of: Callable[[Call, Outcome], T],
        arguments: Mapping[str, Any],
    ) -> None:
        self._replay = replay
        self._step_id = step_id
        self._call_of = call_of
        self._value_of = value_of
        self._arguments = arguments
        self.group = ""
        self._code: Coroutine[Any, Any, T] | None = None
        self._created = replay.steps.created(step_id)

    def __hash__(self) -> int:
        # A set of steps, as in asyncio.as_completed, is iterated in the same order in every replay.
        return self._created.number

    async def _run(self) -> T:
        call = self._discover(self._call_of)
        return self._value_of(call, await self._replay.result(call))

    def _discover(self, call_of: Callable[[StepHash], Call]) -> Call:
        call = self._replay.steps.discover(self._created, call_of, self.group, self._arguments)
        if observe := step_observer.get():
            observe(self._replay.run_id, call, self._arguments)
        return call

    def take_stored(self) -> tuple[T] | None:
        """Return the value of the step if its stored result is the next one that the code gets, None otherwise.

        A thread calls this while it runs the code alone: most steps of a replay need no switch to the event loop.
        """
        found = self._replay.steps.stored_next(self._created, self._call_of, self._arguments)
        if found is None:
            return None
        call = self._discover(lambda _: found)
        return (self._value_of(call, self._replay.take_next(call)),)

    def _started(self) -> Coroutine[Any, Any, T]:
        if self._code is None:
            self._code = self._run()
        elif inspect.getcoroutinestate(self._code) == inspect.CORO_CLOSED:
            self._refuse_again()
        return self._code

    def _refuse_again(self) -> NoReturn:
        raise StepUsageError(
            f"step {self._step_id!r} is awaited twice; keep its result in a variable, or call the step again"
        )

    def send(self, value: Any) -> Any:
        """Resume the step, as a coroutine."""
        return self._started().send(value)

    def throw(self, *args: Any) -> Any:
        """Raise inside the step, as a coroutine.

        A task that is cancelled before it starts throws here: its step was not forgotten.
        """
        if self._code is None:
            self._replay.steps.dismissed(self._created)
        return self._started().throw(*args)

    def close(self) -> None:
        """Close the step, as a coroutine; one that has not started does not count as forgotten."""
        if self._code is not None:
            self._code.close()
        else:
            self._replay.steps.dismissed(self._created)

    def __await__(self) -> Generator[Any, Any, T]:
        if self._code is not None:
            self._refuse_again()
        return self._started().__await__()

    @property
    def cr_await(self) -> Any:
        """What the step awaits; coroutines have the same attribute."""
        return self._code

    @property
    def cr_code(self) -> Any:
        """The code of the step; coroutines have the same attribute."""
        return StepCall._run.__code__


def plain_value(call: Call, outcome: Outcome) -> Any:
    """Return the value of a step, None for one that timed out; raise StepError for one that failed."""
    match outcome:
        case Value(data):
            return loaded_value(call, data, call.returns)
        case Failure(error):
            raise StepError(call.id, error)
        case TimedOut():
            return None


def event_value(call: Call, outcome: Outcome) -> Event | None:
    """Return the event that a step waited for, None if it timed out; raise StepError if it failed."""
    if isinstance(outcome, Value):
        return from_record(decode_stored_event(outcome.data))
    plain_value(call, outcome)
    return None


def loaded_value(call: Call, data: Raw, returns: ReturnType) -> Any:
    """Return a stored value as its declared type; raise StepError if it does not fit."""
    try:
        return load_value(data, returns)
    except InvalidInput as error:
        message = (
            f"the stored result does not fit the type that the step declares now: {error}; "
            "let the type accept earlier results, or give the step another id"
        )
        raise StepError(call.id, ErrorInfo("ResultTypeError", message, "", "result-type")) from None
