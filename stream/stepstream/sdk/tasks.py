"""The tasks of the event loop: those that a run's code makes are counted as part of the run."""

import asyncio
import contextvars
from typing import Any

from stepstream.sdk.replay import current_body, current_replay


def task_factory(
    loop: asyncio.AbstractEventLoop, code: Any, context: contextvars.Context | None = None, **options: Any
) -> asyncio.Task[Any]:
    """Make tasks as asyncio does, and count those that a run's code makes as part of the run."""
    task: asyncio.Task[Any] = asyncio.Task(code, loop=loop, context=context, **options)
    replay = context.get(current_replay) if context is not None else current_replay.get()
    if replay is not None and not replay.over:
        body = context.get(current_body) if context is not None else current_body.get()
        if not body:
            replay.adopt(task)
    return task
