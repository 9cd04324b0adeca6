"""The command `stepstream timings`."""

from typing import Annotated

import typer
from rich.table import Column

from stepstream.cli.client import EngineClient, request
from stepstream.cli.options import URL_DEFAULT, ApiKey, Url
from stepstream.cli.terminal.console import AsJson, commands, out
from stepstream.contract.text.wording import length_text

cli = commands("List how long steps and runs took.")


@cli.command("timings", epilog="Example: stepstream timings --function orders.charge --since -1h")
def list_timings(
    runs: Annotated[bool, typer.Option("--runs", help="List whole runs, with their waits, instead of steps.")] = False,
    function: Annotated[str, typer.Option(help="List this function only (default: all functions).")] = "",
    since: Annotated[str, typer.Option(help="From this time on, such as -1h, or all; seven days are kept.")] = "-1d",
    sort: Annotated[str, typer.Option(help="Sort by p95, slowest, failed or ended, the largest first.")] = "p95",
    limit: Annotated[int, typer.Option(help="List at most this many.", min=1, max=1_000)] = 20,
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """List how long steps took and how many failed, the slowest first.

    Half of them take at most p50, and 95 % at most p95; both are rounded up, by at most 9 %.
    """
    query = {"of": "functions" if runs else "steps", "function": function, "since": since, "sort": sort, "limit": limit}
    found = request(EngineClient(url, api_key), "GET", "v1", "timings", expect="timings", query=query)["timings"]
    if as_json:
        out.json(found)
        return
    rows = [
        (
            *((each["step"],) if not runs else ()),
            each["function"],
            each["ended"],
            each["failed"],
            *(length_text(each[name]) for name in ("p50_ms", "p95_ms", "slowest_ms")),
            each["run_id"][-8:],
        )
        for each in found
    ]
    names = ("ended", "failed", "p50", "p95", "slowest", "run of the slowest")
    columns = () if runs else (Column("step", no_wrap=True),)
    out.table((*columns, Column("function", no_wrap=True), *names), rows)
