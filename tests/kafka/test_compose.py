"""docker-compose.yml without containers: its broker, topics, engine and worker as processes with its settings."""

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy.compose import compose, environment_of
from tests.kafka.cluster.broker import Broker, free_port
from tests.kafka.cluster.fleet import Member
from tests.polling import ANSWER_S_MAX, until
from tests.tidy_rules import ROOT

pytestmark = [pytest.mark.kafka, pytest.mark.long]
# The header that curl sends with -d.
FORM = {"content-type": "application/x-www-form-urlencoded"}
SERVICES = compose()["services"]
EVENTS = re.findall(r"curl localhost:8288(/e/\S+) -d '(.*)'", (ROOT / "docs" / "deploy.md").read_text("utf-8"))


class ComposedBroker(Broker):
    """A broker with the settings of the compose file, except for its addresses and its folder."""

    def properties(self) -> Mapping[str, object]:
        """Return the lines of server.properties, derived from the variables of the image as the image does it."""
        ports = {"19092": self.port, "9093": self.controller_port, "9092": free_port()}
        lines: dict[str, object] = {}
        for name, value in environment_of("kafka").items():
            text = re.sub(r":(19092|9093|9092)\b", lambda found: f":{ports[found[1]]}", value)
            text = re.sub(r"//(kafka|localhost)?:", "//127.0.0.1:", text).replace("@kafka:", "@127.0.0.1:")
            lines[name.removeprefix("KAFKA_").lower().replace("_", ".")] = text
        return lines | {"log.dirs": self.data}


class Composed:
    """The services of stepstream as processes with the commands and environments of the compose file."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.folder = folder
        self.ports = {"engine": free_port(), "worker": free_port()}
        self._elsewhere = {"STEPSTREAM_KAFKA_BOOTSTRAP": bootstrap, "STEPSTREAM_DATA_DIR": str(folder / "data")}
        self.members: list[Member] = []
        self.client = httpx.Client(trust_env=False, timeout=ANSWER_S_MAX)

    def environment(self, service: str) -> dict[str, str]:
        """Return the environment of a service, with the ports and the broker of this test."""
        own = environment_of(service)
        port = {"engine": "STEPSTREAM_PORT", "worker": "STEPSTREAM_METRICS_PORT"}.get(service)
        return own | self._elsewhere | ({port: str(self.ports[service])} if port else {})

    def arguments(self, service: str) -> list[str]:
        """Return the command of a service, with the path of its file here; the worker has the command of its image."""
        words = SERVICES[service].get("command", ["worker", "/app/flights.py"])
        return [str(word).replace("/app/", f"{ROOT}/examples/") for word in words]

    def run(self, service: str) -> subprocess.CompletedProcess[str]:
        """Run a service that ends by itself."""
        command = [sys.executable, "-m", "stepstream", *self.arguments(service)]
        environment = {**os.environ, **self.environment(service)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    def start(self, service: str) -> None:
        """Start a service, and return when it is ready."""
        log = self.folder / f"{service}.log"
        member = Member(service, self.arguments(service), self.environment(service), log, self.folder / service)
        member.start()
        self.members.append(member)
        until(lambda: member.ended or self.status(service, "/ready") == 200)
        assert not member.ended, log.read_text()

    def status(self, service: str, path: str, key: str = "") -> int:
        """Return the status code of a service, 0 when it does not answer."""
        try:
            return self.get(service, path, key).status_code
        except httpx.TransportError:
            return 0

    def get(self, service: str, path: str, key: str = "") -> httpx.Response:
        """Return the answer of a service."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return self.client.get(f"http://127.0.0.1:{self.ports[service]}{path}", headers=headers)

    def send(self, path: str, event: str) -> None:
        """Send an event as docs/deploy.md does."""
        url = f"http://127.0.0.1:{self.ports['engine']}{path}"
        assert self.client.post(url, content=event, headers=FORM).status_code == 200

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs, each with its steps."""
        key = self.environment("engine")["STEPSTREAM_API_KEY"]
        found = self.get("engine", "/v1/runs", key).json()["runs"]
        return [self.get("engine", f"/v1/runs/{run['run_id']}", key).json() for run in found]


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[Composed]:
    """The services, on a broker with the settings of the compose file."""
    (tmp_path / "kafka").mkdir()
    broker = ComposedBroker(tmp_path / "kafka")
    broker.start()
    services = Composed(broker.bootstrap, tmp_path)
    try:
        yield services
    finally:
        for member in services.members:
            member.stop()
        services.client.close()
        broker.kill()


def waits_for(composed: Composed, event: str) -> bool:
    """Return whether a run waits for an event of this name."""
    steps = [step for run in composed.runs() for step in run["steps"]]
    return any(step["status"] == "waiting" and event in step["detail"] for step in steps)


def test_composed_services_follow_a_flight(composed: Composed) -> None:
    """Broker, topics, engine and worker start as composed; the events of docs/deploy.md complete a run."""
    made = composed.run("topics")
    assert made.returncode == 0, made.stderr
    assert composed.run("topics").stdout == "no topic is missing\n"
    for service in ("engine", "worker"):
        composed.start(service)
        assert composed.status(service, "/health") == 200
        assert composed.status(service, "/metrics") == 401
        key = composed.environment(service)["STEPSTREAM_API_KEY"]
        assert "stepstream_ready 1.0" in composed.get(service, "/metrics", key).text
    assert [json.loads(event)["name"] for _, event in EVENTS] == [
        "flight/scheduled",
        "flight/departed",
        "flight/arrived",
    ]
    for path, event in EVENTS:
        name = json.loads(event)["name"]
        if name != "flight/scheduled":
            until(functools.partial(waits_for, composed, name))
        composed.send(path, event)
    until(lambda: any(run["status"] == "completed" for run in composed.runs()))
    (run,) = composed.runs()
    assert run["output"]["status"] == "flown"
    assert run["output"]["delay_min"] == 3
