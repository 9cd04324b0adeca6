"""A run in a worker's cache."""

import asyncio
from dataclasses import dataclass, field

from stepstream.contract.codec import encode
from stepstream.contract.commands import RunLoaded, RunStarted
from stepstream.contract.inbox import RunReserved
from stepstream.runtime.ports import LogRecord
from stepstream.sdk.errors import RunInterrupted
from stepstream.sdk.replay import Replay


@dataclass(slots=True, eq=False)
class LiveRun:
    """A run in the worker's cache. `claim` is set while all of it is asked for; `commands` are not dealt with yet.

    `attempt` is that of the code between steps; a step that got on begins it anew, here as in the engine. `bodies` are
    at work and `reports` on their way; a run that is `leaving` is handed back when all of these have ended, and one
    that is `reserved` is nobody else's until then. One that is `away` stays so to its end, although its partition comes
    back: its `commands` are those that were read since, and none is acted on but a stop that was not `heard` before:
    that is the offset of the newest command. One that is `at_rest` can do nothing by
    itself; if it `lingers` it may, and stays. `queued` waits for its turn to begin; it is `outdated` when more came
    meanwhile.
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
    reserved: bool = False
    away: bool = False
    heard: int = -1
    at_rest: bool = False
    lingers: bool = False
    queued: RunStarted | RunLoaded | None = None
    outdated: bool = False
    stopped: bool = False
    commands: list[LogRecord] = field(default_factory=list)
    _parked: list[asyncio.Future[None]] = field(default_factory=list)

    def reserve(self, for_ms: int) -> bytes:
        """Note that the run is nobody else's, and return the report that says so."""
        self.reserved = True
        return encode(RunReserved(self.run_id, self.replay.epoch if self.replay else 0, for_ms))

    async def park(self) -> None:
        """Hold a call of the code that is to go no further, until the run is stopped; then raise RunInterrupted."""
        if self.stopped:
            raise RunInterrupted
        parked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parked.append(parked)
        await parked

    def stop(self) -> None:
        """Stop the code where it is, the threads that it has, too."""
        self.stopped = True
        if self.replay:
            self.replay.abort()
        parked, self._parked = self._parked, []
        for each in parked:
            if not each.done():
                each.set_exception(RunInterrupted())
