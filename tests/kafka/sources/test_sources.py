"""Sources on a real broker: each record of a foreign topic starts a function once, even when workers are killed."""

import asyncio
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from stepstream.contract.topics import DEAD_LETTERS, EVENTS
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import LogRecord, NewRecord
from tests.kafka.cluster.fleet import Fleet
from tests.kafka.cluster.observed import Observed
from tests.kafka.sources.source_records import APP, SHARDS, began, order, until_read
from tests.polling import until
from tests.runtime.exposition import Scrape

pytestmark = [pytest.mark.kafka, pytest.mark.long]
ORDERS = 400
POISON = (b"\xff\xfe", b"[1, 2]", b'{"n":', b'{"m": 1}')
PARCELS = """
[[source]]
topic = "parcels"
name = "shop/parcel"
id = "'parcel-' + string(value.no)"
data = "{'n': value.no}"
"""
FIXED = """
from stepstream import App

app = App("sources")
app.source("orders", name="shop/order", data="{'n': value.m}")
app.source("payments", format="cloudevents")
"""
BINARY = {"ce_specversion": b"1.0", "ce_id": b"1", "ce_source": b"/till", "ce_type": b"shop.paid"}
STRUCTURED = {"specversion": "1.0", "id": "2", "source": "/till", "type": "shop.paid", "data": {"n": 2}}


async def produce_in_transactions(foreign: Cluster) -> None:
    """Send an order in a transaction that aborts, and another in one that commits.

    The last offset of the partition is then a transaction marker, which no consumer reads.
    """
    for number in (1, -1):
        producer = await foreign.producer("shop")
        await producer.begin()
        await producer.send([order(number)])
        if number < 0:
            await producer.commit()
        await producer.close()


