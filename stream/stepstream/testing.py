"""For users' own tests: a whole engine in memory whose time moves only when told to."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from stepstream.contract.durations import Duration, duration_ms
from stepstream.contract.history import HistoryEntry
from stepstream.contract.limits import DEFAULT_LIMITS, RUNS_CACHED_MAX, Limits
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.engine import EmbeddedEngine
from stepstream.runtime.index import RunIndex, RunView, StepView
from stepstream.runtime.journal import MemoryJournal
from stepstream.runtime.rocks import RocksJournal
from stepstream.sdk.app import App
from stepstream.sdk.calls import Call
from stepstream.sdk.event import Event, to_record
from stepstream.sdk.execution import Bodies
from stepstream.sdk.function import Function

__all__ = ["RunView", "StepView", "VirtualEngine"]

START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


class VirtualEngine:
    """A running engine for tests, as an async context manager: real engine, real steps, virtual time.

    `stubs` take the place of the bodies of steps, by (function id, step id). With `data_dir` it is durable, `shards`
    spreads it, `live_cache=False` replays every function from the top at each turn.
    """

    def __init__(
        self,
        *apps: App,
        stubs: Mapping[tuple[str, str], Callable[..., Any]] | None = None,
        shards: int = 1,
        live_cache: bool = True,
        runs_cached_max: int = RUNS_CACHED_MAX,
        limits: Limits = DEFAULT_LIMITS,
        data_dir: Path | None = None,
        now_ms: int = START_MS,
        wrap: Callable[[str, Any], Any] | None = None,
        before_step: Callable[[str, Call], None] | None = None,
    ) -> None:
        self.clock = VirtualClock(now_ms)
        self.history: list[HistoryEntry] = []
        self._stack = AsyncExitStack()
        if data_dir is not None and shards != 1:
            raise ValueError("a durable engine has one shard")
        self.journal = RocksJournal(data_dir / "db") if data_dir else MemoryJournal(shards)
        self.index = index = RunIndex(data_dir / "runs.sqlite" if data_dir else None)
        self._stack.callback(self.journal.close)
        self._stack.callback(index.close)
        self.engine = EmbeddedEngine(
            apps,
            self.journal,
            self.clock,
            index,
            shards=shards,
            limits=limits,
            live_cache=live_cache,
            runs_cached_max=runs_cached_max,
            bodies=Bodies(dict(stubs or {}), before_step),
            watch=self.history.append,
            again_s=0.0,
            wrap=wrap,
        )

    async def __aenter__(self) -> "VirtualEngine":
        await self.engine.start()
        await self.engine.until_idle()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.engine.stop(drain=False)
        await self._stack.aclose()

    @property
    def now_ms(self) -> int:
        """The virtual time in Unix milliseconds."""
        return self.clock.now_ms()

    async def send(self, *events: Event) -> list[str]:
        """Send events and let everything happen that they cause now; return their ids."""
        ids = await self.engine.send([to_record(event) for event in events])
        await self.until_idle()
        return ids

    async def signal(self, name: str, data: Any = None) -> bool:
        """Send a signal and let everything happen; return whether a run waited for it."""
        delivered = await self.engine.signal(name, data)
        await self.until_idle()
        return delivered

    async def cancel(self, run_id: str) -> bool:
        """Cancel a run; return whether it was there."""
        cancelled = await self.engine.cancel(run_id)
        await self.until_idle()
        return cancelled

    async def until_idle(self) -> None:
        """Return when nothing happens until an event comes or time passes."""
        await self.engine.until_idle()

    async def advance(self, duration: Duration) -> None:
        """Let time pass: every timer on the way fires at its own time."""
        await self.advance_to(self.clock.now_ms() + duration_ms(duration))

    async def advance_to(self, now_ms: int) -> None:
        """Let time pass until `now_ms` (Unix ms)."""
        while (due := self.engine.next_due()) is not None and due <= now_ms:
            self.clock.advance_to(due)
            await self.until_idle()
        self.clock.advance_to(now_ms)
        await self.until_idle()

    def runs(self, function: Function[Any] | str = "", *, status: str = "") -> Sequence[RunView]:
        """Return the runs with their steps, the oldest first."""
        name = function.id if isinstance(function, Function) else function
        index = self.index
        listed = index.list(function=name, status=status, limit=1_000_000)
        shown = [view for run in reversed(listed) if (view := index.show(run.run_id))]
        return sorted(shown, key=lambda run: (run.accepted_at, run.run_id))

    def run(self, function: Function[Any] | str = "") -> RunView:
        """Return the only run of a function; raise LookupError when there is not exactly one."""
        runs = self.runs(function)
        if len(runs) != 1:
            raise LookupError(f"{len(runs)} runs, one is wanted: {[(run.function, run.status) for run in runs]}")
        return runs[0]
