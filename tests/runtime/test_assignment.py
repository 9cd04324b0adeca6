"""A worker's partitions come while it reads: no command is passed over, whatever the broker answers and when."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any

import pytest

from stepstream import App
from stepstream.contract.codec import encode
from stepstream.contract.commands import RunStarted
from stepstream.contract.topics import commands_topic
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.kafka import worker_log
from stepstream.runtime.kafka.reader import Membership
from stepstream.runtime.kafka.worker_log import KafkaWorkerLog
from stepstream.runtime.ports import LogError, LogRecord, NewRecord, Offsets, RebalanceListener
from stepstream.runtime.worker.worker import Worker

TOPIC = commands_topic("shop")
FIRST, END = 7, 10


class Group:
    """A cluster, its one reader and its producer: commands 7, 8, 9 are there, and who asks for ends waits."""

    def __init__(self) -> None:
        self.joined: Membership | None = None
        self.read_to = FIRST
        self.end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.commits: list[Offsets] = []
        self.membership = ("member-1", 1)
        self.seeks: list[Offsets] = []
        self.confirmed = 0

    async def producer(self) -> "Group":
        """Return what writes nothing."""
        return self

    async def reader(self, **_: object) -> "Group":
        """Return the reader."""
        return self

    def join(self, _topic: str, membership: Membership) -> None:
        """Take note of who joins."""
        self.joined = membership

    async def read(self, _limit: int, _wait_ms: int) -> list[LogRecord]:
        """Return all commands at once, and nothing more before somebody seeks."""
        while self.read_to >= END:  # noqa: ASYNC110 - nobody tells when it is so
            await asyncio.sleep(0)
        found = [LogRecord(TOPIC, 0, offset, b"k", b"v", (), 0) for offset in range(self.read_to, END)]
        self.read_to = END
        return found

    def seek(self, positions: Offsets) -> None:
        """Read on from there."""
        self.seeks.append(positions)
        for offset in positions.values():
            self.read_to = offset

    async def ends(self, places: Collection[tuple[str, int]]) -> Offsets:
        """Return the end, when it is known."""
        end = await asyncio.shield(self.end)
        return dict.fromkeys(places, end)

    async def position(self, _at: tuple[str, int]) -> int:
        """Return how far it was read."""
        return self.read_to

    async def committed(self, places: Collection[tuple[str, int]]) -> Offsets:
        """Return where the group has come to."""
        return dict.fromkeys(places, FIRST)

    async def confirm(self) -> None:
        """Say that it is a member."""
        self.confirmed += 1

    async def commit(self, offsets: Offsets) -> None:
        """Take note."""
        self.commits.append(offsets)

    async def close(self) -> None:
        """Do nothing."""


class Guest:
    """A tenant with nothing at work, that hears what becomes of partitions."""

    def __init__(self) -> None:
        self.moves: list[tuple[set[int], bool] | None] = []

    async def moving(self) -> None:
        """Take note that they may go."""
        self.moves.append(None)

    async def moved(self, kept: Collection[int], *, lost: bool) -> None:
        """Take note of those that are ours still."""
        self.moves.append((set(kept), lost))


async def until(holds: Callable[[], object]) -> None:
    """Return when something holds."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - nobody tells when it does
            await asyncio.sleep(0)


