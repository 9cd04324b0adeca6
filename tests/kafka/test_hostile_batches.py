"""Batches that inflate to more than a process should hold, of every codec, on a real broker."""

import asyncio
import re
from collections import Counter
from pathlib import Path

import pytest

from stepstream.contract.limits import MIB
from stepstream.contract.topics import CHANGELOG, DEAD_LETTERS, EVENTS, commands_topic
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from tests.kafka.cluster.broker import running_broker
from tests.kafka.cluster.fleet import Fleet, Member
from tests.kafka.cluster.hostile import RECORDS, send_batches
from tests.kafka.sources.source_records import APP, SHARDS, began, order, until_read
from tests.polling import until

pytestmark = [pytest.mark.kafka, pytest.mark.long]
NAMESPACE = "hostile"
CODECS = ("gzip", "snappy", "lz4", "zstd")
# Without the cap, a process that reads one batch has all of it in memory several times.
PROCESS_BYTES_MAX = 512 * MIB


def peak_bytes(member: Member) -> int:
    """Return the largest size that a process had in memory."""
    assert member.process
    (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{member.process.pid}/status").read_text())
    return int(kib) * 1024


async def observe(fleet: Fleet) -> None:
    """Send hostile batches to every kind of reader, and records after them that must be processed."""
    cluster, foreign = Cluster(KafkaSettings(fleet.bootstrap, NAMESPACE)), Cluster(KafkaSettings(fleet.bootstrap))
    await foreign.create({name: (SHARDS, {"max.message.bytes": str(8 * MIB)}) for name in ("orders", "payments")}, 1)
    engines = [fleet.add_engine("--standby") for _ in range(2)]
    worker = fleet.add_worker()
    await until_read(cluster, "functions", 1)
    ours = [cluster.settings.name(topic) for topic in (EVENTS, commands_topic("sources"), CHANGELOG)]
    for codec in CODECS:
        await send_batches(fleet.bootstrap, codec, [*ours, "orders"])
    producer = await foreign.producer()
    await producer.send([order(number) for number in range(2 * SHARDS)])
    await producer.close()
    first = RECORDS * len(CODECS)
    expected = {f"orders-0-{first}", f"orders-0-{first + 1}", "orders-1-0", "orders-1-1"}
    assert await began(cluster, len(expected)) == Counter(expected)
    ranges = [(at, at + RECORDS - 1) for at in range(0, first, RECORDS)]
    topics = (EVENTS, commands_topic("sources"), "orders")
    batches = {(f"{topic}-0-{a}".encode(), f"{a}-{b}".encode()) for topic in topics for a, b in ranges}
    found = list[dict[str, bytes | None]]()
    # Rebalances may have a source's batch read twice; each batch of each topic has a dead letter.
    while len(origins := {(each["stepstream-from"], each["stepstream-offsets"]) for each in found}) < len(batches):
        expected_count = max(len(found) + 1, len(batches))
        found = [dict(record.headers) for record in await until_read(cluster, DEAD_LETTERS, expected_count)]
    assert origins == batches
    assert {re.sub(rb"^the (\w+) .*", rb"\1", headers["stepstream-reason"] or b"") for headers in found} == {
        codec.encode() for codec in CODECS
    }
    foreign_batch = "changelog-0 has a batch of another producer, which is skipped"
    await asyncio.to_thread(until, lambda: any(engine.said(foreign_batch) >= len(CODECS) for engine in engines))
    assert not any(member.ended for member in (*engines, worker))
    assert max(map(peak_bytes, (*engines, worker))) < PROCESS_BYTES_MAX


def test_hostile_batches_stop_no_process(tmp_path: Path) -> None:
    """Engines, warm copies, workers and sources move them to dead letters or skip them, and continue."""
    # Its records in the topic orders would disturb other tests.
    with running_broker() as bootstrap, Fleet(bootstrap, NAMESPACE, tmp_path, APP) as fleet:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "sources")
        asyncio.run(observe(fleet))
