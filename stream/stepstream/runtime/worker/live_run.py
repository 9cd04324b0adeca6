"""A run in a worker's cache."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from stepstream.contract.codec import encode
from stepstream.contract.commands import RunLoaded, RunResumed, RunStarted
from stepstream.contract.inbox import RunLeased
from stepstream.contract.limits import Limits
from stepstream.runtime.ports import Clock, LogRecord
from stepstream.sdk.calls import Runner
from stepstream.sdk.errors import RunInterrupted
from stepstream.sdk.execution import start_code
from stepstream.sdk.function import Function
from stepstream.sdk.replay import Replay
from stepstream.sdk.threads import Threads


@dataclass(slots=True, eq=False)
class LiveRun:
    """A run in the worker's cache. `claim` is set while all of it is asked for; `commands` are not dealt with yet.

    `attempt` is that of the code between steps; a step that got on begins it anew, here as in the engine. `bodies`
    are at work and `reports` on their way; a run that is `leaving` is handed back when all of these have ended, and
    one that is `reserved` is nobody else's until then. One that is `away` stays so to its end, although its
    partition comes back: its `commands` are those that were read since, and none is acted on but a stop that was
    not `heard` before: that is the offset of the newest command. One that is `at_rest` can do nothing by itself; if
    it `lingers` it may, and stays. `queued` waits for its turn to begin; it is `outdated` when more came meanwhile.
    `news` wait for the turn of a run that rested, and are given to its code when it has a slot.
    """

    run_id: str
    partition: int
    function: str = ""
    claim: str = ""
    replay: Replay | None = None
    attempt: int = 0
    active: bool = False
    bodies: int = 0
    reports: int = 0
    leaving: bool = False
    leased: bool = False
    away: bool = False
    heard: int = -1
    at_rest: bool = False
    lingers: bool = False
    queued: RunStarted | RunLoaded | None = None
    outdated: bool = False
    news: list[RunResumed] = field(default_factory=list)
    stopped: bool = False
    commands: list[LogRecord] = field(default_factory=list)
    _parked: list[asyncio.Future[None]] = field(default_factory=list)

    def reserve(self, for_ms: int) -> bytes:
        """Note that the run is nobody else's, and return the report that says so."""
        self.leased = True
        return encode(RunLeased(self.run_id, self.replay.epoch if self.replay else 0, for_ms))

    def start(
        self,
        runner: Runner,
        function: Function[Any],
        command: RunStarted | RunLoaded,
        limits: Limits,
        clock: Clock,
        threads: Threads,
    ) -> None:
        """Start the code from what is known of the run."""
        self.function = command.function
        memos, opened = (command.memos, command.open) if isinstance(command, RunLoaded) else ((), ())
        self.attempt = command.attempt if isinstance(command, RunLoaded) else 0
        self.replay = Replay(
            command.run_id,
            command.epoch,
            runner,
            limits,
            memos,
            opened,
            now_ms=clock.now_ms,
            threaded=not function.is_async,
        )
        start_code(self.replay, function, command.events, self.attempt, limits, threads)

    def catch_up(self) -> None:
        """Give the code what came while the run had no turn."""
        news, self.news = self.news, []
        for command in news:
            if command.memos:
                self.attempt = 0
            if self.replay:
                self.replay.resume(command.memos, command.retries, command.acknowledged)

    async def park(self) -> None:
        """Hold a call of the code that is to go no further, until the run is stopped; then raise RunInterrupted."""
        if self.stopped:
            raise RunInterrupted
        parked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parked.append(parked)
        await parked

    def abort(self) -> None:
        """Stop the code; nothing more of it is reported."""
        if self.replay:
            self.replay.abort()

    def stop(self) -> None:
        """Stop the code where it is, the threads that it has, too."""
        self.stopped = True
        self.abort()
        parked, self._parked = self._parked, []
        for each in parked:
            if not each.done():
                each.set_exception(RunInterrupted())
