"""The options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from stepstream.api.page_options import PageMode
from stepstream.host.monitoring.logs import Format, Level
from stepstream.mcp.modes import McpMode

Target = Annotated[
    str, typer.Argument(metavar="FILE[:APP]", help="The Python file with your App; add :NAME if it has several.")
]

# Processes.
StateDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder for state (default: .stepstream).")]
Retention = Annotated[
    str | None,
    typer.Option(
        help="Drop a run from the list so long after its end: 1d to 366d, or never (default: 90d; in a folder of "
        "`stepstream replay`, never)."
    ),
]
RetentionBytes = Annotated[
    int | None,
    typer.Option(help="Maximum size of the list of runs in bytes; the oldest ended runs are dropped (default: none)."),
]
ReadModel = Annotated[
    str | None,
    typer.Option(
        help="URL of a PostgreSQL database for the list of runs, which all engines share (default: a file of each "
        "engine). It has a password, so better set the variable STEPSTREAM_READ_MODEL."
    ),
]
Host = Annotated[str | None, typer.Option(help="Address to listen on (default: 127.0.0.1).")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one (default: 8288).")]
Page = Annotated[
    PageMode | None, typer.Option(help="Serve the page: off, read-only (no forms that act) or on (default: on).")
]
Mcp = Annotated[
    McpMode | None,
    typer.Option(
        help="Serve agents by MCP at /mcp: off, read-only (no tool that acts) or on (default: off). Needs the extra "
        "stepstream[mcp]."
    ),
]
MetricsHost = Annotated[
    str | None, typer.Option(help="Address of the port for probes and metrics (default: 127.0.0.1).")
]
LogFormat = Annotated[
    Format,
    typer.Option(envvar="STEPSTREAM_LOG_FORMAT", help="How to log: text for people, or one JSON object per line."),
]
LogLevel = Annotated[
    Level,
    typer.Option(envvar="STEPSTREAM_LOG_LEVEL", help="Lowest level to log; each attempt of a step is logged as info."),
]

AllowHosts = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        help="A name, such as *.svc.cluster.local, or a network, such as 10.0.0.0/8, where apps of Inngest SDKs may be "
        "although it is private; may be repeated. Variable: STEPSTREAM_ALLOW_HOSTS, separated by commas.",
    ),
]

ConnectPort = Annotated[
    int | None,
    typer.Option(
        help="Port to which workers of Inngest SDKs connect; 0 picks a free one (default: the one after --port, or a "
        "free one if that is taken)."
    ),
]
ConnectUrl = Annotated[
    str | None,
    typer.Option(
        help="URL at which workers of Inngest SDKs reach that port, such as wss://connect.example.com/v0/connect "
        "(default: the host at which they reach --port)."
    ),
]
PeerUrl = Annotated[
    str | None,
    typer.Option(
        help="URL at which other gateways reach --port, such as http://10.0.0.7:8288. With it, apps may report their "
        "steps to any gateway while a call is open."
    ),
]

# Kafka.
Bootstrap = Annotated[
    str | None,
    typer.Option(
        "--kafka",
        help="Kafka brokers to connect to first, as HOST:PORT, separated by commas (default: 127.0.0.1:9092). "
        "Variable: STEPSTREAM_KAFKA_BOOTSTRAP.",
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        help="Prefix of the names of all topics and groups (default: none). Variable: STEPSTREAM_KAFKA_NAMESPACE."
    ),
]

# The HTTP API.
URL_DEFAULT = "http://127.0.0.1:8288"
Url = Annotated[str, typer.Option(envvar="STEPSTREAM_URL", help="Address of the engine's HTTP API.")]
ApiKey = Annotated[
    str,
    typer.Option(
        envvar="STEPSTREAM_API_KEY", help="The engine's API key (default: none, as for `dev`).", show_default=False
    ),
]
