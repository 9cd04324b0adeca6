"""The commands `stepstream runs list`, `show`, `cancel`, `errors` and `prune`."""

import difflib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from stepstream.cli.client import EngineClient, request
from stepstream.cli.control.bulk import (
    CAP_DEFAULT,
    RATE_DEFAULT,
    Cap,
    DryRun,
    Filter,
    Rate,
    RunIdOrFilter,
    Why,
    Yes,
    act_on_many,
    check_target,
)
from stepstream.cli.options import URL_DEFAULT, ApiKey, ReadModel, Url
from stepstream.cli.registry import load
from stepstream.cli.terminal.console import EXIT_FAILED, EXIT_USAGE, AsJson, commands, err, fail, out
from stepstream.cli.terminal.tables import print_errors, print_run, print_runs
from stepstream.contract.errors import StepstreamError
from stepstream.contract.ids import is_run_id
from stepstream.contract.kinds import RunStatus
from stepstream.contract.text.durations import duration_ms
from stepstream.contract.text.wording import counted, filter_value

cli = commands("List, show, cancel, pause, resume, rerun and prune runs, and group their errors.")

# A time (Unix ms) before which all runs ended.
_EVER = 2**62
DataDir = Annotated[
    Path | None,
    typer.Option(help="Read the runs of this folder (default: those of the engine at --url)."),
]
RunIdOrTail = Annotated[
    str, typer.Argument(metavar="RUN_ID", help="The id of a run, or its last 6 characters or more, as `dev` prints it.")
]
_PAGE = 1_000


class Runs(Protocol):
    """Where runs are read."""

    def list(self, limit: int, **filters: str) -> list[dict[str, Any]]:
        """Return runs, the newest first; a limit of 0 returns as many as possible."""

    def show(self, run_id: str) -> dict[str, Any] | None:
        """Return a run with its steps; None if there is none."""

    def logs(self, run_id: str) -> Sequence[Any]:
        """Return what a run logged, in order of time."""


class EngineRuns:
    """The runs of an engine."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    def list(self, limit: int, **filters: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        most, before = min(limit or _PAGE, _PAGE), ""
        while True:
            query = {**filters, "limit": most - len(found), **({"before": before} if before else {})}
            page = request(self._client, "GET", "v1", "runs", expect="runs", query=query)
            found += page["runs"]
            before = page.get("next", "")
            # A search that examines many runs without a match answers in parts.
            if len(found) >= most or not before:
                return found

    def show(self, run_id: str) -> dict[str, Any] | None:
        run: dict[str, Any] = request(self._client, "GET", "v1", "runs", run_id, expect="run_id")
        return run

    def logs(self, run_id: str) -> Sequence[Any]:
        found: list[dict[str, Any]] = []
        while True:
            query = {"limit": _PAGE, **({"after": found[-1]["after"]} if found else {})}
            page = request(self._client, "GET", "v1", "runs", run_id, "logs", expect="lines", query=query)
            found += page["lines"]
            if len(page["lines"]) < _PAGE:
                return found


class _PrunedRuns(Protocol):
    """The runs of a data directory or a database, as in cli/stored_runs.py."""

    bytes: int

    def ended(self, before: int) -> int:
        """Return how many runs ended before a time (Unix ms)."""

    def prune(self, ended_before: int, bytes_max: int, /) -> None:
        """Drop the runs that ended before a time (Unix ms), and the oldest runs and lines to reach a size."""


def _stored(data_dir: Path) -> Runs:
    stored: Runs = load("stored_runs").StoredRuns(data_dir)
    return stored


def _runs_at(data_dir: Path | None, client: EngineClient) -> Runs:
    return EngineRuns(client) if data_dir is None else _stored(data_dir)


def _show(runs: Runs, run_id: str) -> dict[str, Any]:
    if (run := runs.show(run_id)) is None:
        raise fail(f"there is no run {run_id!r}", EXIT_FAILED)
    return run


def find_id(runs: Runs, text: str) -> str:
    """Return the full id of a run, given its id or the end of its id."""
    if is_run_id(text):
        return text
    found = [run["run_id"] for run in runs.list(2, tail=text.upper())]
    if len(found) > 1:
        raise fail(f"several runs end with {text!r}; give more characters of the id", EXIT_USAGE)
    return str(found[0]) if found else text


@cli.command("list", epilog="Example: stepstream runs list --filter 'function:orders.* status:failed after:-1h'")
def list_runs(
    filter: Annotated[
        str, typer.Option(help="Only runs that match, such as 'status:failed order_id=4711'; see docs/search.md.")
    ] = "",
    function: Annotated[str, typer.Option(help="Only runs of this function (default: all).")] = "",
    status: Annotated[RunStatus | None, typer.Option(help="Only runs with this status (default: all).")] = None,
    limit: Annotated[
        int,
        typer.Option(
            help="List at most this many runs; 0 lists all runs of a --data-dir, or 1,000 of an engine.", min=0
        ),
    ] = 50,
    outputs: Annotated[
        bool, typer.Option("--outputs", help="With --json, print all details of each run; sends one request per run.")
    ] = False,
    data_dir: DataDir = None,
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first."""
    runs = _runs_at(data_dir, EngineClient(url, api_key))
    found = runs.list(limit, filter=filter, function=function, status=status.value if status else "")
    if function and not found:
        _suggest_functions(function, runs)
    if not as_json:
        print_runs(out, found)
    elif outputs:
        out.json([_show(runs, run["run_id"]) for run in found])
    else:
        out.json(found)


