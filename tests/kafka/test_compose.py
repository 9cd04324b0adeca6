"""docker-compose.yml without containers: its broker, topics, engine and worker as processes, with its own settings."""

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy.compose import compose, environment_of
from tests.kafka.broker import Broker, free_port
from tests.kafka.fleet import Member
from tests.kafka.observed import until
from tests.tidy_rules import ROOT

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
# What curl says of what it sends.
FORM = {"content-type": "application/x-www-form-urlencoded"}
SERVICES = compose()["services"]
EVENTS = re.findall(r"curl localhost:8288(/e/\S+) -d '(.*)'", (ROOT / "docs" / "deploy.md").read_text("utf-8"))


class ComposedBroker(Broker):
    """A broker with the settings of the compose file, but for its addresses and its folder."""

    def _write_properties(self) -> None:
        ports = {"19092": self._port, "9093": self._controller_port, "9092": free_port()}
        lines = []
        for name, value in environment_of("kafka").items():
            # As the image does it.
            key = name.removeprefix("KAFKA_").lower().replace("_", ".")
            text = re.sub(r":(19092|9093|9092)\b", lambda found: f":{ports[found[1]]}", value)
            text = re.sub(r"//(kafka|localhost)?:", "//127.0.0.1:", text).replace("@kafka:", "@127.0.0.1:")
            lines.append(f"{key}={self._folder / 'data' if key == 'log.dirs' else text}")
        self._properties.write_text("\n".join(lines))


class Composed:
    """The services that are ours, as processes that begin with what the compose file gives them."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.folder = folder
        self.ports = {"engine": free_port(), "worker": free_port()}
        self._elsewhere = {"STEPSTREAM_KAFKA_BOOTSTRAP": bootstrap, "STEPSTREAM_DATA_DIR": str(folder / "data")}
        self.members: list[Member] = []
        self.client = httpx.Client(trust_env=False)

    def environment(self, service: str) -> dict[str, str]:
        """Return the environment of a service, on ports and with a broker that are there."""
        own = environment_of(service)
        port = {"engine": "STEPSTREAM_PORT", "worker": "STEPSTREAM_METRICS_PORT"}.get(service)
        return own | self._elsewhere | ({port: str(self.ports[service])} if port else {})

    def arguments(self, service: str) -> list[str]:
        """Return the command of a service, on a file that is there; a worker's is that of its image."""
        words = SERVICES[service].get("command", ["worker", "/app/flights.py"])
        return [str(word).replace("/app/", f"{ROOT}/examples/") for word in words]

    def run(self, service: str) -> subprocess.CompletedProcess[str]:
        """Run a service that ends."""
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
        """Return how a service answers, 0 when it does not."""
        try:
            return self.ask(service, path, key).status_code
        except httpx.TransportError:
            return 0

    def ask(self, service: str, path: str, key: str = "") -> httpx.Response:
        """Return the answer of a service."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return self.client.get(f"http://127.0.0.1:{self.ports[service]}{path}", headers=headers)

    def send(self, path: str, event: str) -> None:
        """Send an event as the document says."""
        url = f"http://127.0.0.1:{self.ports['engine']}{path}"
        assert self.client.post(url, content=event, headers=FORM).status_code == 200

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs, each with its steps."""
        key = self.environment("engine")["STEPSTREAM_API_KEY"]
        found = self.ask("engine", "/v1/runs", key).json()["runs"]
        return [self.ask("engine", f"/v1/runs/{run['run_id']}", key).json() for run in found]


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[Composed]:
    """Return the services on a broker that began with the settings of the compose file."""
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
    """Tell whether a run waits for an event of this name."""
    steps = [step for run in composed.runs() for step in run["steps"]]
    return any(step["status"] == "waiting" and event in step["detail"] for step in steps)


def test_a_flight_is_followed_as_the_document_says(composed: Composed) -> None:
    """Broker, topics, engine and worker come up as composed; the events of docs/deploy.md end a flight."""
    made = composed.run("topics")
    assert made.returncode == 0, made.stderr
    assert composed.run("topics").stdout == "no topic is missing\n"
    for service in ("engine", "worker"):
        composed.start(service)
        assert composed.status(service, "/health") == 200
        assert composed.status(service, "/metrics") == 401
        key = composed.environment(service)["STEPSTREAM_API_KEY"]
        assert "stepstream_ready 1.0" in composed.ask(service, "/metrics", key).text
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
