"""Reports events from outside that start no function and resume no wait to the developer who sent them."""

import asyncio
import difflib
import inspect
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from stepstream.api.facade import SendEvents
from stepstream.contract.events import EventRecord, decode_stored_events, event_fields
from stepstream.contract.functions import EventTrigger, FunctionRegistered, trigger_names
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, StepEnded
from stepstream.contract.kinds import StepKind
from stepstream.contract.limits import Limits
from stepstream.contract.outcomes import Value
from stepstream.expressions.predicates import EvaluationError, holds
from stepstream.runtime.overview import UnmatchedEvent
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.sdk.app import App

# How many events that matched nothing are kept for the page.
LATEST_MAX = 100
_PENDING_MAX = 10_000
_NAMES_MAX = 5
_POLL_S = 0.02
_POLLS_MAX = 500
_CODES_MAX = 1_000
_TOO_EARLY = (
    "no run waits for that name now, and an event resumes only waits that are open when it arrives; send it again "
    "later, or let the wait look back: App(lookback=…) and lookback=…"
)


class UnmatchedEventReporter:
    """Sends events, and reports in one line each event that matched nothing.

    `functions` returns all registered functions; the code of those of `app` is read too. `watch` must have been given
    every history entry by the time `is_idle` returns True.
    """

    def __init__(
        self,
        send: SendEvents,
        index: RunIndex,
        functions: Callable[[], Iterable[FunctionRegistered]],
        is_idle: Callable[[], Awaitable[bool]],
        report: Callable[[str], None],
        app: App | None = None,
    ) -> None:
        self._send = send
        self._index = index
        self._functions = functions
        self._app = app
        self._is_idle = is_idle
        self._report = report
        self._pending: dict[str, EventRecord] = {}
        self._checking: asyncio.Task[None] | None = None
        self._latest = deque[UnmatchedEvent](maxlen=LATEST_MAX)

    def unmatched(self) -> list[UnmatchedEvent]:
        """Return the latest events that matched nothing since the process started, the newest first."""
        return list(reversed(self._latest))

    async def send(self, events: Sequence[EventRecord], *, limits: Limits | None = None) -> list[str]:
        """Send events, and check in the background what they matched."""
        ids = await self._send(events, limits=limits)
        for id, event in zip(ids, events, strict=True):
            if len(self._pending) < _PENDING_MAX:
                self._pending[id] = event
        if self._checking is None or self._checking.done():
            self._checking = asyncio.ensure_future(self._check())
        return ids

    def watch(self, entry: HistoryEntry) -> None:
        """Note the events that an entry of history shows as matched."""
        match entry:
            case RunBegan(events=events):
                for event in events:
                    self._pending.pop(event.id, None)
            case RunEnded(cancelled_by=event) if event:
                self._pending.pop(event.id, None)
            case StepEnded(kind=StepKind.WAIT, outcome=Value(data)) if self._pending:
                for event in decode_stored_events(data).values():
                    self._pending.pop(event.id, None)

    async def _check(self) -> None:
        """Once the engine is idle, report the events that are still pending; report none if it never is idle."""
        for _ in range(_POLLS_MAX):
            await asyncio.sleep(_POLL_S)
            if await self._is_idle():
                break
        else:
            self._pending.clear()
        unmatched, self._pending = self._pending, {}
        awaited = self._index.awaited_events() if unmatched else set()
        reasons = {id: self._reason(id, event, awaited) for id, event in unmatched.items()}
        now_ms = round(time.time() * 1_000)
        self._latest += (UnmatchedEvent(id, unmatched[id].name, now_ms, reason) for id, reason in reasons.items())
        lines = Counter(
            f"event {unmatched[id].name!r} starts no function and resumes no wait: {reason}"
            for id, reason in reasons.items()
        )
        for line, times in lines.items():
            self._report(line if times == 1 else f"{line} ({times:,} times)")

    def _reason(self, id: str, event: EventRecord, awaited: set[str]) -> str:
        functions = [function for function in self._functions() if not function.retired]
        triggers = [
            (function.id, trigger)
            for function in functions
            for trigger in function.triggers
            if isinstance(trigger, EventTrigger)
        ]
        own = set(trigger_names(event.name))
        conditions = [(name, trigger.condition) for name, trigger in triggers if trigger.event in own]
        if conditions and event.id and self._index.list(event_id=id, limit=1):
            reason = f"an event with the id {id!r} arrived before; each id starts a function once in 24 h"
        elif conditions:
            reason = "; ".join(f"{name}: {_unmet(condition, event)}" for name, condition in conditions)
        elif cancelled := [each.id for each in functions for rule in each.cancel_on if rule.event == event.name]:
            reason = f"it would cancel runs of {' and '.join(dict.fromkeys(cancelled))}, but no open run matches"
        elif event.name in awaited:
            reason = "runs wait for that name, but for other data, or the event came before the wait"
        elif any(mentions(function.handler, event.name) for function in self._app or ()):
            reason = _TOO_EARLY
        else:
            cancelling = {rule.event for function in functions for rule in function.cancel_on}
            reason = near_names(event.name, {trigger.event for _, trigger in triggers} | awaited | cancelling)
        return reason


def _unmet(condition: str, event: EventRecord) -> str:
    """Return why a trigger's condition refused an event: it is false, or it cannot be evaluated on this event."""
    try:
        holds(condition, {"event": event_fields(event)})
    except EvaluationError as error:
        return f"the condition {condition} fails on this event: {error}"
    return f"the condition {condition} is false"


def mentions(handler: Callable[..., Any], text: str) -> bool:
    """Return whether the code of a function, or a function of its module that it calls, has a text as a constant."""
    module, pending, seen = getattr(handler, "__module__", ""), [inspect.unwrap(handler)], set[int]()
    while pending and len(seen) < _CODES_MAX:
        function = pending.pop()
        codes = [code] if (code := getattr(function, "__code__", None)) else []
        for at in codes:
            seen.add(id(at))
            if text in at.co_consts or any(isinstance(each, tuple) and text in each for each in at.co_consts):
                return True
            codes += [each for each in at.co_consts if inspect.iscode(each)]
            named = [function.__globals__.get(name) for name in at.co_names]
            if text in (each for each in named if isinstance(each, str)):
                return True
            pending += [
                each
                for each in named
                if inspect.isfunction(each) and each.__module__ == module and id(each.__code__) not in seen
            ]
    return False


def near_names(name: str, known: Iterable[str]) -> str:
    """Return what to say about a name that nothing listens to: the similar names, else the names that exist."""
    names = sorted(known)
    if near := difflib.get_close_matches(name, names, _NAMES_MAX):
        return f"nothing listens to that name; did you mean {' or '.join(map(repr, near))}?"
    if not names:
        return "nothing listens to any event; write @app.function(on(…)) above a function"
    more = ", …" if len(names) > _NAMES_MAX else ""
    return f"nothing listens to that name; known names are {', '.join(map(repr, names[:_NAMES_MAX]))}{more}"
