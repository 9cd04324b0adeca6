"""The faults of chaos runs as values: what is struck, how, and what happens to its disk."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from stepstream.runtime.kafka.producer import COMMIT_S_MAX
from tests.kafka.broker import Broker, Brokers
from tests.kafka.fleet import Fleet, Member
from tests.kafka.judging import Ledger
from tests.kafka.load import Load
from tests.kafka.zombie_app import STOPS
from tests.kafka.zombie_engine import FENCED

ASK_S = 0.05
UP_S_MAX = 60.0
# The group gives a member up after 10 s (SESSION_MS); the others need a moment to take over.
FROZEN_S = 13.0
EFFECTS_S_MAX = 5.0
STOP_S_MAX = 5.0
_EFFECTS_PER_FAULT_MAX = 30
_EVENTS_TO_STOP_IN = 8
# What a process says when it does its part: an engine of its shards, a worker when it has registered.
UP = {"engine": "assigned", "worker": "stepstream worker"}


async def until(holds: Callable[[], bool], seconds: float) -> bool:
    """Return whether something holds within so many seconds; what other processes do rings no bell of ours."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(ASK_S)
    return True


@dataclass(slots=True)
class Effects:
    """The lines that bodies leave, counted as they come."""

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
        """Return all of them."""
        return self.path.read_text().splitlines()


@dataclass(slots=True)
class Scene:
    """What faults are done to; members that a fault has in its hands are `held` from the others.

    `struck` counts what was done, `disks` what engines came back to, and `fenced` the frozen engines that went on with
    a transaction in their hands and were refused. While somebody holds `calm`, the broker is left alone.
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
    calm: asyncio.Lock = field(default_factory=asyncio.Lock)
    held: list[Member] = field(default_factory=list)
    lasting: set[asyncio.Task[None]] = field(default_factory=set)

    def members(self, role: str) -> list[Member]:
        """Return the engines or the workers that no fault has in its hands."""
        members = self.fleet.engines if role == "engine" else self.fleet.workers
        return [member for member in members if member not in self.held]

    async def tend(self) -> None:
        """Start again, for ever, what ended by itself, as an orchestrator does: nothing comes up without a broker."""
        while True:
            for member in (*self.members("engine"), *self.members("worker")):
                if member.ended:
                    member.start()
            await asyncio.sleep(ASK_S)

    async def pick(self, role: str) -> Member:
        """Return a member that is at work, by chance."""

        def at_work() -> list[Member]:
            return [member for member in self.members(role) if member.said(UP[role])]

        if not await until(lambda: bool(at_work()), UP_S_MAX):
            raise TimeoutError(f"no {role} comes up")
        return self.draw.choice(at_work())

    async def some_work(self) -> None:
        """Return when some more bodies have run, how many is drawn, or when none runs for a while."""
        wanted = self.effects.count() + self.draw.randrange(_EFFECTS_PER_FAULT_MAX)
        await until(lambda: self.effects.count() >= wanted, EFFECTS_S_MAX)

    def go_on_beside(self, code: Coroutine[None, None, None]) -> None:
        """Let something go on beside the next faults."""
        task = asyncio.get_running_loop().create_task(code)
        self.lasting.add(task)


class Fault(Protocol):
    """Something that goes wrong."""

    async def strike(self, scene: Scene) -> None:
        """Do it."""


class Disk(Enum):
    """What an engine's disk has when it comes back."""

    KEPT = "kept"
    WIPED = "wiped"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Kill:
    """A process is killed where it is, or ended as operators do it (`gently`), and comes back under its name.

    A stale disk is a copy that was made when an engine of this name was dead before.
    """

    role: str
    disk: Disk = Disk.KEPT
    gently: bool = False

    async def strike(self, scene: Scene) -> None:
        """End a member, see to its disk, and start it again."""
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
class Freeze:
    """A worker stops without its knowing until others have its work, and then goes on."""

    seconds: float = FROZEN_S

    async def strike(self, scene: Scene) -> None:
        """Freeze a worker, and thaw it while other things go on."""
        member = await scene.pick("worker")
        scene.held.append(member)
        member.freeze()
        scene.go_on_beside(self._thaw(scene, member))

    async def _thaw(self, scene: Scene, member: Member) -> None:
        await asyncio.sleep(self.seconds)
        member.thaw()
        scene.held.remove(member)


