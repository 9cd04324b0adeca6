"""A `stepstream dev` as a child process."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.polling import until

APP = """
import itertools
import os
import threading
from pathlib import Path
from stepstream import App, Context, on

app = App("kill")
log = Path(os.environ["EFFECTS"])
limit = int(os.environ.get("LIMIT", "1000000"))
started = itertools.count()


def effect(run_id: str, step: str) -> str:
    if next(started) >= limit:
        threading.Event().wait()
    with log.open("a") as file:
        file.write(f"{run_id} {step}\\n")
    return step


@app.function(on("go"))
async def work(ctx: Context) -> list:
    first = await ctx.step.run("a", effect, ctx.run_id, "a")
    await ctx.step.sleep("nap", 0.05)
    second = await ctx.step.run("b", effect, ctx.run_id, "b")
    third = await ctx.step.run("c", effect, ctx.run_id, "c")
    return [first, second, third, ctx.event.data["n"]]
"""


class Serving:
    """One folder with an app, its state and its log of effects; the process can be killed and restarted.

    `settings` are further variables of its environment.
    """

    def __init__(self, folder: Path, file: str = "kill_app.py", **settings: str) -> None:
        self.folder = folder
        self.file = file
        self.settings = settings
        self.effects = folder / "effects.txt"
        self.effects.touch()
        self.log = folder / "dev.log"
        self.error_log = folder / "dev.errors"
        (folder / "kill_app.py").write_text(APP, encoding="utf-8")
        self.url = ""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, limit: int = sys.maxsize, port: int = 0) -> None:
        """Start the process and wait until it serves; bodies block before their effect after `limit` effects."""
        command = [sys.executable, "-m", "stepstream", "dev", self.file, "--no-reload", "--port", str(port)]
        settings = {"EFFECTS": str(self.effects), "LIMIT": str(limit), "PYTHONUNBUFFERED": "1"}
        environment = {**os.environ, **settings, **self.settings}
        # In a pipe that nothing reads, the process would block as soon as the pipe is full.
        with self.log.open("w") as log, self.error_log.open("w") as errors:
            self.process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=errors)
        until(self._serves, missing="stepstream dev did not serve")

    def _serves(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.errors()
        if not (found := re.search(r"http://127\.0\.0\.1:\d+", self.log.read_text())):
            return False
        self.url = found[0]
        try:
            return httpx.get(f"{self.url}/ready").is_success
        except httpx.TransportError:
            return False

    def errors(self) -> list[str]:
        """Return the lines that the process wrote to its standard error."""
        return self.error_log.read_text(encoding="utf-8").splitlines()

    def send(self, first: int, count: int) -> list[str]:
        """Send events and return their ids."""
        numbers = range(first, first + count)
        events = [{"name": "go", "data": {"n": number}, "id": f"event-{number}"} for number in numbers]
        ids: list[str] = httpx.post(f"{self.url}/e/dev", json=events).raise_for_status().json()["ids"]
        return ids

    def runs(self) -> list[dict[str, object]]:
        """Return all runs."""
        runs: list[dict[str, object]] = []
        while True:
            before = str(runs[-1]["run_id"]) if runs else ""
            page = httpx.get(f"{self.url}/v1/runs", params={"limit": 500, "before": before}).json()["runs"]
            runs += page
            if len(page) < 500:
                return runs

    def until_completed(self) -> list[dict[str, object]]:
        """Return all runs when every one is completed."""
        until(lambda: {run["status"] for run in self.runs()} == {"completed"}, missing="not all runs completed")
        return self.runs()

    def until_effects(self, count: int) -> None:
        """Return when steps have had as many effects."""
        until(lambda: self.effect_count() >= count, missing=f"{count} effects did not happen")

    def effect_count(self) -> int:
        """Return how many effects steps have had."""
        return len(self.effects.read_text().splitlines())

    def outputs(self, runs: Sequence[Mapping[str, object]]) -> list[list[Any]]:
        """Return the output of each run."""
        with httpx.Client(base_url=self.url) as client:
            return [client.get(f"/v1/runs/{run['run_id']}").json()["output"] for run in runs]

    def kill(self) -> None:
        """Kill the process if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.stop(signal.SIGKILL)

    def stop(self, number: signal.Signals) -> int:
        """End the process by a signal and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=60)