async def observe(fleet: Fleet, foreign: Cluster, cluster: Cluster) -> None:
    """Produce to foreign topics while the worker that reads them is killed."""
    await foreign.create({name: (SHARDS, {}) for name in ("orders", "payments")}, 1)
    settings = fleet.folder / "sources.toml"
    settings.write_text(PARCELS)
    engine = fleet.add_engine("--sources", str(settings))
    worker = fleet.add_worker("--metrics-port", "0")
    await until_read(cluster, "functions", 1)
    missing = "topic parcels of a source does not exist"
    await asyncio.to_thread(until, lambda: engine.said(missing) > 0)
    # The engine finds the topic while it serves.
    await foreign.create({"parcels": (SHARDS, {})}, 1)
    producer = await foreign.producer()
    await producer.send([order(number) for number in range(ORDERS // 2)])
    while not (await began(cluster, 1)):
        pass
    worker.kill()
    worker.start()
    await producer.send([order(number) for number in range(ORDERS // 2, ORDERS)])
    await produce_in_transactions(foreign)
    await producer.send(
        [NewRecord("orders", 0, b"key", value, (("trace", b"abc"), ("none", None))) for value in POISON]
    )
    await producer.send([NewRecord("payments", 0, b"", b'{"n": 1}', tuple(BINARY.items()))])
    await producer.send([NewRecord("payments", 1, b"", json.dumps(STRUCTURED).encode())])
    await producer.send([NewRecord("parcels", 1, b"", b'{"no": 7}')] * 2)
    await producer.close()
    expected = {f"orders-{at}-{offset}" for at in range(SHARDS) for offset in range(ORDERS // SHARDS)}
    expected |= {"/till#1", "/till#2", "parcel-7"}
    found = await began(cluster, len(expected))
    dead_letters = await until_read(cluster, DEAD_LETTERS, len(POISON))
    # Records that were read again after the kill have the same identity, and start nothing; nor do skipped records.
    assert found == Counter(expected)
    assert {record.value for record in dead_letters} == set(POISON)
    for record in dead_letters:
        kept = {name: value or b"" for name, value in record.headers}
        assert (record.key, kept["trace"]) == (b"key", b"abc")
        assert re.fullmatch(rb"orders-0-\d+", kept["stepstream-from"])
        assert kept["stepstream-reason"]
    await asyncio.to_thread(check_metrics, fleet)
    await redrive_after_a_fix(fleet, foreign, cluster)


def check_metrics(fleet: Fleet) -> None:
    """Each process reports its own sources only: records and events read, no lag, and dead letters."""
    seen: dict[str, Scrape] = {}

    def measured() -> bool:
        seen.update({"engine": observed.scrape(fleet.engines[0]), "worker": observed.scrape(fleet.workers[0])})
        found = {name: each.values("stepstream_source_lag_records") for name, each in seen.items()}
        lags = {(name, at["topic"], at["partition"]): lag for name, values in found.items() for at, lag in values}
        topics = (("engine", "parcels"), ("worker", "orders"), ("worker", "payments"))
        return lags == {(*topic, str(partition)): 0 for topic in topics for partition in range(SHARDS)}

    with Observed(fleet) as observed:
        until(measured)
    engine, worker = seen["engine"].sum, seen["worker"].sum
    assert engine("stepstream_source_records_total") == engine("stepstream_source_events_total", topic="parcels") == 2
    assert engine("stepstream_dead_letters_total") == 0
    assert worker("stepstream_source_events_total", topic="payments") == 2
    events = worker("stepstream_source_events_total", topic="orders")
    assert worker("stepstream_source_records_total", topic="orders") == events + 1 + len(POISON)
    assert worker("stepstream_dead_letters_total") == len(POISON)
    assert worker("stepstream_dead_letters_total", topic="orders", reason="invalid") == len(POISON)
    assert engine("stepstream_rebalances_total", group="sources") >= 1
    assert worker("stepstream_rebalances_total", group="sources") >= 1


async def redrive_after_a_fix(fleet: Fleet, foreign: Cluster, cluster: Cluster) -> None:
    """Inspect dead letters by the commands, and redrive them with fixed code, which maps one of the records."""
    listed = json.loads(await asyncio.to_thread(fleet.command, "dead-letters", "list", "--json", "--topic", "orders"))
    assert [(each["topic"], each["partition"], each["redriven"]) for each in listed] == [("orders", 0, 0)] * len(POISON)
    assert [each["sources"] for each in listed] == [["shop/order"]] * len(POISON)
    shown = [
        json.loads(await asyncio.to_thread(fleet.command, "dead-letters", "show", each["place"])) for each in listed
    ]
    assert {"base64": "//4="} in [each["value"] for each in shown]
    (chosen,) = (each for each in shown if each["value"] == '{"m": 1}')
    assert (chosen["key"], chosen["headers"]) == ("key", {"trace": "abc", "none": None})
    assert "n" in chosen["reason"]
    before = len(await until_read(foreign, "orders", ORDERS + 1 + len(POISON)))
    output = await asyncio.to_thread(fleet.command, "dead-letters", "redrive", "--all", "--yes", "--topic", "orders")
    assert "0 redriven" in output
    fixed = fleet.folder / "fixed.py"
    fixed.write_text(FIXED)
    command = ("dead-letters", "redrive", "--all", "--yes", "--topic", "orders", "--code", str(fixed))
    assert "1 redriven" in await asyncio.to_thread(fleet.command, *command)
    assert (await began(cluster, ORDERS + 4))[f"orders-0-{chosen['offset']}"] == 1
    assert len(await until_read(foreign, "orders", before)) == before
    # A marker that the record was redriven is written to dead-letters.
    await until_read(cluster, DEAD_LETTERS, len(POISON) + 1)
    listed = json.loads(await asyncio.to_thread(fleet.command, "dead-letters", "list", "--json"))
    assert [each["place"] for each in listed if each["sent"]] == [chosen["place"]]
    await redrive_own(fleet, cluster, len(POISON) + 1)


async def redrive_own(fleet: Fleet, cluster: Cluster, kept: int) -> None:
    """Redrive records of a topic of stepstream: they return unchanged to their partition, and are rejected again."""
    producer = await cluster.producer()
    poison = [
        NewRecord(EVENTS, 0, b"", b"", (("none", None), ("empty", b"")), nulls=nulls)
        for nulls in (("value",), ("key",), ())
    ]
    await producer.send([*poison, NewRecord(DEAD_LETTERS, 0, b"", b"a foreign record")])
    await until_read(cluster, DEAD_LETTERS, kept + len(poison) + 1)
    output = await asyncio.to_thread(fleet.command, "dead-letters", "redrive", "--all", "--yes", "--topic", EVENTS)
    assert f"{len(poison)} redriven" in output
    # Each returns as a new dead letter, which was not redriven; the old ones have their markers.
    await until_read(cluster, DEAD_LETTERS, kept + 3 * len(poison) + 1)
    found: list[LogRecord] = []
    while sum(("stepstream-redriven", b"1") in each.headers for each in found) < len(poison):
        found = await until_read(cluster, EVENTS, len(found) + 1)
    ours = [each for each in found if ("none", None) in each.headers]
    first = [each for each in ours if ("stepstream-redriven", b"1") not in each.headers]
    again = [each for each in ours if each not in first]
    assert [(each.partition, each.nulls) for each in first] == [(0, each.nulls) for each in poison]
    assert sorted((each.partition, each.nulls) for each in again) == sorted((0, each.nulls) for each in poison)
    assert {each.headers[:-1] for each in again} == {each.headers for each in poison}
    listed = json.loads(await asyncio.to_thread(fleet.command, "dead-letters", "list", "--json", "--topic", EVENTS))
    assert sorted((each["sent"], each["redriven"]) for each in listed) == [(False, 1)] * 3 + [(True, 0)] * 3
    await producer.close()


def test_foreign_records_become_events_once(bootstrap: str, tmp_path: Path) -> None:
    """Each JSON record and CloudEvent of three topics starts one run; invalid records are dead letters to redrive."""
    with Fleet(bootstrap, "sources", tmp_path, APP) as fleet:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "sources")
        foreign, cluster = Cluster(KafkaSettings(bootstrap)), Cluster(KafkaSettings(bootstrap, "sources"))
        asyncio.run(observe(fleet, foreign, cluster))
