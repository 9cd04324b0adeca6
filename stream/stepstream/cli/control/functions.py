"""The commands `stepstream functions pause`, `resume` and `paused`."""

from typing import Annotated

import typer

from stepstream.cli.client import EngineClient
from stepstream.cli.control.pausing import PauseReason, Until, pause, print_pauses, resume
from stepstream.cli.options import URL_DEFAULT, ApiKey, Url
from stepstream.cli.terminal.console import AsJson, commands

cli = commands("Pause functions and resume them.")

FunctionId = Annotated[str, typer.Argument(metavar="FUNCTION", help="The id of a function.")]


@cli.command("pause", epilog="Example: stepstream functions pause orders.charge --until 2h --why 'payment API is down'")
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


@cli.command("resume", epilog="Example: stepstream functions resume orders.charge")
def resume_function(
    function: FunctionId,
    why: PauseReason = "",
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Resume a function that was paused."""
    resume(EngineClient(url, api_key), "functions", function, why=why, as_json=as_json)


@cli.command("paused", epilog="Example: stepstream functions paused --json")
def list_paused(url: Url = URL_DEFAULT, api_key: ApiKey = "", as_json: AsJson = False) -> None:
    """List the functions that are paused."""
    print_pauses(EngineClient(url, api_key), "function", as_json=as_json)
