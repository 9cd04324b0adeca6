"""What the HTTP API asks of the engine in its process."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stepstream.contract.control import Pause, RerunRequested
from stepstream.contract.events import EventRecord
from stepstream.runtime.overview import Overview
from stepstream.runtime.readmodel.views import RunView
from stepstream.runtime.readmodel.why import Surroundings, surroundings_of


class SendSignal(Protocol):
    """Sends a signal."""

    async def __call__(self, name: str, data: Any = None) -> bool:
        """Return whether a run waited for the signal."""


class Operator(Protocol):
    """Controls runs; each call returns once its request is applied, and raises Conflict if it does not apply."""

    async def rerun(self, request: RerunRequested) -> str:
        """Repeat a run; return the id of the new run, even if the request was sent before."""

    async def pause(self, run_id: str, pause: Pause) -> bool:
        """Pause a run, or change its pause; return whether it existed and had not ended."""

    async def unpause(self, run_id: str, by: str = "", why: str = "") -> bool:
        """End the pause of a run; return whether it was paused."""


@dataclass(frozen=True, slots=True)
class EngineFacade:
    """The calls of the API.

    `send` sends events, all or none, and returns their ids once they are durable. `cancel` cancels a run and returns
    whether it was open. `workers` returns how many workers of each name are running; names whose number is unknown are
    left out. `unready` says why the process is not ready, and is empty when it is. `operator` controls runs.
    `overview` has what the process knows of functions and shards.
    """

    send: Callable[[Sequence[EventRecord]], Awaitable[list[str]]]
    signal: SendSignal
    cancel: Callable[[str], Awaitable[bool]]
    workers: Callable[[Sequence[str]], Awaitable[dict[str, int]]]
    unready: Callable[[], str]
    operator: Operator
    overview: Overview

    async def surroundings(self, run: RunView) -> Surroundings:
        """Return what the process knows beside a run, by which `why_open` explains it."""
        return surroundings_of(run, self.overview, await self.workers(run.workers) if run.workers else {})
