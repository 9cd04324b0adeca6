"""For users' own tests: a whole engine in memory whose time moves only when told to."""

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from stepstream.contract.durations import Duration, duration_ms
from stepstream.contract.events import decode_stored_event
from stepstream.contract.history import HistoryEntry, RunBegan, StepEnded
from stepstream.contract.inbox import StepFailed, StepReported, StepsPlanned, decode_inbox
from stepstream.contract.kinds import StepKind
from stepstream.contract.limits import DEFAULT_LIMITS, RUNS_ACTIVE_MAX, RUNS_CACHED_MAX, Limits
from stepstream.contract.outcomes import Value
from stepstream.contract.topics import INBOX
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.embedded.log import EmbeddedBackbone
from stepstream.runtime.embedded.process import EmbeddedEngine, EngineOptions
from stepstream.runtime.ports import Backbone, Clock, LogError, LogRecord, StoredRow
from stepstream.runtime.readmodel.index import RunIndex, RunView, StepView
from stepstream.runtime.storage.journal import MemoryJournal
from stepstream.runtime.storage.rocks import RocksJournal
from stepstream.sdk.app import App
from stepstream.sdk.calls import Call
from stepstream.sdk.event import Event, to_record
from stepstream.sdk.execution import Bodies
from stepstream.sdk.function import Function

__all__ = ["Crash", "RunView", "StepView", "VirtualEngine"]

START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


@dataclass(slots=True)
class Crash:
    """A crash of the worker or the engine, once, where a step's result (or plan, if it waits) becomes durable.

    A worker that dies `before` has run the body, and nobody knows: the body runs again. One that dies `after` has its
    report in the log: the body never runs again. An engine that dies `before` has read the report and not committed
    it; one that dies `after` has committed it and told nobody.
    """

    part: Literal["worker", "engine"]
    when: Literal["before", "after"]
    step: str
    happened: bool = field(default=False, init=False)

    def happen(self) -> None:
        """Die, if it has not happened yet."""
        if not self.happened:
            self.happened = True
            raise LogError(f"the {self.part} crashes {self.when} step {self.step!r} is durable, as the test asked")


def _concerns(value: bytes, step: str) -> bool:
    match decode_inbox(value):
        case StepReported(id=id) | StepFailed(id=id):
            return id == step
        case StepsPlanned(plans=plans):
            return any(plan.id == step for plan in plans)
        case _:
            return False


class _Crashing:
    """A port that dies where its crashes say, and else does what the real one does."""

    def __init__(self, port: Any, crashes: Sequence[Crash]) -> None:
        self._port = port
        self._crashes = crashes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def _happen(self, when: str, crashes: Sequence[Crash]) -> None:
        for crash in crashes:
            if crash.when == when:
                crash.happen()


class _CrashingWorkerLog(_Crashing):
    async def append(self, routing_key: str, value: bytes) -> None:
        crashes = [crash for crash in self._crashes if _concerns(value, crash.step)]
        self._happen("before", crashes)
        await self._port.append(routing_key, value)
        self._happen("after", crashes)


