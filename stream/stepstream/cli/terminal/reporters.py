"""What `stepstream dev` reports while it runs: a line per step for a terminal, or lines of the log."""

import logging
import time
from collections import OrderedDict
from contextlib import suppress

from stepstream import __version__
from stepstream.cli.terminal.console import Part, Screen
from stepstream.cli.terminal.opening import open_page, page_address
from stepstream.contract.history import (
    HistoryEntry,
    RunAttemptFailed,
    RunBatched,
    RunBegan,
    RunEnded,
    RunWarned,
    StepAttemptFailed,
    StepCancelled,
    StepEnded,
    StepPlanned,
)
from stepstream.contract.kinds import RunStatus
from stepstream.contract.limits import HOUR_MS
from stepstream.contract.outcomes import ErrorInfo, Failure, TimedOut
from stepstream.contract.text.wording import counted
from stepstream.host.monitoring.logs import silence_attempts
from stepstream.host.serving import address_of
from stepstream.host.settings import Settings
from stepstream.sdk.app import App
from stepstream.sdk.errors import format_error

logger = logging.getLogger(__name__)
_RUNS_KNOWN_MAX = 10_000
_TEXT_CHARACTERS_MAX = 200
_SOON_MS = 12 * HOUR_MS
NO_APP = "it serves each app of an Inngest SDK that registers"
NO_FUNCTION = "the app has no function yet, so nothing can start: write @app.function(on(…)) above one"
_COLOURS = {
    RunStatus.COMPLETED: "green",
    RunStatus.FAILED: "red",
    RunStatus.CANCELLED: "yellow",
    RunStatus.SKIPPED: "yellow",
}


