"""The command `stepstream`: dev, send, signal, runs and replay."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from stepstream import __version__
from stepstream.cluster_cli import LogFormat, LogLevel, engine, topics_cli, worker
from stepstream.contract.errors import StepstreamError
from stepstream.host.embedded import serve
from stepstream.host.live import LoggedView, Terminal
from stepstream.host.loading import LoadError, load_app
from stepstream.host.logs import Format, Level, Logs
from stepstream.host.reloading import die_quietly, is_supervised, run_reloading, take_turn
from stepstream.host.replaying import Progress as ReplayProgress
from stepstream.host.replaying import Replaying
from stepstream.host.settings import settings_from
from stepstream.host.showing import counted, duration_text, print_run, print_runs
from stepstream.host.versions import code_versions
from stepstream.letters_cli import letters_cli
from stepstream.runtime.index import RunIndex, RunStatus
from stepstream.runtime.tally import Tally

EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE = 1, 2, 3
_PROGRESS_S = 0.1

out = Console()
err = Console(stderr=True)
cli = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
runs_cli = typer.Typer(no_args_is_help=True, help="Look at runs, or cancel one.")
cli.add_typer(runs_cli, name="runs")
cli.add_typer(topics_cli, name="topics")
cli.add_typer(letters_cli, name="dead-letters")
cli.command(epilog="Example: stepstream engine --kafka broker:9092 --data-dir /var/lib/stepstream")(engine)
cli.command(epilog="Example: stepstream worker app.py --kafka broker:9092")(worker)

Url = Annotated[str, typer.Option(envvar="STEPSTREAM_URL", help="Where the engine's HTTP API is.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
DataDir = Annotated[Path | None, typer.Option(help="Read the runs of this directory, without a running engine.")]
URL_DEFAULT = "http://127.0.0.1:8288"


class ProgressKind(StrEnum):
    """How `replay` tells how far it is."""

    BAR, JSON, NONE = "bar", "json", "none"


def fail(message: str, code: int) -> typer.Exit:
    """Say what is wrong and return the exit to raise."""
    err.print(Text.assemble(("error:", "red"), " ", message), soft_wrap=True)
    return typer.Exit(code)


def _run(code: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.run(code)
    except StepstreamError as error:
        raise fail(str(error), EXIT_USAGE) from None


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stepstream {__version__}")
        raise typer.Exit


@cli.callback()
def main_options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Durable functions in Python: run them here, send them events, and see what they do."""


@cli.command(epilog="Example: stepstream dev app.py")
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
    logs.know(app.name, code_versions(app, settings))
    _run(serve(app, settings, (Terminal if log_format is Format.TEXT else LoggedView)(out, app, settings)))


def _request(method: str, url: str, *path: str, want: str, **options: Any) -> Any:
    """Return what the engine answers, an object that has the field `want`; the parts of the path may be any text."""
    address = url if "://" in url else f"http://{url}"
    quoted = "/".join(quote(part, safe="") for part in path)
    try:
        response = httpx.request(method, f"{address.rstrip('/')}/{quoted}", timeout=30, **options)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise fail(f"--url {url}: {error}; give it as http://HOST:PORT", EXIT_USAGE) from None
    except httpx.HTTPError as error:
        message = f"{url} does not answer ({error}); start `stepstream dev FILE`, or give --url"
        raise fail(message, EXIT_UNREACHABLE) from None
    try:
        body = response.json()
        if response.is_error:
            raise fail(body["error"]["message"], EXIT_FAILED)
        if want not in body:
            raise KeyError(want)
    except (ValueError, KeyError, TypeError):
        message = f"{url} answers, with status {response.status_code}, but is no stepstream; give another --url"
        raise fail(message, EXIT_UNREACHABLE) from None
    return body


def _json_argument(text: str) -> Any:
    try:
        return json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
    except (OSError, ValueError) as error:
        raise fail(f"--data: {error}; give JSON, or @FILE", EXIT_USAGE) from None


