"""Calls a function in a thread, in a copy of the current context."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any


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
