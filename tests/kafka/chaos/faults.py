"""The faults of chaos runs as values: what they hit, how, and what happens to the disk."""

import asyncio
from dataclasses import dataclass

from stepstream.runtime.kafka.client.settings import TRANSACTION_S
from tests.kafka.chaos.clock_faults import JumpClock
from tests.kafka.chaos.scene import (
    FENCED_ENGINES,
    SUSPECTED_ENGINES,
    SUSPEND_S_MAX,
    UP,
    UP_S_MAX,
    Disk,
    Fault,
    Scene,
    until,
)
from tests.kafka.chaos.topic_faults import AddPartition, RecreateCommands, RemoveSetting
from tests.kafka.chaos.zombie_engine import FENCED
from tests.kafka.cluster.fleet import Member

# A group removes a silent member after 10 s (SESSION_S); the others need a moment to take over.
FROZEN_S = 13.0
# What an engine logs when it suspects others.
TAKES_OVER = "is silent or has left; "


@dataclass(frozen=True, slots=True)
class Kill:
    """A process ends by SIGKILL, or by SIGTERM if `gently`, and restarts under its name."""

    role: str
    disk: Disk = Disk.KEPT
    gently: bool = False

    async def strike(self, scene: Scene) -> None:
        """End a member, change its disk, and restart it."""
        member = await scene.pick(self.role)
        if self.role == "worker" and scene.load.limited:
            await scene.until_body(member)
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
            member = await scene.pick("engine", commits=True)
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
        member = await scene.pick("engine", commits=True)
        scene.held.append(member)
        await scene.suspend_in_commit(member)
        scene.continue_beside(self._thaw(scene, member))

    async def _thaw(self, scene: Scene, member: Member) -> None:
        await asyncio.sleep(self.seconds)
        fenced, up = member.said(FENCED), member.said(UP["engine"])
        member.thaw()
        # After its next assignment, the outcome of its commit is known.
        await until(lambda: member.said(UP["engine"]) > up or member.ended, UP_S_MAX)
        scene.noticed[FENCED_ENGINES] += member.said(FENCED) > fenced
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
            scene.noticed[SUSPECTED_ENGINES] += member.said(TAKES_OVER) > acted


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
    "partition-added": (1, AddPartition()),
    "setting-removed": (1, RemoveSetting()),
    "commands-recreated": (1, RecreateCommands()),
    "engine-clock": (2, JumpClock("engine")),
    "worker-clock": (1, JumpClock("worker")),
    "repeated": (4, Repeat()),
    "poison": (2, Poison()),
    "gateway": (6, Kill("gateway")),
    "app": (6, Kill("app")),
}
# The faults of a cluster without gateways.
PYTHON_FAULTS = tuple(name for name in FAULTS if name not in ("gateway", "app"))
