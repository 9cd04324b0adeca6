"""Standbys on real Kafka: an engine that takes over a shard reads only the tail of its changelog."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from stepstream.contract.codec import encode
from stepstream.contract.functions import EventTrigger, FunctionRegistered
from stepstream.contract.topics import EVENTS, FUNCTIONS
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import NewRecord
from tests.kafka.cluster.fleet import Fleet, Member
from tests.kafka.cluster.observed import Observed
from tests.polling import until

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]
RUNS = 3_000
SHARDS = 2
# The rows that the owner wrote after the last read of the standby.
TAIL_ROWS_MAX = 300


async def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    """Append records."""
    producer = await Cluster(KafkaSettings(bootstrap, "standby")).producer()
    await producer.send([NewRecord(topic, -1, b"", value) for value in values])
    await producer.close()


def recoveries(member: Member) -> dict[int, int]:
    """Return how many rows each shard recovered from its changelog last, from the log of the process."""
    lines = re.findall(r"shard (\d+) recovered ([\d,]+) rows?", member.log.read_text())
    return {int(shard): int(rows.replace(",", "")) for shard, rows in lines}


def observe(fleet: Fleet, observed: Observed) -> None:
    """Fill two shards, let a second engine take one and follow the other, and kill the first."""
    first = fleet.add_engine("--standby")
    until(lambda: observed.answers("/ready") == {200})
    started = FunctionRegistered("work", "standby", (EventTrigger("standby/go"),))
    asyncio.run(produce(fleet.bootstrap, FUNCTIONS, [encode(started)]))
    until(lambda: observed.scrape(first).sum("stepstream_input_lag_records", topic="functions") == 0)
    asyncio.run(produce(fleet.bootstrap, EVENTS, [json.dumps({"name": "standby/go"}).encode()] * RUNS))
    until(lambda: observed.scrape(first).sum("stepstream_runs_open") == RUNS)
    second = fleet.add_engine("--standby")
    until(lambda: bool(observed.url(second)))
    until(lambda: {len(recoveries(each)) for each in fleet.engines} == {1, SHARDS})
    until(lambda: [lag for _, lag in observed.scrape(second).values("stepstream_standby_lag_rows")] == [0.0])
    ((own, rows_of_own),) = recoveries(second).items()
    first.kill()
    until(lambda: len(recoveries(second)) == SHARDS)
    until(lambda: observed.scrape(second).sum("stepstream_runs_open") == RUNS)
    # It started without data: it copied the shard before it got it, and then read the tail, as it did for the other.
    assert second.said("are copied before they move to this engine") == 1
    assert rows_of_own <= TAIL_ROWS_MAX
    assert recoveries(second)[1 - own] <= TAIL_ROWS_MAX
    # An engine follows the shards that it loses: the first one returns, and takes over after that.
    first.log.write_text("")
    first.start()
    until(lambda: observed.answers("/ready") == {200})
    # A shard may be moving while one engine is asked after the other.
    until(lambda: sum(observed.scrape(each).sum("stepstream_runs_open") for each in (first, second)) == RUNS)
    second.kill()
    until(lambda: observed.scrape(first).sum("stepstream_runs_open") == RUNS)
    assert max(recoveries(first).values()) <= TAIL_ROWS_MAX
    restart_alone(first)


def restart_alone(engine: Member) -> None:
    """Restart an engine without standbys on its disk and then on an empty one, and check what it reads."""
    engine.arguments.remove("--standby")
    for rows in ((0, TAIL_ROWS_MAX), (RUNS, 2**31)):
        engine.stop()
        if rows[0]:
            engine.wipe()
        engine.log.write_text("")
        engine.start()
        until(lambda: len(recoveries(engine)) == SHARDS)
        assert rows[0] <= sum(recoveries(engine).values()) <= rows[1]


def test_standby_takes_over_without_a_full_replay(bootstrap: str, tmp_path: Path) -> None:
    """An engine that followed a shard has its rows when the owner is killed, and reads only the tail.

    An engine without standbys reads the tails of its own shards after a restart, and the whole changelog when its disk
    is lost.
    """
    with Fleet(bootstrap, "standby", tmp_path) as fleet, Observed(fleet) as observed:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "standby")
        observe(fleet, observed)
