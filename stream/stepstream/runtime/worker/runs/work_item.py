"""What a worker has in memory of a run or of a dispatched step."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from stepstream.contract.events import EventRecord
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.runtime.worker.runs.lifecycle import Life
from stepstream.sdk.errors import RunInterrupted
from stepstream.sdk.execution import CodeStart
from stepstream.sdk.replay.calls import Runner
from stepstream.sdk.replay.replay import Snapshot
from stepstream.sdk.served import Code, ServedApp


@dataclass(slots=True, eq=False)
class WorkItem(ABC):
    """A run or a dispatched step: `life` decides what happens to it, and everything else is data.

    `commands` are not acknowledged yet, and `last_offset` is the offset of the newest command that was read. `claim` is
    the name of a claim that is not granted yet. `last_report` reports how the code ended. `held` counts the bytes of
    its results in memory.
    """

    run_id: str
    partition: int
    life: Life
    function: str = ""
    claim: str = ""
    running: Code | None = None
    commands: list[LogRecord] = field(default_factory=list)
    last_offset: int = -1
    last_report: bytes = b""
    held: int = 0
    _halted: list[asyncio.Future[None]] | None = field(default_factory=list)

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """What identifies it in its worker."""

    @property
    @abstractmethod
    def code(self) -> str:
        """The id of its function."""

    @abstractmethod
    def lease(self, for_ms: int) -> bytes:
        """Return the report of a lease; with 0 it is released."""

    def add_command(self, record: LogRecord) -> None:
        """Add a command that is not acknowledged yet.

        A worker claims every run of a backlog before it reads the first answer, so the bytes are not kept.
        """
        self.commands.append(record._replace(key=b"", value=b"", headers=()))

    def _start_code(
        self,
        snapshot: Snapshot,
        runner: Runner,
        app: ServedApp,
        events: Sequence[EventRecord],
        options: WorkerOptions,
        attempt: int = 0,
    ) -> None:
        """Start the code of the function from its first line, with the results in `snapshot`."""
        limits, bodies, now_ms = options.limits, options.bodies, options.clock.now_ms
        start = CodeStart(snapshot, events, attempt, runner, limits, bodies, now_ms, options.logs)
        self.running = app.start_code(self.function, start)

    async def halt(self) -> NoReturn:
        """Block code that must not continue until it is stopped, then raise RunInterrupted."""
        if self._halted is not None:
            halted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._halted.append(halted)
            await halted
        raise RunInterrupted

    def stop(self) -> None:
        """Cancel the code, and raise RunInterrupted in its calls that are blocked; a second call does nothing."""
        running, self.running = self.running, None
        if running:
            running.abort()
        halted, self._halted = self._halted, None
        for each in halted or ():
            if not each.done():
                each.set_exception(RunInterrupted())
