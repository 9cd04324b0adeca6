"""The probes and the metrics of two engines and a worker on a real broker, with figures that are true."""

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from stepstream.runtime.kafka import Cluster, KafkaSettings
from stepstream.runtime.layout import apply_topics
from tests.kafka.broker import running_broker
from tests.kafka.fleet import Fleet, Member
from tests.kafka.test_kill import feed, until_registered
from tests.runtime.exposition import Scrape

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
EVENTS = 40
SHARDS = 3
WAIT_S_MAX = 30.0
ASK_S = 0.1
JSON_LOGS = {"STEPSTREAM_LOG_FORMAT": "json", "STEPSTREAM_VERSION": "blue"}


def until(holds: Callable[[], bool]) -> None:
    """Return when a condition holds, and fail when it never does."""
    deadline = time.monotonic() + WAIT_S_MAX
    never = threading.Event()
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        # The broker and three processes share two cores with whoever asks.
        never.wait(ASK_S)


class Observed:
    """The processes, seen by one client."""

    def __init__(self, engines: list[Member], worker: Member) -> None:
        self.engines = engines
        self.worker = worker
        self.client = httpx.Client(trust_env=False)

    def url(self, member: Member) -> str:
        """Return where a process listens, from what it prints."""
        found = re.search(r"http://127\.0\.0\.1:\d+", member.log.read_text())
        return found[0] if found else ""

    def answers(self, path: str) -> set[int]:
        """Return how the processes answer, 0 for one that does not."""
        found = set[int]()
        for member in (*self.engines, self.worker):
            try:
                found.add(self.client.get(self.url(member) + path).status_code if self.url(member) else 0)
            except httpx.TransportError:
                found.add(0)
        return found

    def scrape(self, member: Member) -> Scrape:
        """Return the metrics of a process."""
        return Scrape(self.client.get(f"{self.url(member)}/metrics").text)

    def rests(self) -> bool:
        """Tell whether all runs have ended and, a while later, nothing lags."""
        engines, worker = Scrape.of(map(self.scrape, self.engines)), self.scrape(self.worker)
        measured = len(worker.values("stepstream_worker_lag_records")) == SHARDS
        lag = engines.sum("stepstream_input_lag_records") + worker.sum("stepstream_worker_lag_records")
        return measured and lag == 0 and engines.sum("stepstream_runs_ended_total") == 2 * EVENTS


def check_engines(engines: list[Scrape]) -> None:
    """Every run is counted once among the engines, nothing is open, and nothing lags."""
    total = Scrape.of(engines).sum
    for function in ("work", "answer"):
        assert total("stepstream_runs_started_total", function=function) == EVENTS
        assert total("stepstream_runs_ended_total", function=function, status="completed") == EVENTS
        assert total("stepstream_run_duration_seconds_count", function=function) == EVENTS
        assert total("stepstream_runs_open", function=function) == 0
    assert total("stepstream_steps_ended_total", function="work", kind="wait", outcome="value") == EVENTS
    assert total("stepstream_steps_ended_total", function="work", kind="sleep", outcome="value") == EVENTS
    assert total("stepstream_steps_ended_total", function="work", kind="run") == 4 * EVENTS
    assert total("stepstream_step_duration_seconds_count", function="work") == 4 * EVENTS
    assert total("stepstream_steps_open") == 0
    assert total("stepstream_match_latency_seconds_count") == EVENTS
    assert 0 < total("stepstream_match_latency_seconds_sum") < EVENTS * WAIT_S_MAX
    assert total("stepstream_shard_serving") == SHARDS
    assert total("stepstream_recovery_left_rows") == 0
    assert total("stepstream_dead_letters_total") == 0
    assert all(each.sum("stepstream_rebalances_total", group="engine") >= 1 for each in engines)
    assert all(each.sum("stepstream_ready") == 1 for each in engines)
    lags = [labels for each in engines for labels, _ in each.values("stepstream_input_lag_records")]
    wanted = {(str(at), topic) for at in range(SHARDS) for topic in ("events", "inbox", "functions", "history")}
    assert {(labels["shard"], labels["topic"]) for labels in lags} == wanted


def check_worker(found: Scrape) -> None:
    """The worker ran each body once, holds no slot, and has taken all commands."""
    assert found.sum("stepstream_worker_step_attempts_total", outcome="value") == 5 * EVENTS
    assert found.sum("stepstream_worker_step_duration_seconds_count", function="work") == 4 * EVENTS
    assert found.sum("stepstream_worker_slots_in_use", app="chaos") == 0
    assert found.sum("stepstream_worker_slots", app="chaos") > 0
    assert found.sum("stepstream_ready") == 1
    assert found.sum("stepstream_rebalances_total", group="worker") >= 1
    lags = found.values("stepstream_worker_lag_records", app="chaos")
    assert sorted(labels["partition"] for labels, _ in lags) == ["0", "1", "2"]
    assert found.values("stepstream_build_info")[0][0]["code_version"] == "blue"


def check_log(worker: Member) -> None:
    """The log has a JSON line for each step, with the run, the function and the version of the code that ran it."""
    lines = [json.loads(line) for line in worker.log.read_text().splitlines() if line.startswith("{")]
    steps = [line for line in lines if line["logger"] == "stepstream.step"]
    assert len(steps) == 5 * EVENTS
    assert {line["step"] for line in steps} == {"first", "left", "right", "last", "told"}
    assert {(line["app"], line["code_version"]) for line in steps} == {("chaos", "blue")}
    assert len({line["run_id"] for line in steps if line["function"] == "work"}) == EVENTS


async def observe(bootstrap: str, folder: Path) -> None:
    """Run events through two engines and a worker, and read what the three tell."""
    cluster = Cluster(KafkaSettings(bootstrap, "probes"))
    fleet = Fleet(bootstrap, "probes", folder, Path(__file__).with_name("chaos_app.py"), folder / "effects.txt")
    await apply_topics(cluster, ["chaos"], SHARDS, 1)
    try:
        engines = [fleet.add_engine(), fleet.add_engine()]
        worker = fleet.add_worker("--metrics-port", "0", **JSON_LOGS)
        observed = Observed(engines, worker)
        await asyncio.to_thread(until, lambda: observed.answers("/ready") == {200})
        await until_registered(cluster, SHARDS)
        await feed(cluster, 0, EVENTS)
        await asyncio.to_thread(until, observed.rests)
        check_engines([observed.scrape(engine) for engine in engines])
        check_worker(observed.scrape(worker))
        check_log(worker)
        assert observed.answers("/health") == {200}
        observed.client.close()
    except BaseException:
        print(fleet.logs())
        raise
    finally:
        fleet.stop()


def test_engines_and_workers_tell_the_truth(tmp_path: Path) -> None:
    """Sums over the processes are the number of events; nothing lags once all has ended; the log has every step."""
    with running_broker() as bootstrap:
        asyncio.run(observe(bootstrap, tmp_path))
