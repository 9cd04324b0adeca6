"""The commands that run on Kafka until they are stopped: `stepstream engine` and `stepstream worker`."""

import logging
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from stepstream import __version__
from stepstream.cli.kafka import run
from stepstream.cli.options import (
    Bootstrap,
    Host,
    LogFormat,
    LogLevel,
    Mcp,
    MetricsHost,
    Namespace,
    Page,
    Port,
    ReadModel,
    Retention,
    RetentionBytes,
    StateDir,
    Target,
)
from stepstream.cli.terminal.console import BY_VARIABLES, commands, out
from stepstream.cli.terminal.reporters import NO_FUNCTION
from stepstream.contract.limits import RUNS_ACTIVE_MAX
from stepstream.host.kafka_engine import serve_engine
from stepstream.host.kafka_worker import WorkerSpec, serve_worker
from stepstream.host.loading import load_app
from stepstream.host.monitoring.logs import Format, Level, Logs
from stepstream.host.monitoring.versions import app_version, code_versions
from stepstream.host.serving import address_of, collect_garbage_seldom
from stepstream.host.settings import kafka_settings_from, settings_from

logger = logging.getLogger(__name__)
SecondPort = Annotated[
    int | None,
    typer.Option(help="A second port for only /health, /ready and /metrics; 0 picks a free one (default: none)."),
]
Standby = Annotated[
    bool | None,
    typer.Option("--standby", help="Keep warm copies of the shards that other engines own (default: off)."),
]
Failover = Annotated[
    float | None,
    typer.Option(
        help="Seconds of silence after which standbys take over an engine's shards; 0: never (default: 1.2).", min=0
    ),
]
Sources = Annotated[
    Path | None, typer.Option(help="A TOML file of topics whose records become events; see docs/sources.md.")
]
DrainS = Annotated[
    float | None,
    typer.Option(help="Seconds that running steps may take to finish after SIGTERM (default: 25).", min=0),
]
BodyThreads = Annotated[
    int | None, typer.Option(help="How many plain step bodies run at the same time (default: 64).", min=1)
]
MemoryMib = Annotated[
    int | None, typer.Option(help="MiB of results and reports to hold in memory (default: 256).", min=1)
]
cli = commands()


def greet(form: Format, *lines: str) -> None:
    """Report what started: as lines for people, or as one line of a log that machines read."""
    if form is Format.JSON:
        logger.info("; ".join(line.strip() for line in lines))
        return
    # A line that cannot be written, for example to a file on a full disk, stops no process.
    with suppress(OSError):
        for line in lines:
            out.line(line)


@cli.command(epilog=f"Example: stepstream engine --kafka broker:9092 --data-dir /var/lib/stepstream\n\n{BY_VARIABLES}")
def engine(
    kafka: Bootstrap = None,
    namespace: Namespace = None,
    data_dir: StateDir = None,
    host: Host = None,
    port: Port = None,
    metrics_host: MetricsHost = None,
    metrics_port: SecondPort = None,
    standby: Standby = None,
    failover_s: Failover = None,
    sources: Sources = None,
    page: Page = None,
    mcp: Mcp = None,
    retention: Retention = None,
    retention_bytes: RetentionBytes = None,
    read_model: ReadModel = None,
    log_format: LogFormat = Format.TEXT,
    log_level: LogLevel = Level.INFO,
) -> None:
    """Serve shards and the HTTP API on Kafka; any number of engines share the shards."""
    Logs(log_format, log_level)

    async def serve() -> None:
        http: dict[str, Any] = {"host": host, "port": port, "page": page, "mcp": mcp}
        settings = settings_from(
            **http,
            data_dir=data_dir,
            metrics_host=metrics_host,
            metrics_port=metrics_port,
            standby=standby,
            failover_s=failover_s,
            sources=sources,
            retention=retention,
            retention_bytes=retention_bytes,
            read_model=read_model,
        )
        cluster = kafka_settings_from(bootstrap=kafka, namespace=namespace)

        def ready(actual: int, shards: int) -> None:
            greet(
                log_format,
                f"stepstream engine {__version__} on {cluster.bootstrap}, {shards} shards in total",
                f"  {address_of(settings.host, actual)}, tables in {settings.data_dir}",
            )

        await serve_engine(settings, cluster, ready)

    collect_garbage_seldom()
    run(serve())


@cli.command(epilog=f"Example: stepstream worker app.py --kafka broker:9092\n\n{BY_VARIABLES}")
def worker(
    target: Target,
    kafka: Bootstrap = None,
    namespace: Namespace = None,
    queue: Annotated[
        str, typer.Option(help="Run the steps of this queue of the app only (default: the runs of the app).")
    ] = "",
    concurrency: Annotated[
        int, typer.Option(help="How many runs, or steps of a queue, run code at the same time.", min=1)
    ] = RUNS_ACTIVE_MAX,
    metrics_host: MetricsHost = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(help="Port of /health, /ready and /metrics; 0 picks a free one (default: off)."),
    ] = None,
    drain_s: DrainS = None,
    body_threads: BodyThreads = None,
    memory_mib: MemoryMib = None,
    log_format: LogFormat = Format.TEXT,
    log_level: LogLevel = Level.INFO,
) -> None:
    """Run the code of an app on Kafka; any number of workers share its runs."""
    logs = Logs(log_format, log_level)

    async def serve() -> None:
        app = load_app(target)
        spec = WorkerSpec(app, queue, concurrency)
        settings = settings_from(
            metrics_host=metrics_host,
            metrics_port=metrics_port,
            drain_s=drain_s,
            body_threads=body_threads,
            memory_mib=memory_mib,
        )
        cluster = kafka_settings_from(bootstrap=kafka, namespace=namespace)
        collect_garbage_seldom()
        logs.know(app.name, app_version(app, settings), code_versions(app, settings))

        def ready(_shards: int, port: int | None) -> None:
            code = app_version(app, settings)
            lines = [f"stepstream worker {__version__} for {spec.name} {code} on {cluster.bootstrap}"]
            if port is not None:
                lines.append(f"  {address_of(settings.metrics_host, port)}/metrics")
            if not len(app):
                lines.append(f"  {NO_FUNCTION}")
            greet(log_format, *lines)

        await serve_worker(spec, settings, cluster, ready)

    run(serve())
