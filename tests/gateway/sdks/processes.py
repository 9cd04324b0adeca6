"""Processes of the tests with official SDKs: their installation, the apps, and `stepstream dev`."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.polling import until

READY_S_MAX = 120.0
# With an empty package cache on a busy machine.
INSTALL_S_MAX = 200.0
_ANSWER_S_MAX = 30.0
_SERVES = re.compile(r"send events to (http://127\.0\.0\.1:\d+)/e/")


def install(folder: Path, *command: str) -> None:
    """Run a command that installs an SDK from its registry; without the program or the registry, the test fails."""
    program = shutil.which(command[0])
    if program is None:
        pytest.fail(
            f"{command[0]} is not installed: the tests of the SDKs need Node 20 with npm, and Go", pytrace=False
        )
    try:
        done = subprocess.run(
            [program, *command[1:]], cwd=folder, capture_output=True, text=True, check=False, timeout=INSTALL_S_MAX
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f"{' '.join(command)} took more than {INSTALL_S_MAX:.0f} s: its registry is slow", pytrace=False)
    if done.returncode:
        said = done.stdout + done.stderr
        pytest.fail(f"{' '.join(command)} failed; is its registry reachable?\n{said}", pytrace=False)


@dataclass(slots=True)
class Processes:
    """Child processes that end with the test, and a client of their APIs; an error gets the ends of their logs."""

    folder: Path
    client: httpx.Client
    _started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, command: Sequence[str], folder: Path, **variables: str) -> None:
        """Start a process, whose output becomes its log."""
        with self._log(name).open("wb") as log:
            environment = {**os.environ, "PYTHONUNBUFFERED": "1", **variables}
            self._started[name] = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def text(self, name: str) -> str:
        """Return what a running process has written."""
        assert self._started[name].poll() is None, f"{name} has ended"
        return self._log(name).read_text("utf-8")

    def logs(self) -> str:
        """Return the ends of the logs."""
        return "\n".join(f"== {name}\n{self._log(name).read_text('utf-8')[-3_000:]}" for name in self._started)

    def stop(self) -> None:
        """Stop all processes."""
        for process in self._started.values():
            process.terminate()
        for process in self._started.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def running(folder: Path) -> Iterator[Processes]:
    """Yield what starts processes; they end with the block."""
    with httpx.Client(trust_env=False, timeout=_ANSWER_S_MAX) as client:
        processes = Processes(folder, client)
        try:
            yield processes
        except (AssertionError, httpx.HTTPError) as error:
            error.add_note(processes.logs())
            raise
        finally:
            processes.stop()


@dataclass(frozen=True, slots=True)
class Server:
    """What runs the functions of apps: the URL that SDKs use, and the one of our API."""

    client: httpx.Client
    url: str
    api: str

    def get(self, path: str, **parameters: str | int) -> Any:
        """Return what our API answers."""
        return self.client.get(f"{self.api}{path}", params=parameters).raise_for_status().json()

    def send(self, *events: Mapping[str, Any]) -> None:
        """Send events as an app does."""
        self.client.post(f"{self.url}/e/test", json=events).raise_for_status()

    def functions(self) -> set[str]:
        """Return the ids of the registered functions."""
        return {each["id"] for each in self.get("/v1/functions", limit=1_000)["functions"]}

    def runs(self, **filters: str) -> list[dict[str, Any]]:
        """Return runs, without their outputs."""
        found: list[dict[str, Any]] = self.get("/v1/runs", limit=1_000, **filters)["runs"]
        return found

    def run(self, run_id: str) -> dict[str, Any]:
        """Return a run with its output and its steps."""
        found: dict[str, Any] = self.get(f"/v1/runs/{run_id}")
        return found


def start_dev(processes: Processes, app_urls: Sequence[str]) -> Server:
    """Start `stepstream dev` for some apps, with short back-offs, and return it once it answers."""
    options = [word for url in app_urls for word in ("--app-url", url)]
    command = [sys.executable, "-m", "stepstream", "dev", "--port", "0", "--retry-interval", "1", *options]
    processes.start("dev", command, processes.folder, PYTHONPATH=os.pathsep.join(sys.path))
    until(lambda: bool(_SERVES.search(processes.text("dev"))), READY_S_MAX, "stepstream dev did not start")
    url = _SERVES.findall(processes.text("dev"))[0]
    return Server(processes.client, url, f"{url}/api")
