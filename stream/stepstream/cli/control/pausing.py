"""What the commands that pause and resume something have in common."""

from typing import Annotated, Any

import typer
from rich.table import Column

from stepstream.cli.client import EngineClient, request
from stepstream.cli.terminal.console import out
from stepstream.cli.terminal.tables import clock

Until = Annotated[
    str, typer.Option(help="When it ends: a duration such as 2h, or 2026-01-31T12:00:00Z (default: never).")
]
PauseReason = Annotated[str, typer.Option("--why", help="The reason, which others see.")]


def pause(client: EngineClient, *path: str, until: str, why: str, as_json: bool) -> None:
    """Pause what is at a path of the API, and print until when."""
    answer = _change(client, *path, "pause", body={"until": until, "why": why}, expect="paused")
    if as_json:
        out.json(answer)
    else:
        out.text(f"paused until {clock(answer['until'])}" if answer["until"] else "paused")


def resume(client: EngineClient, *path: str, why: str, as_json: bool) -> None:
    """Resume what is at a path of the API."""
    answer = _change(client, *path, "resume", body={"why": why}, expect="resumed")
    if as_json:
        out.json(answer)
    else:
        out.text("resumed")


def _change(client: EngineClient, *path: str, body: dict[str, Any], expect: str) -> dict[str, Any]:
    unsure = f"It may have been {expect}; it is safe to repeat the command"
    answer: dict[str, Any] = request(client, "POST", "v1", *path, expect=expect, unsure=unsure, body=body)
    return answer


def print_pauses(client: EngineClient, kind: str, *, as_json: bool) -> None:
    """Print the pauses of functions, or of queues."""
    found = request(client, "GET", "v1", "pauses", expect="pauses")["pauses"]
    found = [each for each in found if each["scope"].startswith(f"{kind}:")]
    if as_json:
        out.json(found)
        return
    rows = [
        (each["scope"].partition(":")[2], clock(each["since"]), clock(each["until"]), each["by"], each["why"])
        for each in found
    ]
    out.table((Column(kind, no_wrap=True), "since", "until", "by", "why"), rows)
