"""Runs and steps as they happen, a line each, for a terminal or a log."""

import logging
import time
from collections import OrderedDict

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from stepstream import __version__
from stepstream.cli.tables import counted
from stepstream.contract.history import (
    HistoryEntry,
    RunAttemptFailed,
    RunBegan,
    RunEnded,
    RunWarned,
    StepAttemptFailed,
    StepCancelled,
    StepEnded,
    StepPlanned,
)
from stepstream.contract.limits import HOUR_MS
from stepstream.contract.outcomes import ErrorInfo, Failure, TimedOut
from stepstream.host.monitoring.logs import leave_attempts_to_a_view
from stepstream.host.serving import address_of
from stepstream.host.settings import Settings
from stepstream.sdk.app import App
from stepstream.sdk.errors import format_error

logger = logging.getLogger(__name__)
_RUNS_KNOWN_MAX = 10_000
_SOON_MS = 12 * HOUR_MS
NO_FUNCTION = "the app has no function yet, so nothing can start: write @app.function(on(…)) above one"
_COLOURS = {"completed": "green", "failed": "red", "cancelled": "yellow"}


class LiveView:
    """Prints history for people; it remembers the functions and starts of the latest runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._runs: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def know(self, run_id: str, function: str, started_at: int) -> None:
        """Remember a run, the latest of all."""
        self._runs[run_id] = (function, started_at)
        while len(self._runs) > _RUNS_KNOWN_MAX:
            self._runs.popitem(last=False)

    def show(self, entry: HistoryEntry) -> None:
        """Print an entry, if it says something to a reader."""
        if isinstance(entry, RunBegan):
            self.know(entry.run_id, entry.function, entry.start_at)
        function, _ = self._runs.get(entry.run_id, ("", 0))
        text = self._text(entry)
        if text:
            who = f"[dim]{_time(entry.at)} {entry.run_id[-6:]}[/dim] [cyan]{_plain(function)}[/cyan]"
            self._console.print(f"{who} {text}", highlight=False, soft_wrap=True)

    def _text(self, entry: HistoryEntry) -> str:
        match entry:
            case StepPlanned():
                what = f"{entry.kind} {_plain(entry.detail)}".strip()
                return f"  {_plain(entry.id)} [yellow]waits[/yellow] ({what})"
            case StepAttemptFailed():
                reason = f"{_error(entry.error)}; {_next_due(entry.retry_at)}"
                return f"  {_plain(entry.id)} [red]attempt {entry.attempt + 1} failed[/red]: {reason}"
            case StepEnded(outcome=Failure(error)):
                return f"  {_plain(entry.id)} [red]failed[/red]: {_error(error)}"
            case StepEnded(outcome=TimedOut()):
                return f"  {_plain(entry.id)} [yellow]timed out[/yellow]"
            case StepEnded():
                took = f" {entry.at - entry.started_at:,} ms" if entry.started_at else ""
                return f"  {_plain(entry.id)} [green]done[/green]{took}"
            case StepCancelled():
                return f"  {_plain(entry.id)} cancelled"
            case _:
                return self._text_of_run(entry)

    def _text_of_run(self, entry: HistoryEntry) -> str:
        match entry:
            case RunBegan():
                return f"started by {_plain(entry.events[0].name)}"
            case RunAttemptFailed():
                due = _next_due(entry.retry_at)
                return f"[red]attempt {entry.attempt + 1} failed[/red]: {_error(entry.error)}; {due}"
            case RunWarned():
                return f"[yellow]{_plain(entry.warning)}[/yellow]"
            case RunEnded():
                _, started = self._runs.pop(entry.run_id, ("", entry.at))
                reason = f": {_error(entry.error)}" if entry.error else ""
                colour = _COLOURS[entry.status]
                return f"[{colour}]{entry.status}[/{colour}] in {entry.at - started:,} ms{reason}"
            case _:
                return ""


class Terminal(LiveView):
    """What `stepstream dev` tells people."""

    def __init__(self, console: Console, app: App, settings: Settings) -> None:
        super().__init__(console)
        self._app = app
        self._settings = settings
        own, level = logging.getLogger("stepstream"), logging.getLogger().level
        if level > logging.DEBUG:
            leave_attempts_to_a_view()
        if level == logging.INFO:
            # What users log by ctx.logger the view does not tell.
            own.setLevel(logging.WARNING)
            own.getChild("run").setLevel(level)

    def ready(self, port: int) -> None:
        """Say what came up, and where."""
        app, state = _plain(self._app.name), _plain(str(self._settings.data_dir))
        functions = counted(len(self._app), "function")
        self._console.print(f"[bold]stepstream[/bold] {__version__} serves [cyan]{app}[/cyan] ({functions})")
        address = _plain(address_of(self._settings.host, port))
        self._console.print(f"  send events to {address}/e/dev, state is in {state}")
        if not len(self._app):
            self._console.print(Text(f"  {NO_FUNCTION}", "yellow"), soft_wrap=True)

    def unmatched(self, line: str) -> None:
        """Say that nobody has heard an event."""
        self._console.print(Text(line, "yellow"), soft_wrap=True)

    def draining(self, bodies: int) -> None:
        """Say what the end waits for."""
        text = f"waiting for {counted(bodies, 'step')}; Ctrl-C again to stop now"
        self._console.print(text, highlight=False, soft_wrap=True)


class LoggedView:
    """The same as lines of the log, where machines read it; each step logs its own."""

    def __init__(self, _console: Console, app: App, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    def know(self, _run_id: str, _function: str, _started_at: int) -> None:
        """Leave a run that was open before to its own entries."""

    def show(self, entry: HistoryEntry) -> None:
        """Log how runs end."""
        if isinstance(entry, RunEnded):
            extra = {"run_id": entry.run_id, "function": entry.function}
            logger.info("run %s", entry.status, extra=extra)

    def ready(self, port: int) -> None:
        """Log what came up, and where."""
        address = address_of(self._settings.host, port)
        logger.info("stepstream %s serves %s at %s", __version__, self._app.name, address)
        if not len(self._app):
            logger.warning(NO_FUNCTION)

    def unmatched(self, line: str) -> None:
        """Log that nobody has heard an event."""
        logger.warning("%s", line)

    def draining(self, bodies: int) -> None:
        """Log what the end waits for."""
        logger.info("waiting for %s", counted(bodies, "step"))


def _time(at_ms: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_ms / 1_000))


def _next_due(at_ms: int) -> str:
    day = "" if at_ms - time.time() * 1_000 < _SOON_MS else time.strftime("%Y-%m-%d ", time.localtime(at_ms / 1_000))
    return f"the next is due at {day}{_time(at_ms)}"


def _error(error: ErrorInfo) -> str:
    return _plain(format_error(error))


def _plain(text: str) -> str:
    """Return the first line of a text of users, which is no markup of ours."""
    return escape(text.partition("\n")[0][:200])
