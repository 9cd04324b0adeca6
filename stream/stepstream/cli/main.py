"""The command `stepstream`: dev, send, signal, runs and replay."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from stepstream import __version__
from stepstream.cli.client import EngineApi
from stepstream.cli.cluster import LogFormat, LogLevel, engine, topics_cli, worker
from stepstream.cli.console import BY_VARIABLES, EXIT_FAILED, EXIT_USAGE, AsJson, Commands, err, fail, failed_by, out
from stepstream.cli.dead_letters import letters_cli
from stepstream.cli.live import LoggedView, Terminal
from stepstream.cli.reloading import die_quietly, is_supervised, run_reloading, take_turn
from stepstream.cli.runs import URL_DEFAULT, ApiKey, Url, ask, runs_cli
from stepstream.cli.tables import counted, duration_text
from stepstream.contract.codec import dump_json
from stepstream.contract.errors import StepstreamError
from stepstream.host.embedded import serve
from stepstream.host.loading import LoadError, load_app
from stepstream.host.monitoring.logs import Format, Level, Logs, leave_attempts_to_a_view
from stepstream.host.monitoring.versions import app_version, code_versions
from stepstream.host.replaying import Progress as ReplayProgress
from stepstream.host.replaying import Replaying
from stepstream.host.settings import settings_from
from stepstream.runtime.readmodel.stats import RunStats

_PROGRESS_S = 0.1

cli = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
cli.add_typer(runs_cli, name="runs")
cli.add_typer(topics_cli, name="topics")
cli.add_typer(letters_cli, name="dead-letters")
_ENGINE = f"Example: stepstream engine --kafka broker:9092 --data-dir /var/lib/stepstream\n\n{BY_VARIABLES}"
cli.command(epilog=_ENGINE)(engine)
cli.command(epilog=f"Example: stepstream worker app.py --kafka broker:9092\n\n{BY_VARIABLES}")(worker)


class ProgressKind(StrEnum):
    """How `replay` tells how far it is."""

    BAR, JSON, NONE = "bar", "json", "none"


def _run(code: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.run(code)
    except StepstreamError as error:
        raise failed_by(error) from None


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stepstream {__version__}")
        raise typer.Exit


@cli.callback()
def main_options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Durable functions in Python: run them here, send them events, and see what they do."""


@cli.command(epilog=f"Example: stepstream dev app.py\n\n{BY_VARIABLES}")
def dev(
    target: Annotated[str, typer.Argument(metavar="FILE[:APP]", help="The file with your App.")],
    data_dir: Annotated[Path | None, typer.Option(help="Where state is kept [.stepstream].")] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on [8288]; 0 takes a free one.")] = None,
    reload: Annotated[bool, typer.Option(help="Begin again when a file beside FILE changes.")] = True,
    log_format: LogFormat = Format.TEXT,
    log_level: LogLevel = Level.INFO,
) -> None:
    """Run engine, worker and HTTP API in one process; Ctrl-C lets the work at hand come to rest."""
    die_quietly()
    try:
        settings = settings_from(data_dir=data_dir, host=host, port=port)
        app = load_app(target)
    except LoadError as error:
        # Under a supervisor a file that cannot be loaded is tried again when it changes; wrong options are not.
        raise fail(str(error), EXIT_FAILED if is_supervised() else EXIT_USAGE) from None
    except StepstreamError as error:
        raise fail(str(error), EXIT_USAGE) from None
    if reload:
        command = [sys.executable, "-m", "stepstream", *sys.argv[1:], "--no-reload"]
        folder = Path(target.partition(":")[0]).resolve().parent
        raise typer.Exit(run_reloading(command, folder, lambda text: out.print(f"[yellow]{text}[/yellow]")))
    logs = Logs(log_format, log_level)
    take_turn()
    logs.know(app.name, app_version(app, settings), code_versions(app, settings))
    _run(serve(app, settings, (Terminal if log_format is Format.TEXT else LoggedView)(out, app, settings)))


def _json_argument(text: str) -> Any:
    try:
        value = json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
        # Python reads more than JSON has, as NaN and half a character.
        dump_json(value)
        return value
    except (OSError, ValueError, RecursionError) as error:
        raise fail(f"--data: {error}; give JSON, or @FILE", EXIT_USAGE) from None


