"""Threads for plain functions: those of functions and those of bodies apart, so that neither waits for the other."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stepstream.contract.limits import RUNS_ACTIVE_MAX

BODY_THREADS_MAX = 64


class Threads:
    """The threads of one process; each pool grows as it is needed."""

    def __init__(self, functions_max: int = RUNS_ACTIVE_MAX) -> None:
        # A plain function keeps its thread while its steps are at work, so there is one for each run that is active.
        self._functions = ThreadPoolExecutor(functions_max, "stepstream-function")
        self._bodies = ThreadPoolExecutor(BODY_THREADS_MAX, "stepstream-body")

    async def run_function(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a plain function of a user to its end."""
        return await _in_thread(self._functions, function, arguments)

    async def run_body(self, body: Callable[[], Any]) -> Any:
        """Run a plain body of a step to its end."""
        return await _in_thread(self._bodies, body, ())

    def close(self) -> None:
        """Begin nothing more; threads at work end by themselves."""
        self._functions.shutdown(wait=False, cancel_futures=True)
        self._bodies.shutdown(wait=False, cancel_futures=True)


async def _in_thread(pool: ThreadPoolExecutor, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    context = contextvars.copy_context()

    def call() -> Any:
        try:
            return context.run(function, *arguments)
        except StopIteration as error:
            # A future refuses it, and whoever waits would wait for ever.
            raise RuntimeError("the function raised StopIteration") from error

    return await asyncio.get_running_loop().run_in_executor(pool, call)
