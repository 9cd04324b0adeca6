"""Running a command as a child and beginning it again when a Python file changes."""

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import watchfiles

EXIT_USAGE = 2
_LIFELINE = "STEPSTREAM_LIFELINE"


def run_reloading(command: Sequence[str], folder: Path) -> int:
    """Run `command` until SIGINT or SIGTERM; return its last exit code. Each stop lets the child drain.

    The child ends when this process does, also when it is killed: it holds the port and the state.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    while True:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, _LIFELINE: "1"})
        ended = threading.Thread(target=_stop_when_refused, args=(child, stop), daemon=True)
        ended.start()
        # A child that ended by itself, as by an error in the file, is begun again by the next change.
        changed = next(watchfiles.watch(folder, watch_filter=watchfiles.PythonFilter(), stop_event=stop), None)
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
        code = child.wait()
        if changed is None:
            return code


def _stop_when_refused(child: "subprocess.Popen[bytes]", stop: threading.Event) -> None:
    """End the command when its options cannot work, as a port that is taken: no change of a file mends that."""
    if child.wait() == EXIT_USAGE:
        stop.set()


def is_supervised() -> bool:
    """Tell whether this process is a child of run_reloading."""
    return bool(os.environ.get(_LIFELINE))


def hold_lifeline() -> None:
    """In a child of run_reloading: end when the parent is gone."""
    if is_supervised():
        threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # The pipe reads as ended when its other side is no more; sys.stdin has a lock that must not be held at the end.
    while os.read(0, 1):
        pass
    os._exit(1)
