"""The commands `stepstream approvals list`, `approve`, `reject` and `link`."""

import getpass
from typing import Annotated, Any

import typer
from rich.table import Column

from stepstream.cli.client import EngineClient, request
from stepstream.cli.control.messages import json_argument
from stepstream.cli.options import URL_DEFAULT, ApiKey, Url
from stepstream.cli.terminal.console import EXIT_FAILED, EXIT_USAGE, AsJson, commands, fail, out
from stepstream.cli.terminal.tables import clock

cli = commands("List what waits for the decision of a person, and decide.")

RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="The id of the run, or its last 6 characters or more.")]
StepId = Annotated[
    str, typer.Argument(metavar="[STEP]", help="The id of the step, if the run asks several times.", show_default=False)
]
Values = Annotated[str, typer.Option(help="The values of the form as JSON, or @FILE to read them from a file.")]
By = Annotated[str, typer.Option(help="Who decides (default: the name of the user).", show_default=False)]
Comment = Annotated[str, typer.Option(help="Why.")]
_LIMIT = 1_000


def _asked(client: EngineClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = request(
        client, "GET", "v1", "approvals", expect="approvals", query={"limit": _LIMIT}
    )["approvals"]
    return found


@cli.command("list", epilog="Example: stepstream approvals list --json")
def list_approvals(url: Url = URL_DEFAULT, api_key: ApiKey = "", as_json: AsJson = False) -> None:
    """List what waits for a decision, the oldest first."""
    asked = _asked(EngineClient(url, api_key))
    if as_json:
        out.json(asked)
    elif not asked:
        out.line("nothing waits for a decision")
    else:
        rows = [
            (each["run_id"], each["id"], each["title"], ", ".join(each["to"]), clock(each["until"])) for each in asked
        ]
        out.table((Column("run", no_wrap=True, min_width=26), "step", "title", "to", "until"), rows)


@cli.command(epilog="""Example: stepstream approvals approve 01KC8Z --values '{"amount": 12}' --comment 'as agreed'""")
def approve(
    run_id: RunId,
    step: StepId = "",
    values: Values = "",
    comment: Comment = "",
    by: By = "",
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Approve; exit with 1 if nothing waits for this decision any longer."""
    body = {"approved": True, "values": json_argument(values, "--values") if values else None}
    _decide(EngineClient(url, api_key), run_id, step, {**body, "comment": comment, "by": by}, as_json=as_json)


@cli.command(epilog="Example: stepstream approvals reject 01KC8Z --comment 'too late'")
def reject(
    run_id: RunId,
    step: StepId = "",
    comment: Comment = "",
    by: By = "",
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Reject; exit with 1 if nothing waits for this decision any longer."""
    body = {"approved": False, "comment": comment, "by": by}
    _decide(EngineClient(url, api_key), run_id, step, body, as_json=as_json)


@cli.command(epilog="Example: stepstream approvals link 01KC8Z --expires 24h --by ann")
def link(
    run_id: RunId,
    step: StepId = "",
    expires: Annotated[str, typer.Option(help="How long the link is valid, at most 30d.")] = "24h",
    by: Annotated[str, typer.Option(help="Who decides by the link (default: the form asks).", show_default=False)] = "",
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Print a link by which a person without the API key decides, once."""
    client = EngineClient(url, api_key)
    asked = _one_asked(client, run_id, step)
    path = ("v1", "approvals", asked["run_id"], asked["step"], "link")
    answer = request(client, "POST", *path, expect="path", body={"expires": expires, "by": by})
    answer["url"] = f"{client.url.rstrip('/')}{answer['path']}"
    if as_json:
        out.json(answer)
    else:
        out.line(answer["url"])


def _decide(client: EngineClient, run_id: str, step: str, body: dict[str, Any], *, as_json: bool) -> None:
    asked = _one_asked(client, run_id, step)
    body["by"] = body["by"] or getpass.getuser()
    path = ("v1", "approvals", asked["run_id"], asked["step"])
    unsure = "The decision may have been accepted; `stepstream runs show` shows the result of the step"
    answer = request(client, "POST", *path, expect="accepted", unsure=unsure, body=body)
    if as_json:
        out.json(answer)
    else:
        out.line(f"{'approved' if body['approved'] else 'rejected'}: {asked['title']}")


def _one_asked(client: EngineClient, run_id: str, step: str) -> dict[str, Any]:
    """Return the only open approval that arguments mean, or end the command with an error."""
    found = [each for each in _asked(client) if each["run_id"].endswith(run_id.upper()) and step in ("", each["id"])]
    if not found:
        which = f"step {step!r} of run {run_id!r}" if step else f"run {run_id!r}"
        raise fail(f"{which} waits for no decision; `stepstream approvals list` shows what does", EXIT_FAILED)
    if len(found) > 1:
        several = ", ".join(f"{each['run_id']} {each['id']!r}" for each in found)
        raise fail(f"{run_id!r} fits several: {several}; give the whole run id and the step", EXIT_USAGE)
    (asked,) = found
    return asked
