"""A terminal for the commands of the documents: `stepstream dev` in the background, all else in the foreground."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.polling import until


class Terminal:
    """Runs commands in a folder; `shown` are the lines that they have printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shown: list[str] = []
        self.url = ""
        self._process: subprocess.Popen[str] | None = None

    def dev(self, *arguments: str) -> None:
        """Start `stepstream dev` on a free port, and return when it serves."""
        command = [sys.executable, "-m", "stepstream", "dev", *arguments, "--no-reload", "--port", "0"]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.url = re.sub("/e/dev.*", "", self.wait_for("http://").partition("send events to ")[2])
        until(self._serves, missing="stepstream dev did not serve")

    def _serves(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.shown
        try:
            return httpx.get(f"{self.url}/ready").is_success
        except httpx.TransportError:
            return False

    def wait_for(self, words: str) -> str:
        """Return the first line from now on with these words."""
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.shown.append(line.rstrip("\n"))
            if words in line:
                return self.shown[-1]
        raise AssertionError(f"it never printed {words!r}, only {self.shown}")

    def kill(self) -> None:
        """Kill it with -9, if it runs, and take what it had printed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            printed, _ = self._process.communicate(timeout=60)
            self.shown += printed.splitlines()
            self._process = None

    def run(self, *words: str) -> str:
        """Run a module's command in the foreground and return what it prints; it must succeed."""
        environment = {**os.environ, "STEPSTREAM_URL": self.url, "COLUMNS": "200"}
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{shlex.join(words)}:\n{done.stdout}{done.stderr}"
        self.shown += done.stdout.splitlines()
        return done.stdout


@contextmanager
def terminal(folder: Path) -> Iterator[Terminal]:
    """Give a terminal whose processes end with it."""
    opened = Terminal(folder)
    try:
        yield opened
    finally:
        opened.kill()
