"""Crashes that a test asks for, as wrappers of the ports of an engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stepstream.contract.inbox import StepFailed, StepReported, StepsPlanned, decode_inbox
from stepstream.contract.topics import INBOX
from stepstream.runtime.ports import LogError, LogRecord, StoredRow


@dataclass(slots=True)
class Crash:
    """A crash of the worker or of the engine, once, around the moment when a step's result becomes durable.

    For a step that waits it is the moment when its plan becomes durable.

    Args:
        part: `"worker"` or `"engine"`.
        when: A worker that crashes `"before"` has run the body and reported nothing: the body runs again. One that
            crashes `"after"` has its report in the log: the body never runs again. An engine that crashes `"before"`
            has read the report and not committed; one that crashes `"after"` has committed and notified no worker.
        step: The id of the step.

    `happened` says whether it has happened. A crash that never happens fails the test.
    """

    part: Literal["worker", "engine"]
    when: Literal["before", "after"]
    step: str
    happened: bool = field(default=False, init=False)

    def happen(self) -> None:
        """Crash, unless it has happened before."""
        if not self.happened:
            self.happened = True
            raise LogError(f"the {self.part} crashes {self.when} step {self.step!r} is durable, as the test asked")


class CrashTest:
    """Wraps ports by their names ("log-0", "store-0", "worker-shop") so that they crash as a test asks.

    `wrap` wraps each port first, if it is given.
    """

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


def _concerns(value: bytes, step: str) -> bool:
    match decode_inbox(value):
        case StepReported(id=id) | StepFailed(id=id):
            return id == step
        case StepsPlanned(plans=plans):
            return any(plan.id == step for plan in plans)
        case _:
            return False


class _Crashing:
    """A port that crashes at some calls, and delegates all others to the real one."""

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
    """The log of a shard; what it has read decides which crashes happen when the batch is committed."""

    pending: Sequence[Crash] = ()

    async def poll(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        records: list[LogRecord] = await self._port.poll(limit, until_ms)
        self.pending = self._crashes_of(records)
        return records

    async def more(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        records: list[LogRecord] = await self._port.more(limit, until_ms)
        self.pending = [*self.pending, *self._crashes_of(records)]
        return records

    def _crashes_of(self, records: Sequence[LogRecord]) -> list[Crash]:
        inbox = [record.value for record in records if record.topic == INBOX]
        return [crash for crash in self._crashes if any(_concerns(value, crash.step) for value in inbox)]

    async def begin(self) -> None:
        self._happen("before", self.pending)
        await self._port.begin()


class _CrashingStore(_Crashing):
    log: _CrashingLog | None = None

    def write(self, rows: Sequence[StoredRow], position: int) -> None:
        self._port.write(rows, position)
        if self.log is not None:
            self._happen("after", self.log.pending)
