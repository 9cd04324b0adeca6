"""Threads for plain functions: separate pools for functions and for bodies, so that neither waits for the other."""

import asyncio
import contextvars
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from stepstream.contract.limits import RUNS_ACTIVE_MAX

BODY_THREADS_MAX = 64
# This many plain functions keep their threads while they wait for the engine. Any other one runs its code again from
# its first line when it resumes.
PARKED_THREADS_MAX = 256


class Threads:
    """The threads of one process; each pool grows on demand.

    There is one for each active run, since a plain function keeps its thread while its steps run, and `parked_max` more
    for those that wait.
    """

    def __init__(self, functions_max: int = RUNS_ACTIVE_MAX, parked_max: int = PARKED_THREADS_MAX) -> None:
        self._functions = ThreadPoolExecutor(functions_max + parked_max, "stepstream-function")
        self._bodies = ThreadPoolExecutor(BODY_THREADS_MAX, "stepstream-body")
        self._parked_max = parked_max
        self._parked: dict[Hashable, Callable[[], object]] = {}

    async def run_function(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a plain function of a user to its end."""
        return await in_thread(self._functions, function, *arguments)

    async def run_body(self, body: Callable[[], Any]) -> Any:
        """Run a plain body of a step to its end."""
        return await in_thread(self._bodies, body)

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
        self._bodies.shutdown(wait=False, cancel_futures=True)


def in_thread(pool: Executor, function: Callable[..., Any], *arguments: Any) -> "asyncio.Future[Any]":
    """Call a function in a thread of `pool`, in a copy of the current context."""
    context = contextvars.copy_context()

    def call() -> Any:
        try:
            return context.run(function, *arguments)
        except StopIteration as error:
            # A future refuses it, and its waiter would wait forever.
            raise RuntimeError("the function raised StopIteration") from error

    return asyncio.get_running_loop().run_in_executor(pool, call)
