"""What processes tell while Kafka is away: probes and logs say so, callers hear it soon, and all goes on by itself."""

import time
from pathlib import Path

import httpx
import pytest

from stepstream.host.broker_contact import LOST_S
from tests.kafka.broker import Broker, running
from tests.kafka.fleet import Fleet
from tests.kafka.observed import Observed, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
ANSWER_S_MAX = 12.0
BACK_S_MAX = 10.0
APP = Path(__file__).with_name("long_app.py")


def reasons(observed: Observed) -> set[str]:
    """Return what each process answers to /ready, without the seconds."""
    found = set[str]()
    for member in (*observed.engines, *observed.workers):
        answer = observed.client.get(f"{observed.url(member)}/ready").json()
        found.add(answer.get("reason", answer["status"]).partition(" for ")[0])
    return found


def asked(observed: Observed, method: str, path: str, json: object = None) -> tuple[int, str, str]:
    """Return status, code and message of what an engine answers to a caller; it answers in time."""
    began = time.monotonic()
    url = observed.url(observed.engines[0]) + path
    answer = httpx.request(method, url, json=json, timeout=60, trust_env=False)
    assert time.monotonic() - began < ANSWER_S_MAX
    error = answer.json().get("error", {})
    return answer.status_code, error.get("code", ""), error.get("message", "")


def check_away(observed: Observed) -> None:
    """Callers are told in time that nothing is known, nobody is ready, and each process has said so in one line."""
    status, code, message = asked(observed, "POST", "/e/x", {"name": "long/go", "data": {"n": 1}})
    assert (status, code) == (503, "unavailable")
    assert "broker" in message
    assert "may have been written" in message
    for method, path, json in (("POST", "/v1/signals", {"signal": "bell"}), ("DELETE", "/v1/runs/none", None)):
        assert asked(observed, method, path, json)[:2] == (503, "unavailable")
    until(lambda: reasons(observed) == {"no broker has answered"})
    members = (*observed.engines, *observed.workers)
    assert all(observed.scrape(member).sum("stepstream_ready") == 0 for member in members)
    until(
        lambda: all(member.said("WARNING stepstream.host.broker_contact: no broker has answered") for member in members)
    )


def check_back(observed: Observed, times: int) -> None:
    """All are ready soon, runs end, and each process has said once more that a broker answers."""
    began = time.monotonic()
    until(lambda: observed.answers("/ready") == {200})
    assert time.monotonic() - began < BACK_S_MAX
    assert asked(observed, "POST", "/e/x", {"name": "long/go", "data": {"n": 1}})[0] == 200
    engine = observed.engines[0]
    until(lambda: observed.scrape(engine).sum("stepstream_runs_ended_total", status="completed") >= times)
    for member in (*observed.engines, *observed.workers):
        assert member.said("WARNING stepstream.host.broker_contact: no broker has answered") == times
        assert member.said("INFO stepstream.host.broker_contact: a broker answers again") == times


def observe(broker: Broker, fleet: Fleet, observed: Observed) -> None:
    """Take the broker away twice: it stands still, and it is killed."""
    fleet.add_engine()
    fleet.add_worker("--metrics-port", "0")
    until(lambda: observed.answers("/ready") == {200})
    broker.freeze()
    check_away(observed)
    broker.thaw()
    check_back(observed, 1)
    broker.kill()
    check_away(observed)
    broker.start()
    check_back(observed, 2)


def test_an_outage_is_told(tmp_path: Path) -> None:
    """A broker that stands still or is gone is told by logs, probes and answers; then all goes on by itself."""
    assert LOST_S < ANSWER_S_MAX
    (tmp_path / "broker").mkdir()
    with (
        running(Broker(tmp_path / "broker")) as broker,
        Fleet(broker.bootstrap, "outage", tmp_path, APP) as fleet,
        Observed(fleet) as observed,
    ):
        fleet.command("topics", "apply", "--shards", "2", "--app", "long")
        observe(broker, fleet, observed)
