"""What KEDA asks Prometheus for: it scales on runs that need a worker, and not on commands that wait for a shard."""

import pytest

from tests.deploy.chart import only
from tests.deploy.evaluation import Database, evaluate
from tests.deploy.promql import faults_of

GROUP = 'app="My_Shop.gpu"'
OWN = f'{GROUP},namespace="prod"'
LAG, COMMANDS = "stepstream_worker_lag_records", "stepstream_commands_lag_records"
QUEUED, IN_USE = "stepstream_worker_queue_runs", "stepstream_worker_slots_in_use"


def metadata() -> dict[str, str]:
    """Return what the trigger of the pool says."""
    (trigger,) = only("full", "ScaledObject", "-shop-gpu")["spec"]["triggers"]
    assert trigger["type"] == "prometheus"
    assert "authenticationRef" not in trigger
    found: dict[str, str] = trigger["metadata"]
    return found


def demand(series: dict[str, str]) -> float | None:
    """Return the value of the query after ten minutes of these series; None without one."""
    found = evaluate(metadata()["query"], Database.of(series, 60), 600)
    assert len(found) <= 1
    return next(iter(found.values()), None)


def worker(instance: str, lag: str, queued: str, in_use: str) -> dict[str, str]:
    """Return the series of one worker with one partition."""
    labels = f'{OWN},instance="{instance}"'
    return {
        f'{LAG}{{{labels},partition="{instance}"}}': lag,
        f"{QUEUED}{{{labels}}}": queued,
        f"{IN_USE}{{{labels}}}": in_use,
    }


def commands(lag: str) -> dict[str, str]:
    """Return the lag of the group, as an engine measures it."""
    return {f'{COMMANDS}{{{OWN},partition="0",instance="engine"}}': lag}


def test_the_trigger_asks_for_what_there_is() -> None:
    """The query is PromQL over metrics that are listed; without an answer KEDA changes nothing."""
    assert not faults_of(metadata()["query"])
    assert metadata().keys() == {"serverAddress", "query", "threshold", "activationThreshold", "ignoreNullValues"}
    assert metadata()["serverAddress"] == "http://prometheus.monitoring:9090"
    assert (metadata()["threshold"], metadata()["ignoreNullValues"]) == ("2", "false")


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        # Runs that run, wait for a slot, or were not read, on two workers.
        (worker("0", "5x20", "3x20", "4x20") | worker("1", "0x20", "0x20", "2x20") | commands("20x20"), 14),
        # A shard is down: workers have claimed its runs, and wait for it. The commands are not acknowledged.
        (worker("0", "0x20", "0x20", "0x20") | commands("500x20"), 0),
        # One step takes an hour, and the commands after it are done, but their offsets cannot be committed.
        (worker("0", "0x20", "0x20", "1x20") | commands("0+100x20"), 1),
        # No worker runs: the last one is gone for more than five minutes.
        (worker("0", "0x2", "0x2", "0x2") | commands("7x20"), 7),
        (commands("0x20"), 0),
        # Two processes report one partition while it moves.
        (worker("0", "5x20", "0x20", "0x20") | {f'{LAG}{{{OWN},instance="1",partition="0"}}': "5x20"}, 5),
        # Neither workers nor engines report: nothing is known.
        ({f'{COMMANDS}{{app="My_Shop",namespace="prod",partition="0"}}': "9x20"}, None),
        ({f'{COMMANDS}{{{GROUP},namespace="other",partition="0"}}': "9x20"}, None),
    ],
)
def test_workers_scale_on_runs_that_need_a_worker(series: dict[str, str], expected: float | None) -> None:
    """Of the recorded series only those count that another worker would serve."""
    assert demand(series) == expected
