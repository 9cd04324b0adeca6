"""What runs log on real Kafka: workers write it to its topic, and every engine shows it."""

import asyncio
import functools
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from stepstream.contract.topics import EVENTS, LOGS
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import NewRecord
from tests.kafka.cluster.fleet import Fleet
from tests.kafka.cluster.history import read_all, until_ended, until_registered
from tests.kafka.cluster.observed import Observed
from tests.polling import until

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]
SHARDS = 2
APP = Path(__file__).with_name("logging_app.py")
LINES = {
    ("work", "begins"),
    ("render", "rendering 7"),
    ("work", "rendered"),
    ("work", "ends"),
}


async def run_once(cluster: Cluster) -> str:
    """Start a run and wait for its end; return its id."""
    await until_registered(cluster, SHARDS)
    producer = await cluster.producer()
    event = {"name": "logging/go", "data": {"n": 7}}
    await producer.send([NewRecord(EVENTS, -1, b"", json.dumps(event).encode())])
    await producer.close()
    (run_id,) = await until_ended(cluster, 1)
    return run_id


def lines_at(url: str, run_id: str) -> list[tuple[str, str]]:
    """Return what a run logged, as an engine shows it: pairs of the id of the step, or the function, and the text."""
    run, logs = httpx.get(f"{url}/v1/runs/{run_id}"), httpx.get(f"{url}/v1/runs/{run_id}/logs")
    if run.status_code != 200 or logs.status_code != 200:
        return []
    steps: dict[str, Any] = {step["step"]: step["id"] for step in run.json()["steps"]}
    return sorted((steps.get(line["step"], "work"), line["text"]) for line in logs.json()["lines"])


def test_engines_show_what_workers_log(bootstrap: str, tmp_path: Path) -> None:
    """Both engines show each line once, below its step, although the code runs again for the queue and after waits."""
    cluster = Cluster(KafkaSettings(bootstrap, "worker-logs"))
    fleet = Fleet(bootstrap, "worker-logs", tmp_path, APP)
    with fleet, Observed(fleet) as observed:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "logging", "--app", "logging.gpu")
        engines = [fleet.add_engine(), fleet.add_engine()]
        # Without a live cache the code runs again from its first line after each wait.
        fleet.add_worker(STEPSTREAM_LIVE_CACHE="0")
        fleet.add_worker("--queue", "gpu")
        run_id = asyncio.run(run_once(cluster))
        for url in map(observed.url, engines):
            until(functools.partial(lambda url: len(lines_at(url, run_id)) >= len(LINES), url))
            assert lines_at(url, run_id) == sorted(LINES)
    assert {record.key.decode() for record in asyncio.run(read_all(cluster, LOGS))} == {run_id}
