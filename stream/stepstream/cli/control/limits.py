"""The commands `stepstream limits`."""

from typing import Annotated, Any

import typer
from rich.table import Column

from stepstream.cli.client import EngineClient, request
from stepstream.cli.options import URL_DEFAULT, ApiKey, Url
from stepstream.cli.terminal.console import AsJson, commands, out
from stepstream.cli.terminal.tables import clock
from stepstream.contract.text.wording import duration_text

cli = commands("List limits, and what holds them and waits for them.")
_limits = commands("List limits, and what holds them and waits for them.")
cli.add_typer(_limits, name="limits")
Key = Annotated[str, typer.Option(help="The value of its key (default: the limit has no key).")]


@_limits.command("list", epilog="Example: stepstream limits list openai")
def list_limits(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="List this limit only.", show_default=False)] = "",
    after: Annotated[str, typer.Option(help="The end of the previous part of the list.", show_default=False)] = "",
    limit: Annotated[int, typer.Option(help="List at most this many.", min=1, max=100)] = 50,
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """List the limits that runs hold or wait for: how much is in use, how many wait, and since when."""
    query = {"name": name, "after": after, "limit": limit}
    found = request(EngineClient(url, api_key), "GET", "v1", "limits", expect="limits", query=query)
    if as_json:
        out.json(found)
        return
    names = ("key", "in use", "waiting", "longest since", "next start")
    out.table((Column("limit", no_wrap=True), *names), [_row(each) for each in found["limits"]])
    if found["missing"]:
        out.text(f"shards that did not answer: {', '.join(map(str, found['missing']))}")
    if found["next"]:
        out.text(f"there are more: add --after '{found['next']}'")


def _row(limit: dict[str, Any]) -> tuple[object, ...]:
    return (
        limit["name"],
        limit["key"],
        in_use(limit),
        limit["waiting"],
        clock(limit["since"]),
        clock(limit["next_start"]),
    )


def in_use(limit: dict[str, Any]) -> str:
    """Return how much of a limit is in use, or the starts that it allows in its period."""
    if limit["period_ms"]:
        return f"{limit['limit']:,} in {duration_text(limit['period_ms'])}"
    return f"{limit['in_use']:,} of {limit['limit']:,}"


@_limits.command("show", epilog="Example: stepstream limits show openai")
def show_limit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of a limit.")],
    key: Key = "",
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Show which runs hold a limit, and which wait for it; the first 100 of each."""
    client = EngineClient(url, api_key)
    limit = request(client, "GET", "v1", "limits", name, expect="limit", query={"key": key})["limit"]
    if as_json:
        out.json(limit)
        return
    of_key = f" for the key {limit['key']!r}" if limit["key"] else ""
    out.text(f"{limit['name']}{of_key}: {in_use(limit)}, {limit['waiting']:,} waiting")
    if limit["next_start"]:
        out.text(f"next start at {clock(limit['next_start'])}")
    rows = [("holds it", run_id) for run_id in limit["holders"]] + [("waits", run_id) for run_id in limit["waiters"]]
    out.table((Column("state", no_wrap=True), Column("run", no_wrap=True)), rows)
