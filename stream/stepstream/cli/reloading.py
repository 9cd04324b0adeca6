"""Running a command as a child, and another in its place when a Python file changes."""

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
_LOADED, _GO = b"l", b"g"


class Child:
    """A process that loads the user's file, tells so, and waits for its turn to take port and state.

    It ends when this process does, also when that is killed: the pipe to its standard input is the lifeline.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._told, tell = os.pipe()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            pass_fds=(tell,),
            env={**os.environ, _LIFELINE: str(tell)},
            # Ctrl-C in a terminal reaches the whole group; a child hears it once, from its parent.
            process_group=0,
        )
        os.close(tell)
        self._loaded = False

    def is_loaded(self) -> bool:
        """Wait until the file is loaded; return False when the child has ended over it."""
        self._loaded = os.read(self._told, 1) == _LOADED
        os.close(self._told)
        return self._loaded

    def go(self) -> None:
        """Let it serve."""
        pipe = self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            if pipe is not None:
                pipe.write(_GO)
                pipe.flush()

    def signal(self, number: int) -> None:
        """Send a signal, if it lives; one that still imports has nothing to drain, and ends without a traceback."""
        if self.process.poll() is None:
            self.process.send_signal(number if self._loaded else signal.SIGTERM)

    def exit_code(self) -> int:
        """Wait for its end; return its code, as a shell has it."""
        code = self.process.wait()
        return code if code >= 0 else 128 - code


class _Supervision:
    """One command: the child that serves, the one that is to take its place, and the signals for both."""

    def __init__(self, command: Sequence[str], tell: Callable[[str], None]) -> None:
        self._command = command
        self._tell = tell
        self.stop = threading.Event()
        self._children: list[Child] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._pass_on)

    def _pass_on(self, number: int, _frame: object) -> None:
        self.stop.set()
        for child in self._children:
            child.signal(number)

    def load(self) -> Child | None:
        """Begin a child that has loaded the file; None when it cannot be loaded."""
        child = Child(self._command)
        self._children.append(child)
        if child.is_loaded():
            return child
        child.exit_code()
        self._children.remove(child)
        return None

    def serve(self, child: Child) -> None:
        """Let a child serve, in place of the one before it, which drains first."""
        for older in self._children[:-1]:
            older.signal(signal.SIGTERM)
            older.exit_code()
            self._children.remove(older)
        child.go()
        threading.Thread(target=self._stop_when_refused, args=(child,), daemon=True).start()

    def _stop_when_refused(self, child: Child) -> None:
        """End the command when its options cannot work, as a port that is taken: no change of a file mends that."""
        if child.exit_code() == EXIT_USAGE:
            self.stop.set()

    def reload(self) -> None:
        """Take up the changed code; where it cannot be loaded, that from before goes on."""
        child = self.load()
        if child is not None:
            self.serve(child)
        elif not self.stop.is_set():
            lives = any(each.process.poll() is None for each in self._children)
            self._tell("the code from before goes on" if lives else "nothing runs until a file changes")

    def end(self) -> int:
        """Wait for the last child; return its exit code."""
        codes = [child.exit_code() for child in self._children]
        return codes[-1] if codes else _EXIT_INTERRUPTED if self.stop.is_set() else 1


def run_reloading(command: Sequence[str], folder: Path, tell: Callable[[str], None]) -> int:
    """Run `command` until SIGINT or SIGTERM; return its last exit code. Each stop lets the child drain.

    The command must call `take_turn` when it has loaded the files; those of `folder` are watched. One that cannot be
    loaded is told by the child itself; `tell` is told what goes on then.
    """
    supervision = _Supervision(command, tell)
    changes: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
    threading.Thread(target=_watch, args=(folder, supervision.stop, changes), daemon=True).start()
    supervision.reload()
    while changed := changes.get():
        _forget_compiled(changed)
        supervision.reload()
    return supervision.end()


def _watch(folder: Path, stop: threading.Event, changes: "queue.SimpleQueue[list[str]]") -> None:
    """Put the paths of every change, and nothing at the end; one watch, so that none is missed during a reload."""
    try:
        for found in watchfiles.watch(folder, watch_filter=watchfiles.PythonFilter(), stop_event=stop):
            changes.put([path for _, path in found])
    finally:
        changes.put([])


def _forget_compiled(paths: Sequence[str]) -> None:
    """Drop what Python compiled of changed files: it takes a save of the same second and size for the one before."""
    for path in paths:
        Path(importlib.util.cache_from_source(path)).unlink(missing_ok=True)


def is_supervised() -> bool:
    """Tell whether this process is a child of run_reloading."""
    return bool(os.environ.get(_LIFELINE))


def die_quietly() -> None:
    """In a child of run_reloading: let Ctrl-C while the file is loaded end it without a traceback."""
    if is_supervised():
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def take_turn() -> None:
    """In a child of run_reloading: tell that the files are loaded, wait for the turn, and end with the parent."""
    if not is_supervised():
        return
    told = int(os.environ[_LIFELINE])
    os.write(told, _LOADED)
    os.close(told)
    if os.read(0, 1) != _GO:
        os._exit(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # The pipe reads as ended when its other side is no more; sys.stdin has a lock that must not be held at the end.
    while os.read(0, 1):
        pass
    os._exit(1)
