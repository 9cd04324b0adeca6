"""The faults of chaos runs as values: what they hit, how, and what happens to the disk."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from stepstream.runtime.kafka.settings import TRANSACTION_S
from tests.kafka.chaos.load import Load
from tests.kafka.chaos.zombie_app import SUSPENDED
from tests.kafka.chaos.zombie_engine import FENCED
from tests.kafka.cluster.broker import Broker, Brokers
from tests.kafka.cluster.fleet import Fleet, Member
from tests.kafka.cluster.history import Ledger

POLL_S = 0.05
UP_S_MAX = 60.0
# A group removes a silent member after 10 s (SESSION_S); the others need a moment to take over.
FROZEN_S = 13.0
EFFECTS_S_MAX = 5.0
SUSPEND_S_MAX = 5.0
_EFFECTS_PER_FAULT_MAX = 30
_EVENTS_PER_SUSPENSION = 8
# What a process logs when it is up: an engine has shards, a worker is registered.
# What an engine logs when it suspects others.
TAKES_OVER = "is silent or has left; "
UP = {"engine": "assigned", "worker": "stepstream worker"}


async def until(holds: Callable[[], bool], seconds: float) -> bool:
    """Return whether a condition holds within a time; it depends on other processes, which send no notification."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


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
    `disks` the disks with which engines restarted, `fenced` the suspended engines whose commit was fenced, and
    `suspected` the engines that acted on a false suspicion. A fault that holds `calm` keeps others from the broker.
    """

    broker: Broker | Brokers
    fleet: Fleet
    load: Load
    ledger: Ledger
    effects: Effects
    draw: random.Random
    struck: Counter[str] = field(default_factory=Counter)
    disks: Counter["Disk"] = field(default_factory=Counter)
    rebalances: int = 0
    moves_before: int = 0
    fenced: int = 0
    suspected: int = 0
    calm: asyncio.Lock = field(default_factory=asyncio.Lock)
    held: list[Member] = field(default_factory=list)
    lasting: set[asyncio.Task[None]] = field(default_factory=set)

    def members(self, role: str) -> list[Member]:
        """Return the engines or the workers that no fault holds."""
        members = self.fleet.engines if role == "engine" else self.fleet.workers
        return [member for member in members if member not in self.held]

    async def tend(self) -> None:
        """Restart processes that ended by themselves, without end, as an orchestrator does."""
        while True:
            for member in (*self.members("engine"), *self.members("worker")):
                if member.ended:
                    member.start()
            await asyncio.sleep(POLL_S)

    async def pick(self, role: str) -> Member:
        """Return a random member that is up."""

        def up() -> list[Member]:
            return [member for member in self.members(role) if member.said(UP[role])]

        if not await until(lambda: bool(up()), UP_S_MAX):
            raise TimeoutError(f"no {role} starts")
        return self.draw.choice(up())

    async def some_work(self) -> None:
        """Return when a random number of further bodies has run, or when none runs for a while."""
        expected = self.effects.count() + self.draw.randrange(_EFFECTS_PER_FAULT_MAX)
        await until(lambda: self.effects.count() >= expected, EFFECTS_S_MAX)

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


class Disk(Enum):
    """The disk with which an engine restarts; a stale one is a copy from an earlier kill of the same engine."""

    KEPT = "kept"
    WIPED = "wiped"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Kill:
    """A process ends by SIGKILL, or by SIGTERM if `gently`, and restarts under its name."""

    role: str
    disk: Disk = Disk.KEPT
    gently: bool = False

    async def strike(self, scene: Scene) -> None:
        """End a member, change its disk, and restart it."""
        member = await scene.pick(self.role)
        await self._end(scene, member)
        if self.disk is Disk.WIPED:
            member.wipe()
        elif self.disk is Disk.STALE and not member.put_back():
            member.keep_copy()
            member.start()
            await until(lambda: bool(member.said(UP[self.role])), UP_S_MAX)
            await scene.some_work()
            await self._end(scene, member)
            member.put_back()
        elif self.role == "engine" and scene.draw.random() < 0.2:
            member.keep_copy()
        scene.disks[self.disk] += self.role == "engine"
        member.start()

    async def _end(self, scene: Scene, member: Member) -> None:
        scene.rebalances += member.said(UP["engine"])
        if not self.gently:
            member.kill()
            return
        scene.held.append(member)
        await asyncio.to_thread(member.stop)
        scene.held.remove(member)


@dataclass(frozen=True, slots=True)
class KillInCommit:
    """An engine ends by SIGKILL between the writes of a transaction and its commit, and restarts."""

    async def strike(self, scene: Scene) -> None:
        """Suspend an engine in a commit, kill it, and restart it: its next incarnation aborts the transaction."""
        async with scene.calm:
            member = await scene.pick("engine")
            await scene.suspend_in_commit(member)
            scene.rebalances += member.said(UP["engine"])
            member.kill()
            member.start()


@dataclass(frozen=True, slots=True)
class Freeze:
    """A worker is suspended until the group has reassigned its partitions, and resumes."""

    seconds: float = FROZEN_S

    async def strike(self, scene: Scene) -> None:
        """Suspend a worker, and resume it while other faults strike."""
        member = await scene.pick("worker")
        scene.held.append(member)
        member.freeze()
        scene.continue_beside(self._thaw(scene, member))

    async def _thaw(self, scene: Scene, member: Member) -> None:
        await asyncio.sleep(self.seconds)
        member.thaw()
        scene.held.remove(member)


@dataclass(frozen=True, slots=True)
class FreezeInCommit:
    """An engine is suspended in a transaction until others have its shards, and resumes with the commit."""

    seconds: float = FROZEN_S

    async def strike(self, scene: Scene) -> None:
        """Suspend an engine in a commit, and resume it while other faults strike."""
        await scene.calm.acquire()
        member = await scene.pick("engine")
        scene.held.append(member)
        await scene.suspend_in_commit(member)
        scene.continue_beside(self._thaw(scene, member))

    async def _thaw(self, scene: Scene, member: Member) -> None:
        await asyncio.sleep(self.seconds)
        fenced, up = member.said(FENCED), member.said(UP["engine"])
        member.thaw()
        # After its next assignment, the outcome of its commit is known.
        await until(lambda: member.said(UP["engine"]) > up or member.ended, UP_S_MAX)
        scene.fenced += member.said(FENCED) > fenced
        scene.held.remove(member)
        scene.calm.release()


@dataclass(frozen=True, slots=True)
class Suspect:
    """An engine takes over the shards of healthy engines, which fence it in turn."""

    async def strike(self, scene: Scene) -> None:
        """Have an engine suspect all others until it has acted on that."""
        async with scene.calm:
            member = await scene.pick("engine")
            file, acted = member.disk.with_suffix(".suspect"), member.said(TAKES_OVER)
            file.touch()
            await until(lambda: member.said(TAKES_OVER) > acted or member.ended, SUSPEND_S_MAX)
            file.unlink(missing_ok=True)
            scene.suspected += member.said(TAKES_OVER) > acted


@dataclass(frozen=True, slots=True)
class Join:
    """A further process joins the group, works for a while, and leaves; the group rebalances both times."""

    role: str

    async def strike(self, scene: Scene) -> None:
        """Start it; it leaves while other faults strike."""
        # A member without a static name leaves the group when it stops.
        add = scene.fleet.add_engine if self.role == "engine" else scene.fleet.add_worker
        member = add(STEPSTREAM_INSTANCE="", **short_log(self.role))
        scene.held.append(member)
        scene.continue_beside(self._leave(scene, member))

    async def _leave(self, scene: Scene, member: Member) -> None:
        await until(lambda: bool(member.said(UP[self.role])), UP_S_MAX)
        await scene.some_work()
        scene.rebalances += member.said(UP["engine"])
        await asyncio.to_thread(member.stop)
        member.wipe()


@dataclass(frozen=True, slots=True)
class Bounce:
    """The broker ends by SIGKILL, or by SIGTERM if `gently`, and restarts on the same disk."""

    gently: bool

    async def strike(self, scene: Scene) -> None:
        """End the broker and start it."""
        async with scene.calm:
            await asyncio.to_thread(scene.broker.stop if self.gently else scene.broker.kill)
            await asyncio.to_thread(scene.broker.start)


@dataclass(frozen=True, slots=True)
class Stall:
    """The broker answers no request for longer than a commit may take: the outcome of open commits is unknown."""

    seconds: float = TRANSACTION_S + 2

    async def strike(self, scene: Scene) -> None:
        """Suspend the broker, and resume it."""
        async with scene.calm:
            scene.broker.freeze()
            try:
                await asyncio.sleep(self.seconds)
            finally:
                scene.broker.thaw()


@dataclass(frozen=True, slots=True)
class Repeat:
    """Events are sent a second time, or twice at once."""

    count: int = 4

    async def strike(self, scene: Scene) -> None:
        """Send them."""
        await scene.load.repeat(self.count, scene.draw)


@dataclass(frozen=True, slots=True)
class Poison:
    """Records that cannot be parsed are sent to the inputs of shards and workers."""

    async def strike(self, scene: Scene) -> None:
        """Send them."""
        await scene.load.poison(scene.draw)


@dataclass(frozen=True, slots=True)
class Together:
    """Several faults at once."""

    faults: tuple[Fault, ...]

    async def strike(self, scene: Scene) -> None:
        """Strike with all of them concurrently."""
        await asyncio.gather(*(fault.strike(scene) for fault in self.faults))


def short_log(role: str) -> dict[str, str]:
    """Return what keeps the log of a member short: a worker logs each step at level INFO."""
    return {"STEPSTREAM_LOG_LEVEL": "warning"} if role == "worker" else {}


# The name of a fault, how often it strikes in proportion to others, and the fault.
FAULTS: dict[str, tuple[int, Fault]] = {
    "engine": (20, Kill("engine")),
    "engine-in-commit": (4, KillInCommit()),
    "wiped": (4, Kill("engine", Disk.WIPED)),
    "stale": (4, Kill("engine", Disk.STALE)),
    "worker": (6, Kill("worker")),
    "both": (3, Together((Kill("engine"), Kill("worker")))),
    "rolled-engine": (1, Kill("engine", gently=True)),
    "rolled-worker": (1, Kill("worker", gently=True)),
    "suspected": (2, Suspect()),
    "frozen-engine": (1, FreezeInCommit()),
    "frozen-worker": (1, Freeze()),
    "more-engines": (1, Join("engine")),
    "more-workers": (1, Join("worker")),
    "broker-killed": (1, Bounce(gently=False)),
    "broker-stopped": (1, Bounce(gently=True)),
    "broker-frozen": (1, Stall()),
    "repeated": (4, Repeat()),
    "poison": (2, Poison()),
}
