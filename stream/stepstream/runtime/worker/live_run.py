"""What a worker keeps of a run, or of a dispatched step, while it is in memory."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NoReturn

from stepstream.contract.codec import encode
from stepstream.contract.commands import RunLoaded, RunResumed, RunStarted
from stepstream.contract.inbox import RunLeased
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.worker.lifecycle import Life
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.sdk.calls import Runner
from stepstream.sdk.errors import RunInterrupted
from stepstream.sdk.execution import start_code
from stepstream.sdk.function import Function
from stepstream.sdk.replay import Replay


@dataclass(slots=True, eq=False)
class Live(ABC):
    """A run or a dispatched step; `life` decides what happens to it, and the rest is data for that.

    `commands` are not acknowledged yet, by their places in the log, and `last_offset` is that of the newest command
    read. `claim` is outstanding. `last_report` is that of the end of the code.
    """

    run_id: str
    partition: int
    life: Life
    function: str = ""
    claim: str = ""
    replay: Replay | None = None
    commands: list[LogRecord] = field(default_factory=list)
    last_offset: int = -1
    last_report: bytes = b""
    _halted: list[asyncio.Future[None]] | None = field(default_factory=list)

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """What identifies it in its worker."""

    @abstractmethod
    def lease(self, for_ms: int) -> bytes:
        """Return the report of a lease; with 0 it is released."""

    def add_command(self, record: LogRecord) -> None:
        """Add a command that is not acknowledged yet.

        A worker claims every run of a backlog before it reads the first answer, so the bytes are not kept.
        """
        self.commands.append(record._replace(key=b"", value=b"", headers=()))

    async def halt(self) -> NoReturn:
        """Block code that must not continue until it is stopped, then raise RunInterrupted."""
        if self._halted is not None:
            halted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._halted.append(halted)
            await halted
        raise RunInterrupted

    def stop(self) -> None:
        """Cancel the code, and raise RunInterrupted in its calls that are blocked; a second call does nothing."""
        replay, self.replay = self.replay, None
        if replay:
            replay.abort()
        halted, self._halted = self._halted, None
        for each in halted or ():
            if not each.done():
                each.set_exception(RunInterrupted())


@dataclass(slots=True, eq=False)
class LiveRun(Live):
    """A run, under the claim by which `epoch` this worker has it; `attempt` is that of the code between steps.

    `given` is the state from which the code starts. `incoming` is the command that is processed now, and `results` are
    those that wait for a slot.
    """

    epoch: int = 0
    attempt: int = 0
    given: RunStarted | RunLoaded | None = None
    incoming: RunResumed | None = None
    results: list[RunResumed] = field(default_factory=list)

    @property
    def key(self) -> str:
        """What identifies it in its worker."""
        return self.run_id

    def lease(self, for_ms: int) -> bytes:
        """Return the report of a lease; with 0 it is released."""
        return encode(RunLeased(self.run_id, self.epoch, for_ms))

    def accept(self, command: RunStarted | RunLoaded) -> None:
        """Keep the state from which the code starts."""
        self.given, self.epoch, self.claim = command, command.epoch, ""

    def forget_state(self, claim: str) -> None:
        """Forget what is known of the run: it is claimed again."""
        self.given, self.claim = None, claim
        self.results.clear()

    def start(self, runner: Runner, function: Function[object], options: WorkerOptions) -> None:
        """Start the code from the state that was given."""
        given, self.given = self.given, None
        if given is None:
            raise RuntimeError(f"run {self.run_id} has no state to start from")
        self.function = given.function
        self.attempt = given.attempt if isinstance(given, RunLoaded) else 0
        self.replay = Replay(
            given.run_id,
            given.epoch,
            runner,
            options.limits,
            given.memos if isinstance(given, RunLoaded) else (),
            given.open if isinstance(given, RunLoaded) else (),
            now_ms=options.clock.now_ms,
            threaded=not function.is_async,
        )
        start_code(self.replay, function, given.events, self.attempt, options.limits, options.bodies.threads)

    def keep_results(self) -> None:
        """Keep the results of the command that is processed now."""
        if self.incoming:
            self.results.append(self.incoming)

    def resume(self) -> None:
        """Pass the results that were kept to the code."""
        results, self.results = self.results, []
        for command in results:
            if command.memos:
                self.attempt = 0
            if self.replay:
                self.replay.resume(command.memos, command.retries, command.acknowledged)
