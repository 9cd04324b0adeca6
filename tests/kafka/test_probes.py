"""The probes, metrics and logs of engines and workers on a real broker, during a rollout."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.topics.layout import apply_topics
from tests.kafka.chaos.chaos_app import FLAKY_EVERY
from tests.kafka.chaos.load import feed
from tests.kafka.cluster.fleet import APPS, Fleet, Member
from tests.kafka.cluster.history import until_registered
from tests.kafka.cluster.observed import Observed
from tests.polling import WAIT_S_MAX, until
from tests.runtime.exposition import Scrape

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]
EVENTS = 24
# How many of their runs have a step whose first attempt fails.
FLAKY = len(range(0, EVENTS, FLAKY_EVERY))
SHARDS = 2
VERSIONS = ("blue", "green")


def is_shared(observed: Observed) -> bool:
    """Return whether each process has a part of the shards: one that joins is ready before the others give it one."""
    engines = [observed.scrape(engine).sum("stepstream_shard_serving") for engine in observed.engines]
    workers = [len(observed.scrape(worker).values("stepstream_worker_lag_records")) for worker in observed.workers]
    return engines == workers == [1, 1]


def idle(observed: Observed) -> bool:
    """Return whether all runs have ended and nothing lags."""
    engines, workers = (Scrape.of(map(observed.scrape, each)) for each in (observed.engines, observed.workers))
    # Each shard has four inputs, including the one of the read model, which both engines have.
    inputs = {tuple(labels.values()) for labels, _ in engines.values("stepstream_input_lag_records")}
    measured = (len(inputs), len(workers.values("stepstream_worker_lag_records"))) == (4 * SHARDS, SHARDS)
    lag = engines.sum("stepstream_input_lag_records") + workers.sum("stepstream_worker_lag_records")
    return measured and lag == 0 and engines.sum("stepstream_runs_ended_total") == 2 * EVENTS


def check_engines(engines: list[Scrape]) -> None:
    """The engines count each run once, no run is open, and nothing lags."""
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
    expected = {(str(at), topic) for at in range(SHARDS) for topic in ("events", "inbox", "functions", "history")}
    assert {(labels["shard"], labels["topic"]) for labels in lags} == expected


def check_workers(workers: list[Scrape]) -> None:
    """The workers ran each body once, flaky ones twice; all slots are free, and no command is left."""
    total = Scrape.of(workers).sum
    assert total("stepstream_worker_step_attempts_total", outcome="value") == 5 * EVENTS
    assert total("stepstream_worker_step_attempts_total", outcome="retry") == FLAKY
    assert total("stepstream_worker_step_duration_seconds_count", function="work") == 4 * EVENTS + FLAKY
    assert total("stepstream_worker_slots_in_use", app="chaos") == 0
    assert total("stepstream_worker_slots", app="chaos") > 0
    assert all(each.sum("stepstream_ready") == 1 for each in workers)
    assert all(each.sum("stepstream_rebalances_total", group="worker") >= 1 for each in workers)
    lags = Scrape.of(workers).values("stepstream_worker_lag_records", app="chaos")
    assert sorted(labels["partition"] for labels, _ in lags) == ["0", "1"]
    builds = [labels for each in workers for labels, _ in each.values("stepstream_build_info")]
    assert [(labels["app"], labels["app_version"]) for labels in builds] == [("chaos", each) for each in VERSIONS]


def json_lines(member: Member) -> list[dict[str, Any]]:
    """Return the lines of a process's log, all of which are JSON."""
    return [json.loads(line) for line in member.log.read_text().splitlines()]


def check_logs(engines: list[Member], workers: list[Member]) -> None:
    """Each step has a line with its run and the version of the code that ran it, and lines of shards name them."""
    by_worker = [[line for line in json_lines(worker) if line["logger"] == "stepstream.step"] for worker in workers]
    for lines, version in zip(by_worker, VERSIONS, strict=True):
        assert {(line["app"], line["code_version"]) for line in lines} == {("chaos", version)}
    for worker, version in zip(workers, VERSIONS, strict=True):
        assert {(line["app"], line["app_version"]) for line in json_lines(worker)} == {("chaos", version)}
    steps = [line for lines in by_worker for line in lines]
    assert len(steps) == 5 * EVENTS + FLAKY
    assert {line["step"] for line in steps} == {"first", "left", "right", "last", "answered"}
    assert len({line["run_id"] for line in steps if line["function"] == "work"}) == EVENTS
    assert {line["shard"] for engine in engines for line in json_lines(engine) if "shard" in line} == set(range(SHARDS))


async def check_recovery(observed: Observed) -> None:
    """An engine that restarts with an empty disk reads its changelog, and does not count earlier runs.

    It rebuilds its list of runs from `history`, with all steps.
    """
    engine = observed.engines[0]
    runs = observed.runs(engine)
    assert len(runs) == 2 * EVENTS
    assert all(run["status"] == "completed" and run["steps"] for run in runs if run["function"] == "work")
    engine.stop()
    assert (engine.disk / "runs.sqlite").exists()
    shutil.rmtree(engine.disk)
    engine.log.write_text("")
    engine.start()
    await asyncio.to_thread(until, lambda: observed.answers("/ready") == {200} and is_shared(observed))
    scrape = observed.scrape(engine)
    assert scrape.sum("stepstream_shard_serving") == len(scrape.values("stepstream_shard_serving")) > 0
    assert all(value > 0 for _, value in scrape.values("stepstream_recovery_read_rows"))
    assert scrape.sum("stepstream_runs_started_total") == 0
    assert scrape.sum("stepstream_runs_open") == 0
    # An engine is ready before its list of runs is complete.
    await asyncio.to_thread(until, lambda: observed.runs(engine) == runs)


async def observe(bootstrap: str, folder: Path) -> None:
    """Execute runs on two engines and a worker of each version, and check what they report."""
    cluster = Cluster(KafkaSettings(bootstrap, "probes"))
    app = APPS / "chaos" / "chaos_app.py"
    with Fleet(bootstrap, "probes", folder, app) as fleet, Observed(fleet) as observed:
        # However long an engine takes to restart, it keeps its shard.
        fleet.variables["STEPSTREAM_KAFKA_SESSION_S"] = "30"
        await apply_topics(cluster, ["chaos"], SHARDS, 1)
        engines = [fleet.add_engine("--log-format", "json") for _ in range(2)]
        options = ("--metrics-port", "0", "--log-format", "json")
        workers = [fleet.add_worker(*options, STEPSTREAM_VERSION=version) for version in VERSIONS]
        await asyncio.to_thread(until, lambda: observed.answers("/ready") == {200})
        await until_registered(cluster, SHARDS)
        # A step whose partition moves after its first attempt would fail once more, in the other process.
        await asyncio.to_thread(until, lambda: is_shared(observed))
        await feed(cluster, 0, EVENTS)
        await asyncio.to_thread(until, lambda: idle(observed))
        check_engines([observed.scrape(engine) for engine in engines])
        check_workers([observed.scrape(worker) for worker in workers])
        check_logs(engines, workers)
        assert observed.answers("/health") == {200}
        await check_recovery(observed)


def test_metrics_and_logs_agree_with_the_runs(bootstrap: str, tmp_path: Path) -> None:
    """The sums over all processes are the number of events, nothing lags, and logs name the version of each step."""
    asyncio.run(observe(bootstrap, tmp_path))
