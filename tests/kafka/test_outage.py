"""An outage of the broker: probes and logs report it, callers get an error in time, and all processes recover."""

import time
from pathlib import Path

import httpx
import pytest

from stepstream.host.broker_contact import LOST_S
from tests.kafka.cluster.broker import Broker, running
from tests.kafka.cluster.fleet import APPS, Fleet, Member
from tests.kafka.cluster.observed import Observed
from tests.polling import until

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]
# Twice the 10 s of the runbook, because other tests load the machine, and a broker that starts accepts connections some
# seconds before it answers. In virtual time, tests/host/test_broker_contact.py holds the 10 s.
ANSWER_S_MAX = 20.0
BACK_S_MAX = 20.0
# The outage itself, and a failure of each shard that notices it at the same moment.
LINES_MAX = 3
APP = APPS / "members" / "long_app.py"


def reasons(observed: Observed) -> set[str]:
    """Return the reason in the answer of each process to /ready, without the seconds."""
    found = set[str]()
    for member in (*observed.engines, *observed.workers):
        answer = observed.client.get(f"{observed.url(member)}/ready").json()
        found.add(answer.get("reason", answer["status"]).partition(" for ")[0])
    return found


def request(observed: Observed, method: str, path: str, json: object = None) -> tuple[int, str, str]:
    """Return status, code and message of an engine's answer, which must arrive in time."""
    began = time.monotonic()
    url = observed.url(observed.engines[0]) + path
    answer = httpx.request(method, url, json=json, timeout=60, trust_env=False)
    assert time.monotonic() - began < ANSWER_S_MAX
    error = answer.json().get("error", {})
    return answer.status_code, error.get("code", ""), error.get("message", "")


def check_outage(observed: Observed) -> None:
    """Callers get an error in time, no process is ready, and each has logged the outage in one line."""
    status, code, message = request(observed, "POST", "/e/x", {"name": "long/go", "data": {"n": 1}})
    assert (status, code) == (503, "unavailable")
    assert "broker" in message
    assert "may still have been written" in message
    for method, path, json in (("POST", "/v1/signals", {"signal": "approved"}), ("DELETE", "/v1/runs/none", None)):
        assert request(observed, method, path, json)[:2] == (503, "unavailable")
    until(lambda: reasons(observed) == {"no broker has answered"})
    members = (*observed.engines, *observed.workers)
    assert all(observed.scrape(member).sum("stepstream_ready") == 0 for member in members)
    until(
        lambda: all(member.said("WARNING stepstream.host.broker_contact: no broker has answered") for member in members)
    )


def check_recovery(observed: Observed, times: int) -> None:
    """All processes are ready soon, runs end, and each process has logged once more that a broker answers."""
    began = time.monotonic()
    until(lambda: observed.answers("/ready") == {200})
    assert time.monotonic() - began < BACK_S_MAX
    assert request(observed, "POST", "/e/x", {"name": "long/go", "data": {"n": 1}})[0] == 200
    engine = observed.engines[0]
    until(lambda: observed.scrape(engine).sum("stepstream_runs_ended_total", status="completed") >= times)
    for member in (*observed.engines, *observed.workers):
        assert member.said("WARNING stepstream.host.broker_contact: no broker has answered") == times
        assert member.said("INFO stepstream.host.broker_contact: a broker answers again") == times
        assert lines(member) <= LINES_MAX * times, member.log.read_text()


def check_restart(broker: Broker, observed: Observed) -> None:
    """A broker that is restarted at once is no outage: a process logs a line or two, not one for each request."""
    members = (*observed.engines, *observed.workers)
    before = {member.name: lines(member) for member in members}
    broker.kill()
    broker.start()
    until(lambda: observed.answers("/ready") == {200})
    assert request(observed, "POST", "/e/x", {"name": "long/go", "data": {"n": 1}})[0] == 200
    assert all(lines(member) - before[member.name] <= LINES_MAX for member in members)


def lines(member: Member) -> int:
    """Return how many warnings and errors a process has logged."""
    return member.said("Z WARNING ") + member.said("Z ERROR ")


def observe(broker: Broker, fleet: Fleet, observed: Observed) -> None:
    """Suspend the broker and resume it, then kill it and restart it."""
    fleet.add_engine()
    fleet.add_worker("--metrics-port", "0")
    until(lambda: observed.answers("/ready") == {200})
    broker.freeze()
    check_outage(observed)
    broker.thaw()
    check_recovery(observed, 1)
    broker.kill()
    check_outage(observed)
    broker.start()
    check_recovery(observed, 2)
    check_restart(broker, observed)


def test_outage_of_the_broker_is_reported(tmp_path: Path) -> None:
    """Logs, probes and answers report a broker that stalls or is down, and everything recovers by itself."""
    assert LOST_S < ANSWER_S_MAX
    (tmp_path / "broker").mkdir()
    with (
        running(Broker(tmp_path / "broker")) as broker,
        Fleet(broker.bootstrap, "outage", tmp_path, APP) as fleet,
        Observed(fleet) as observed,
    ):
        fleet.command("topics", "apply", "--shards", "2", "--app", "long")
        observe(broker, fleet, observed)
