"""Events from outside that start no function and wake no wait, told to whoever develops."""

import asyncio
import difflib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from stepstream.contract.events import EventRecord, decode_stored_event
from stepstream.contract.functions import EventTrigger
from stepstream.contract.history import HistoryEntry, RunBegan, StepEnded
from stepstream.contract.outcomes import Value
from stepstream.runtime.engine import EmbeddedEngine
from stepstream.runtime.index import RunIndex
from stepstream.sdk.app import App

_PENDING_MAX = 10_000
_NAMES_MAX = 5
_LOOK_S = 0.02
_LOOKS_MAX = 500


class ListeningDoor:
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
            case StepEnded(kind="wait", outcome=Value(data)) if self._pending:
                self._pending.pop(decode_stored_event(data).id, None)

    async def _look(self) -> None:
        """Tell of the events that are left when nothing is on its way; where that never is, tell nothing."""
        for _ in range(_LOOKS_MAX):
            await asyncio.sleep(_LOOK_S)
            if await self._is_still():
                break
        else:
            self._pending.clear()
        unheard, self._pending = self._pending, {}
        waited = self._index.awaited_events() if unheard else set()
        lines = Counter(self._reason(id, event, waited) for id, event in unheard.items())
        for line, times in lines.items():
            self._tell(line if times == 1 else f"{line} ({times:,} times)")

    def _reason(self, id: str, event: EventRecord, waited: set[str]) -> str:
        triggers = [
            (function.id, trigger)
            for function in self._app
            for trigger in function.triggers
            if isinstance(trigger, EventTrigger)
        ]
        conditions = [f"{name}: {trigger.condition}" for name, trigger in triggers if trigger.event == event.name]
        if conditions and event.id and self._index.list(event_id=id, limit=1):
            reason = f"the id {id!r} came before; each starts a function once in 24 h"
        elif conditions:
            reason = f"the condition does not hold ({'; '.join(conditions)})"
        elif event.name in waited:
            reason = "runs wait for that name, but their match= or if_= does not hold"
        else:
            reason = near_names(event.name, {trigger.event for _, trigger in triggers} | waited)
        return f"event {event.name!r} starts no function and wakes no wait: {reason}"


def near_names(name: str, known: Iterable[str]) -> str:
    """Return what to say of a name that nobody listens to: those that are near, or else those that there are."""
    names = sorted(known)
    if near := difflib.get_close_matches(name, names, _NAMES_MAX):
        return f"nothing listens to that name; did you mean {' or '.join(map(repr, near))}?"
    if not names:
        return "nothing listens to any event; write @app.function(on(…)) above a function"
    more = ", …" if len(names) > _NAMES_MAX else ""
    return f"nothing listens to that name, only to {', '.join(map(repr, names[:_NAMES_MAX]))}{more}"
