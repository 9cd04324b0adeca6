"""Two releases of the code run at once on a real broker, and processes of the old release restart meanwhile."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from stepstream import Event
from stepstream.contract.codec import encode
from stepstream.contract.functions import FunctionRegistered, readable_functions
from stepstream.contract.history import RunBegan, RunEnded, RunWarned, decode_history
from stepstream.contract.topics import EVENTS, FUNCTIONS, HISTORY
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import NewRecord
from stepstream.sdk.event import to_record
from tests.kafka.cluster.fleet import Fleet, Member
from tests.kafka.cluster.history import Tail
from tests.polling import WAIT_S_MAX

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]
SHARDS = 4
EVENTS_SENT = 12
REPLACED = "was replaced by"
REGISTERS = "is registered: "


class Observed:
    """Functions and runs, as the topics report them."""

    def __init__(self, cluster: Cluster) -> None:
        self._functions, self._history = Tail(cluster, FUNCTIONS), Tail(cluster, HISTORY)
        self.known: dict[str, FunctionRegistered] = {}
        self.began: dict[str, str] = {}
        self.ended: dict[str, str] = {}
        self.warned: set[str] = set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return when a condition holds."""
        async with asyncio.timeout(WAIT_S_MAX):
            while not holds():
                await self._read()

    async def _read(self) -> None:
        for function in readable_functions(record.value for record in await self._functions.read()):
            self.known[function.id] = function
        for record in await self._history.read():
            match decode_history(record.value):
                case RunBegan(run_id=run_id, function=function_id):
                    self.began[run_id] = function_id
                case RunEnded(run_id=run_id, status=status):
                    self.ended[run_id] = status
                case RunWarned(run_id=run_id):
                    self.warned.add(run_id)

    async def until_started(self, count: int) -> None:
        """Return when enough runs have started, or when one has a warning that its code is missing."""
        await self.until(lambda: len(self.began) >= count or bool(self.warned))

    def serves(self, function: str) -> bool:
        """Return whether a function is registered and not retired."""
        return function in self.known and not self.known[function].retired

    async def close(self) -> None:
        """Disconnect."""
        await self._functions.close()
        await self._history.close()


async def send(cluster: Cluster, name: str) -> None:
    """Send events of a name."""
    producer = await cluster.producer()
    try:
        await producer.send([NewRecord(EVENTS, -1, b"", encode(to_record(Event(name)))) for _ in range(EVENTS_SENT)])
    finally:
        await producer.close()


async def roll_out(cluster: Cluster, fleet: Fleet, seen: Observed) -> None:
    """Start the new release beside the old, restart the old one, stop it, and roll back to it."""
    fleet.add_engine()
    old = fleet.add_worker()
    await seen.until(lambda: seen.serves("kept"))
    new = fleet.add_worker(ROLLOUT="new")
    await seen.until(lambda: seen.serves("added"))
    old.kill()
    old.start()
    await seen.until(lambda: old.said(REPLACED) == 1)
    assert old.said(REGISTERS) == 0
    await check_runs(cluster, seen, old)
    await roll_back(seen, old, new)


async def check_runs(cluster: Cluster, seen: Observed, old: Member) -> None:
    """Runs of the new function start, also on partitions of the old release, and end when it has stopped."""
    sent = 0
    while not seen.warned:
        await send(cluster, "rollout/added")
        sent += EVENTS_SENT
        await seen.until_started(sent)
    old.stop()
    await seen.until(lambda: len(seen.began) == sent and seen.began.keys() == seen.ended.keys())
    assert set(seen.ended.values()) == {"completed"}
    assert seen.serves("added")


async def roll_back(seen: Observed, old: Member, new: Member) -> None:
    """The old release registers nothing beside the new one, and registers its functions after that has ended."""
    old.start()
    await seen.until(lambda: old.said(REPLACED) == 1)
    assert seen.serves("added")
    new.kill()
    await seen.until(lambda: not seen.serves("added"))
    assert seen.serves("kept")
    # It logs that after the records are written.
    await seen.until(lambda: old.said(REGISTERS) == 1)


async def observe(bootstrap: str, folder: Path) -> None:
    """Execute the rollout; a failure includes the logs of the processes."""
    cluster = Cluster(KafkaSettings(bootstrap, "rollout"))
    with Fleet(bootstrap, "rollout", folder, Path(__file__).with_name("rollout_app.py")) as fleet:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "rollout")
        seen = Observed(cluster)
        try:
            await roll_out(cluster, fleet, seen)
        finally:
            await seen.close()


def test_restarted_old_release_keeps_the_new_functions(bootstrap: str, tmp_path: Path) -> None:
    """A process of the old release that restarts does not retire the functions of the new one.

    Runs of a new function that the old release gets wait for the new one and lose no attempt. After a rollback the
    functions are those of the old release.
    """
    asyncio.run(observe(bootstrap, tmp_path))
