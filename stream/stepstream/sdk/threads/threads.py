"""Threads for plain functions: separate pools for functions and for bodies, so that neither waits for the other."""

from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stepstream.contract.limits import BODY_THREADS_MAX, RUNS_ACTIVE_MAX
from stepstream.sdk.threads.body_threads import BodyThreads
from stepstream.sdk.threads.in_thread import in_thread

# This many plain functions keep their threads while they wait for the engine. Any other one runs its code again from
# its first line when it resumes.
PARKED_THREADS_MAX = 256


class Threads:
    """The threads of one process; each pool grows on demand.

    There is one for each active run, since a plain function keeps its thread while its steps run, and `parked_max` more
    for those that wait.
    """

    def __init__(
        self,
        functions_max: int = RUNS_ACTIVE_MAX,
        parked_max: int = PARKED_THREADS_MAX,
        bodies_max: int = BODY_THREADS_MAX,
    ) -> None:
        self._functions = ThreadPoolExecutor(functions_max + parked_max, "stepstream-function")
        self.bodies = BodyThreads(bodies_max)
        self._parked_max = parked_max
        self._parked: dict[Hashable, Callable[[], object]] = {}
        self._running = 0

    async def run_function(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a plain function of a user to its end."""
        self._running += 1
        try:
            return await in_thread(self._functions, function, *arguments)
        finally:
            self._running -= 1

    @property
    def in_use(self) -> bool:
        """Whether a plain function or body has a thread, or waits for one."""
        return bool(self._running or self.bodies.in_use or self.bodies.waiting)

    def park(self, run: Hashable, evict: Callable[[], object]) -> None:
        """Let a run keep its thread while it waits; the run that has waited the longest is evicted for it."""
        self._parked[run] = evict
        while len(self._parked) > self._parked_max:
            self._parked.pop(next(iter(self._parked)))()

    def unpark(self, run: Hashable) -> None:
        """Note that a run does not wait any longer, or has lost its thread."""
        self._parked.pop(run, None)

    def close(self) -> None:
        """Start nothing more; running threads end by themselves."""
        self._functions.shutdown(wait=False, cancel_futures=True)
        self.bodies.close()
