"""What runs log and publish on real Kafka: workers write it to its topics, and every engine shows it."""

import asyncio
import functools
import json
import time
from collections.abc import Sequence
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
from tests.kafka.members.logging_app import TOKENS
from tests.polling import until
from tests.runtime.exposition import Scrape

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]
SHARDS = 2
APP = Path(__file__).with_name("logging_app.py")
# After this long a line of a body is seen, while the body still runs.
SHOWN_MS_MAX = 1_000
LINES = {
    ("work", "begins"),
    ("render", "rendering 7"),
    ("work", "rendered"),
    ("work", "ends"),
}


async def run_once(cluster: Cluster) -> str:
    """Start a run and wait for its end; return its id."""
    await until_registered(cluster, SHARDS)
    await send(cluster, "logging/go", {"n": 7})
    (run_id,) = await until_ended(cluster, 1)
    return run_id


async def send(cluster: Cluster, name: str, data: object) -> None:
    """Send an event."""
    producer = await cluster.producer()
    await producer.send([NewRecord(EVENTS, -1, b"", json.dumps({"name": name, "data": data}).encode())])
    await producer.close()


def lines_at(url: str, run_id: str) -> list[tuple[str, str]]:
    """Return what a run logged, as an engine shows it: pairs of the id of the step, or the function, and the text."""
    run, logs = httpx.get(f"{url}/v1/runs/{run_id}"), httpx.get(f"{url}/v1/runs/{run_id}/logs")
    if run.status_code != 200 or logs.status_code != 200:
        return []
    steps: dict[str, Any] = {step["step"]: step["id"] for step in run.json()["steps"]}
    return sorted((steps.get(line["step"], "work"), line["text"]) for line in logs.json()["lines"])


def events_of(url: str, path: str, count: int, after: str = "") -> list[tuple[str, Any]]:
    """Return the ids of the next events of a live stream, and the data of their messages, or the status at the end."""
    found: list[tuple[str, Any]] = []
    with httpx.stream("GET", f"{url}{path}", headers={"Last-Event-ID": after}, timeout=30) as answer:
        id = ""
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                id = value
            elif name == "data":
                message = json.loads(value)
                found.append((id, message.get("data", message.get("status"))))
            if len(found) == count:
                break
    return found


def check_streams(urls: Sequence[str], run_id: str) -> None:
    """Read the messages of a run at one engine after the other, each from where the one before was left."""
    path, expected = f"/v1/runs/{run_id}/stream", ["begins", *range(TOKENS), "completed"]
    whole = events_of(urls[0], path, len(expected))
    assert [data for _, data in whole] == expected
    for at, url in ((0, urls[1]), (TOKENS // 2, urls[0]), (TOKENS, urls[1])):
        assert events_of(url, path, len(expected), whole[at][0]) == whole[at + 1 :]
    for url in urls:
        assert [data for _, data in events_of(url, "/v1/channels/all/stream", 1)] == [TOKENS]


def ages_ms(url: str) -> list[float]:
    """Return how long ago a body that still runs logged the lines that an engine shows."""
    runs = httpx.get(f"{url}/v1/runs", params={"filter": "function:slow status:running"}).json()["runs"]
    answers = [httpx.get(f"{url}/v1/runs/{run['run_id']}/logs").json() for run in runs]
    return [time.time() * 1_000 - line["at"] for answer in answers for line in answer["lines"]]


def check_lines_of_running_body(cluster: Cluster, urls: Sequence[str], file: Path) -> None:
    """Each engine shows what a body logged before the body ends, within a second."""
    asyncio.run(send(cluster, "logging/slow", {"file": str(file)}))
    ages: dict[str, list[float]] = {url: [] for url in urls}

    def are_seen() -> bool:
        ages.update({url: ages_ms(url) for url, found in ages.items() if not found})
        return all(ages.values())

    until(are_seen)
    file.touch()
    assert all(age < SHOWN_MS_MAX for found in ages.values() for age in found), ages


def check_counts(engines: Sequence[Scrape], worker: Scrape) -> None:
    """The engines have counted their streams, and the worker what it has published."""
    for engine in engines:
        assert engine.sum("stepstream_live_streams_ended_total") == 3
        assert engine.sum("stepstream_live_messages_sent_total") > 0
    assert worker.sum("stepstream_live_messages_published_total") > 0
    assert worker.values("stepstream_live_messages_failed_total") == [({}, 0)]


def test_engines_show_what_workers_log(bootstrap: str, tmp_path: Path) -> None:
    """Both engines show each line once, below its step, although the code runs again for the queue and after waits."""
    cluster = Cluster(KafkaSettings(bootstrap, "worker-logs"))
    fleet = Fleet(bootstrap, "worker-logs", tmp_path, APP)
    with fleet, Observed(fleet) as observed:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "logging", "--app", "logging.gpu")
        engines = [fleet.add_engine(), fleet.add_engine()]
        # Without a live cache the code runs again from its first line after each wait.
        worker = fleet.add_worker("--metrics-port", "0", STEPSTREAM_LIVE_CACHE="0")
        fleet.add_worker("--queue", "gpu")
        run_id = asyncio.run(run_once(cluster))
        for url in map(observed.url, engines):
            until(functools.partial(lambda url: len(lines_at(url, run_id)) >= len(LINES), url))
            assert lines_at(url, run_id) == sorted(LINES)
        check_streams([observed.url(engine) for engine in engines], run_id)
        for engine in engines:
            until(
                functools.partial(lambda each: observed.scrape(each).sum("stepstream_live_streams_open") == 0, engine)
            )
        check_counts([observed.scrape(engine) for engine in engines], observed.scrape(worker))
        check_lines_of_running_body(cluster, [observed.url(engine) for engine in engines], tmp_path / "seen")
    keys = {record.key.decode() for record in asyncio.run(read_all(cluster, LOGS))}
    assert run_id in keys
    assert len(keys) == len(["go", "slow"])