@dataclass(frozen=True, slots=True)
class FreezeInCommit:
    """An engine stops with a transaction in its hands until others have its shards, and then goes on to commit it."""

    seconds: float = FROZEN_S

    async def strike(self, scene: Scene) -> None:
        """Freeze an engine, and thaw it while other things go on; one that has nothing to do is frozen where it is."""
        await scene.calm.acquire()
        member = await scene.pick("engine")
        scene.held.append(member)
        stopped = member.said(STOPS)
        member.told.touch()
        await scene.load.send(_EVENTS_TO_STOP_IN)
        await until(lambda: member.said(STOPS) > stopped, STOP_S_MAX)
        member.freeze()
        member.told.unlink(missing_ok=True)
        scene.go_on_beside(self._thaw(scene, member))

    async def _thaw(self, scene: Scene, member: Member) -> None:
        await asyncio.sleep(self.seconds)
        fenced, up = member.said(FENCED), member.said(UP["engine"])
        member.thaw()
        # Once the group has given it shards anew, it knows what came of those that it had.
        await until(lambda: member.said(UP["engine"]) > up or member.ended, UP_S_MAX)
        scene.fenced += member.said(FENCED) > fenced
        scene.held.remove(member)
        scene.calm.release()


@dataclass(frozen=True, slots=True)
class Join:
    """One more process joins the group, works for a while, and leaves; the group is shared out anew both times."""

    role: str

    async def strike(self, scene: Scene) -> None:
        """Start it; it leaves while other things go on."""
        # Without a name of its own the group forgets it when it goes.
        add = scene.fleet.add_engine if self.role == "engine" else scene.fleet.add_worker
        member = add(STEPSTREAM_INSTANCE="", **quiet(self.role))
        scene.held.append(member)
        scene.go_on_beside(self._leave(scene, member))

    async def _leave(self, scene: Scene, member: Member) -> None:
        await until(lambda: bool(member.said(UP[self.role])), UP_S_MAX)
        await scene.some_work()
        scene.rebalances += member.said(UP["engine"])
        await asyncio.to_thread(member.stop)
        member.wipe()


@dataclass(frozen=True, slots=True)
class Bounce:
    """The broker is killed, or stopped, and comes back on the same disk."""

    gently: bool

    async def strike(self, scene: Scene) -> None:
        """End the broker and start it."""
        async with scene.calm:
            await asyncio.to_thread(scene.broker.stop if self.gently else scene.broker.kill)
            await asyncio.to_thread(scene.broker.start)


@dataclass(frozen=True, slots=True)
class Stall:
    """The broker answers nobody for longer than a commit may take: whoever commits does not know what came of it."""

    seconds: float = COMMIT_S_MAX + 2

    async def strike(self, scene: Scene) -> None:
        """Freeze the broker, and thaw it."""
        async with scene.calm:
            scene.broker.freeze()
            try:
                await asyncio.sleep(self.seconds)
            finally:
                scene.broker.thaw()


@dataclass(frozen=True, slots=True)
class Repeat:
    """Events come again, or twice at once."""

    count: int = 4

    async def strike(self, scene: Scene) -> None:
        """Send them."""
        await scene.load.repeat(self.count, scene.draw)


@dataclass(frozen=True, slots=True)
class Poison:
    """Records that nobody can read come into the inputs of shards and workers."""

    async def strike(self, scene: Scene) -> None:
        """Send them."""
        await scene.load.poison(scene.draw)


@dataclass(frozen=True, slots=True)
class Together:
    """Some faults at once."""

    faults: tuple[Fault, ...]

    async def strike(self, scene: Scene) -> None:
        """Do all of them side by side."""
        await asyncio.gather(*(fault.strike(scene) for fault in self.faults))


def quiet(role: str) -> dict[str, str]:
    """Return what keeps the log of a member short: a worker has a line for each step."""
    return {"STEPSTREAM_LOG_LEVEL": "warning"} if role == "worker" else {}


# Name to how often it comes and what it is.
FAULTS: dict[str, tuple[int, Fault]] = {
    "engine": (20, Kill("engine")),
    "wiped": (4, Kill("engine", Disk.WIPED)),
    "stale": (4, Kill("engine", Disk.STALE)),
    "worker": (6, Kill("worker")),
    "both": (3, Together((Kill("engine"), Kill("worker")))),
    "rolled-engine": (1, Kill("engine", gently=True)),
    "rolled-worker": (1, Kill("worker", gently=True)),
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
