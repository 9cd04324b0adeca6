"""Runs a command as a child process, and replaces the child when a Python file changes."""

import contextlib
import importlib.util
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import watchfiles

EXIT_USAGE = 2
_EXIT_INTERRUPTED = 130
_LIFELINE = "STEPSTREAM_LIFELINE"
_LOADED, _START = b"l", b"s"


class Child:
    """A process that loads the user's file, reports that, and waits until it may take over port and state.

    It ends when this process ends, even by a kill: the pipe to its standard input is its lifeline.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._reports, report = os.pipe()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            pass_fds=(report,),
            env={**os.environ, _LIFELINE: str(report)},
            # Ctrl-C in a terminal reaches the whole process group; the child gets it once, from its parent.
            process_group=0,
        )
        os.close(report)
        self._loaded = False

    def is_loaded(self) -> bool:
        """Wait until the file is loaded; return False if the child ended instead."""
        self._loaded = os.read(self._reports, 1) == _LOADED
        os.close(self._reports)
        return self._loaded

    def start(self) -> None:
        """Let the child serve."""
        pipe = self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            if pipe is not None:
                pipe.write(_START)
                pipe.flush()

    def signal(self, number: int) -> None:
        """Send a signal if the child runs; one that still imports has nothing to drain and gets SIGTERM."""
        if self.process.poll() is None:
            self.process.send_signal(number if self._loaded else signal.SIGTERM)

    def exit_code(self) -> int:
        """Wait for the end of the child; return its exit code as a shell would."""
        code = self.process.wait()
        return code if code >= 0 else 128 - code


class _Supervision:
    """One command: the child that serves, the one that is about to replace it, and the signals for both."""

    def __init__(self, command: Sequence[str], later: Sequence[str], report: Callable[[str], None]) -> None:
        self._command = command
        self._later = later
        self._report = report
        self.stop = threading.Event()
        self._children: list[Child] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._forward)

    def _forward(self, number: int, _frame: object) -> None:
        self.stop.set()
        for child in self._children:
            child.signal(number)

    def load(self) -> Child | None:
        """Start a child and return it once it has loaded the file; None if the file cannot be loaded."""
        child = Child(self._command)
        self._children.append(child)
        if child.is_loaded():
            self._command, self._later = (*self._command, *self._later), ()
            return child
        child.exit_code()
        self._children.remove(child)
        return None

    def serve(self, child: Child) -> None:
        """Let a child serve in place of the previous one, which drains first."""
        for older in self._children[:-1]:
            older.signal(signal.SIGTERM)
            older.exit_code()
            self._children.remove(older)
        child.start()
        threading.Thread(target=self._stop_on_usage_error, args=(child,), daemon=True).start()

    def _stop_on_usage_error(self, child: Child) -> None:
        """End the command if its options cannot work, such as a port in use: no change of a file would fix that."""
        if child.exit_code() == EXIT_USAGE:
            self.stop.set()

    def reload(self) -> None:
        """Replace the child by one with the changed code; if that cannot be loaded, the previous one keeps running."""
        child = self.load()
        if child is not None:
            self.serve(child)
        elif not self.stop.is_set():
            running = any(each.process.poll() is None for each in self._children)
            self._report("the previous code keeps running" if running else "nothing runs until a file changes")

    def end(self) -> int:
        """Wait for the children; return the exit code of the last one."""
        codes = [child.exit_code() for child in self._children]
        return codes[-1] if codes else _EXIT_INTERRUPTED if self.stop.is_set() else 1


def run_reloading(command: Sequence[str], later: Sequence[str], folder: Path, report: Callable[[str], None]) -> int:
    """Run `command` until SIGINT or SIGTERM, restart it when a Python file in `folder` changes, return its exit code.

    A restart adds the arguments `later`.
    The command must call `wait_for_start` once it has loaded the files, and it reports itself if it cannot load them;
    `report` gets what happens then. Each stop lets the child drain.
    """
    supervision = _Supervision(command, later, report)
    changes: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
    threading.Thread(target=_watch, args=(folder, supervision.stop, changes), daemon=True).start()
    supervision.reload()
    while changed := changes.get():
        _forget_compiled(changed)
        supervision.reload()
    return supervision.end()


def _watch(folder: Path, stop: threading.Event, changes: "queue.SimpleQueue[list[str]]") -> None:
    """Queue the paths of each change, and an empty list at the end; one watch for all reloads misses no change."""
    try:
        for found in watchfiles.watch(folder, watch_filter=watchfiles.PythonFilter(), stop_event=stop):
            changes.put([path for _, path in found])
    finally:
        changes.put([])


def _forget_compiled(paths: Sequence[str]) -> None:
    """Delete the bytecode of changed files, which Python would use for a file saved with the same size and second."""
    for path in paths:
        Path(importlib.util.cache_from_source(path)).unlink(missing_ok=True)


def is_supervised() -> bool:
    """Return whether this process is a child of run_reloading."""
    return bool(os.environ.get(_LIFELINE))


def end_quietly() -> None:
    """In a child of run_reloading: make Ctrl-C end the process without a traceback while the file is loaded."""
    if is_supervised():
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for_start() -> None:
    """In a child of run_reloading: report that the files are loaded, wait for the parent, and end with it."""
    if not is_supervised():
        return
    report = int(os.environ[_LIFELINE])
    os.write(report, _LOADED)
    os.close(report)
    if os.read(0, 1) != _START:
        os._exit(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # The pipe reads as ended when its other end is closed. sys.stdin has a lock that must not be held at exit.
    while os.read(0, 1):
        pass
    os._exit(1)
