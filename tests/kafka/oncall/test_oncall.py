"""A short on-call trial: load, some faults, what probes and alerts say of them, and that no order is lost."""

import random
from pathlib import Path

import httpx
import pytest

from tests.kafka.cluster.broker import Broker
from tests.kafka.cluster.fleet import Fleet, Member
from tests.kafka.oncall.alerts import Window, wrong_alerts
from tests.kafka.oncall.faults import FAULTS, MISTAKES, Fault
from tests.kafka.oncall.recording import Firing
from tests.kafka.oncall.stage import Stage
from tests.kafka.oncall.trial import Plan, run, wrong_states
from tests.kafka.operators.faults import Site

# It needs the packages of tests/deploy, which only `make test-long` installs.
pytestmark = pytest.mark.long


def window(name: str, fault: Fault) -> Window:
    """Return a minute in which a fault struck."""
    return Window(name, "shop", fault, 60, 120)


def firing(alert: str, began_s: float, namespace: str = "shop") -> Firing:
    """Return an alert that fired for a quarter of a minute."""
    return Firing(alert, began_s, began_s + 15, (("namespace", namespace),))


def test_alert_that_does_not_fire_is_found() -> None:
    """It must fire in the window of its fault, and for the cluster that the fault hit."""
    batch = [window("hostile-batch", FAULTS["hostile-batch"])]
    expected = ["hostile-batch: StepstreamDeadLetters does not fire"]
    assert list(wrong_alerts(batch, [firing("StepstreamDeadLetters", 75)])) == []
    assert list(wrong_alerts(batch, [firing("StepstreamDeadLetters", 30)])) == expected
    assert list(wrong_alerts(batch, [firing("StepstreamDeadLetters", 75, "other")])) == expected


def test_page_that_no_fault_explains_is_found() -> None:
    """A ticket may fire besides, and a page of a longer fault is explained by it."""
    killed = [window("engine-killed", FAULTS["engine-killed"])]
    assert list(wrong_alerts(killed, [firing("StepstreamTimersLate", 75)])) == []
    (found,) = wrong_alerts(killed, [firing("StepstreamDown", 75)])
    assert "no fault explains the page StepstreamDown" in found
    gone = [window("no-engine", MISTAKES["no-engine"])]
    alerts = [firing(alert, 75) for alert in ("StepstreamDown", "StepstreamShardNotServed")]
    assert list(wrong_alerts(gone, alerts)) == []


def test_probe_that_hides_a_fault_is_found() -> None:
    """A process that a fault hits, and all others, must say what the table says."""
    away = FAULTS["broker-away"]
    assert wrong_states(away, [], {"engine-0": "no broker has answered for 3 s"}) == []
    assert wrong_states(away, [], {"engine-0": ""}) == ["engine-0 says 'ready' instead of 'no broker has answered'"]
    (found,) = wrong_states(FAULTS["clock-set"], [], {"engine-0": "", "engine-1": "shards [1] are not served"})
    assert found == "engine-1 says 'shards [1] are not served' instead of 'ready'"


@pytest.mark.parametrize(
    ("runs", "wrong"),
    [
        ({"shipped": "completed"}, []),
        ({}, ["order 7 has runs {}, shipped [] times"]),
        ({"shipped": "running"}, ["order 7 has runs {'shipped': 'running'}, shipped [1] times"]),
        ({"other": "completed"}, ["order 7 has runs {'other': 'completed'}, shipped [0] times"]),
        (
            {"shipped": "completed", "other": "completed"},
            ["order 7 has runs {'shipped': 'completed', 'other': 'completed'}, shipped [1, 0] times"],
        ),
    ],
)
async def test_order_that_a_fault_lost_is_found(runs: dict[str, str], wrong: list[str], tmp_path: Path) -> None:
    """An order that was sent to an idle cluster during a fault has one run, which completes and ships it."""
    answer = {"runs": [{"run_id": run, "status": status} for run, status in runs.items()]}
    fleet = Fleet("nowhere", "mistakes", tmp_path)
    fleet.effects.write_text("shipped ship 1\n")
    fleet.engines.append(Member("engine-0", ["--metrics-port", "1"], {}, tmp_path / "log", tmp_path))
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
    async with httpx.AsyncClient(transport=transport) as client:
        stage = Stage(Broker(tmp_path), Site(fleet, 1, "orders"), random.Random(1), client)
        stage.produced.append(7)
        assert await stage.wrong_orders(0) == wrong
        stage.observed.client.close()


@pytest.mark.kafka
@pytest.mark.alone
def test_faults_under_load_are_reported_and_lose_no_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each fault is seen in probes, logs and alerts, no other page fires, and every order has one run that completes.

    `make oncall` strikes with all faults, and some of them last until someone is paged.
    """
    faults = ("engine-killed", "engine-frozen", "broker-away", "hostile-batch", "commands-recreated")
    with capsys.disabled():
        verdict = run(Plan(0, 7, faults), tmp_path, lambda line: print(f"\n{line}", end=""))
    assert not verdict.broken, "\n".join([*verdict.broken, *verdict.lines])
