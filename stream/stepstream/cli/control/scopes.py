"""The commands `pause`, `resume` and `paused` of `stepstream functions` and `stepstream queues`."""

from typing import Annotated

import typer

from stepstream.cli.client import EngineClient
from stepstream.cli.control.pausing import PauseReason, Until, pause, print_pauses, resume
from stepstream.cli.options import URL_DEFAULT, ApiKey, Url
from stepstream.cli.terminal.console import AsJson, commands

cli = commands("Pause functions and queues of apps, and resume them.")
functions = commands("Pause functions and resume them.")
queues = commands("Pause queues and resume them.")
cli.add_typer(functions, name="functions")
cli.add_typer(queues, name="queues")

FunctionId = Annotated[str, typer.Argument(metavar="FUNCTION", help="The id of a function.")]
AppName = Annotated[str, typer.Argument(metavar="APP", help="The name of an app.")]
QueueName = Annotated[str, typer.Argument(metavar="QUEUE", help="The name of a queue of the app.")]


@functions.command(
    "pause", epilog="Example: stepstream functions pause orders.charge --until 2h --why 'payment API is down'"
)
def pause_function(
    function: FunctionId,
    until: Until = "",
    why: PauseReason = "",
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Pause a function: its new runs are accepted, and no run of it gets code to run."""
    pause(EngineClient(url, api_key), "functions", function, until=until, why=why, as_json=as_json)


@functions.command("resume", epilog="Example: stepstream functions resume orders.charge")
def resume_function(
    function: FunctionId,
    why: PauseReason = "",
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Resume a function that was paused."""
    resume(EngineClient(url, api_key), "functions", function, why=why, as_json=as_json)


@functions.command("paused", epilog="Example: stepstream functions paused --json")
def list_paused_functions(url: Url = URL_DEFAULT, api_key: ApiKey = "", as_json: AsJson = False) -> None:
    """List the functions that are paused."""
    print_pauses(EngineClient(url, api_key), "function", as_json=as_json)


@queues.command("pause", epilog="Example: stepstream queues pause shop gpu --until 2h --why 'payment API is down'")
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


@queues.command("resume", epilog="Example: stepstream queues resume shop gpu")
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


@queues.command("paused", epilog="Example: stepstream queues paused --json")
def list_paused_queues(url: Url = URL_DEFAULT, api_key: ApiKey = "", as_json: AsJson = False) -> None:
    """List the queues that are paused."""
    print_pauses(EngineClient(url, api_key), "queue", as_json=as_json)
