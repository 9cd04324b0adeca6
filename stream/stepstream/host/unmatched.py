"""Events from outside that start no function and wake no wait, told to whoever develops."""

import asyncio
import difflib
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from stepstream.contract.events import EventRecord, decode_stored_event, event_fields
from stepstream.contract.functions import EventTrigger, trigger_names
from stepstream.contract.history import HistoryEntry, RunBegan, StepEnded
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import Value
from stepstream.expressions.predicates import EvaluationError, holds
from stepstream.runtime.embedded.process import EmbeddedEngine
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.sdk.app import App

_PENDING_MAX = 10_000
_NAMES_MAX = 5
_LOOK_S = 0.02
_LOOKS_MAX = 500
_CODES_MAX = 1_000
_TOO_EARLY = (
    "no run waits for that name now, and an event wakes only those who wait when it comes; send it again then, or let "
    "the wait see earlier ones: App(lookback=…) and lookback=…"
)


class UnmatchedEventReporter:
    """The engine as the HTTP API knows it, which tells in a line of each event that nobody has heard.

    `watch` must be given every entry of history before `is_still` says that all of them were.
    """

    def __init__(
        self,
        engine: EmbeddedEngine,
        index: RunIndex,
        app: App,
        is_still: Callable[[], Awaitable[bool]],
        tell: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._index = index
        self._app = app
        self._is_still = is_still
        self._tell = tell
        self._pending: dict[str, EventRecord] = {}
        self._looking: asyncio.Task[None] | None = None

    @property
    def unready(self) -> str:
        """Why the engine is not ready; empty when it is."""
        return self._engine.unready

    async def send(self, events: Sequence[EventRecord]) -> list[str]:
        """Send events, and see what becomes of them."""
        ids = await self._engine.send(events)
        for id, event in zip(ids, events, strict=True):
            if len(self._pending) < _PENDING_MAX:
                self._pending[id] = event
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look())
        return ids

    async def workers(self, names: Sequence[str]) -> dict[str, int]:
        """Return of each name how many workers of it are up."""
        return await self._engine.workers(names)

    async def signal(self, name: str, data: Any = None) -> bool:
        """Send a signal."""
        return await self._engine.signal(name, data)

    async def cancel(self, run_id: str) -> bool:
        """Cancel a run."""
        return await self._engine.cancel(run_id)

    def watch(self, entry: HistoryEntry) -> None:
        """Take note of an event that was heard."""
        match entry:
            case RunBegan(events=events):
                for event in events:
                    self._pending.pop(event.id, None)
            case StepEnded(kind=StepKind.WAIT, outcome=Value(data)) if self._pending:
                self._pending.pop(decode_stored_event(data).id, None)

    async def _look(self) -> None:
        """Tell of the events that are left when nothing is on its way; where that never is, tell nothing."""
        for _ in range(_LOOKS_MAX):
            await asyncio.sleep(_LOOK_S)
            if await self._is_still():
                break
        else:
            self._pending.clear()
        unmatched, self._pending = self._pending, {}
        waited = self._index.awaited_events() if unmatched else set()
        lines = Counter(self._reason(id, event, waited) for id, event in unmatched.items())
        for line, times in lines.items():
            self._tell(line if times == 1 else f"{line} ({times:,} times)")

    def _reason(self, id: str, event: EventRecord, waited: set[str]) -> str:
        triggers = [
            (function.id, trigger)
            for function in self._app
            for trigger in function.triggers
            if isinstance(trigger, EventTrigger)
        ]
        own = set(trigger_names(event.name))
        conditions = [(name, trigger.condition) for name, trigger in triggers if trigger.event in own]
        if conditions and event.id and self._index.list(event_id=id, limit=1):
            reason = f"the id {id!r} came before; each starts a function once in 24 h"
        elif conditions:
            reason = "; ".join(f"{name}: {_unmet(condition, event)}" for name, condition in conditions)
        elif event.name in waited:
            reason = "runs wait for that name, but their match= or if_= does not hold, or it came before they did"
        elif any(mentions(function.handler, event.name) for function in self._app):
            reason = _TOO_EARLY
        else:
            reason = near_names(event.name, {trigger.event for _, trigger in triggers} | waited)
        return f"event {event.name!r} starts no function and wakes no wait: {reason}"


def _unmet(condition: str, event: EventRecord) -> str:
    """Return why a trigger's condition let an event go: it is not so, or the event has not what it asks for."""
    try:
        holds(condition, {"event": event_fields(event)})
    except EvaluationError as error:
        return f"the condition {condition} cannot be told of this event: {error}"
    return f"the condition {condition} does not hold"


def mentions(handler: Callable[..., Any], text: str) -> bool:
    """Tell whether a text stands in the code of a function, in what it calls in its module, or in a constant there."""
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
    """Return what to say of a name that nobody listens to: those that are near, or else those that there are."""
    names = sorted(known)
    if near := difflib.get_close_matches(name, names, _NAMES_MAX):
        return f"nothing listens to that name; did you mean {' or '.join(map(repr, near))}?"
    if not names:
        return "nothing listens to any event; write @app.function(on(…)) above a function"
    more = ", …" if len(names) > _NAMES_MAX else ""
    return f"nothing listens to that name, only to {', '.join(map(repr, names[:_NAMES_MAX]))}{more}"
