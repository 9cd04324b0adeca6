"""The connection of one worker: which apps it serves, and whether it has room for another call."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

CALLS_PER_CONNECTION_MAX = 1_000
CONNECTION_STATUSES = ("connected", "ready", "draining")


@dataclass(frozen=True, slots=True)
class ConnectedApp:
    """An app of a worker: its name there, its version, and the ids of its functions."""

    name: str
    version: str
    functions: frozenset[str]


@dataclass(slots=True, eq=False)
class WorkerConnection:
    """One connection; `apps` are by their names in the engine, and `calls` those that occupy the worker, by id.

    `ranks` order the versions of each app. `send` sends a frame in the background. `now_s` is a monotonic clock, and a
    worker that has been silent for `silent_s` by it gets no call.
    """

    id: str
    instance: str
    sdk: str
    apps: Mapping[str, ConnectedApp]
    send: Callable[[bytes], None]
    now_s: Callable[[], float]
    silent_s: float
    capacity: int = CALLS_PER_CONNECTION_MAX
    ready: bool = True
    paused: bool = False
    closing: bool = False
    closed: bool = False
    calls: dict[str, Any] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    last_frame_at: float = 0.0

    @property
    def status(self) -> str:
        """The state of the connection in a word."""
        if self.paused or self.closing:
            return "draining"
        return "ready" if self.ready else "connected"

    @property
    def is_serving(self) -> bool:
        """Whether the worker takes calls, now or once it has room."""
        return self.status == "ready" and not self.closed

    @property
    def free(self) -> float:
        """Which part of the worker is free."""
        return 1 - len(self.calls) / self.capacity

    def takes(self, app: str, function: str) -> bool:
        """Return whether the worker can be sent a call of a function now."""
        if not self.is_serving or len(self.calls) >= self.capacity:
            return False
        found = self.apps.get(app)
        return found is not None and function in found.functions and self.now_s() - self.last_frame_at < self.silent_s

    def replaces(self, other: "WorkerConnection") -> bool:
        """Return whether this connection takes the place of another one, of the same worker."""
        return self is other or other.closed or (other.status == "draining" and self.instance == other.instance)
