"""A `stepstream dev` with the app of the flows, and what they wait for."""

import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from stepstream.contract.topics import EVENTS
from stepstream.runtime.ports import NewRecord
from stepstream.runtime.storage.journal import JournalWrite
from stepstream.runtime.storage.rocks import RocksJournal
from tests.cli.serving import Serving
from tests.kafka.cluster.broker import free_port
from tests.polling import until

Run = Mapping[str, Any]
APP = Path(__file__).with_name("shop_app.py")


def has_step(run: Run, step: str) -> bool:
    """Return whether a run has planned a step."""
    return any(each["id"] == step for each in run.get("steps", []))


class Shop(Serving):
    """A process in its own folder; `settings` are variables of its environment."""

    def __init__(self, folder: Path, **settings: str) -> None:
        super().__init__(folder, "shop.py", **settings)
        shutil.copyfile(APP, folder / "shop.py")
        key = settings.get("STEPSTREAM_API_KEY", "")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._event_key = settings.get("STEPSTREAM_EVENT_KEY", "dev")
        # The system could give a port of its own choice to another process while this one restarts.
        self._port = free_port()

    def start(self, limit: int = sys.maxsize, port: int = 0) -> None:
        """Start the process, always on the same port, and wait until it serves."""
        super().start(limit, port or self._port)

    def order(self, event: str, data: Mapping[str, Any], id: str = "") -> str:
        """Send an event; return its id."""
        return self.send_all([{"name": event, "data": data} | ({"id": id} if id else {})])[0]

    def send_all(self, events: Sequence[Mapping[str, Any]]) -> list[str]:
        """Send events at once; return their ids."""
        sent = httpx.post(f"{self.url}/e/{self._event_key}", json=events, timeout=60).raise_for_status()
        return list(sent.json()["ids"])

    def get(self, path: str, **query: str) -> Any:
        """Return what a route of the API answers."""
        return httpx.get(f"{self.url}{path}", params=query, headers=self._headers).raise_for_status().json()

    def run_of(self, event_id: str, holds: Callable[[Run], bool]) -> Run:
        """Return the run that an event started, once a condition holds for it."""

        def started() -> list[Run]:
            found = self.get("/v1/runs", filter=f"event_id:{event_id}")["runs"]
            return [run for each in found if holds(run := self.show(each["run_id"]))]

        return until(started)[0]

    def show(self, run_id: str) -> Run:
        """Return a run with its steps."""
        run: Run = self.get(f"/v1/runs/{run_id}")
        return run

    def until(self, run_id: str, status: str) -> Run:
        """Return a run once it has a status."""
        until(lambda: self.show(run_id)["status"] == status)
        return self.show(run_id)

    def started(self, event: str, data: Mapping[str, Any], status: str = "completed", id: str = "") -> str:
        """Send an event; return the id of its run once the run has a status."""
        return str(self.run_of(self.order(event, data, id), lambda run: run["status"] == status)["run_id"])

    def waiting(self, event: str, data: Mapping[str, Any], step: str, id: str = "") -> str:
        """Send an event; return the id of its run once the run has reached a step that waits."""
        return str(self.run_of(self.order(event, data, id), lambda run: has_step(run, step))["run_id"])

    def reached(self, run_id: str, step: str) -> Run:
        """Return a run once it has planned a step."""
        until(lambda: has_step(self.show(run_id), step))
        return self.show(run_id)

    def until_listed(self, filter: str, count: int) -> None:
        """Return once the list has as many runs of a filter, 500 at most."""
        until(lambda: len(self.get("/v1/runs", filter=filter, limit="500")["runs"]) >= count)

    def act_on_all(self, action: str, filter: str, why: str) -> str:
        """Act on all runs of a filter at once; return the id of the operation once it has ended."""
        body = {"action": action, "filter": filter, "why": why}
        sent = httpx.post(f"{self.url}/v1/bulk", json=body, headers=self._headers).raise_for_status()
        operation = str(sent.json()["id"])
        until(lambda: self.get(f"/v1/bulk/{operation}")["state"] == "completed")
        return operation

    def link_of(self, run: Run) -> str:
        """Return the path of a link by which a person without a key decides what the first step of a run asks."""
        path = f"/v1/approvals/{run['run_id']}/{run['steps'][0]['step']}/link"
        made = httpx.post(f"{self.url}{path}", json={}, headers=self._headers).raise_for_status()
        return str(made.json()["path"])

    def run_of_caller(self, run_id: str) -> str:
        """Return the id of the run that another one invoked."""
        called = f"caller:{run_id}"
        until(lambda: self.get("/v1/runs", filter=called)["runs"])
        return str(self.get("/v1/runs", filter=called)["runs"][0]["run_id"])

    def restart(self, meanwhile: Callable[[Path], None] = lambda _: None) -> None:
        """Kill the process, change its state folder if need be, and start it on the same port."""
        self.kill()
        meanwhile(self.folder / ".stepstream")
        self.start()

    def append_unreadable(self, value: bytes) -> None:
        """Append a record that cannot be read to the log; return once it is a dead letter."""

        def append(state: Path) -> None:
            journal = RocksJournal(state / "db")
            journal.write(JournalWrite([NewRecord(EVENTS, 0, b"key", value)]), round(time.time() * 1_000))
            journal.close()

        self.restart(append)
        until(lambda: self.get("/v1/dead-letters")["dead_letters"])

    def end(self) -> None:
        """Stop the process; no page may have failed on an error of ours."""
        if self.process is not None and self.process.poll() is None:
            self.stop(signal.SIGTERM)
        assert not [line for line in self.errors() if "the page failed" in line], "\n".join(self.errors())
