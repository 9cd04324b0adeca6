"""Running a command as a child and beginning it again when a Python file changes."""

import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import watchfiles


def run_reloading(command: Sequence[str], folder: Path) -> int:
    """Run `command` until SIGINT or SIGTERM; return its last exit code. Each stop lets the child drain."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    while True:
        child = subprocess.Popen(command)
        # A child that ended by itself, as by an error in the file, is begun again by the next change.
        changed = next(watchfiles.watch(folder, watch_filter=watchfiles.PythonFilter(), stop_event=stop), None)
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
        code = child.wait()
        if changed is None:
            return code
