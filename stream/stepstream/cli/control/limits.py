"""The commands `stepstream limits`."""

from typing import Annotated, Any

import typer
from rich.table import Column

from stepstream.cli.client import EngineClient, request
from stepstream.cli.control.pausing import PauseReason, Until
from stepstream.cli.options import URL_DEFAULT, ApiKey, Url
from stepstream.cli.terminal.console import AsJson, commands, out
from stepstream.cli.terminal.tables import clock
from stepstream.contract.text.wording import duration_text

cli = commands("Show limits and change them.")
_limits = commands("List limits with what holds them and waits for them, and change them while they are in use.")
cli.add_typer(_limits, name="limits")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of a limit, as in the list.")]
Key = Annotated[str, typer.Option(help="A value of its key (default: all values).", show_default=False)]


@_limits.command("list", epilog="Example: stepstream limits list openai")
def list_limits(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="List this limit only.", show_default=False)] = "",
    after: Annotated[str, typer.Option(help="The end of the previous part of the list.", show_default=False)] = "",
    limit: Annotated[int, typer.Option(help="List at most this many.", min=1, max=100)] = 50,
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """List the limits that are in use, how many runs wait and since when, and who changed which limit and why."""
    query = {"name": name, "after": after, "limit": limit}
    found = request(EngineClient(url, api_key), "GET", "v1", "limits", expect="limits", query=query)
    if as_json:
        out.json(found)
        return
    _print_limits(found["limits"])
    _print_changes(found["changed"])
    if found["missing"]:
        out.text(f"shards that did not answer: {', '.join(map(str, found['missing']))}")
    if found["next"]:
        out.text(f"there are more: add --after '{found['next']}'")


def _print_limits(limits: list[dict[str, Any]]) -> None:
    rows = [
        (
            each["name"],
            each["key"],
            _in_use(each),
            each["waiting"],
            clock(each["since"]),
            clock(each["next_start"]),
        )
        for each in limits
    ]
    names = ("key", "in use", "waiting", "longest since", "next start")
    out.table((Column("limit", no_wrap=True), *names), rows)


def _in_use(limit: dict[str, Any]) -> str:
    """Return how much of a limit is in use, or the starts that it allows in its period."""
    paused = " (paused)" if limit["paused"] else ""
    if limit["period_ms"]:
        return f"{limit['limit']:,} in {duration_text(limit['period_ms'])}{paused}"
    return f"{limit['in_use']:,} of {limit['limit']:,}{paused}"


def _print_changes(changed: list[dict[str, Any]]) -> None:
    """Print who changed which limit, the latest change of each first."""
    rows = [
        (each["name"], each["key"], clock(change["at"]), _what(change), change.get("by", ""), change.get("why", ""))
        for each in changed
        for change in each["setting"].get("changes", ())
    ]
    if rows:
        out.table((Column("changed limit", no_wrap=True), "key", "at", "change", "by", "why"), rows)


def _what(change: dict[str, Any]) -> str:
    """Return what a change did, and until when."""
    override = change.get("override") or {}
    numbers = f" {override['limit']:,}" if override else ""
    if override.get("period_ms"):
        numbers += f" in {duration_text(override['period_ms'])}"
    if override.get("burst") is not None:
        numbers += f", burst {override['burst']:,}"
    until = override.get("until") or change.get("until")
    return f"{change['action']}{numbers}{f' until {clock(until)}' if until else ''}"


@_limits.command("show", epilog="Example: stepstream limits show openai")
def show_limit(
    name: Name, key: Key = "", url: Url = URL_DEFAULT, api_key: ApiKey = "", as_json: AsJson = False
) -> None:
    """Show which runs hold a limit and which wait for it, the first 100 of each, and who changed it."""
    answer = request(EngineClient(url, api_key), "GET", "v1", "limits", name, expect="changed", query={"key": key})
    if as_json:
        out.json(answer)
        return
    limit = answer["limit"]
    if limit is None:
        out.text("no run holds it or waits for it")
    else:
        out.text(f"{_in_use(limit)}, {limit['waiting']:,} waiting")
        if limit["next_start"]:
            out.text(f"next start at {clock(limit['next_start'])}")
        rows = [("holds", each) for each in limit["holders"]] + [("waits", each) for each in limit["waiters"]]
        out.table((Column("state", no_wrap=True), Column("run", no_wrap=True)), rows)
    _print_changes(answer["changed"])


def _change(client: EngineClient, method: str, name: str, *, as_json: bool, **options: Any) -> None:
    unsure = "It may have been changed; it is safe to repeat the command"
    answer = request(client, method, "v1", "limits", name, expect="changed", unsure=unsure, **options)
    if as_json:
        out.json(answer)
    else:
        out.text("changed")


@_limits.command("set", epilog="Example: stepstream limits set openai --limit 20 --until 2h --why 'new quota'")
def set_limit(
    name: Name,
    limit: Annotated[int, typer.Option(help="How many runs may be open, or start in the period.", min=1)],
    why: Annotated[str, typer.Option(help="The reason, which others see.")],
    key: Key = "",
    period: Annotated[str, typer.Option(help="The period, such as 1m (default: that in code).")] = "",
    burst: Annotated[int | None, typer.Option(help="How many more may start at once (default: as in code).")] = None,
    until: Until = "",
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Set the numbers of a limit, instead of those in code; runs that may start do so at once, and none is stopped."""
    body = {"limit": limit, "period": period, "burst": burst, "until": until, "why": why}
    _change(EngineClient(url, api_key), "PUT", name, as_json=as_json, query={"key": key}, body=body)


@_limits.command("pause", epilog="Example: stepstream limits pause openai --until 10m --why 'API is down'")
def pause_limit(
    name: Name,
    key: Key = "",
    until: Until = "",
    why: PauseReason = "",
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Pause a limit: no run passes it, and runs that hold it continue."""
    body = {"paused": True, "until": until, "why": why}
    _change(EngineClient(url, api_key), "PUT", name, as_json=as_json, query={"key": key}, body=body)


@_limits.command("resume", epilog="Example: stepstream limits resume openai")
def resume_limit(
    name: Name,
    key: Key = "",
    why: PauseReason = "",
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Resume a limit that was paused."""
    body = {"paused": False, "why": why}
    _change(EngineClient(url, api_key), "PUT", name, as_json=as_json, query={"key": key}, body=body)


@_limits.command("reset", epilog="Example: stepstream limits reset openai")
def reset_limit(
    name: Name,
    key: Key = "",
    why: PauseReason = "",
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """End all changes of a limit: the numbers in code count."""
    _change(EngineClient(url, api_key), "DELETE", name, as_json=as_json, query={"key": key, "why": why})
