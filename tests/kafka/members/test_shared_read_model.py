"""Engines on real Kafka that share a read model in PostgreSQL: it has each run once, whatever fails."""

import asyncio
import functools
import json
from contextlib import suppress
from pathlib import Path

import httpx
import psycopg
import pytest

from stepstream.contract.topics import EVENTS
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import NewRecord
from tests.kafka.cluster.fleet import Fleet, Member
from tests.kafka.cluster.history import until_ended, until_registered
from tests.kafka.cluster.observed import Observed
from tests.polling import until
from tests.postgresql import PASSWORD, running_server, tables_bytes

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]
SHARDS = 4
APP = Path(__file__).with_name("logging_app.py")
RUNS = 20


async def run_many(cluster: Cluster, ended: int) -> None:
    """Start some runs, and wait until so many have ended in total."""
    await until_registered(cluster, SHARDS)
    producer = await cluster.producer()
    event = json.dumps({"name": "logging/silent"}).encode()
    await producer.send([NewRecord(EVENTS, -1, b"", event) for _ in range(RUNS)])
    await producer.close()
    await until_ended(cluster, ended)


def completed(observed: Observed, engine: Member) -> int:
    """Return how many runs an engine lists that have ended; -1 while its list cannot be read."""
    with suppress(httpx.TransportError):
        answer = observed.client.get(f"{observed.url(engine)}/v1/runs?limit=1000&filter=status:completed")
        if answer.status_code == httpx.codes.OK:
            return len(answer.json()["runs"])
    return -1


def measures_tables(observed: Observed, engine: Member, url: str) -> bool:
    """Return whether an engine reports the size of the tables, which is less than that of the database."""
    return 0 < observed.scrape(engine).sum("stepstream_read_model_bytes") < tables_bytes(url)


def sum_of(url: str) -> list[tuple[str, int]]:
    """Return how many runs the tables count, by status."""
    with psycopg.connect(url) as connection:
        counted = connection.execute("SELECT status, sum(runs) FROM stepstream.run_sums WHERE runs > 0 GROUP BY 1")
        return counted.fetchall()


def test_engines_share_a_read_model(bootstrap: str, tmp_path: Path) -> None:
    """Each folds its shards; a killed server delays the list, and the shards of a killed engine are folded by another.

    Tables that are dropped and created again are filled from history, under the same engines. Runs are served all the
    time, and nothing shows the password.
    """
    cluster = Cluster(KafkaSettings(bootstrap, "shared-list"))
    fleet = Fleet(bootstrap, "shared-list", tmp_path, APP)
    with running_server() as server, fleet, Observed(fleet) as observed:
        url = server.database(prepared=False)
        fleet.variables["STEPSTREAM_READ_MODEL"] = url
        fleet.command("readmodel", "create")
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "logging", "--app", "logging.gpu")
        first, second = fleet.add_engine(), fleet.add_engine()
        fleet.add_worker()
        asyncio.run(run_many(cluster, RUNS))
        until(lambda: [completed(observed, each) for each in (first, second)] == [RUNS, RUNS])
        for engine in (first, second):
            # It is measured once a minute.
            until(functools.partial(measures_tables, observed, engine, url))
        server.kill()
        asyncio.run(run_many(cluster, 2 * RUNS))
        assert [completed(observed, each) for each in (first, second)] == [-1, -1]
        server.start()
        until(lambda: [completed(observed, each) for each in (first, second)] == [2 * RUNS, 2 * RUNS])
        first.kill()
        asyncio.run(run_many(cluster, 3 * RUNS))
        until(lambda: completed(observed, second) == 3 * RUNS)
        first.start()
        asyncio.run(run_many(cluster, 4 * RUNS))
        until(lambda: [completed(observed, each) for each in (first, second)] == [4 * RUNS, 4 * RUNS])
        assert sum_of(url) == [("completed", 4 * RUNS)]
        fleet.command("readmodel", "create", "--replace")
        # The engines connect again, and fold all of history into the empty tables.
        until(lambda: [completed(observed, each) for each in (first, second)] == [4 * RUNS, 4 * RUNS])
        assert sum_of(url) == [("completed", 4 * RUNS)]
        assert second.log.read_text().count("read model failed") < 10
        assert not any(PASSWORD in member.log.read_text() for member in (*fleet.engines, *fleet.workers))
