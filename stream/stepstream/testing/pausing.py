"""How tests pause runs, functions and queues of an engine, and resume them."""

from abc import ABC, abstractmethod

from stepstream.contract.operators.control import Pause, function_scope, queue_scope
from stepstream.runtime.embedded.process import EmbeddedEngine
from stepstream.runtime.pauses import pause_of


class PausingEngine(ABC):
    """A test engine whose runs, functions and queues can be paused; each call lets all its effects happen."""

    engine: EmbeddedEngine

    @property
    @abstractmethod
    def now_ms(self) -> int:
        """The virtual time in Unix milliseconds."""

    @abstractmethod
    async def until_idle(self) -> None:
        """Return once nothing more happens until an event arrives or time passes."""

    async def pause(self, run_id: str, *, until: str = "", why: str = "") -> bool:
        """Pause a run, or change its pause, and let all effects happen; return whether it existed and had not ended.

        The pause ends after a duration such as `"2h"`, at an ISO 8601 time, or when `resume` is called.
        """
        paused = await self.engine.operator.pause(run_id, pause_of(until, "test", why, self.now_ms))
        await self.until_idle()
        return paused

    async def resume(self, run_id: str, *, why: str = "") -> bool:
        """End the pause of a run and let all effects happen; return whether it was paused."""
        resumed = await self.engine.operator.unpause(run_id, "test", why)
        await self.until_idle()
        return resumed

    async def pause_function(self, function: str, *, until: str = "", why: str = "") -> None:
        """Pause a function by its id, as `pause` does a run: its runs are accepted, and get no code to run."""
        await self._change_scope(function_scope(function), pause_of(until, "test", why, self.now_ms))

    async def resume_function(self, function: str) -> bool:
        """End the pause of a function; return whether it was paused."""
        return await self._change_scope(function_scope(function), None)

    async def pause_queue(self, app: str, queue: str, *, until: str = "", why: str = "") -> None:
        """Pause a queue of an app, as `pause` does a run: no body of it starts."""
        await self._change_scope(queue_scope(app, queue), pause_of(until, "test", why, self.now_ms))

    async def resume_queue(self, app: str, queue: str) -> bool:
        """End the pause of a queue; return whether it was paused."""
        return await self._change_scope(queue_scope(app, queue), None)

    async def _change_scope(self, scope: str, pause: Pause | None) -> bool:
        changed = await self.engine.operator.pause_scope(scope, pause)
        await self.until_idle()
        return changed
