"""What a worker reports to the process that hosts it."""

from typing import NamedTuple, Protocol

from stepstream.runtime.dead_letters import DeadLetterObserver


class Load(NamedTuple):
    """How full a worker is, in runs; a worker of a queue counts steps instead.

    `slots` limits those with running code, `in_use` counts them, `queued` those that wait for a slot, and `cached` all
    that are in memory. `bodies` counts the step bodies that are running. Plain ones need one of the `threads`;
    `threads_in_use` also counts those of bodies that nothing waits for any longer.
    """

    slots: int
    in_use: int
    queued: int
    cached: int
    bodies: int = 0
    threads: int = 0
    threads_in_use: int = 0


class WorkerObserver(DeadLetterObserver, Protocol):
    """Counts what a worker does."""

    def attempted(self, function: str, outcome: str, seconds: float) -> None:
        """An attempt of a step body ended; `outcome` is value, error, or retry when another attempt follows."""

    def loading(self, app: str) -> None:
        """A run, or a dispatched step, was claimed, which loads all of its results."""