def _suggest_functions(function: str, runs: Runs) -> None:
    """If no run of a function is listed but others are, print the names that exist, similar ones first."""
    names = sorted({run["function"] for run in runs.list(_PAGE)})
    if function in names or not names:
        return
    near = difflib.get_close_matches(function, names, 3)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are runs of {', '.join(names[:5])}"
    err.line(("no run", "yellow"), f" of a function {function!r}; {hint}")


@cli.command("show", epilog="Example: stepstream runs show 01KDVDNA00ZP0GFMQQFK8ZDFSF, or FK8ZDFSF alone")
def show_run(
    run_id: RunIdOrTail,
    data_dir: DataDir = None,
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    logs: Annotated[bool, typer.Option("--logs", help="Also print what the run logged, by step and attempt.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a run: its event, its steps, what it waits for, and its error."""
    runs = _runs_at(data_dir, EngineClient(url, api_key))
    run = _show(runs, find_id(runs, run_id))
    if logs:
        run["logs"] = runs.logs(run["run_id"])
    if as_json:
        out.json(run)
    else:
        print_run(out, run)


@cli.command("cancel", epilog="Example: stepstream runs cancel --filter 'function:mail.*' --why 'wrong template'")
def cancel_run(
    run_id: RunIdOrFilter = "",
    filter: Filter = "",
    function: Annotated[str, typer.Option(help="Instead of --filter, all open runs of this function.")] = "",
    why: Why = "",
    children: Annotated[
        bool, typer.Option("--children", help="With a run id: also cancel the runs that it invoked and waits for.")
    ] = False,
    cap: Cap = CAP_DEFAULT,
    rate: Rate = RATE_DEFAULT,
    dry_run: DryRun = False,
    yes: Yes = False,
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Cancel a run, all that a filter finds, or all open runs of a function."""
    client = EngineClient(url, api_key)
    check_target(run_id, filter, function)
    if run_id:
        _cancel_one(client, run_id, why, children=children, as_json=as_json)
        return
    if children:
        raise typer.BadParameter("give a run id with --children; a filter finds the children as any other runs")
    if function:
        if not (runs := EngineRuns(client)).list(1, function=function):
            _suggest_functions(function, runs)
        filter = f"function:{filter_value(function)}"
    body = {"action": "cancel", "filter": filter, "why": why, "cap": cap, "rate": rate}
    act_on_many(client, body, dry_run=dry_run, yes=yes, as_json=as_json)


def _cancel_one(client: EngineClient, run_id: str, why: str, *, children: bool, as_json: bool) -> None:
    unsure = "The run may have been cancelled; it is safe to repeat the command, which then says so"
    chosen = find_id(EngineRuns(client), run_id)
    query = {"why": why, **({"children": "true"} if children else {})}
    answer = request(client, "DELETE", "v1", "runs", chosen, expect="cancelled", unsure=unsure, query=query)
    if as_json:
        out.json(answer)
    else:
        out.text("cancelled")


@cli.command("errors", epilog="Example: stepstream runs errors --function orders.charge --since -1h")
def list_errors(
    function: Annotated[str, typer.Option(help="Only errors of this function (default: all).")] = "",
    since: Annotated[str, typer.Option(help="Only errors seen since this time, such as -1h or 2026-11-28T10:00.")] = "",
    limit: Annotated[int, typer.Option(help="List at most this many groups.", min=1, max=_PAGE)] = 20,
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """List errors in groups of the same function, step and message, those with the most failures first."""
    query = {"function": function, "since": since, "limit": limit}
    found = request(EngineClient(url, api_key), "GET", "v1", "errors", expect="errors", query=query)["errors"]
    if as_json:
        out.json(found)
    else:
        print_errors(out, found)


@cli.command("prune", epilog="Example: stepstream runs prune --older-than 30d --data-dir .stepstream")
def prune_runs(
    older_than: Annotated[
        str, typer.Option(help="Drop runs that ended longer ago than this, such as 30d or 12h.")
    ] = "",
    max_bytes: Annotated[
        int | None,
        typer.Option(help="Drop the oldest ended runs and log lines until the list in a folder has this size.", min=1),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="The data directory with the list; no process may use it (default: .stepstream)."),
    ] = None,
    read_model: ReadModel = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Drop ended runs from the list of runs: in a folder, whose disk gets their space back, or in PostgreSQL."""
    if not older_than and not max_bytes:
        raise typer.BadParameter("give --older-than, --max-bytes, or both")
    try:
        stored: _PrunedRuns = load("stored_runs").pruned_runs(data_dir, read_model, max_bytes or 0)
        dropped = _prune(stored, older_than, max_bytes or 0, yes=yes)
    except StepstreamError as error:
        raise fail(str(error), EXIT_USAGE) from None
    if as_json:
        out.json({"dropped": dropped, "bytes": stored.bytes})
    else:
        out.text(f"dropped {counted(dropped, 'run')}; the list of runs has {stored.bytes:,} bytes")


def _prune(stored: _PrunedRuns, older_than: str, max_bytes: int, *, yes: bool) -> int:
    """Drop runs once the user has agreed; return how many."""
    ended_before, asked = 0, []
    if older_than:
        ended_before = round(time.time() * 1_000) - duration_ms(older_than)
        if count := stored.ended(ended_before):
            asked.append(f"{counted(count, 'run')} that ended more than {older_than} ago")
    if max_bytes:
        asked.append(f"the oldest ended runs and log lines until the list has at most {max_bytes:,} bytes")
    if asked and not yes:
        typer.confirm(f"Drop {', and '.join(asked)}?", abort=True)
    before = stored.ended(_EVER)
    stored.prune(ended_before, max_bytes)
    return max(before - stored.ended(_EVER), 0)
