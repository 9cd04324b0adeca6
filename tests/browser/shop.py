"""A `stepstream dev` with the app of the flows, and what they wait for."""

import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.cli.serving import Serving

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

    def order(self, event: str, data: Mapping[str, Any], id: str = "") -> str:
        """Send an event; return its id."""
        body = {"name": event, "data": data} | ({"id": id} if id else {})
        sent = httpx.post(f"{self.url}/e/{self._event_key}", json=body).raise_for_status()
        return str(sent.json()["ids"][0])

    def get(self, path: str, **query: str) -> Any:
        """Return what a route of the API answers."""
        return httpx.get(f"{self.url}{path}", params=query, headers=self._headers).raise_for_status().json()

    def run_of(self, event_id: str, holds: Callable[[Run], bool]) -> Run:
        """Return the run that an event started, once a condition holds for it."""
        while True:
            for found in self.get("/v1/runs", filter=f"event_id:{event_id}")["runs"]:
                run = self.show(found["run_id"])
                if holds(run):
                    return run

    def show(self, run_id: str) -> Run:
        """Return a run with its steps."""
        run: Run = self.get(f"/v1/runs/{run_id}")
        return run

    def until(self, run_id: str, status: str) -> Run:
        """Return a run once it has a status."""
        while (run := self.show(run_id))["status"] != status:
            pass
        return run

    def started(self, event: str, data: Mapping[str, Any], status: str = "completed", id: str = "") -> str:
        """Send an event; return the id of its run once the run has a status."""
        return str(self.run_of(self.order(event, data, id), lambda run: run["status"] == status)["run_id"])

    def waiting(self, event: str, data: Mapping[str, Any], step: str, id: str = "") -> str:
        """Send an event; return the id of its run once the run has reached a step that waits."""
        return str(self.run_of(self.order(event, data, id), lambda run: has_step(run, step))["run_id"])

    def reached(self, run_id: str, step: str) -> Run:
        """Return a run once it has planned a step."""
        while not has_step(run := self.show(run_id), step):
            pass
        return run

    def run_of_caller(self, run_id: str) -> str:
        """Return the id of the run that another one invoked."""
        while not (found := self.get("/v1/runs", filter=f"caller:{run_id}")["runs"]):
            pass
        return str(found[0]["run_id"])

    def restart(self) -> None:
        """Kill the process and start it on the same port."""
        port = int(self.url.rpartition(":")[2])
        self.kill()
        self.start(port=port)

    def end(self) -> None:
        """Stop the process; no page may have failed on an error of ours."""
        if self.process is not None and self.process.poll() is None:
            self.stop(signal.SIGTERM)
        assert not [line for line in self.errors() if "the page failed" in line], "\n".join(self.errors())
