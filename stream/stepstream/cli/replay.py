"""The command `stepstream replay`."""

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stepstream.cli.options import Target
from stepstream.cli.terminal.console import EXIT_FAILED, EXIT_USAGE, AsJson, commands, err, fail, out
from stepstream.contract.errors import StepstreamError
from stepstream.contract.kinds import RunStatus
from stepstream.contract.text.durations import duration_ms
from stepstream.contract.text.wording import counted, duration_text
from stepstream.host.loading import load_app
from stepstream.host.monitoring.logs import Format, Level, Logs, silence_attempts
from stepstream.host.replaying import Progress as ReplayProgress
from stepstream.host.replaying import Replaying
from stepstream.runtime.readmodel.stats import RunStats

_PROGRESS_S = 0.1
_FUNCTIONS_SHOWN = 10

cli = commands()


class ProgressKind(StrEnum):
    """How progress is reported."""

    BAR, JSON, NONE = "bar", "json", "none"


@cli.command(epilog="Example: stepstream replay examples/flights.py --events day.jsonl")
def replay(
    target: Target,
    events: Annotated[Path, typer.Option(help="A file with one event as JSON per line, ordered by ts.")],
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Keep state in this folder, so that a replay that was killed resumes (default: in memory)."),
    ] = None,
    continue_for: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Let so much time pass after the last event, such as 3d; a run that waits longer stays open "
            "(default: until no run is open, for 400d at most).",
        ),
    ] = None,
    progress: Annotated[
        ProgressKind, typer.Option(help="How to report progress on standard error.")
    ] = ProgressKind.BAR,
    as_json: AsJson = False,
) -> None:
    """Replay recorded events through your functions, on a virtual clock that follows the events."""
    Logs(Format.TEXT, Level.WARNING)
    silence_attempts()
    try:
        report, close = _progress(progress)
        continue_ms = None if continue_for is None else duration_ms(continue_for)
        replaying = Replaying(load_app(target), events, data_dir, report, continue_ms)
    except StepstreamError as error:
        raise fail(str(error), EXIT_USAGE) from None
    try:
        stats = asyncio.run(replaying.run())
    finally:
        close()
    for line in replaying.progress.bad_lines:
        err.line(("skipped", "yellow"), " ", line)
    if more := replaying.progress.bad_count - len(replaying.progress.bad_lines):
        err.line(("skipped", "yellow"), f" {counted(more, 'more line')}")
    if replaying.found_nothing:
        raise fail(f"{events} contains no event; write one event as JSON per line", EXIT_FAILED)
    _print_stats(stats, as_json)


def _progress(kind: ProgressKind) -> tuple[Callable[[ReplayProgress], None], Callable[[], None]]:
    """Return what reports progress, and what ends the report."""
    if kind == ProgressKind.NONE:
        return lambda _progress: None, lambda: None
    reported = 0.0
    bar = Progress(
        TextColumn("events"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err.console,
        disable=kind != ProgressKind.BAR,
    )
    task = bar.add_task("replay", total=None)
    bar.start()

    def report(now: ReplayProgress) -> None:
        nonlocal reported
        last = now.lines >= now.lines_total
        if not last and time.monotonic() - reported < _PROGRESS_S:
            return
        reported = time.monotonic()
        bar.update(task, completed=now.lines, total=now.lines_total)
        if kind == ProgressKind.JSON:
            err.json({"events_fed": now.lines, "events_total": now.lines_total, "now_ms": now.now_ms})

    return report, bar.stop


def _print_stats(stats: RunStats, as_json: bool) -> None:
    statuses = dict(stats.statuses)
    if stats.open:
        statuses.setdefault(RunStatus.RUNNING, len(stats.open))
    functions: list[dict[str, Any]] = [
        {"function": name, "runs": each.runs, "mean_ms": round(each.total_ms / each.runs, 1)}
        for name, each in sorted(stats.functions.items(), key=lambda item: -item[1].total_ms / item[1].runs)
    ]
    sums = {"steps": stats.steps, "retries": stats.retries, "timeouts": stats.timeouts}
    if as_json:
        out.json({"runs": statuses, **sums, "functions": functions})
        return
    out.line("runs: " + ", ".join(f"{count:,} {status}" for status, count in sorted(statuses.items())))
    out.line(", ".join(f"{name} {count:,}" for name, count in sums.items()))
    rows = [
        (function["function"], f"{function['runs']:,}", duration_text(float(function["mean_ms"])))
        for function in functions[:_FUNCTIONS_SHOWN]
    ]
    out.table(("function", "runs", "mean time (virtual)"), rows, title="slowest functions")
