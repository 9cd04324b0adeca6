"""The commands `stepstream send` and `stepstream signal`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from stepstream.cli.client import EngineClient, request
from stepstream.cli.options import URL_DEFAULT, ApiKey, Url
from stepstream.cli.terminal.console import EXIT_USAGE, AsJson, commands, fail, out
from stepstream.contract.codec import dump_json

cli = commands()

Data = Annotated[str, typer.Option(help="The data as JSON, or @FILE to read it from a file.")]


def json_argument(text: str, option: str = "--data") -> Any:
    """Return the value of an option: JSON, or @FILE."""
    try:
        value = json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
        # Python reads more than JSON allows, for example NaN and lone surrogates.
        dump_json(value)
        return value
    except (OSError, ValueError, RecursionError) as error:
        raise fail(f"{option}: {error}; give JSON, or @FILE", EXIT_USAGE) from None


@cli.command(epilog="""Example: stepstream send shop/order.created --data '{"total": 12}'""")
def send(
    name: Annotated[str, typer.Argument(help="The name of the event.")],
    data: Data = "{}",
    id: Annotated[
        str,
        typer.Option(help="The event's id; each id starts a function once in 24 h (default: chosen by the engine)."),
    ] = "",
    key: Annotated[
        str, typer.Option(envvar="STEPSTREAM_EVENT_KEY", help="The engine's event key.", show_default=False)
    ] = "dev",
    url: Url = URL_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Send one event, and print its id."""
    event = {"name": name, "data": json_argument(data), **({"id": id} if id else {})}
    remedy = "its --id makes it safe to send it again" if id else "with an --id it would be safe to send it again"
    unsure = f"The event may have been accepted; {remedy}"
    answer = request(EngineClient(url), "POST", "e", key.rstrip("\r\n"), expect="ids", unsure=unsure, body=event)
    if as_json:
        out.json(answer)
    else:
        out.text(answer["ids"][0])


@cli.command(epilog="""Example: stepstream signal approved/42 --data '{"by": "ann"}'""")
def signal(
    name: Annotated[str, typer.Argument(help="The name of the signal.")],
    data: Data = "null",
    start: Annotated[str, typer.Option(help="The id of a function that is started if no run waits.")] = "",
    start_data: Annotated[str, typer.Option(help="The data of the event that starts it, as --data.")] = "{}",
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Send a signal to the run that waits for it; exit with 1 if no run does, unless it starts one."""
    body: dict[str, Any] = {"signal": name, "data": json_argument(data)}
    if start:
        body["start"] = {"function": start, "data": json_argument(start_data, "--start-data")}
    unsure = "The signal may have been delivered; `stepstream runs list` shows whether its run has resumed"
    client = EngineClient(url, api_key)
    answer = request(client, "POST", "v1", "signals", expect="delivered", unsure=unsure, body=body)
    if as_json:
        out.json(answer)
    else:
        word = "started" if answer.get("started") else "delivered"
        out.text(" ".join(filter(None, (word, answer.get("run_id", "")))))
