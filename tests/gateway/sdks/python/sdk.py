"""The client of the SDK, and one way to define the functions of the acceptance program."""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import inngest

APP = os.environ.get("APP", "program")
PORT = int(os.environ.get("PORT", "8000"))
URL = f"http://127.0.0.1:{PORT}"
CLIENT = inngest.Inngest(app_id=APP)
FUNCTIONS: list[inngest.Function[Any]] = []
T = TypeVar("T")
Handler = Callable[[inngest.Context], Awaitable[Any]]
# How often a body was called, by function and run: the memory of the process, which no step has.
_COUNTS = Counter[tuple[str, ...]]()


def define(id: str, *, condition: str | None = None, **options: Any) -> Callable[[Handler], inngest.Function[Any]]:
    """Define a function that an event with its id as name starts."""
    trigger = inngest.TriggerEvent(event=f"{APP}/{id}", expression=condition)
    create = CLIENT.create_function(fn_id=id, trigger=trigger, **options)

    def add(handler: Handler) -> inngest.Function[Any]:
        made = create(handler)
        FUNCTIONS.append(made)
        return made

    return add


def count(*names: str) -> int:
    """Count a call, and return how many there were."""
    _COUNTS[names] += 1
    return _COUNTS[names]


async def value(given: T) -> T:
    """Return what is given: the body of many steps."""
    return given


async def after(seconds: float) -> None:
    """Wait."""
    await asyncio.sleep(seconds)
