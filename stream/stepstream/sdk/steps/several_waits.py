"""The steps that wait for several events: for the first of them, or for all."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import EventRecord, decode_stored_events
from stepstream.contract.limits import EVENTS_PER_WAIT_MAX, WAIT_NAME_CHARACTERS_MAX
from stepstream.contract.outcomes import ErrorInfo, Outcome, Value
from stepstream.contract.plans import WaitBranch, WaitPlan
from stepstream.contract.text.durations import Duration
from stepstream.sdk.errors import StepError
from stepstream.sdk.event import Event, from_record
from stepstream.sdk.replay.calls import WAIT, Call
from stepstream.sdk.steps.step_call import StepCall, plain_value
from stepstream.sdk.steps.waits import Waits, check_awaited

N = TypeVar("N", bound=str)
T = TypeVar("T")

_NAME = re.compile(rf"[\w.-]{{1,{WAIT_NAME_CHARACTERS_MAX}}}")


@dataclass(frozen=True, slots=True)
class Wait:
    """One of the events that `wait_for_any` or `wait_for_all` waits for; the arguments are those of wait_for_event.

    Example:
        ```python
        paid = Wait("order.paid", match="data.order_id", lookback="1h")
        ```
    """

    event: str
    match: str = ""
    if_: str = ""
    lookback: Duration = 0


class SeveralWaits(Waits):
    """The steps of `ctx.step` that wait for several events."""

    def wait_for_any(self, id: str, waits: Mapping[N, Wait], *, timeout: Duration) -> StepCall[tuple[N, Event] | None]:
        """Wait for the first of several events; return its name in `waits` with the event, or None after `timeout`.

        Args:
            waits: 1 to 20 events by the names under which the code knows them. A name consists of letters, digits,
                `_`, `-` and `.`.
            timeout: At most 366 days.

        The first event ends all the waits: the step has one result, and later events change nothing. If
        several arrive at the same moment, one of them wins. Raises `StepError` as wait_for_event does.

        Example:
            ```python
            waits = {"paid": Wait("order.paid", "data.order_id"), "refused": Wait("order.refused", "data.order_id")}
            match await ctx.step.wait_for_any("decision", waits, timeout="7d"):
                case ("paid", event):
                    ...
            ```
        """

        def value_of(call: Call, outcome: Outcome) -> tuple[N, Event] | None:
            came = _events_of(call, outcome)
            if came is None:
                return None
            names = [name for name in waits if _text(name) in came]
            if len(came) != 1 or not names:
                raise _unfit(call, "it has other events")
            return names[0], from_record(came[_text(names[0])])

        return self._several(id, waits, timeout, value_of, every=False)

    def wait_for_all(self, id: str, waits: Mapping[N, Wait], *, timeout: Duration) -> StepCall[dict[N, Event] | None]:
        """Wait until each of several events has come; return them by their names, or None after `timeout`.

        The arguments are those of wait_for_any. One event may satisfy several of the waits. After a timeout the code
        does not get the events that came; the page shows meanwhile which are missing. Together they have at most 4 MiB,
        otherwise the step fails with the code `output-too-large`. Raises `StepError` as wait_for_event does.

        Example:
            ```python
            waits = {"paid": Wait("order.paid", "data.order_id"), "packed": Wait("parcel.packed", "data.order_id")}
            ready = await ctx.step.wait_for_all("ready", waits, timeout="7d")
            ```
        """

        def value_of(call: Call, outcome: Outcome) -> dict[N, Event] | None:
            came = _events_of(call, outcome)
            if came is None:
                return None
            if came.keys() != {_text(name) for name in waits}:
                raise _unfit(call, "it has other events")
            return {name: from_record(came[_text(name)]) for name in waits}

        return self._several(id, waits, timeout, value_of, every=True)

    def _several(
        self,
        id: str,
        waits: Mapping[N, Wait],
        timeout: Duration,
        value_of: Callable[[Call, Outcome], T],
        *,
        every: bool,
    ) -> StepCall[T]:
        timeout_ms = self._bounded(id, timeout)
        branches = self._branches(id, waits)

        def plan(call: Call) -> WaitPlan:
            return WaitPlan(call.step, id, "", timeout_ms, group=call.group, branches=branches, every=every)

        arguments = {"waits": msgspec.to_builtins(branches), "timeout_ms": timeout_ms, "every": every}
        return StepCall(self._replay, id, lambda step: Call(step, id, WAIT, plan=plan), value_of, arguments)

    def _branches(self, id: str, waits: Mapping[N, Wait]) -> tuple[WaitBranch, ...]:
        given: Any = waits
        if not isinstance(given, Mapping) or not 1 <= len(given) <= EVENTS_PER_WAIT_MAX:
            raise InvalidInput(f"give a dict of 1 to {EVENTS_PER_WAIT_MAX} waits by their names", f"step {id!r}")
        for name, wait in given.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                allowed = f"letters, digits, '_', '-' and '.', at most {WAIT_NAME_CHARACTERS_MAX}"
                raise InvalidInput(f"{name!r} is no name of a wait; use {allowed}", f"step {id!r}")
            if not isinstance(wait, Wait):
                raise InvalidInput(f"{name}: use Wait('event.name', match=…)", f"step {id!r}")
            check_awaited(id, wait.event, wait.match, wait.if_)
        return tuple(
            WaitBranch(_text(name), wait.event, wait.match, wait.if_, self._lookback_ms(id, wait.lookback))
            for name, wait in waits.items()
        )


def _text(name: str) -> str:
    """Return a name as plain text; that of an enum has another hash and another text than its value."""
    return str.__str__(name)


def _events_of(call: Call, outcome: Outcome) -> dict[str, EventRecord] | None:
    """Return the events that came, by name; None after a timeout. Raise StepError if the step failed."""
    if not isinstance(outcome, Value):
        plain_value(call, outcome)
        return None
    try:
        return decode_stored_events(outcome.data)
    except msgspec.ValidationError as error:
        raise _unfit(call, str(error)) from None


def _unfit(call: Call, reason: str) -> StepError:
    message = f"the stored result is not of these waits: {reason}; give the changed step another id"
    return StepError(call.id, ErrorInfo("ResultTypeError", message, "", "result-type"))
