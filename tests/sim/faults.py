"""What fails, and when: crashes, lost disks, late commits and reports, zombie owners, and workers that shut down."""

import asyncio
import contextvars
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from stepstream.contract.codec import Raw
from stepstream.contract.history import RunEnded, StepAttemptFailed, StepEnded, StepProgressed, decode_history_record
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogError, NewRecord, StoredRow, WorkerLog

_DELAY_PROBABILITY = 0.15
_DELAY_PASSES_MAX = 12
_HIDE_PROBABILITY = 0.3
_HOLD_PROBABILITY = 0.5


class Kind(Enum):
    """How a call fails. A kind that does not apply to a call acts as BEFORE."""

    BEFORE = "before"
    """The process dies before the call takes effect."""
    AFTER = "after"
    """The process dies after the call has taken effect, and before it returns."""
    LATE = "late"
    """The process dies; a commit or report in flight takes effect later, unless the log rejects it by then."""
    TWICE = "twice"
    """A report is written twice."""
    ZOMBIE = "zombie"
    """The process is presumed dead: another owner starts, and works until the next one fences it."""
    LEAVE = "leave"
    """A worker is asked to shut down: it drains for a while, and its successor starts."""


class Disk(Enum):
    """What the disk of a shard contains when the shard restarts after a crash."""

    KEPT = "kept"
    STALE = "stale"
    WIPED = "wiped"


@dataclass(frozen=True, slots=True)
class Fault:
    """One failure.

    `passes` of the event loop elapse before a late call takes effect, a zombie ends, or a drain is cut short.
    """

    kind: Kind
    disk: Disk = Disk.KEPT
    passes: int = 8


@dataclass(frozen=True, slots=True)
class Rebalances:
    """Random rebalances of groups with two workers, and random drains of these, from a seed.

    `frequency` is the probability that one starts before a call of a worker, while bodies are running. With `expires`
    some memberships expire. `body_passes` is the length of a body, in passes of the loop.
    """

    seed: int
    frequency: float
    body_passes: int
    expires: bool = False


class Crash(LogError):
    """The process that made this call dies here."""


@dataclass(slots=True)
class Faults:
    """Which calls fail: `plan` has their numbers, counted over all ports.

    `names` are the calls so far, and `struck` the faults that have occurred. `jitter` seeds random delays of calls, and
    randomly hides records of the inbox for a while: `hidden` counts those. With `rebalances` each group has two
    workers. With `reads` the reads of a store count as calls, too. `applied` and `ended` are the steps and the runs
    that have ended according to the committed history, and `progress` is what bodies reported last, by run and step.
    With the seed `operator` an operator pauses and resumes runs.
    `watch` is called with the shard, the records and the rows of each commit, and `opened` with each worker that opens
    its log.
    """

    plan: dict[int, Fault] = field(default_factory=dict)
    jitter: int | None = None
    rebalances: Rebalances | None = None
    operator: int | None = None
    reads: bool = False
    names: list[str] = field(default_factory=list)
    struck: list[str] = field(default_factory=list)
    applied: set[tuple[str, str]] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    progress: dict[tuple[str, str], Raw] = field(default_factory=dict)
    detached: set[asyncio.Future[Any]] = field(default_factory=set)
    hidden: int = 0
    rival: Callable[[int], Coroutine[Any, Any, None]] | None = None
    retire: Callable[[str, int], Coroutine[Any, Any, None]] | None = None
    worker_log: Callable[[Any, "Faults", str], WorkerLog] | None = None
    watch: Callable[[int, Sequence[NewRecord], Sequence[StoredRow]], None] | None = None
    opened: Callable[[Any, str], None] | None = None
    left: set[str] = field(default_factory=set)
    disks: dict[int, Disk] = field(default_factory=dict)
    draw: random.Random | None = field(init=False)

    def __post_init__(self) -> None:
        """Seed the random delays."""
        self.draw = None if self.jitter is None else random.Random(self.jitter)

    def next(self, name: str) -> Fault | None:
        """Count a call, and return the fault planned for it."""
        number = len(self.names)
        self.names.append(name)
        fault = self.plan.get(number)
        if fault:
            self.struck.append(f"{fault.kind.value} {name}")
        return fault

    def without_plan(self) -> "Faults":
        """Return faults without any failure, which share the record of what is committed."""
        return Faults(applied=self.applied, ended=self.ended, progress=self.progress, watch=self.watch)

    async def delay(self) -> None:
        """Wait for a few passes of the loop, at random."""
        if self.draw and self.draw.random() < _DELAY_PROBABILITY:
            for _ in range(self.draw.randrange(1, _DELAY_PASSES_MAX)):
                await asyncio.sleep(0)

    def hides(self) -> bool:
        """Return whether the records that are being read are hidden, at random."""
        return self.draw is not None and self.draw.random() < _HIDE_PROBABILITY

    def holds(self) -> bool:
        """Return whether a batch waits for more records, at random."""
        return self.draw is not None and self.draw.random() < _HOLD_PROBABILITY

    def detach(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Start a call that outlives its process; the log may reject it."""
        # A task that the code of a run creates would otherwise belong to the run, and be cancelled with its worker.
        context = contextvars.Context()
        task = asyncio.get_running_loop().create_task(_ignore_rejection(call), context=context)
        self.detached.add(task)
        task.add_done_callback(self.detached.discard)

    def committed(self, shard: int, records: Sequence[NewRecord], rows: Sequence[StoredRow]) -> None:
        """Record which steps and runs have ended by these committed records."""
        if self.watch:
            self.watch(shard, records, rows)
        for record in records:
            if record.topic == HISTORY:
                match decode_history_record(record.value):
                    case StepEnded(run_id=run_id, id=step):
                        self.applied.add((run_id, step))
                    case StepProgressed() | StepAttemptFailed() as entry:
                        self.progress[entry.run_id, entry.id] = entry.progress
                    case RunEnded(run_id=run_id):
                        self.ended.add(run_id)
                    case _:
                        pass


async def _ignore_rejection(call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    try:
        await call()
    except LogError:
        return
