"""What fails, and when: crashes, lost disks, commits and reports that land late, zombie owners, workers that leave."""

import asyncio
import contextvars
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from stepstream.contract.history import RunEnded, StepEnded, decode_history
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogError, NewRecord


class Kind(Enum):
    """How a call fails. What a port cannot do is a crash before the call."""

    BEFORE = "before"
    """The process dies before the call."""
    AFTER = "after"
    """The process dies after the call: it was done, and nobody heard of it."""
    LATE = "late"
    """The process dies, and a commit or a report that was on its way lands later, if it is let."""
    TWICE = "twice"
    """A report is written twice."""
    ZOMBIE = "zombie"
    """The process is thought dead: another owner comes up and works until it is fenced in its turn."""
    LEAVE = "leave"
    """A worker is asked to end: it drains for a while, and the next begins."""


class Disk(Enum):
    """What a shard's disk still has when it comes up after a crash."""

    KEPT = "kept"
    STALE = "stale"
    WIPED = "wiped"


@dataclass(frozen=True, slots=True)
class Fault:
    """One failure; `passes` of the loop go by until what is late lands, a zombie ends, or a drain is cut short."""

    kind: Kind
    disk: Disk = Disk.KEPT
    passes: int = 8


class Crash(LogError):
    """The process of this part dies here."""


@dataclass(slots=True)
class Faults:
    """Which calls fail, by their number over all ports.

    `names` has the calls so far, `struck` the faults that happened. `reads` also counts the reads of a store as calls;
    `jitter` delays calls by chance, from a seed, and hides records of the inbox for a while: `hidden` counts them.
    `applied` and `ended` are what committed history says.
    """

    plan: dict[int, Fault] = field(default_factory=dict)
    jitter: int | None = None
    reads: bool = False
    names: list[str] = field(default_factory=list)
    struck: list[str] = field(default_factory=list)
    applied: set[tuple[str, str]] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    detached: set[asyncio.Future[Any]] = field(default_factory=set)
    hidden: int = 0
    rival: Callable[[int], Coroutine[Any, Any, None]] | None = None
    retire: Callable[[str, int], Coroutine[Any, Any, None]] | None = None
    left: set[str] = field(default_factory=set)
    disks: dict[int, Disk] = field(default_factory=dict)
    draw: random.Random | None = field(init=False)

    def __post_init__(self) -> None:
        """Make the source of delays."""
        self.draw = None if self.jitter is None else random.Random(self.jitter)

    def next(self, name: str) -> Fault | None:
        """Count a call, and return the fault planned for it."""
        number = len(self.names)
        self.names.append(name)
        fault = self.plan.get(number)
        if fault:
            self.struck.append(f"{fault.kind.value} {name}")
        return fault

    def spared(self) -> "Faults":
        """Return no faults, which note what is committed in the same place."""
        return Faults(applied=self.applied, ended=self.ended)

    async def delay(self) -> None:
        """Take a while, if this schedule has jitter."""
        if self.draw and self.draw.random() < 0.15:
            for _ in range(self.draw.randrange(1, 12)):
                await asyncio.sleep(0)

    def hides(self) -> bool:
        """Tell whether records are hidden now."""
        return self.draw is not None and self.draw.random() < 0.3

    def holds(self) -> bool:
        """Tell whether a batch is held back now for what comes meanwhile."""
        return self.draw is not None and self.draw.random() < 0.5

    def detach(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Let something go on by itself, its process being dead to the others; the log may refuse it."""
        # In a context of its own: a task made by a run's code would be part of the run, and end with its worker.
        context = contextvars.Context()
        task = asyncio.get_running_loop().create_task(_heard_by_nobody(call), context=context)
        self.detached.add(task)
        task.add_done_callback(self.detached.discard)

    def committed(self, records: Sequence[NewRecord]) -> None:
        """Note what history says now."""
        for record in records:
            if record.topic == HISTORY:
                match decode_history(record.value):
                    case StepEnded(run_id=run_id, id=step):
                        self.applied.add((run_id, step))
                    case RunEnded(run_id=run_id):
                        self.ended.add(run_id)
                    case _:
                        pass


async def _heard_by_nobody(call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    try:
        await call()
    except LogError:
        return