class HistoryPrinter:
    """Prints history for people; it remembers the function and the start of recent runs."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._runs: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def know(self, run_id: str, function: str, started_at: int) -> None:
        """Remember a run as the most recent one."""
        self._runs[run_id] = (function, started_at)
        while len(self._runs) > _RUNS_KNOWN_MAX:
            self._runs.popitem(last=False)

    def show(self, entry: HistoryEntry) -> None:
        """Print an entry of history, unless it is of no use to a reader."""
        if isinstance(entry, RunBegan):
            self.know(entry.run_id, entry.function, entry.start_at)
        function, _ = self._runs.get(entry.run_id, ("", 0))
        if parts := self._parts(entry):
            prefix = f"{_time(entry.at)} {entry.run_id[-6:]}"
            self._print((prefix, "dim"), " ", (_short(function), "cyan"), " ", *parts)

    def _print(self, *parts: Part) -> None:
        """Print a line; one that cannot be written, for example to a file on a full disk, stops no process."""
        with suppress(OSError):
            self._screen.line(*parts)

    def _parts(self, entry: HistoryEntry) -> list[Part]:
        match entry:
            case StepPlanned():
                what = f"{entry.kind} {_short(entry.detail)}".strip()
                return [f"  {_short(entry.id)} ", ("waits", "yellow"), f" ({what})"]
            case StepAttemptFailed():
                failed = (f"attempt {entry.attempt + 1} failed", "red")
                return [f"  {_short(entry.id)} ", failed, f": {_error(entry.error)}; {_next_due(entry.retry_at)}"]
            case StepEnded(outcome=Failure(error)):
                return [f"  {_short(entry.id)} ", ("failed", "red"), f": {_error(error)}"]
            case StepEnded(outcome=TimedOut()):
                return [f"  {_short(entry.id)} ", ("timed out", "yellow")]
            case StepEnded():
                took = f" {entry.at - entry.started_at:,} ms" if entry.started_at else ""
                return [f"  {_short(entry.id)} ", ("done", "green"), took]
            case StepCancelled():
                return [f"  {_short(entry.id)} cancelled"]
            case _:
                return self._parts_of_run(entry)

    def _parts_of_run(self, entry: HistoryEntry) -> list[Part]:
        match entry:
            case RunBegan():
                return [f"started by {_short(entry.events[0].name)}"]
            case RunBatched():
                return [f"has a batch of {len(entry.events):,} events"]
            case RunAttemptFailed():
                failed = (f"attempt {entry.attempt + 1} failed", "red")
                return [failed, f": {_error(entry.error)}; {_next_due(entry.retry_at)}"]
            case RunWarned():
                return [(_short(entry.warning), "yellow")]
            case RunEnded():
                _, started = self._runs.pop(entry.run_id, ("", entry.at))
                reason = f": {_error(entry.error)}" if entry.error else ""
                return [(entry.status, _COLOURS[entry.status]), f" in {entry.at - started:,} ms{reason}"]
            case _:
                return []


class TerminalReporter(HistoryPrinter):
    """Reports to a person at a terminal; `opens` opens the page in a browser."""

    def __init__(self, screen: Screen, app: App | None, settings: Settings, *, opens: bool = False) -> None:
        super().__init__(screen)
        self._app = app
        self._settings = settings
        self._opens = opens
        own, level = logging.getLogger("stepstream"), logging.getLogger().level
        if level > logging.DEBUG:
            silence_attempts()
        if level == logging.INFO:
            # The printed history replaces our own log lines, but not what users log by ctx.logger.
            own.setLevel(logging.WARNING)
            own.getChild("run").setLevel(level)

    def ready(self, port: int) -> None:
        """Print what serves, and where."""
        if self._app:
            functions = counted(len(self._app), "function")
            self._print(("stepstream", "bold"), f" {__version__} serves ", (self._app.name, "cyan"), f" ({functions})")
        else:
            self._print(("stepstream", "bold"), f" {__version__} runs without a Python file; {NO_APP}")
        address = address_of(self._settings.host, port)
        self._print(f"  send events to {address}/e/dev, state is in {self._settings.data_dir}")
        if page := page_address(self._settings, port):
            self._print(f"  see all runs at {page}")
            if self._opens:
                open_page(page, lambda text: self._print((f"  {text}", "yellow")))
        if self._app and not len(self._app):
            self._print((f"  {NO_FUNCTION}", "yellow"))

    def notice(self, line: str) -> None:
        """Print what happens to an app of an SDK."""
        self._print(line)

    def unmatched(self, line: str) -> None:
        """Print that an event matched nothing."""
        self._print((line, "yellow"))

    def draining(self, bodies: int) -> None:
        """Print what the process waits for before it stops."""
        self._print(f"waiting for {counted(bodies, 'step')}; Ctrl-C again to stop now")


class LogReporter:
    """Reports to the log, for machines; the attempts of steps are logged where they run."""

    def __init__(self, app: App | None, settings: Settings, *, opens: bool = False) -> None:
        self._app = app
        self._settings = settings
        self._opens = opens

    def know(self, _run_id: str, _function: str, _started_at: int) -> None:
        """Ignore a run that was open before; its entries name its function."""

    def show(self, entry: HistoryEntry) -> None:
        """Log how a run ends."""
        if isinstance(entry, RunEnded):
            extra = {"run_id": entry.run_id, "function": entry.function}
            logger.info("run %s", entry.status, extra=extra)

    def ready(self, port: int) -> None:
        """Log what serves, and where."""
        address = address_of(self._settings.host, port)
        name = self._app.name if self._app else "apps of Inngest SDKs"
        logger.info("stepstream %s serves %s at %s", __version__, name, address)
        if self._opens and (page := page_address(self._settings, port)):
            open_page(page, logger.warning)
        if self._app and not len(self._app):
            logger.warning(NO_FUNCTION)

    def notice(self, line: str) -> None:
        """Log what happens to an app of an SDK."""
        logger.info("%s", line)

    def unmatched(self, line: str) -> None:
        """Log that an event matched nothing."""
        logger.warning("%s", line)

    def draining(self, bodies: int) -> None:
        """Log what the process waits for before it stops."""
        logger.info("waiting for %s", counted(bodies, "step"))


def _time(at_ms: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_ms / 1_000))


def _next_due(at_ms: int) -> str:
    day = "" if at_ms - time.time() * 1_000 < _SOON_MS else time.strftime("%Y-%m-%d ", time.localtime(at_ms / 1_000))
    return f"the next is due at {day}{_time(at_ms)}"


def _error(error: ErrorInfo) -> str:
    return _short(format_error(error))


def _short(text: str) -> str:
    """Return the first line of a text, cut to a length that fits a terminal."""
    return text.partition("\n")[0][:_TEXT_CHARACTERS_MAX]
