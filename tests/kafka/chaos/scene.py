"""The cluster that the faults of a chaos run hit, and what they did to it."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum
from os import SEEK_END
from pathlib import Path
from typing import Protocol

from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from tests.kafka.chaos.load import Load
from tests.kafka.chaos.zombie_app import SUSPENDED
from tests.kafka.cluster.broker import Broker, Brokers
from tests.kafka.cluster.fleet import NEVER_NS, Fleet, Member
from tests.kafka.cluster.history import Ledger

POLL_S = 0.05
UP_S_MAX = 120.0
EFFECTS_S_MAX = 5.0
SUSPEND_S_MAX = 30.0
_EFFECTS_PER_FAULT_MAX = 30
_EVENTS_PER_SUSPENSION = 8
# Bodies that have started before the last so many bytes of their log have ended.
_LATEST_BYTES = 20_000
# What a process logs when it is up: an engine has shards, a worker is registered, an app answers.
UP = {"engine": "assigned", "worker": "stepstream worker", "gateway": "stepstream gateway", "app": "Uvicorn running"}

# What processes report of their faults, as the names of figures.
FENCED_ENGINES = "frozen engines fenced"
SUSPECTED_ENGINES = "healthy engines suspected"
PARTITIONS_NOTICED = "added partitions noticed"
SETTINGS_NOTICED = "removed settings noticed"
RECREATION_NOTICED = "recreated topics of commands noticed"
CLOCK_AHEAD = "clocks that jumped ahead"
CLOCK_BACK = "clocks that stepped back"
# What the bodies and the rows of limits show.
LIMITS_REACHED = "limits on steps that were reached"
LIMITS_WITH_A_QUEUE = "limits with a queue"
NOTICED = (
    FENCED_ENGINES,
    SUSPECTED_ENGINES,
    PARTITIONS_NOTICED,
    SETTINGS_NOTICED,
    RECREATION_NOTICED,
    CLOCK_AHEAD,
    CLOCK_BACK,
)


async def until(holds: Callable[[], bool], seconds: float) -> bool:
    """Return whether a condition holds within a time; it depends on other processes, which send no notification."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


class Disk(Enum):
    """The disk with which an engine restarts; a stale one is a copy from an earlier kill of the same engine."""

    KEPT = "kept"
    WIPED = "wiped"
    STALE = "stale"


@dataclass(slots=True)
class Effects:
    """The lines that step bodies append to a file, counted incrementally."""

    path: Path
    _count: int = 0
    _at: int = 0

    def count(self) -> int:
        """Return how many bodies have run."""
        with self.path.open("rb") as file:
            file.seek(self._at)
            found = file.read()
        self._at += len(found)
        self._count += found.count(b"\n")
        return self._count

    def lines(self) -> list[str]:
        """Return all lines."""
        return self.path.read_text().splitlines()


@dataclass(slots=True)
class Scene:
    """The cluster that faults hit, and what they did.

    Members that a fault works on are `held`, so that no other fault chooses them. `struck` counts faults by name,
    `disks` the disks with which engines restarted, and `noticed` what processes reported of their faults. A fault that
    holds `calm` keeps others from the broker.
    """

    broker: Broker | Brokers
    fleet: Fleet
    load: Load
    ledger: Ledger
    effects: Effects
    draw: random.Random
    struck: Counter[str] = field(default_factory=Counter)
    disks: Counter[Disk] = field(default_factory=Counter)
    rebalances: int = 0
    moves_before: int = 0
    noticed: Counter[str] = field(default_factory=Counter)
    calm: asyncio.Lock = field(default_factory=asyncio.Lock)
    held: list[Member] = field(default_factory=list)
    lasting: set[asyncio.Task[None]] = field(default_factory=set)
    # When the clock of an engine was first wrong (monotonic ns).
    jumped_ns: int = NEVER_NS

    @property
    def cluster(self) -> Cluster:
        """The topics of the fleet."""
        return Cluster(KafkaSettings(self.fleet.bootstrap, self.fleet.namespace))

    def members(self, role: str) -> list[Member]:
        """Return the engines, the processes of the app, or the workers or gateways that no fault holds."""
        members = {"engine": self.fleet.engines, "app": self.fleet.apps}.get(role, self.fleet.workers)
        return [member for member in members if member not in self.held]

    async def tend(self) -> None:
        """Restart processes that ended by themselves, without end, as an orchestrator does."""
        while True:
            for member in self.fleet.members:
                if member.ended and member not in self.held:
                    member.start()
            await asyncio.sleep(POLL_S)

    async def pick(self, role: str, *, commits: bool = False) -> Member:
        """Return a random member that is up; an engine that `commits` has shards."""

        def up() -> list[Member]:
            found = [member for member in self.members(role) if member.said(UP[role])]
            return [member for member in found if member.assigned or not commits]

        if not await until(lambda: bool(up()), UP_S_MAX):
            raise TimeoutError(f"no {role} starts")
        return self.draw.choice(up())

    async def some_work(self) -> None:
        """Return when a random number of further bodies has run, or when none runs for a while."""
        expected = self.effects.count() + self.draw.randrange(_EFFECTS_PER_FAULT_MAX)
        await until(lambda: self.effects.count() >= expected, EFFECTS_S_MAX)

    async def until_body(self, member: Member) -> None:
        """Return when a body that a limit counts is running in a worker, or when none is for a while."""
        await self.load.send(_EVENTS_PER_SUSPENSION)
        await until(lambda: self._has_body(str(member.pid)), EFFECTS_S_MAX)

    def _has_body(self, pid: str) -> bool:
        with self.fleet.bodies.open("rb") as file:
            file.seek(max(file.seek(0, SEEK_END) - _LATEST_BYTES, 0))
            lines = file.read().decode().splitlines()
        edges = [line.split() for line in lines[1:]]
        latest = {tuple(names): edge for edge, _, of, *names in edges if of == pid}
        return "started" in latest.values()

    async def suspend_in_commit(self, member: Member) -> None:
        """Suspend an engine between the writes of a transaction and its commit, or anywhere if it does not commit."""
        suspended = member.said(SUSPENDED)
        member.stop_file.touch()
        await self.load.send(_EVENTS_PER_SUSPENSION)
        await until(lambda: member.said(SUSPENDED) > suspended, SUSPEND_S_MAX)
        member.freeze()
        member.stop_file.unlink(missing_ok=True)

    def continue_beside(self, code: Coroutine[None, None, None]) -> None:
        """Let a fault end while the next ones strike."""
        self.lasting.add(asyncio.get_running_loop().create_task(code))


class Fault(Protocol):
    """Something that goes wrong."""

    async def strike(self, scene: Scene) -> None:
        """Make it go wrong."""
