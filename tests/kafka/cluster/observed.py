"""Processes of a cluster as an operator sees them: their answers to probes, and their metrics."""

import re
from typing import Any, Self

import httpx

from tests.kafka.cluster.fleet import Fleet, Member
from tests.polling import ANSWER_S_MAX
from tests.runtime.exposition import Scrape


class Observed:
    """All processes of a fleet, including those that start later, observed through one HTTP client."""

    def __init__(self, fleet: Fleet) -> None:
        self.engines = fleet.engines
        self.workers = fleet.workers
        self.client = httpx.Client(trust_env=False, timeout=ANSWER_S_MAX)

    def __enter__(self) -> Self:
        """Return it; its client is closed afterwards."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self.client.close()

    def url(self, member: Member) -> str:
        """Return the URL of a process: of the metrics port that it was given, or from the end of its log."""
        if "--metrics-port" in member.arguments:
            port = member.arguments[member.arguments.index("--metrics-port") + 1]
            if port != "0":
                return f"http://127.0.0.1:{port}"
        found = re.findall(r"http://127\.0\.0\.1:\d+", member.log.read_text())
        return found[-1] if found else ""

    def answers(self, path: str) -> set[int]:
        """Return the status codes of the processes, 0 for a process that does not answer."""
        found = set[int]()
        for member in (*self.engines, *self.workers):
            try:
                found.add(self.client.get(self.url(member) + path).status_code if self.url(member) else 0)
            except httpx.TransportError:
                found.add(0)
        return found

    def scrape(self, member: Member) -> Scrape:
        """Return the metrics of a process."""
        return Scrape(self.client.get(f"{self.url(member)}/metrics").text)

    def runs(self, member: Member) -> list[dict[str, Any]]:
        """Return all runs that an engine lists, each with its steps."""
        page = self.client.get(f"{self.url(member)}/v1/runs", params={"limit": 1_000}).json()
        return [self.client.get(f"{self.url(member)}/v1/runs/{run['run_id']}").json() for run in page["runs"]]
