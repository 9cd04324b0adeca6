"""The command `stepstream mcp`."""

import asyncio
import importlib
from typing import Annotated, Any

import typer

from stepstream.cli.options import URL_DEFAULT, ApiKey, Url
from stepstream.cli.terminal.console import BY_VARIABLES, EXIT_USAGE, commands, fail
from stepstream.client.client import Client
from stepstream.contract.errors import StepstreamError

cli = commands("Serve an agent by MCP: its tools send events, and start, find, explain and rerun runs.")
EventKey = Annotated[
    str, typer.Option("--key", envvar="STEPSTREAM_EVENT_KEY", help="The engine's event key.", show_default=False)
]
ReadOnly = Annotated[
    bool, typer.Option("--read-only", help="Offer no tool that sends events, starts runs or reruns them.")
]


@cli.callback(
    invoke_without_command=True,
    no_args_is_help=False,
    epilog=f"Example: stepstream mcp --url http://127.0.0.1:8288 --read-only\n\n{BY_VARIABLES}",
)
def mcp(url: Url = URL_DEFAULT, api_key: ApiKey = "", key: EventKey = "", read_only: ReadOnly = False) -> None:
    """Serve an agent by MCP: its tools send events, and start, find, explain and rerun runs."""
    server = _load()
    try:
        client = Client(url if "://" in url else f"http://{url}", api_key=api_key, event_key=key)
    except StepstreamError as error:
        raise fail(str(error), EXIT_USAGE) from None
    asyncio.run(server.serve(client, is_read_only=read_only))


def _load() -> Any:
    try:
        return importlib.import_module("stepstream.mcp.mcp_server")
    except ImportError as error:
        missing = f"the package mcp is not installed ({error})"
        raise fail(f"{missing}; install it by `pip install 'stepstream[mcp]'`", EXIT_USAGE) from None
