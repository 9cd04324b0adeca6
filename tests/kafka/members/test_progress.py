"""A worker is killed while a body runs that has reported its progress: the next one continues from there."""

import asyncio
import json
from pathlib import Path

import pytest

from stepstream.contract.history import RunEnded, RunMoved, StepProgressed
from stepstream.contract.topics import EVENTS
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import NewRecord
from tests.kafka.cluster.fleet import Fleet
from tests.kafka.cluster.history import Ledger, until_registered

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]
SHARDS = 1
WAIT_S_MAX = 30.0
APP = Path(__file__).with_name("progress_app.py")


async def observe(fleet: Fleet, cluster: Cluster) -> None:
    """Kill the worker with SIGKILL once its heartbeat is in the history, and start it again."""
    fleet.add_engine()
    worker = fleet.add_worker()
    await until_registered(cluster, SHARDS)
    happened = {StepProgressed: asyncio.Event(), RunEnded: asyncio.Event()}
    ledger = Ledger(cluster, lambda _shard, entry: happened.get(type(entry), asyncio.Event()).set())
    following = asyncio.ensure_future(ledger.follow())
    producer = await cluster.producer()
    await producer.send([NewRecord(EVENTS, -1, b"", json.dumps({"name": "progress/go"}).encode())])
    await producer.close()
    try:
        async with asyncio.timeout(WAIT_S_MAX):
            await happened[StepProgressed].wait()
            killed = worker.pid
            worker.kill()
            worker.start()
            await happened[RunEnded].wait()
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await ledger.close()
    (entries,) = ledger.runs.values()
    end = entries[-1]
    assert isinstance(end, RunEnded)
    assert json.loads(bytes(end.output)) == [{"page": 7, "pid": killed}, worker.pid]
    assert sum(isinstance(entry, RunMoved) for entry in entries) == 1
    (progressed,) = (entry for entry in entries if isinstance(entry, StepProgressed))
    assert (progressed.id, progressed.attempt) == ("work", 0)


def test_body_continues_from_its_progress_after_a_kill(bootstrap: str, tmp_path: Path) -> None:
    """It is the same attempt, and the function, which retries nothing, completes."""
    with Fleet(bootstrap, "progress", tmp_path, APP) as fleet:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "progress")
        asyncio.run(observe(fleet, Cluster(KafkaSettings(bootstrap, "progress"))))
