"""The open calls of a run: at most one discovery call, beside calls for single steps."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any

from stepstream.sdk.errors import RunInterrupted


class Phase(StrEnum):
    """Whether the app executes the code of the function from its first line, by a discovery call."""

    IDLE = "idle"  # No discovery call is open.
    CALLING = "calling"  # One is open.
    STALE = "stale"  # One is open, and results have come that it does not have: another one follows.
    OVER = "over"  # The run has ended here.


class Need(StrEnum):
    """What changes the phase."""

    CALL = "call"  # The code must see new results.
    ANSWER = "answer"  # The open discovery call has ended.
    END = "end"  # The run ends, or leaves this worker.


# Phase, need, phase after it. A discovery call begins whenever `calling` is entered. The steps beside it have the life
# of CALL_LIFE (sdk/replay/calls.py): `open` in the engine, `due`, `held` back by a wait, and `running` by a call.
PHASES: Mapping[Phase, Mapping[Need, Phase]] = {
    Phase.IDLE: {Need.CALL: Phase.CALLING, Need.END: Phase.OVER},
    Phase.CALLING: {Need.CALL: Phase.STALE, Need.ANSWER: Phase.IDLE, Need.END: Phase.OVER},
    Phase.STALE: {Need.CALL: Phase.STALE, Need.ANSWER: Phase.CALLING, Need.END: Phase.OVER},
    Phase.OVER: {},
}


class OpenCalls:
    """The phase of a run, and its calls as tasks.

    `discover` makes a discovery call. `fail` gets an error of a task, and `proceed` is called when a task has ended.
    """

    def __init__(
        self,
        discover: Callable[[], Awaitable[None]],
        fail: Callable[[Exception], None],
        proceed: Callable[[], None],
    ) -> None:
        self.phase = Phase.IDLE
        self._discover, self._fail, self._proceed = discover, fail, proceed
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def __bool__(self) -> bool:
        """Whether a call is open."""
        return bool(self._tasks)

    @property
    def over(self) -> bool:
        """Whether the run has ended here."""
        return self.phase is Phase.OVER

    def need(self, need: Need) -> None:
        """Change the phase; a discovery call may begin."""
        before, self.phase = self.phase, PHASES[self.phase][need]
        if self.phase is Phase.CALLING and before is not Phase.CALLING:
            self.start(self._discover)

    def start(self, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Make a call as a task."""
        self._tasks.add(self._loop.create_task(self._guard(work, *arguments)))

    async def _guard(self, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        task = asyncio.current_task()
        try:
            await work(*arguments)
        except RunInterrupted:
            return
        except Exception as error:  # noqa: BLE001 - the run must not wait forever for a task that failed
            self._fail(error)
        finally:
            self._tasks.discard(task)
        self._proceed()

    def end(self) -> None:
        """Cancel all calls but the current one."""
        self.need(Need.END)
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