def tell_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the group told, and the lease renewed, in each turn of the loop."""
    monkeypatch.setattr(worker_log, "_RENEW_S", 0.0)
    monkeypatch.setattr(worker_log, "_TELL_S", 0.0)


async def opened(group: Any, guest: Guest | None = None) -> tuple[KafkaWorkerLog, Membership]:
    """Return the log of a worker that has joined, and its membership."""
    log = KafkaWorkerLog(group, "shop", 1)
    await log.open(guest or Guest())
    assert group.joined is not None
    return log, group.joined


async def taken(log: KafkaWorkerLog, limit: int) -> list[LogRecord]:
    """Return the next commands; a poll may return none now and then."""
    async with asyncio.timeout(5):
        while True:
            if records := await log.poll(limit):
                return records


async def test_commands_that_come_before_the_ends_are_known_are_taken_and_claimed() -> None:
    """The broker is slow to say where a partition ends: what is read of it meanwhile is ours, and not fresh."""
    group = Group()
    log, membership = await opened(group)
    await asyncio.wait_for(membership.assigned([0]), 5)
    records = await taken(log, 10)
    assert [record.offset for record in records] == [7, 8, 9]
    assert not any(log.is_fresh(record) for record in records)
    group.end.set_result(8)
    await until(lambda: log.is_fresh(records[1]))
    assert [log.is_fresh(record) for record in records] == [False, True, True]
    await log.close()


async def test_what_is_taken_meanwhile_is_not_committed_as_dealt_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is told of a partition with a command that was taken and is not dealt with, however often we look."""
    tell_at_once(monkeypatch)
    group = Group()
    log, membership = await opened(group)
    await membership.assigned([0])
    await taken(log, 10)
    group.end.set_result(8)
    await until(lambda: group.confirmed > 2)
    assert group.commits == []
    await log.close()


async def test_partitions_that_come_back_are_read_on_and_not_again() -> None:
    """The group moves when a worker joins: what was taken stays taken, and what comes meanwhile comes afterwards."""
    group, guest = Group(), Guest()
    group.end.set_result(8)
    log, membership = await opened(group, guest)
    await membership.assigned([0, 1])
    records = await taken(log, 2)
    await membership.revoked([0, 1])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(taken(log, 10), 0.05)
    held = asyncio.ensure_future(log.hold())
    await asyncio.sleep(0)
    assert not held.done()
    assert not log.is_fresh(records[1])
    group.membership = ("member-1", 2)
    await membership.assigned([0])
    assert guest.moves == [(set(), True), None, ({0}, False)]
    assert group.seeks[-1] == {(TOPIC, 0): 9}
    assert [record.offset for record in await taken(log, 10)] == [9]
    await asyncio.wait_for(held, 5)
    await until(lambda: log.is_fresh(records[1]))
    await log.close()


@pytest.mark.parametrize(("membership", "lost"), [(("member-2", 2), True), (("member-1", 3), False)])
async def test_what_others_may_have_had_is_not_kept(membership: tuple[str, int], lost: bool) -> None:
    """Who was given up comes back under another name, and who missed a generation may have missed an owner."""
    group, guest = Group(), Guest()
    group.end.set_result(8)
    log, joined = await opened(group, guest)
    await joined.assigned([0])
    records = await taken(log, 2)
    await joined.revoked([0])
    group.membership = membership
    group.read_to = FIRST
    await joined.assigned([0])
    assert guest.moves[-1] == (set(), lost)
    assert group.seeks[-1] == {}
    assert [record.offset for record in await taken(log, 10)] == [7, 8, 9]
    assert not log.is_fresh(records[0])
    await log.close()


async def test_ends_that_cannot_be_told_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that goes while partitions come leaves them ours; when it is back, new commands are fresh again."""
    tell_at_once(monkeypatch)
    group = Group()
    group.end.set_exception(LogError("the broker is away"))
    log, membership = await opened(group)
    await membership.assigned([0])
    records = await taken(log, 10)
    assert [record.offset for record in records] == [7, 8, 9]
    await until(lambda: group.confirmed > 2)
    assert not log.is_fresh(records[2])
    group.end = asyncio.get_running_loop().create_future()
    group.end.set_result(9)
    await until(lambda: log.is_fresh(records[2]))
    assert not log.is_fresh(records[1])
    await log.close()


async def test_a_lease_that_nobody_renews_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a client raises: who is not known as a member would hold every body back for ever."""
    tell_at_once(monkeypatch)
    group = Group()
    group.end.set_result(8)
    log, membership = await opened(group)

    async def confirm() -> None:
        raise KeyError("a client that does not know its own")

    monkeypatch.setattr(group, "confirm", confirm)
    await membership.assigned([0])

    async def poll_on() -> None:
        while True:
            await log.poll(10)

    with pytest.raises(KeyError):
        await asyncio.wait_for(poll_on(), 5)
    await log.close()