@cli.command(epilog="""Example: stepstream send shop/order.created --data '{"total": 12}'""")
def send(
    name: Annotated[str, typer.Argument(help="The event's name.")],
    data: Annotated[str, typer.Option(help="JSON, or @FILE.")] = "{}",
    id: Annotated[str, typer.Option(help="An id, which starts each function once in 24 h.")] = "",
    key: Annotated[str, typer.Option(envvar="STEPSTREAM_EVENT_KEY", help="The event key.")] = "dev",
    url: Url = URL_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Send one event."""
    event = {"name": name, "data": _json_argument(data), **({"id": id} if id else {})}
    answer = _request("POST", url, "e", key, want="ids", json=event)
    typer.echo(json.dumps(answer) if as_json else answer["ids"][0])


@cli.command(epilog="""Example: stepstream signal approved/42 --data '{"by": "ann"}'""")
def signal(
    name: Annotated[str, typer.Argument(help="The signal's name.")],
    data: Annotated[str, typer.Option(help="JSON, or @FILE.")] = "null",
    url: Url = URL_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Send a signal to the run that waits for it; exits with 1 when none does."""
    answer = _request(
        "POST", url, "v1", "signals", want="delivered", json={"signal": name, "data": _json_argument(data)}
    )
    typer.echo(json.dumps(answer) if as_json else "delivered")


@runs_cli.command("list", epilog="Example: stepstream runs list --function fulfil-order --status running")
def list_runs(
    function: Annotated[str, typer.Option(help="Only of this function.")] = "",
    status: Annotated[RunStatus | None, typer.Option(help="Only of this status.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many; with --data-dir 0 lists all.", min=0)] = 50,
    outputs: Annotated[bool, typer.Option("--outputs", help="With --json: all of each run, asked one by one.")] = False,
    data_dir: DataDir = None,
    url: Url = URL_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first."""
    wanted = status.value if status else ""
    found: list[dict[str, Any]]
    if data_dir:
        index = _open_index(data_dir)
        found = [asdict(run) for run in index.list(function=function, status=wanted, limit=limit or -1)]
    else:
        query = {"function": function, "status": wanted, "limit": min(limit or 1_000, 1_000)}
        found = _request("GET", url, "v1", "runs", want="runs", params=query)["runs"]
    if not as_json:
        print_runs(out, found)
    elif outputs:
        show = _shower(data_dir, url)
        typer.echo(json.dumps([show(run["run_id"]) for run in found]))
    else:
        typer.echo(json.dumps(found))


def _open_index(data_dir: Path) -> RunIndex:
    path = data_dir / "runs.sqlite"
    if not path.is_file():
        raise fail(f"{data_dir} has no runs; give the --data-dir of `stepstream dev` or `replay`", EXIT_USAGE)
    return RunIndex(path)


def _shower(data_dir: Path | None, url: str) -> Callable[[str], dict[str, Any]]:
    """Return what shows a run by its id."""
    index = _open_index(data_dir) if data_dir else None

    def show(run_id: str) -> dict[str, Any]:
        if index is None:
            run: dict[str, Any] = _request("GET", url, "v1", "runs", run_id, want="run_id")
            return run
        view = index.show(run_id)
        if view is None:
            raise fail(f"there is no run {run_id!r}", EXIT_FAILED)
        return asdict(view)

    return show


@runs_cli.command("show", epilog="Example: stepstream runs show 01KDVDNA00ZP0GFMQQFK8ZDFSF")
def show_run(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    data_dir: DataDir = None,
    url: Url = URL_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Show a run with its steps, and what it waits for."""
    run = _shower(data_dir, url)(run_id)
    if as_json:
        typer.echo(json.dumps(run))
    else:
        print_run(out, run)


@runs_cli.command("cancel", epilog="Example: stepstream runs cancel 01KDVDNA00ZP0GFMQQFK8ZDFSF")
def cancel_run(
    run_id: Annotated[str, typer.Argument(help="The run's id.")], url: Url = URL_DEFAULT, as_json: AsJson = False
) -> None:
    """Cancel a run."""
    answer = _request("DELETE", url, "v1", "runs", run_id, want="cancelled")
    typer.echo(json.dumps(answer) if as_json else "cancelled")


@cli.command(epilog="Example: stepstream replay examples/flights.py --events day.jsonl")
def replay(
    target: Annotated[str, typer.Argument(metavar="FILE[:APP]", help="The file with your App.")],
    events: Annotated[Path, typer.Option(help="Recorded events: JSON lines, ordered by ts.")],
    data_dir: Annotated[Path | None, typer.Option(help="Durable: killed and begun again, it goes on.")] = None,
    progress: Annotated[ProgressKind, typer.Option(help="How far it is, on standard error.")] = ProgressKind.BAR,
    as_json: AsJson = False,
) -> None:
    """Feed recorded events through the functions, under a clock that follows the events."""
    try:
        tell, close = _progress(progress)
        replaying = Replaying(load_app(target), events, data_dir, tell)
    except StepstreamError as error:
        raise fail(str(error), EXIT_USAGE) from None
    try:
        tally: Tally = _run(replaying.run())
    finally:
        close()
    for line in replaying.progress.bad_lines:
        err.print(Text.assemble(("passed over", "yellow"), " ", line), soft_wrap=True)
    if more := replaying.progress.bad_count - len(replaying.progress.bad_lines):
        err.print(Text.assemble(("passed over", "yellow"), f" {counted(more, 'more line')}"))
    if replaying.found_nothing:
        raise fail(f"{events} holds no event; each line is to be one, as the first line above says", EXIT_FAILED)
    _print_tally(tally, as_json)


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


def _print_tally(tally: Tally, as_json: bool) -> None:
    statuses = dict(tally.statuses)
    if tally.open:
        statuses.setdefault("running", len(tally.open))
    functions: list[dict[str, Any]] = [
        {"function": name, "runs": each.runs, "mean_ms": round(each.total_ms / each.runs, 1)}
        for name, each in sorted(tally.functions.items(), key=lambda item: -item[1].total_ms / item[1].runs)
    ]
    sums = {"steps": tally.steps, "retries": tally.retries, "timeouts": tally.timeouts}
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
