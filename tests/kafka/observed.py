"""Processes of a cluster as an operator sees them: what they answer to probes, and what they count."""

import re
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import httpx

from tests.kafka.fleet import Fleet, Member
from tests.runtime.exposition import Scrape

WAIT_S_MAX = 60.0
ASK_S = 0.1


def until(holds: Callable[[], bool]) -> None:
    """Return when a condition holds, and fail when it never does."""
    deadline = time.monotonic() + WAIT_S_MAX
    never = threading.Event()
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        # The broker and three processes share two cores with whoever asks.
        never.wait(ASK_S)


class Observed:
    """All processes of a fleet, those too that come later, seen by one client."""

    def __init__(self, fleet: Fleet) -> None:
        self.engines = fleet.engines
        self.workers = fleet.workers
        self.client = httpx.Client(trust_env=False)

    def __enter__(self) -> Self:
        """Return it; its client is closed afterwards."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self.client.close()

    def url(self, member: Member) -> str:
        """Return where a process listens, from what it printed last."""
        found = re.findall(r"http://127\.0\.0\.1:\d+", member.log.read_text())
        return found[-1] if found else ""

    def answers(self, path: str) -> set[int]:
        """Return how the processes answer, 0 for one that does not."""
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
        """Return all runs as an engine lists them, each with its steps."""
        page = self.client.get(f"{self.url(member)}/v1/runs", params={"limit": 1_000}).json()
        return [self.client.get(f"{self.url(member)}/v1/runs/{run['run_id']}").json() for run in page["runs"]]
