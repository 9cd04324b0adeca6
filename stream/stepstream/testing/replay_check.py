"""The replay check: each run of a test is replayed from its memos, and must do what it did live."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

from stepstream.contract.attributes import AttributeChanges
from stepstream.contract.codec import Raw, load_json
from stepstream.contract.commands import Memo, RunLoaded, RunResumed, RunStarted, decode_command
from stepstream.contract.events import EventRecord
from stepstream.contract.inbox import RunContinued, RunFailed, RunReturned, StepReported, StepsPlanned, decode_inbox
from stepstream.contract.kinds import StepKind
from stepstream.contract.limits import Limits
from stepstream.contract.outcomes import ErrorInfo, Outcome
from stepstream.contract.run_state import StateValues
from stepstream.runtime.ports import LogRecord
from stepstream.sdk.app import App
from stepstream.sdk.errors import error_info
from stepstream.sdk.execution import start_code
from stepstream.sdk.replay.calls import Call, Finished, RunHandle
from stepstream.sdk.replay.replay import Replay, Snapshot
from stepstream.sdk.steps.step_call import step_observer
from stepstream.sdk.threads.threads import Threads
from stepstream.testing.plain_values import first_difference, plain_value

_OPEN = "still open"
_REMEDY = (
    "code between steps must depend only on the events of the run and on the results of its steps; "
    "return what a body computes, instead of changing its arguments or variables of the code around it"
)


class ReplayMismatch(AssertionError):
    """The replay of a run differs from the live run: its code is not deterministic.

    The message has the run, the first step that differs, and the live and the replayed value.
    """


@dataclass(frozen=True, slots=True)
class _Request:
    """A step that the code awaited, and what it passed, as plain values."""

    step: str
    id: str
    arguments: Any

    def __str__(self) -> str:
        return f"step {self.id!r}"


@dataclass(slots=True)
class _Run:
    """What a worker knows about a run, enough to replay it; `end` says how the code ended, None if it waits."""

    run_id: str
    function: str
    events: Sequence[EventRecord]
    attempt: int = 0
    memos: dict[str, Memo] = field(default_factory=dict)
    own: int = 0
    end: RunReturned | RunContinued | RunFailed | None = None
    requests: dict[str, _Request] = field(default_factory=dict)


class _Shadow:
    """A replay of a run from its memos alone, in which no body runs and nothing is requested."""

    def __init__(self) -> None:
        self.requests: dict[str, _Request] = {}
        self.end: Finished | None = None
        self.is_detached = False
        self._settled = asyncio.Event()

    async def run(self, run: _Run, app: App, limits: Limits, now_ms: Callable[[], int], threads: Threads) -> None:
        """Run the code of `run` until it ends, or waits."""
        function = app.get(run.function)
        if function is None:
            return
        memos = sorted(run.memos.values(), key=lambda memo: (memo.seen, memo.own))
        snapshot = Snapshot(run.run_id, 0, memos, dispatched=True)
        replay = Replay(snapshot, self, limits, now_ms=now_ms, threaded=not function.is_async)
        context = copy_context()
        context.run(step_observer.set, self._observe)
        context.run(start_code, replay, function, run.events, run.attempt, limits, threads)
        await self._settled.wait()
        replay.abort()

    def _observe(self, _run_id: str, call: Call, arguments: Mapping[str, Any]) -> None:
        self.requests.setdefault(call.step, _request(call, arguments))

    async def execute(self, run: RunHandle, call: Call) -> Outcome | None:
        """Run no body: a replay has only stored results."""
        raise AssertionError(f"the replay check ran the body of step {call.id!r} of run {run.run_id}")

    async def report(self, _run: RunHandle, call: Call, outcome: Outcome) -> None:
        """Report nothing."""

    def plan(self, _run: RunHandle, planned: StepsPlanned) -> None:
        """Request nothing."""

    def warn(self, _run: RunHandle, warning: str) -> None:
        """Ignore a warning: the live run has recorded the same one."""

    def set_attributes(self, _run: RunHandle, changes: AttributeChanges) -> None:
        """Ignore attributes: the live run has set the same ones."""

    def set_state(self, _run: RunHandle, values: StateValues) -> None:
        """Ignore the state: the live run has set the same one."""

    def suspended(self, _run: RunHandle) -> None:
        """Note that the code waits for a step."""
        self._settled.set()

    def detached(self, _run: RunHandle) -> None:
        """Note that the code waits for something else, after which it may await more steps."""
        self.is_detached = True
        self._settled.set()

    def finished(self, _run: RunHandle, end: Finished) -> None:
        """Note how the code ended."""
        self.end = end
        self._settled.set()


class ReplayCheck:
    """Records the runs of an engine, and replays those that have changed."""

    def __init__(self, apps: Sequence[App], limits: Limits, now_ms: Callable[[], int]) -> None:
        self._app_of = {function.id: app for app in apps for function in app}
        self._limits = limits
        self._now_ms = now_ms
        self._runs: dict[str, _Run] = {}
        self._changed: set[str] = set()
        self._threads = Threads()
        self._mismatch: ReplayMismatch | None = None

    def close(self) -> None:
        """Release the threads."""
        self._threads.close()

    def wrapping(self, wrap: Callable[[str, Any], Any] | None) -> Callable[[str, Any], Any]:
        """Return a wrapper of ports that records the logs of workers. If `wrap` is given, it wraps each port first."""

        def recording(name: str, port: Any) -> Any:
            wrapped = wrap(name, port) if wrap else port
            return _RecordingLog(wrapped, self) if name.startswith("worker-") else wrapped

        return recording

    def observe(self, run_id: str, call: Call, arguments: Mapping[str, Any]) -> None:
        """Record what the live code passes to a step; it must be the same each time that a worker runs the code."""
        run = self._runs.get(run_id)
        if run is None:
            return
        request = _request(call, arguments)
        known = run.requests.setdefault(call.step, request)
        if known != request and self._mismatch is None:
            self._mismatch = _changed_arguments(run, known, request)

    def command(self, value: bytes) -> None:
        """Record a command that a worker got."""
        match decode_command(value):
            case RunStarted(run_id=run_id, function=function, events=events):
                self._runs[run_id] = _Run(run_id, function, events)
            case RunLoaded(run_id=run_id, memos=memos) as loaded:
                run = self._runs.setdefault(run_id, _Run(run_id, loaded.function, loaded.events))
                run.memos = {memo.step: memo for memo in memos}
                run.own = max((memo.own for memo in memos), default=0)
                run.attempt, run.end = loaded.attempt, None
            case RunResumed(run_id=run_id, memos=memos) if run_id in self._runs:
                for memo in memos:
                    self._runs[run_id].memos.setdefault(memo.step, memo)
            case _:
                return
        self._changed.add(run_id)

    def report(self, value: bytes) -> None:
        """Record a report that a worker appended."""
        match decode_inbox(value):
            case StepReported(queue="", run_id=run_id) as report if run_id in self._runs:
                run = self._runs[run_id]
                if report.step not in run.memos:
                    run.own += 1
                    outcome, seen, own = report.outcome, report.seen, run.own
                    memo = Memo(report.step, report.id, StepKind.RUN, outcome, seen, own, report.fingerprint)
                    run.memos[report.step] = memo
            case RunReturned() | RunContinued() | RunFailed() as end if end.run_id in self._runs:
                run_id = end.run_id
                self._runs[run_id].end = end
            case _:
                return
        self._changed.add(run_id)

    async def check(self, is_cancelled: Callable[[str], bool]) -> None:
        """Replay the runs that have changed since the last check; raise ReplayMismatch for one that differs.

        The code of a run that was cancelled has no end to compare.
        """
        if self._mismatch:
            raise self._mismatch
        while self._changed:
            run = self._runs.get(self._changed.pop())
            if run is None or run.function not in self._app_of or is_cancelled(run.run_id):
                continue
            shadow = _Shadow()
            await shadow.run(run, self._app_of[run.function], self._limits, self._now_ms, self._threads)
            _compare(run, shadow)


class _RecordingLog:
    """The log of a worker, of which a ReplayCheck records the commands and the reports."""

    def __init__(self, port: Any, check: ReplayCheck) -> None:
        self._port = port
        self._check = check

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def poll(self, limit: int) -> list[LogRecord]:
        records: list[LogRecord] = await self._port.poll(limit)
        for record in records:
            self._check.command(record.value)
        return records

    async def append(self, routing_key: str, value: bytes) -> None:
        await self._port.append(routing_key, value)
        self._check.report(value)


def _request(call: Call, arguments: Mapping[str, Any]) -> _Request:
    return _Request(
        call.step, call.id, {"kind": str(call.kind), **{name: plain_value(arguments[name]) for name in arguments}}
    )


def _compare(run: _Run, shadow: _Shadow) -> None:
    for step, request in shadow.requests.items():
        live = run.requests.get(step)
        if live is None:
            raise _mismatch(run, f"the replay awaits {request}, which the live run did not await")
        if live != request:
            raise _changed_arguments(run, live, request)
    if shadow.is_detached:
        return
    live_end, end = _live_end(run.end), _replayed_end(shadow.end)
    for step, request in run.requests.items():
        if step not in shadow.requests:
            raise _mismatch(run, f"the live run awaited {request}, which the replay does not await; its end is {end}")
    if live_end != end:
        raise _mismatch(run, f"the end of the code is {live_end} live and {end} in the replay")


def _changed_arguments(run: _Run, live: _Request, replayed: _Request) -> ReplayMismatch:
    path, one, two = first_difference(live.arguments, replayed.arguments)
    return _mismatch(run, f"{path} of {live} is {one} live and {two} in the replay")


def _mismatch(run: _Run, difference: str) -> ReplayMismatch:
    return ReplayMismatch(f"run {run.run_id} of function {run.function!r}: {difference}; {_REMEDY}")


def _live_end(end: RunReturned | RunContinued | RunFailed | None) -> str:
    match end:
        case RunReturned(output=output):
            return _end_text(output, None)
        case RunContinued(data=data):
            return _continued_text(data)
        case RunFailed(error=error):
            return _end_text(None, error)
        case None:
            return _OPEN


def _replayed_end(end: Finished | None) -> str:
    if end is None:
        return _OPEN
    if end.continued is not None:
        return _continued_text(end.continued)
    return _end_text(end.output, error_info(end.error) if end.error else None)


def _continued_text(data: Raw) -> str:
    return f"the successor with the data {load_json(data)!r}"


def _end_text(output: Raw | None, error: ErrorInfo | None) -> str:
    if error is not None:
        return f"error {error.name}: {error.message}"
    return f"output {load_json(output)!r}" if output is not None else "no output"
