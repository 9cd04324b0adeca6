"""The commands `stepstream queues pause`, `resume` and `paused`."""

from typing import Annotated

import typer

from stepstream.cli.client import EngineClient
from stepstream.cli.control.pausing import PauseReason, Until, pause, print_pauses, resume
from stepstream.cli.options import URL_DEFAULT, ApiKey, Url
from stepstream.cli.terminal.console import AsJson, commands

cli = commands("Pause queues of apps and resume them.")

AppName = Annotated[str, typer.Argument(metavar="APP", help="The name of an app.")]
QueueName = Annotated[str, typer.Argument(metavar="QUEUE", help="The name of a queue of the app.")]


@cli.command("pause", epilog="Example: stepstream queues pause shop gpu --until 2h --why 'payment API is down'")
def pause_queue(
    app: AppName,
    queue: QueueName,
    until: Until = "",
    why: PauseReason = "",
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Pause a queue: the bodies of its steps that run may end, and no other starts."""
    pause(EngineClient(url, api_key), "queues", app, queue, until=until, why=why, as_json=as_json)


@cli.command("resume", epilog="Example: stepstream queues resume shop gpu")
def resume_queue(
    app: AppName,
    queue: QueueName,
    why: PauseReason = "",
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Resume a queue that was paused."""
    resume(EngineClient(url, api_key), "queues", app, queue, why=why, as_json=as_json)


@cli.command("paused", epilog="Example: stepstream queues paused --json")
def list_paused(url: Url = URL_DEFAULT, api_key: ApiKey = "", as_json: AsJson = False) -> None:
    """List the queues that are paused."""
    print_pauses(EngineClient(url, api_key), "queue", as_json=as_json)
