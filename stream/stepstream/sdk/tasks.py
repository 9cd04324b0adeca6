"""The tasks of the event loop: those that a run's code makes are counted as part of the run."""

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

from stepstream.sdk.replay import current_body, current_replay


class ExitInTask(Exception):
    """A task of a run's code raised SystemExit or KeyboardInterrupt, which would have ended the process."""


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine whose exits stay within its run: asyncio lets them end the event loop."""

    def __init__(self, code: Any) -> None:
        self._code = code

    def send(self, value: Any) -> Any:
        try:
            return self._code.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise _as_error(error) from error

    def throw(self, *args: Any) -> Any:
        try:
            return self._code.throw(*args)
        except (SystemExit, KeyboardInterrupt) as error:
            raise _as_error(error) from error

    def close(self) -> None:
        self._code.close()

    def __await__(self) -> Any:
        return self._code.__await__()

    @property
    def cr_await(self) -> Any:
        """What this waits for, as of coroutines."""
        return self._code

    @property
    def cr_code(self) -> Any:
        """The code behind this, as of coroutines."""
        return getattr(self._code, "cr_code", None)


def _as_error(error: BaseException) -> ExitInTask:
    return ExitInTask(f"{type(error).__name__}({error}) was raised in a task; a run ends by return or by an error")


def task_factory(
    loop: asyncio.AbstractEventLoop, code: Any, context: contextvars.Context | None = None, **options: Any
) -> asyncio.Task[Any]:
    """Make tasks as asyncio does, and count those that a run's code makes as part of the run."""
    replay = context.get(current_replay) if context is not None else current_replay.get()
    if replay is None or replay.over:
        return asyncio.Task(code, loop=loop, context=context, **options)
    # Steps contain their bodies themselves.
    contained = code if getattr(code, "is_step", False) else _Contained(code)
    task: asyncio.Task[Any] = asyncio.Task(contained, loop=loop, context=context, **options)
    body = context.get(current_body) if context is not None else current_body.get()
    if not body:
        replay.adopt(task)
    return task
