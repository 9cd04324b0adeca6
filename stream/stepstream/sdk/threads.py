"""Threads for plain functions: separate pools for functions and for bodies, so that neither waits for the other."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from stepstream.contract.limits import RUNS_ACTIVE_MAX

BODY_THREADS_MAX = 64


class Threads:
    """The threads of one process; each pool grows on demand."""

    def __init__(self, functions_max: int = RUNS_ACTIVE_MAX) -> None:
        # A plain function keeps its thread while its steps run, so there is one for each run that is active.
        self._functions = ThreadPoolExecutor(functions_max, "stepstream-function")
        self._bodies = ThreadPoolExecutor(BODY_THREADS_MAX, "stepstream-body")

    async def run_function(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a plain function of a user to its end."""
        return await in_thread(self._functions, function, *arguments)

    async def run_body(self, body: Callable[[], Any]) -> Any:
        """Run a plain body of a step to its end."""
        return await in_thread(self._bodies, body)

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
