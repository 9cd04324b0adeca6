"""The command `stepstream dev`."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from stepstream.cli.options import (
    AllowHosts,
    Host,
    LogFormat,
    LogLevel,
    Mcp,
    Page,
    Port,
    Retention,
    RetentionBytes,
    StateDir,
)
from stepstream.cli.reloading import end_quietly, is_supervised, run_reloading, wait_for_start
from stepstream.cli.terminal.console import BY_VARIABLES, EXIT_FAILED, EXIT_USAGE, commands, fail, out
from stepstream.cli.terminal.reporters import LogReporter, TerminalReporter
from stepstream.contract.errors import StepstreamError
from stepstream.contract.limits import RETRY_AFTER_MS_MAX
from stepstream.gateway.sync.polling import PORTS
from stepstream.host.embedded import DevReporter, serve
from stepstream.host.loading import LoadError, load_app
from stepstream.host.monitoring.logs import Format, Level, Logs
from stepstream.host.monitoring.versions import app_version, code_versions
from stepstream.host.sdk_apps import Polling, check_sdks_served
from stepstream.host.serving import collect_garbage_seldom
from stepstream.host.settings import Settings, settings_from
from stepstream.runtime.storage.syncing import Fsync
from stepstream.sdk.app import App

cli = commands()


OptionalTarget = Annotated[
    str | None,
    typer.Argument(metavar="[FILE[:APP]]", help="The Python file with your App; add :NAME if it has several."),
]
AppUrls = Annotated[
    list[str] | None,
    typer.Option(
        "--app-url",
        help="URL of an app that uses an Inngest SDK, such as http://127.0.0.1:3000/api/inngest; may be repeated.",
    ),
]
Discover = Annotated[
    bool | None,
    typer.Option(
        "--discover/--no-discover",
        help="Look for apps of Inngest SDKs on the usual ports of this machine (default: without FILE and --app-url).",
    ),
]

Sync = Annotated[
    Fsync | None,
    typer.Option(
        help="When writes reach the disk, so that a power failure does not lose them: always (before anything depends "
        "on them), interval (within 0.1 s) or never (when the system decides) (default: interval).",
    ),
]
RetryInterval = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=RETRY_AFTER_MS_MAX // 1_000,
        metavar="SECONDS",
        help="Retry after this many seconds, whatever the back-off is: for tests of apps.",
    ),
]


@cli.command(epilog=f"Example: stepstream dev app.py\n\n{BY_VARIABLES}")
def dev(
    target: OptionalTarget = None,
    app_urls: AppUrls = None,
    discover: Discover = None,
    allow_hosts: AllowHosts = None,
    data_dir: StateDir = None,
    host: Host = None,
    port: Port = None,
    reload: Annotated[bool, typer.Option(help="Restart when a Python file in the folder of FILE changes.")] = True,
    page: Page = None,
    mcp: Mcp = None,
    open: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = False,
    retention: Retention = None,
    retention_bytes: RetentionBytes = None,
    fsync: Sync = None,
    retry_interval: RetryInterval = None,
    log_format: LogFormat = Format.TEXT,
    log_level: LogLevel = Level.INFO,
) -> None:
    """Run engine, worker and HTTP API in one process; Ctrl-C stops it once running steps have finished."""
    end_quietly()
    http: dict[str, Any] = {"host": host, "port": port, "page": page, "mcp": mcp}
    try:
        settings = settings_from(
            **http,
            data_dir=data_dir,
            retention=retention,
            retention_bytes=retention_bytes,
            fsync=fsync,
            allow_hosts=",".join(allow_hosts) if allow_hosts else None,
        )
        app = _load(target, app_urls, settings)
    except LoadError as error:
        # A supervised child is started again once the file changes, which fixes the file but no option.
        raise fail(str(error), EXIT_FAILED if is_supervised() else EXIT_USAGE) from None
    except StepstreamError as error:
        raise fail(str(error), EXIT_USAGE) from None
    if reload and target:
        command = [sys.executable, "-m", "stepstream", *sys.argv[1:], "--no-reload"]
        folder = Path(target.partition(":")[0]).resolve().parent
        # A reload opens no second window.
        raise typer.Exit(run_reloading(command, ("--no-open",), folder, lambda text: out.line((text, "yellow"))))
    logs = Logs(log_format, log_level)
    wait_for_start()
    if app:
        logs.know(app.name, app_version(app, settings), code_versions(app, settings))
    reporter = _reporter(app, settings, log_format, opens=open)
    collect_garbage_seldom()
    every = None if retry_interval is None else timedelta(seconds=retry_interval)
    asyncio.run(serve(app, settings, reporter, _polling(target, app_urls or (), discover), every))


def _reporter(app: App | None, settings: Settings, log_format: Format, *, opens: bool) -> DevReporter:
    if log_format is Format.TEXT:
        return TerminalReporter(out, app, settings, opens=opens)
    return LogReporter(app, settings, opens=opens)


def _load(target: str | None, app_urls: Sequence[str] | None, settings: Settings) -> App | None:
    if app_urls or not target:
        check_sdks_served(settings)
    return load_app(target) if target else None


def _polling(target: str | None, app_urls: Sequence[str], discover: bool | None) -> Polling:
    """Return which apps of SDKs register by themselves; local ones are looked for if the command names no code."""
    discovers = not target and not app_urls if discover is None else discover
    return Polling(app_urls, PORTS if discovers else (), registered=True)
