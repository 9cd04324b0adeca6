"""The commands `stepstream gateway`, which serves apps of Inngest SDKs on Kafka, and its `sync` and `apps`."""

import logging
from typing import Annotated

import typer

from stepstream import __version__
from stepstream.cli.client import EngineClient, request
from stepstream.cli.cluster import DrainS, MemoryMib, SecondPort, greet
from stepstream.cli.kafka import run
from stepstream.cli.options import (
    AllowHosts,
    ApiKey,
    Bootstrap,
    ConnectPort,
    ConnectUrl,
    Host,
    LogFormat,
    LogLevel,
    MetricsHost,
    Namespace,
    PeerUrl,
    Port,
    ReadModel,
    StateDir,
    Url,
)
from stepstream.cli.terminal.console import BY_VARIABLES, AsJson, commands, out
from stepstream.contract.text.wording import counted
from stepstream.host.gateway import serve_gateway
from stepstream.host.monitoring.logs import Format, Level, Logs
from stepstream.host.serving import address_of, collect_garbage_seldom
from stepstream.host.settings import kafka_settings_from, settings_from

logger = logging.getLogger(__name__)
cli = commands("Serve apps of Inngest SDKs on Kafka; any number of gateways share their runs.")


@cli.callback(
    invoke_without_command=True,
    no_args_is_help=False,
    epilog=f"Example: stepstream gateway --kafka broker:9092 --data-dir /var/lib/stepstream\n\n{BY_VARIABLES}",
)
def gateway(
    context: typer.Context,
    kafka: Bootstrap = None,
    namespace: Namespace = None,
    data_dir: StateDir = None,
    host: Host = None,
    port: Port = None,
    connect_port: ConnectPort = None,
    connect_url: ConnectUrl = None,
    peer_url: PeerUrl = None,
    allow_hosts: AllowHosts = None,
    metrics_host: MetricsHost = None,
    metrics_port: SecondPort = None,
    drain_s: DrainS = None,
    memory_mib: MemoryMib = None,
    read_model: ReadModel = None,
    log_format: LogFormat = Format.TEXT,
    log_level: LogLevel = Level.INFO,
) -> None:
    """Serve apps of Inngest SDKs on Kafka; any number of gateways share their runs."""
    if context.invoked_subcommand:
        return
    Logs(log_format, log_level)
    settings = settings_from(
        data_dir=data_dir,
        host=host,
        port=port,
        connect_port=connect_port,
        connect_url=connect_url,
        peer_url=peer_url,
        allow_hosts=",".join(allow_hosts) if allow_hosts else None,
        metrics_host=metrics_host,
        metrics_port=metrics_port,
        drain_s=drain_s,
        memory_mib=memory_mib,
        read_model=read_model,
    )
    cluster = kafka_settings_from(bootstrap=kafka, namespace=namespace)

    def ready(actual: int) -> None:
        mode = settings.signing_keys.kind
        greet(
            log_format,
            f"stepstream gateway {__version__} on {cluster.bootstrap}, for SDKs in {mode} mode",
            f"  {address_of(settings.host, actual)}, tables in {settings.data_dir}",
        )

    collect_garbage_seldom()
    run(serve_gateway(settings, cluster, ready))


@cli.command(epilog="Example: stepstream gateway sync https://shop.example.com/api/inngest")
def sync(
    app_url: Annotated[str, typer.Argument(metavar="URL", help="The URL where the app serves its SDK.")],
    url: Url = "http://127.0.0.1:8288",
    api_key: ApiKey = "",
) -> None:
    """Ask an app to register its functions, for example after a deployment."""
    body = {"url": app_url}
    found = request(EngineClient(url, api_key), "POST", "v1", "apps", "sync", expect="app", body=body)
    state = "changed" if found["modified"] else "unchanged"
    out.line(f"app {found['app']}: {counted(found['functions'], 'function')}, {state}")


@cli.command("apps", epilog="Example: stepstream gateway apps --url https://gateway.example.com")
def list_apps(url: Url = "http://127.0.0.1:8288", api_key: ApiKey = "", as_json: AsJson = False) -> None:
    """List the apps of Inngest SDKs, and what is wrong with the latest registration of each."""
    found = request(EngineClient(url, api_key), "GET", "v1", "apps", expect="apps")["apps"]
    if as_json:
        out.json(found)
        return
    columns = ("App", "URL", "SDK", "Functions", "Problem", "Since")
    names = ("app", "url", "sdk", "functions", "error", "failed_at")
    out.table(columns, [["" if app[name] is None else app[name] for name in names] for app in found])
