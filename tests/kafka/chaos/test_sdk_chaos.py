"""Faults around gateways under load: an app of an official SDK loses no run, and each result counts once."""

from pathlib import Path

import pytest

from tests.kafka.chaos.run import Act, Plan, run
from tests.kafka.chaos.sdk_run import FAULTS, act, act_connected

pytestmark = [pytest.mark.kafka, pytest.mark.alone, pytest.mark.long]
PLAN = Plan(3, seed=17, faults=FAULTS)


@pytest.mark.parametrize("act", [act, act_connected], ids=["served", "connected"])
def test_killed_gateways_apps_engines_and_brokers_lose_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], act: Act
) -> None:
    """Each accepted event has its runs, which return the stored results; each result is that of a body that ran.

    Gateways, the app that they call or whose processes connect to them, engines, one of them in a commit, and the
    broker are killed with SIGKILL. The bodies run at least once, and a judge compares what they append to a file with
    the history of the runs.
    """
    with capsys.disabled():
        verdict = run(PLAN, tmp_path, lambda _line: None, act)
        print(f"\n{verdict}")
    assert not verdict.broken, verdict
    assert verdict.figures["engines killed"] >= PLAN.kills