class _CrashingLog(_Crashing):
    """A shard's log; what it has read tells which crashes are at hand when the batch is committed."""

    at_hand: Sequence[Crash] = ()

    async def poll(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        records: list[LogRecord] = await self._port.poll(limit, until_ms)
        self.at_hand = self._that_concern(records)
        return records

    async def more(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        records: list[LogRecord] = await self._port.more(limit, until_ms)
        self.at_hand = [*self.at_hand, *self._that_concern(records)]
        return records

    def _that_concern(self, records: Sequence[LogRecord]) -> list[Crash]:
        inbox = [record.value for record in records if record.topic == INBOX]
        return [crash for crash in self._crashes if any(_concerns(value, crash.step) for value in inbox)]

    async def begin(self) -> None:
        self._happen("before", self.at_hand)
        await self._port.begin()


class _CrashingStore(_Crashing):
    log: _CrashingLog | None = None

    def write(self, rows: Sequence[StoredRow], position: int) -> None:
        self._port.write(rows, position)
        if self.log is not None:
            self._happen("after", self.log.at_hand)


class _CrashTest:
    """The crashes that a test asked for, as a wrapper of ports."""

    def __init__(self, crashes: Sequence[Crash], wrap: Callable[[str, Any], Any] | None) -> None:
        self._crashes = {part: [crash for crash in crashes if crash.part == part] for part in ("worker", "engine")}
        self._wrap = wrap
        self._logs: dict[str, _CrashingLog] = {}

    def __call__(self, name: str, port: Any) -> Any:
        port = self._wrap(name, port) if self._wrap else port
        kind, _, owner = name.partition("-")
        if kind == "worker":
            return _CrashingWorkerLog(port, self._crashes["worker"])
        if kind == "log":
            self._logs[owner] = _CrashingLog(port, self._crashes["engine"])
            return self._logs[owner]
        store = _CrashingStore(port, ())
        store.log = self._logs[owner]
        return store


class VirtualEngine:
    """A running engine for tests, as an async context manager: real engine, real steps, virtual time.

    `stubs` take the place of the bodies of steps, by (function id, step id); one that no run called, while other bodies
    of its function ran as they are, is warned of at the end. `crashes` happen once each; one that never
    came fails the test at the end. With `data_dir` it is durable, `shards` spreads it, `live_cache=False` replays every
    function from the top at each turn. `backbone` puts it on something else than memory or disk.
    """

    def __init__(
        self,
        *apps: App,
        stubs: Mapping[tuple[str, str], Callable[..., Any]] | None = None,
        crashes: Sequence[Crash] = (),
        shards: int = 1,
        live_cache: bool = True,
        runs_cached_max: int = RUNS_CACHED_MAX,
        runs_active_max: int = RUNS_ACTIVE_MAX,
        limits: Limits = DEFAULT_LIMITS,
        data_dir: Path | None = None,
        now_ms: int = START_MS,
        wrap: Callable[[str, Any], Any] | None = None,
        before_step: Callable[[str, Call], None] | None = None,
        backbone: Callable[[Clock], Backbone] | None = None,
    ) -> None:
        self.clock = VirtualClock(now_ms)
        self.history: list[HistoryEntry] = []
        self.crashes = crashes
        self._functions = [function.id for app in apps for function in app]
        self._sent: list[tuple[str, str]] = []
        self._stubs = dict(stubs or {})
        self._ran: set[tuple[str, str]] = set()
        _check_stubs(self._stubs, self._functions)
        self._stack = AsyncExitStack()
        if data_dir is not None and shards != 1:
            raise ValueError("a durable engine has one shard")
        self.journal = RocksJournal(data_dir / "db") if data_dir else MemoryJournal(shards)
        self.embedded = EmbeddedBackbone(self.journal, self.clock, shards)
        self._backbone = backbone(self.clock) if backbone else self.embedded
        self.index = index = RunIndex(data_dir / "runs.sqlite" if data_dir else None)
        self._stack.push_async_callback(self._backbone.close)
        self._stack.callback(index.close)
        self.engine = EmbeddedEngine(
            apps,
            self._backbone,
            self.clock,
            index,
            EngineOptions(
                shards=shards,
                limits=limits,
                live_cache=live_cache,
                runs_cached_max=runs_cached_max,
                runs_active_max=runs_active_max,
                bodies=Bodies(self._stubs, _noting(self._ran, before_step)),
                watch=self.history.append,
                wrap=_CrashTest(crashes, wrap) if crashes else wrap,
                restart_s=0.0,
            ),
        )

    async def __aenter__(self) -> "VirtualEngine":
        await self.engine.start()
        await self.engine.until_idle()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.engine.stop(drain_s=0)
        await self._stack.aclose()
        never = [crash for crash in self.crashes if not crash.happened]
        if never and error is None:
            raise AssertionError(f"the test asked for crashes that never came: {never}")
        if error is None:
            self._warn_of_stubs()

    def _warn_of_stubs(self) -> None:
        """Warn of stubs that may be meant for bodies that ran as they are; a path not taken calls no stub, either."""
        for function, step in self._stubs.keys() - self._ran:
            if real := sorted(id for name, id in self._ran - self._stubs.keys() if name == function):
                words = f"no run called the stub of ({function!r}, {step!r}), and these ran as they are: {_names(real)}"
                warnings.warn(words, stacklevel=3)

    @property
    def now_ms(self) -> int:
        """The virtual time in Unix milliseconds."""
        return self.clock.now_ms()

    async def send(self, *events: Event) -> list[str]:
        """Send events and let everything happen that they cause now; return their ids."""
        ids = await self.engine.send([to_record(event) for event in events])
        self._sent += zip(ids, (event.name for event in events), strict=True)
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
        """Return the runs with their steps, the oldest first; raise LookupError for a function that is not there."""
        name = function.id if isinstance(function, Function) else function
        index = self.index
        listed = index.list(function=name, status=status, limit=1_000_000)
        if name and not listed and name not in self._functions and not index.list(function=name, limit=1):
            raise LookupError(f"there is no function {name!r}, only {_names(self._functions)}{self._unmatched()}")
        shown = [view for run in reversed(listed) if (view := index.show(run.run_id))]
        return sorted(shown, key=lambda run: (run.accepted_at, run.run_id))

    def run(self, function: Function[Any] | str = "") -> RunView:
        """Return the only run of a function; raise LookupError, with what helps, when there is not exactly one."""
        runs = self.runs(function)
        if len(runs) != 1:
            found = [(run.function, run.status) for run in runs]
            raise LookupError(f"{len(runs)} runs, one is wanted: {found}{'' if runs else self._unmatched()}")
        return runs[0]

    def _unmatched(self) -> str:
        """Return what to say of the events that were sent and neither started a run nor woke one."""
        heard = set[str]()
        for entry in self.history:
            match entry:
                case RunBegan(events=events):
                    heard.update(event.id for event in events)
                case StepEnded(kind=StepKind.WAIT, outcome=Value(data)):
                    heard.add(decode_stored_event(data).id)
        unmatched = [name for id, name in self._sent if id not in heard]
        return f"; no function has heard {_names(unmatched)}" if unmatched else ""


def _check_stubs(stubs: Iterable[tuple[str, str]], functions: Collection[str]) -> None:
    for function, step in stubs:
        if function not in functions:
            raise ValueError(
                f"stubs has ({function!r}, {step!r}), and there is no function {function!r}, only {_names(functions)}"
            )


def _noting(ran: set[tuple[str, str]], before_step: Callable[[str, Call], None] | None) -> Callable[[str, Call], None]:
    """Return what notes which bodies are run; it does not hold the engine, whose files are free when it is gone."""

    def note(function: str, call: Call) -> None:
        ran.add((function, call.id))
        if before_step:
            before_step(function, call)

    return note


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(repr, dict.fromkeys(names))) or "none"