@cli.command(epilog="""Example: stepstream send shop/order.created --data '{"total": 12}'""")
def send(
    name: Annotated[str, typer.Argument(help="The event's name.")],
    data: Annotated[str, typer.Option(help="JSON, or @FILE.")] = "{}",
    id: Annotated[str, typer.Option(help="An id, which starts each function once in 24 h.")] = "",
    key: Annotated[str, typer.Option(envvar="STEPSTREAM_EVENT_KEY", help="The event key.", show_default=False)] = "dev",
    url: Url = URL_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Send one event."""
    event = {"name": name, "data": _json_argument(data), **({"id": id} if id else {})}
    harmless = "its --id starts each function once, so repeat it" if id else "with an --id a repeat would do no harm"
    answer = ask(
        EngineApi(url),
        "POST",
        "e",
        key.rstrip("\r\n"),
        want="ids",
        unsure=f"The event may be taken; {harmless}",
        json=event,
    )
    typer.echo(json.dumps(answer) if as_json else answer["ids"][0])


@cli.command(epilog="""Example: stepstream signal approved/42 --data '{"by": "ann"}'""")
def signal(
    name: Annotated[str, typer.Argument(help="The signal's name.")],
    data: Annotated[str, typer.Option(help="JSON, or @FILE.")] = "null",
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Send a signal to the run that waits for it; exits with 1 when none does."""
    body = {"signal": name, "data": _json_argument(data)}
    unsure = "The signal may be delivered; `stepstream runs list` tells what became of its run"
    answer = ask(EngineApi(url, api_key), "POST", "v1", "signals", want="delivered", unsure=unsure, json=body)
    typer.echo(json.dumps(answer) if as_json else "delivered")


@cli.command(epilog="Example: stepstream replay examples/flights.py --events day.jsonl")
def replay(
    target: Annotated[str, typer.Argument(metavar="FILE[:APP]", help="The file with your App.")],
    events: Annotated[Path, typer.Option(help="Recorded events: JSON lines, ordered by ts.")],
    data_dir: Annotated[Path | None, typer.Option(help="Durable: killed and begun again, it goes on.")] = None,
    progress: Annotated[ProgressKind, typer.Option(help="How far it is, on standard error.")] = ProgressKind.BAR,
    as_json: AsJson = False,
) -> None:
    """Feed recorded events through the functions, under a clock that follows the events."""
    leave_attempts_to_a_view()
    try:
        tell, close = _progress(progress)
        replaying = Replaying(load_app(target), events, data_dir, tell)
    except StepstreamError as error:
        raise fail(str(error), EXIT_USAGE) from None
    try:
        stats: RunStats = _run(replaying.run())
    finally:
        close()
    for line in replaying.progress.bad_lines:
        err.print(Text.assemble(("passed over", "yellow"), " ", line), soft_wrap=True)
    if more := replaying.progress.bad_count - len(replaying.progress.bad_lines):
        err.print(Text.assemble(("passed over", "yellow"), f" {counted(more, 'more line')}"))
    if replaying.found_nothing:
        raise fail(f"{events} holds no event; each line is to be one, as the first line above says", EXIT_FAILED)
    _print_stats(stats, as_json)


def _progress(kind: ProgressKind) -> tuple[Callable[[ReplayProgress], None], Callable[[], None]]:
    if kind == ProgressKind.NONE:
        return lambda _progress: None, lambda: None
    told = 0.0
    bar = Progress(
        TextColumn("events"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=kind != ProgressKind.BAR,
    )
    task = bar.add_task("replay", total=None)
    bar.start()

    def tell(now: ReplayProgress) -> None:
        nonlocal told
        last = now.lines >= now.lines_total
        if not last and time.monotonic() - told < _PROGRESS_S:
            return
        told = time.monotonic()
        bar.update(task, completed=now.lines, total=now.lines_total)
        if kind == ProgressKind.JSON:
            line = {"events_fed": now.lines, "events_total": now.lines_total, "now_ms": now.now_ms}
            sys.stderr.write(json.dumps(line) + "\n")
            sys.stderr.flush()

    return tell, bar.stop


def _print_stats(stats: RunStats, as_json: bool) -> None:
    statuses = dict(stats.statuses)
    if stats.open:
        statuses.setdefault("running", len(stats.open))
    functions: list[dict[str, Any]] = [
        {"function": name, "runs": each.runs, "mean_ms": round(each.total_ms / each.runs, 1)}
        for name, each in sorted(stats.functions.items(), key=lambda item: -item[1].total_ms / item[1].runs)
    ]
    sums = {"steps": stats.steps, "retries": stats.retries, "timeouts": stats.timeouts}
    if as_json:
        typer.echo(json.dumps({"runs": statuses, **sums, "functions": functions}))
        return
    out.print("runs: " + ", ".join(f"{count:,} {status}" for status, count in sorted(statuses.items())))
    out.print(", ".join(f"{name} {count:,}" for name, count in sums.items()))
    table = Table("function", "runs", "mean time (virtual)", title="the slowest functions")
    for function in functions[:10]:
        table.add_row(str(function["function"]), f"{function['runs']:,}", duration_text(float(function["mean_ms"])))
    out.print(table)


def main() -> None:
    """Run the command."""
    cli()