async def test_the_group_hears_what_is_dealt_with_before_partitions_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is dealt with is told by and by; who takes a partition over, or comes after us, finds it told."""
    monkeypatch.setattr(worker_log, "_TELL_S", 1_000.0)
    group = Group()
    group.end.set_result(8)
    log, membership = await opened(group)
    await membership.assigned([0])
    await log.commit({(TOPIC, 0): 8})
    assert group.commits == []
    await membership.revoked([0])
    assert group.commits == [{(TOPIC, 0): 8}]
    await membership.assigned([0])
    await log.commit({(TOPIC, 0): 9})
    await log.close()
    assert group.commits == [{(TOPIC, 0): 8}, {(TOPIC, 0): 9}]


async def test_a_group_that_refuses_what_it_is_told_does_not_end_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the group is on the move it takes no offsets; it is told again afterwards."""
    tell_at_once(monkeypatch)
    group = Group()
    group.end.set_result(8)
    log, membership = await opened(group)
    await membership.assigned([0])
    refused: list[Offsets] = []

    async def refuse(offsets: Offsets) -> None:
        refused.append(offsets)
        raise LogError("the group is on the move")

    with monkeypatch.context() as moving:
        moving.setattr(group, "commit", refuse)
        await log.commit({(TOPIC, 0): 8})
        await until(lambda: len(refused) > 1)
    await until(lambda: {(TOPIC, 0): 8} in group.commits)
    await log.close()


class Door:
    """A worker's log: an unreadable command and one of a run that another may have, and a broker that is away."""

    def __init__(self) -> None:
        self.tenant: RebalanceListener | None = None
        self.aside = asyncio.Event()
        self.commands = [b"\x00", encode(RunStarted("run", "work", 1, (), 0))]

    async def open(self, tenant: RebalanceListener) -> None:
        """Take note of who is to hear that partitions go."""
        self.tenant = tenant

    def is_fresh(self, _: LogRecord) -> bool:
        """Tell that each run must be claimed."""
        return False

    async def poll(self, _: int) -> list[LogRecord]:
        """Return both commands, then none for ever."""
        if not self.commands:
            await asyncio.get_running_loop().create_future()
        found = [LogRecord(TOPIC, 3, offset, b"k", value, (), 0) for offset, value in enumerate(self.commands)]
        self.commands = []
        return found

    async def append(self, _routing_key: str, _value: bytes) -> None:
        """Never come to an end."""
        await asyncio.get_running_loop().create_future()

    async def dead_letter(self, _: NewRecord) -> None:
        """Keep it."""
        self.aside.set()

    async def commit(self, _: Offsets) -> None:
        """Fail."""
        raise LogError("the broker is away")

    async def close(self) -> None:
        """Do nothing."""


async def test_the_bytes_of_a_backlog_are_not_kept() -> None:
    """Each run of it is asked for at once, and the first answer lies behind the last of it: only places are held."""
    door = Door()
    worker = Worker(door, VirtualClock(0), App("shop"))  # type: ignore[arg-type]  # As far as it is used.
    serving = asyncio.ensure_future(worker.serve())
    await until(lambda: worker.load.cached == 1)
    assert [record.value for run in worker._runs.values() for record in run.commands] == [b""]
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_a_worker_lets_go_of_what_is_taken_from_it_though_it_cannot_commit() -> None:
    """Else it would go on with runs that others have, and take their later commands for its own."""
    door = Door()
    worker = Worker(door, VirtualClock(0), App("shop"))  # type: ignore[arg-type]  # As far as it is used.
    serving = asyncio.ensure_future(worker.serve())
    await asyncio.wait_for(door.aside.wait(), 5)
    await until(lambda: worker.load.cached == 1)
    assert door.tenant is not None
    with pytest.raises(LogError, match="away"):
        await door.tenant.moving()
    await door.tenant.moved((), lost=False)
    assert worker.load.cached == 0
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
