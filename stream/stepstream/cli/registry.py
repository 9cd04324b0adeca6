"""The commands by name, with the module that each command imports when it runs."""

import importlib
import os
import signal
import sys
from typing import Any, NamedTuple

from stepstream import __version__

EXIT_INTERRUPTED = 130


class Command(NamedTuple):
    """The module of `stepstream.cli` that defines a command, and the line about it in `stepstream --help`."""

    module: str
    help: str


COMMANDS = {
    "dev": Command(
        "dev", "Run engine, worker and HTTP API in one process; Ctrl-C stops it once running steps have finished."
    ),
    "send": Command("control.messages", "Send one event, and print its id."),
    "signal": Command(
        "control.messages",
        "Send a signal to the run that waits for it; exit with 1 if no run does, unless it starts one.",
    ),
    "approvals": Command("control.approvals", "List what waits for the decision of a person, and decide."),
    "runs": Command(
        "control.control", "List, show, cancel, pause, resume, rerun and prune runs, and group their errors."
    ),
    "bulk": Command("control.bulk", "List, show and cancel bulk operations on runs."),
    "functions": Command("control.scopes", "Pause functions and resume them."),
    "queues": Command("control.scopes", "Pause queues and resume them."),
    "limits": Command(
        "control.limits", "List limits with what holds them and waits for them, and change them while they are in use."
    ),
    "timings": Command("control.timings", "List how long steps took and how many failed, the slowest first."),
    "mcp": Command(
        "mcp_command", "Serve an agent by MCP: its tools send events, and start, find, explain and rerun runs."
    ),
    "replay": Command(
        "replay", "Replay recorded events through your functions, on a virtual clock that follows the events."
    ),
    "engine": Command("cluster", "Serve shards and the HTTP API on Kafka; any number of engines share the shards."),
    "worker": Command("cluster", "Run the code of an app on Kafka; any number of workers share its runs."),
    "gateway": Command("gateway", "Serve apps of Inngest SDKs on Kafka; any number of gateways share their runs."),
    "topics": Command("topics", "Create and check the topics of a cluster."),
    "readmodel": Command("read_model", "Create and migrate the read model in a PostgreSQL database."),
    "dead-letters": Command("dead_letters", "List, show and redrive records that could not be processed."),
}


def load(module: str) -> Any:
    """Import a module of `stepstream.cli`; Ctrl-C during the import ends the process without a traceback."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        return importlib.import_module(f"stepstream.cli.{module}")
    # A KeyboardInterrupt would be lost in a module that catches whatever its own imports raise.
    signal.signal(signal.SIGINT, lambda *_: os._exit(EXIT_INTERRUPTED))
    try:
        return importlib.import_module(f"stepstream.cli.{module}")
    finally:
        signal.signal(signal.SIGINT, before)


def main() -> None:
    """Run the command line; its version is printed without importing anything that parses options."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"stepstream {__version__}\n")
    else:
        load("main").main()
