"""A whole engine in memory, with a clock that only the test moves."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from stepstream.contract.codec import dump_json
from stepstream.contract.events import decode_stored_events
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, StepEnded
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.limits import (
    DEFAULT_LIMITS,
    RUNS_ACTIVE_MAX,
    RUNS_CACHED_MAX,
    Limits,
)
from stepstream.contract.operators.bulk import BulkAction, BulkChanged
from stepstream.contract.outcomes import Value
from stepstream.contract.receipts import SignalReceipt
from stepstream.contract.text.durations import Duration, duration_ms
from stepstream.runtime.bulk import BulkOptions, select, start
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.decisions import Decision, decide
from stepstream.runtime.embedded.log import EmbeddedBackbone
from stepstream.runtime.embedded.process import EmbeddedEngine, EngineOptions
from stepstream.runtime.pauses import end_of_pause
from stepstream.runtime.ports import Backbone, Clock
from stepstream.runtime.readmodel.index import RUNS_FILE, RunIndex
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.readmodel.tables.logged_lines import LOG_LINES_MAX
from stepstream.runtime.readmodel.views import RunView
from stepstream.runtime.readmodel.why import Why, limit_of, surroundings_of, why_open
from stepstream.runtime.reruns import RerunOptions, check_reason, rerun_request
from stepstream.runtime.storage.journal import MemoryJournal
from stepstream.runtime.storage.rocks import RocksJournal
from stepstream.sdk.app import App
from stepstream.sdk.event import Event, to_record
from stepstream.sdk.execution import Bodies
from stepstream.sdk.function import Function
from stepstream.sdk.replay.calls import Call
from stepstream.sdk.served import ServedApp
from stepstream.sdk.steps.step_call import step_observer
from stepstream.sdk.values import to_json
from stepstream.testing.crashes import Crash, CrashTest
from stepstream.testing.engine_options import check_shards, checked_stubs, names
from stepstream.testing.replay_check import ReplayCheck
from stepstream.testing.requesting import RequestingEngine

START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


class VirtualEngine(RequestingEngine):
    """A running engine for tests, as an async context manager: real engine, real steps, virtual time.

    Args:
        apps: The apps whose functions it runs.
        stubs: Callables without arguments that replace the bodies of steps, by (function id, step id). A function id
            that no app has is a `ValueError`. A stub that no run called, although other bodies of its function ran, is
            a `UserWarning` at the end.
        crashes: Crashes that happen once each; one that never happens is an `AssertionError` at the end.
        shards: How many shards share the state, as on Kafka.
        live_cache: False replays every function from its first line after every step.
        runs_cached_max: How many waiting runs the worker keeps in memory.
        runs_active_max: How many runs may execute code at the same time.
        limits: The limits of events, steps and runs.
        data_dir: A folder that makes the state durable: a second engine on it continues. With one shard only.
        now_ms: The virtual time at the start, in Unix milliseconds; by default 2026-01-01T00:00:00Z.
        wrap: Receives each port by its name and returns the one to use, to inject faults.
        before_step: Called before each body runs, with the function id and the call.
        replay_check: Replays each run from its memos whenever the engine becomes idle, without running a body again,
            and compares: the steps that the code awaits, what it passes to them, and how it ends. A difference,
            for example after a body that changes its arguments, is a `ReplayMismatch` with the first step and both
            values. With the check, code between steps runs more often.
        backbone: Creates the log and the tables, in place of those in memory or on disk.

    `history` lists every history entry, oldest first.

    Example:
        ```python
        async with VirtualEngine(app) as engine:
            await engine.send(Event("shop/order.created", {"order_id": 1}))
            await engine.advance("7d")
            assert engine.run("fulfil-order").status == "completed"
        ```
    """

    def __init__(
        self,
        *apps: ServedApp,
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
        replay_check: bool = False,
        backbone: Callable[[Clock], Backbone] | None = None,
    ) -> None:
        self.clock = VirtualClock(now_ms)
        self.history: list[HistoryEntry] = []
        self.crashes = crashes
        self._limits = limits
        self._functions = [function.id for app in apps for function in app]
        self._sent: list[tuple[str, str]] = []
        self._stubs = checked_stubs(stubs or {}, self._functions)
        self._ran: set[tuple[str, str]] = set()
        self._stack = AsyncExitStack()
        check_shards(shards, data_dir)
        self.journal = RocksJournal(data_dir / "db") if data_dir else MemoryJournal(shards)
        self.embedded = EmbeddedBackbone(self.journal, self.clock, shards)
        self._backbone = backbone(self.clock) if backbone else self.embedded
        self.index = index = self._open_index(data_dir / RUNS_FILE if data_dir else None)
        self._stack.push_async_callback(self._backbone.close)
        self._stack.callback(index.close)
        checked = [app for app in apps if isinstance(app, App)]
        self._check = ReplayCheck(checked, limits, self.clock.now_ms) if replay_check else None
        options = EngineOptions(
            shards=shards,
            limits=limits,
            live_cache=live_cache,
            runs_cached_max=runs_cached_max,
            runs_active_max=runs_active_max,
            bodies=Bodies(self._stubs, _noting(self._ran, before_step)),
            watch=self.history.append,
            wrap=self._wrapping(wrap),
            restart_s=0.0,
            keep_logs=index.add_logs,
            logs_delay_s=0.0,
        )
        self.engine = EmbeddedEngine(apps, self._backbone, self.clock, index, options)

    def _open_index(self, file: Path | None) -> RunIndex:
        return RunIndex(file)

    def _wrapping(self, wrap: Callable[[str, Any], Any] | None) -> Callable[[str, Any], Any] | None:
        if self._check:
            wrap = self._check.wrapping(wrap)
            self._stack.callback(self._check.close)
        return CrashTest(self.crashes, wrap) if self.crashes else wrap

    async def __aenter__(self) -> "VirtualEngine":
        token = step_observer.set(self._check.observe) if self._check else None
        try:
            await self.engine.start()  # Its tasks, and those of all runs, inherit the observer.
            if token:
                step_observer.reset(token)
            await self.until_idle()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.engine.stop(drain_s=0)
        await self._stack.aclose()
        never = [crash for crash in self.crashes if not crash.happened]
        if never and error is None:
            raise AssertionError(f"the test asked for crashes that never happened: {never}")
        if error is None:
            self._warn_of_stubs()

    def _warn_of_stubs(self) -> None:
        """Warn of stubs that were probably meant for bodies that ran; a path that no run took is no reason to warn."""
        for function, step in self._stubs.keys() - self._ran:
            if real := sorted(id for name, id in self._ran - self._stubs.keys() if name == function):
                words = (
                    f"no run called the stub of ({function!r}, {step!r}); these bodies ran without one: {names(real)}"
                )
                warnings.warn(words, stacklevel=3)

    @property
    def now_ms(self) -> int:
        """The virtual time in Unix milliseconds."""
        return self.clock.now_ms()

    async def send(self, *events: Event) -> list[str]:
        """Send events, all or none, and return their ids once all their immediate effects have happened."""
        ids = await self.engine.send([to_record(event, f"events[{index}]") for index, event in enumerate(events)])
        self._sent += zip(ids, (event.name for event in events), strict=True)
        await self.until_idle()
        return ids

    async def signal(self, name: str, data: Any = None) -> bool:
        """Send a signal and let all its effects happen; return whether a run was waiting for it."""
        delivered = await self.engine.signal(name, to_json(data))
        await self.until_idle()
        return delivered

    async def signal_with_start(
        self, name: str, data: Any = None, *, function: Function[Any] | str, start: Any = None
    ) -> SignalReceipt:
        """Send a signal to the run that waits for it, or start a function with it, and let all effects happen."""
        function_id = function.id if isinstance(function, Function) else function
        receipt = await self.engine.signal_with_start(name, to_json(data), function_id, to_json(start))
        await self.until_idle()
        return receipt

    async def decide(
        self, step_id: str, *, approved: bool, by: str = "tester", comment: str = "", values: Any = None
    ) -> None:
        """Answer the one approval that waits under a step id, and let all its effects happen.

        Raises `LookupError` unless exactly one waits, and `InvalidInput` if the values do not fit its form.
        """
        waiting = [asked for asked in self.index.open_approvals() if asked.id == step_id]
        if len(waiting) != 1:
            raise LookupError(f"{len(waiting)} approvals wait under the step id {step_id!r}, not 1")
        decision = Decision(approved, by, comment, to_json(values))
        await decide(self.engine.signal, waiting[0], decision, self.now_ms)
        await self.until_idle()

    async def cancel(self, run_id: str, *, why: str = "", children: bool = False) -> bool:
        """Cancel a run; return whether it existed and had not ended. The error of the run has the reason.

        With `children` the runs that it invoked and waits for are cancelled too, and the runs that those wait for.
        """
        check_reason(why)
        cancelled = await self.engine.operator.cancel(run_id, "test", why, children=children)
        await self.until_idle()
        return cancelled

    async def rerun(
        self,
        run_id: str,
        *,
        from_step: str = "",
        from_failure: bool = False,
        data: Mapping[str, Any] | None = None,
        results: Mapping[str, Any] | None = None,
        request_id: str = "",
    ) -> str:
        """Rerun an ended run and let all effects happen; return the id of the new run.

        It starts from the beginning, from a step (its id), or from what failed. `data` replaces the data of the event,
        `results` those of steps that do not run again, by id. The same `request_id` starts one run.

        Raises:
            Conflict: The run has not ended, or has no failure.
            InvalidInput: A step is unknown, or its result cannot be set.
        """
        recorded = self.index.recorded(run_id)
        if recorded is None:
            raise LookupError(f"there is no run {run_id!r}")
        options = RerunOptions(
            request_id or f"{run_id}-{len(self.history)}",
            from_step,
            from_failure,
            None if data is None else dump_json(data, "data"),
            {step: dump_json(result, "result") for step, result in (results or {}).items()},
            by="test",
        )
        new = await self.engine.operator.rerun(rerun_request(recorded, options, self._limits))
        await self.until_idle()
        return new

    async def bulk(
        self,
        action: str,
        *,
        filter: str = "",
        ids: Sequence[str] = (),
        until: str = "",
        request_id: str = "",
        **options: Any,
    ) -> str:
        """Cancel, rerun, pause or resume (`action`) the runs of a filter or with some ids; return the operation's id.

        Options are `why`, `cap`, `rate` and `from_failure`; `until` is as for `pause`. It acts on `rate` runs per
        second of virtual time, so `advance` lets it continue. The same `request_id` starts one. `InvalidInput`: it
        would act on too many runs.
        """
        id = request_id or f"bulk-{self.now_ms}-{len(self.history)}"
        found, options = (
            None if ids else Filter.parse(filter).at(self.now_ms),
            {"by": "test", "operation": id, **options},
        )
        options["until"] = end_of_pause(until, self.now_ms)
        asked, queries = BulkOptions(BulkAction(action), found, tuple(ids), **options), self.index.queries
        run_ids = (await select(queries, asked)).run_ids
        await start(self.engine.operator.bulk, queries, asked, run_ids, self._limits)
        await self.until_idle()
        return id

    async def bulk_operation(self, operation: str) -> BulkChanged:
        """Return the newest state of a bulk operation; raise `LookupError` if there is none with this id."""
        if (found := await self.index.queries.bulk(operation)) is None:
            raise LookupError(f"there is no bulk operation {operation!r}")
        return found

    async def until_idle(self) -> None:
        """Return once nothing more happens until an event arrives or time passes."""
        await self.engine.until_idle()
        if self._check:
            await self._check.check(self._is_cancelled)

    def _is_cancelled(self, run_id: str) -> bool:
        run = self.index.show(run_id)
        return run is not None and run.status == RunStatus.CANCELLED

    async def advance(self, duration: Duration) -> None:
        """Move the clock by a duration, for example `"7d"`; every timer on the way fires when it is due."""
        await self.advance_to(self.clock.now_ms() + duration_ms(duration))

    async def advance_to(self, now_ms: int) -> None:
        """Move the clock to `now_ms` (Unix ms); every timer on the way fires when it is due."""
        while (due := self.engine.next_due()) is not None and due <= now_ms:
            self.clock.advance_to(due)
            await self.until_idle()
        self.clock.advance_to(now_ms)
        await self.until_idle()

    def runs(self, function: Function[Any] | str = "", *, status: str = "") -> Sequence[RunView]:
        """Return the runs with their steps, of one function and one status if given, oldest first.

        Runs that were accepted in the same millisecond are in the order in which their events were sent. Raises
        `LookupError` for a function that no app has.
        """
        name = function.id if isinstance(function, Function) else function
        index = self.index
        listed = index.list(function=name, status=status, limit=1_000_000)
        if name and not listed and name not in self._functions and not index.list(function=name, limit=1):
            raise LookupError(f"there is no function {name!r}, only {names(self._functions)}{self._unmatched()}")
        sent = {id: position for position, (id, _) in reversed([*enumerate(self._sent)])}
        caused = [(entry.run_id, entry.events[0].id) for entry in self.history if isinstance(entry, RunBegan)]
        order = {run_id: (sent.get(id, len(sent)), began) for began, (run_id, id) in enumerate(caused)}
        shown = [view for run in reversed(listed) if (view := index.show(run.run_id))]
        return sorted(shown, key=lambda run: (run.accepted_at, order.get(run.run_id, (0, 0)), run.run_id))

    def logs(self, run_id: str, step: str | None = None) -> list[str]:
        """Return what a run logged, in order of time; of one step by its id, or with "" of the code between steps.

        The level of the logger decides what is logged, as everywhere: the root logger of Python has `WARNING`.
        """
        run = self.index.show(run_id)
        hashes = {"": ""} | {each.id: each.step for each in run.steps} if run else {}
        if step is not None and step not in hashes:
            raise LookupError(f"run {run_id} has no step {step!r}")
        lines = self.index.logs(run_id, step=None if step is None else hashes[step], limit=LOG_LINES_MAX)
        return [line.text for line in lines]

    def run(self, function: Function[Any] | str = "") -> RunView:
        """Return the only run, or the only run of a function; raise `LookupError` if there is not exactly one.

        The error lists the runs, or the events that no function received.
        """
        runs = self.runs(function)
        if len(runs) != 1:
            found = [(run.function, run.status) for run in runs]
            raise LookupError(f"{len(runs)} runs instead of one: {found}{'' if runs else self._unmatched()}")
        return runs[0]

    async def why(self, function: Function[Any] | str = "") -> list[Why]:
        """Return why the only run, or the only run of a function, does not continue; empty if it has ended.

        Each reason has a `code` (such as "sleep", "event" or "missing-code"), the `text`, the id of the open `step`,
        and the times `since` and `until` (Unix ms). Raises `LookupError` if there is not exactly one run.
        """
        run = self.run(function)
        workers = await self.engine.workers(run.workers)
        limit = await limit_of(run, self.engine.operator.limit_of)
        return why_open(run, self.now_ms, surroundings_of(run, self.engine, workers, limit))

    def _unmatched(self) -> str:
        """Return the end of a message: the events that were sent and started, resumed and cancelled no run."""
        matched = set[str]()
        for entry in self.history:
            match entry:
                case RunBegan(events=events):
                    matched.update(event.id for event in events)
                case StepEnded(kind=StepKind.WAIT, outcome=Value(data)):
                    matched.update(event.id for event in decode_stored_events(data).values())
                case RunEnded(cancelled_by=event) if event:
                    matched.add(event.id)
        unmatched = [name for id, name in self._sent if id not in matched]
        return f"; no function received {names(unmatched)}" if unmatched else ""


def _noting(ran: set[tuple[str, str]], before_step: Callable[[str, Call], None] | None) -> Callable[[str, Call], None]:
    """Return a callback that notes which bodies run; it has no reference to the engine, which may be collected."""

    def note(function: str, call: Call) -> None:
        ran.add((function, call.id))
        if before_step:
            before_step(function, call)

    return note
