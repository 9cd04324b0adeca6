"""Bulk operations: what commands such as `runs cancel` do with --filter, and the commands `stepstream bulk`."""

import secrets
import time
from typing import Annotated, Any

import typer
from rich.table import Column

from stepstream.cli.client import EngineClient, NoAnswer, Refused, request
from stepstream.cli.options import URL_DEFAULT, ApiKey, Url
from stepstream.cli.registry import EXIT_INTERRUPTED
from stepstream.cli.terminal.console import (
    EXIT_FAILED,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    AsJson,
    Screen,
    commands,
    err,
    fail,
    out,
)
from stepstream.cli.terminal.tables import clock, print_runs
from stepstream.contract.limits import (
    BULK_LISTED_MAX,
    BULK_RATE_DEFAULT,
    BULK_RATE_MAX,
    BULK_RUNS_DEFAULT,
    BULK_RUNS_MAX,
)
from stepstream.contract.text.wording import counted

cli = commands("List, show and cancel bulk operations on runs.")

Filter = Annotated[
    str, typer.Option(help="All runs that match instead, such as 'status:failed after:-1h'; see docs/search.md.")
]
RunIdOrFilter = Annotated[
    str, typer.Argument(metavar="[RUN_ID]", help="The id of a run, or its last 6 characters or more.")
]
Why = Annotated[str, typer.Option(help="The reason, for the history of the runs.")]
Cap = Annotated[
    int, typer.Option(help="With --filter, refuse to act on more runs than this.", min=1, max=BULK_RUNS_MAX)
]
Rate = Annotated[int, typer.Option(help="With --filter, act on this many runs per second.", min=1, max=BULK_RATE_MAX)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="With --filter, only count the runs and show ten of them.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
Operation = Annotated[str, typer.Argument(metavar="ID", help="The id of the operation.")]
CAP_DEFAULT, RATE_DEFAULT = BULK_RUNS_DEFAULT, BULK_RATE_DEFAULT
_OPEN = ("receiving", "running")
_POLL_S = 0.5
_REFUSALS_MAX = 60


def act_on_many(
    client: EngineClient, body: dict[str, Any], *, dry_run: bool = False, yes: bool = False, as_json: bool = False
) -> None:
    """Preview an operation, ask, start it and follow it to its end; `body` is that of POST /v1/bulk.

    Exit with 1 if the operation did not act on all of its runs.
    """
    if dry_run or not yes:
        body = _confirmed(client, body, dry_run=dry_run, as_json=as_json)
    if not body:
        return
    # With its own id the request can be sent again without a second operation.
    body = {**body, "request_id": secrets.token_hex(8)}
    unsure = f"The operation may have started; see `stepstream bulk show {body['request_id']}`"
    started = request(client, "POST", "v1", "bulk", expect="id", unsure=unsure, body=body)
    continues = f"the engine continues; see `stepstream bulk show {started['id']}`, or `bulk cancel` to stop it"
    try:
        done = _follow(client, started)
    except KeyboardInterrupt:
        err.line(continues)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except (NoAnswer, Refused) as error:
        status = EXIT_UNREACHABLE if isinstance(error, NoAnswer) else EXIT_FAILED
        raise fail(f"{error}\n{continues}", status) from None
    _print_end(done, as_json=as_json)
    if done["state"] != "completed" or done["failures"]:
        raise typer.Exit(EXIT_FAILED)


def _confirmed(client: EngineClient, body: dict[str, Any], *, dry_run: bool, as_json: bool) -> dict[str, Any]:
    """Print a preview and ask; return the body with the filter as it was previewed, empty if nothing is to be done."""
    preview = request(client, "POST", "v1", "bulk", expect="count", body={**body, "dry_run": True})
    screen = err if as_json and not dry_run else out
    if dry_run and as_json:
        out.json(preview)
    else:
        _print_preview(screen, preview)
    if dry_run or not preview["count"]:
        return {}
    typer.confirm(f"{body['action'].capitalize()} {counted(preview['count'], 'run')}?", abort=True, err=as_json)
    return {**body, "filter": preview["filter"]}


def _print_preview(screen: Screen, preview: dict[str, Any]) -> None:
    if preview["sample"]:
        print_runs(screen, preview["sample"])
    more = preview["count"] - len(preview["sample"])
    tail = f", {more:,} of them not shown" if more else ""
    screen.line(f"{counted(preview['count'], 'run')} to {preview['action']}{tail}")
    if rerun := preview.get("rerun_before"):
        least = "" if preview["rerun_before_exact"] else "at least "
        screen.line(f"{least}{rerun:,} of them rerun before; leave these out with rerun:false")


def _follow(client: EngineClient, started: dict[str, Any]) -> dict[str, Any]:
    """Return an operation once it has ended; print its progress when it changes.

    Raise Refused if the engine does not list it for a while.
    """
    printed, refusals = "", 0
    while True:
        try:
            shown = client.request("GET", "v1", "bulk", started["id"], expect="state")
            refusals = 0
        except Refused:
            # The list of operations lags behind; but a key may have been changed, or very many operations followed.
            refusals += 1
            if refusals > _REFUSALS_MAX:
                raise
            shown = {"state": "running", "total": started["count"], "outcomes": {}}
        if shown["state"] not in _OPEN:
            return dict(shown)
        progress = f"{sum(shown['outcomes'].values()):,} of {counted(shown['total'], 'run')}"
        if progress != printed:
            err.line(progress)
            printed = progress
        time.sleep(_POLL_S)


def _print_end(done: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        out.json(done)
    else:
        out.line(f"{done['state']}: {_outcomes(done) or 'no run'}")
        _print_failures(done)


def _print_failures(shown: dict[str, Any]) -> None:
    for each in shown["failures"]:
        out.line(f"run {each['run_id']}: {each['reason']}")


def _outcomes(shown: dict[str, Any]) -> str:
    return ", ".join(f"{runs:,} {outcome.replace('_', ' ')}" for outcome, runs in shown["outcomes"].items())


@cli.command("list", epilog="Example: stepstream bulk list --json")
def list_operations(
    limit: Annotated[int, typer.Option(help="List at most this many.", min=1, max=BULK_LISTED_MAX)] = 50,
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """List bulk operations, the newest first."""
    query = {"limit": limit}
    found = request(EngineClient(url, api_key), "GET", "v1", "bulk", expect="operations", query=query)["operations"]
    if as_json:
        out.json(found)
        return
    rows = [
        (
            *(each["id"], each["action"], each["state"], f"{each['sent']:,} of {each['total']:,}", _outcomes(each)),
            *(clock(each["started_at"]), each["by"], each["why"]),
        )
        for each in found
    ]
    out.table((Column("id", no_wrap=True), "action", "state", "runs", "outcomes", "started", "by", "why"), rows)


@cli.command("show", epilog="Example: stepstream bulk show 5f2a91c04b7d0e13")
def show_operation(operation: Operation, url: Url = URL_DEFAULT, api_key: ApiKey = "", as_json: AsJson = False) -> None:
    """Show the progress of a bulk operation."""
    shown = request(EngineClient(url, api_key), "GET", "v1", "bulk", operation, expect="state")
    if as_json:
        out.json(shown)
        return
    out.line(f"{shown['action']} {shown['state']}: {shown['sent']:,} of {counted(shown['total'], 'run')}")
    # An engine of an earlier release does not send the filter.
    for name in ("filter", "by", "why", "ended_by"):
        if shown.get(name):
            out.line(f"{name.replace('_', ' ')}: {shown[name]}")
    if shown["until"]:
        out.line(f"paused until: {clock(shown['until'])}")
    if shown["outcomes"]:
        out.line(f"outcomes: {_outcomes(shown)}")
    _print_failures(shown)


@cli.command("cancel", epilog="Example: stepstream bulk cancel 5f2a91c04b7d0e13")
def cancel_operation(
    operation: Operation, url: Url = URL_DEFAULT, api_key: ApiKey = "", as_json: AsJson = False
) -> None:
    """Stop a bulk operation; the runs on which it did not act yet stay as they are."""
    answer = request(EngineClient(url, api_key), "DELETE", "v1", "bulk", operation, expect="state")
    if as_json:
        out.json(answer)
    elif answer["state"] == "cancelled":
        out.text("cancelled")
    else:
        raise fail(f"the operation is {answer['state']} already", EXIT_FAILED)


def check_target(run_id: str, filter: str, *others: str) -> None:
    """End the command unless it names either a run or a filter of runs."""
    if sum(map(bool, (run_id, filter, *others))) != 1:
        choices = "or --filter" if not others else "--filter or --function"
        raise fail(f"give the id of a run, {choices}", EXIT_USAGE)
