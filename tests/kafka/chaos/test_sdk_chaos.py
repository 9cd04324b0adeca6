"""Faults around gateways under load: an app of an official SDK loses no run, and each result counts once."""

from pathlib import Path

import pytest

from tests.kafka.chaos.run import Act, Plan, run
from tests.kafka.chaos.sdk_judging import REPORTED_FIRST
from tests.kafka.chaos.sdk_run import FAULTS, act, act_connected, act_reporting

pytestmark = [pytest.mark.kafka, pytest.mark.alone, pytest.mark.long]
PLAN, SHORT = Plan(3, seed=17, faults=FAULTS), Plan(1, seed=17, faults=FAULTS)


@pytest.mark.parametrize(
    ("act", "plan"),
    [(act, PLAN), (act_connected, PLAN), (act_reporting, SHORT)],
    ids=["served", "connected", "reporting"],
)
def test_killed_gateways_apps_engines_and_brokers_lose_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], act: Act, plan: Plan
) -> None:
    """Each accepted event has its runs, which return the stored results; each result is that of a body that ran.

    Gateways, the app that they call or whose processes connect to them, engines, one of them in a commit, and the
    broker are killed with SIGKILL. The bodies run at least once, and a judge compares what they append to a file with
    the history of the runs. A step whose report was acknowledged during a call is not repeated.
    """
    with capsys.disabled():
        verdict = run(plan, tmp_path, lambda _line: None, act)
        print(f"\n{verdict}")
    assert not verdict.broken, verdict
    assert verdict.figures["engines killed"] >= plan.kills
    if act is act_reporting:
        assert verdict.figures["steps acknowledged"] > REPORTED_FIRST * verdict.figures["events"]
