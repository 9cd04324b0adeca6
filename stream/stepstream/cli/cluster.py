"""The commands for Kafka: `stepstream engine`, `stepstream worker` and `stepstream topics`."""

import functools
import logging
import shlex
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from stepstream import __version__
from stepstream.cli.console import EXIT_USAGE, err, failed_by, out
from stepstream.cli.live import NO_FUNCTION
from stepstream.contract.errors import StepstreamError
from stepstream.contract.limits import RUNS_ACTIVE_MAX
from stepstream.host.kafka import WorkerSpec, serve_engine, serve_worker
from stepstream.host.loading import load_app
from stepstream.host.monitoring.logs import Format, Level, Logs
from stepstream.host.monitoring.versions import app_version, code_versions
from stepstream.host.serving import address_of
from stepstream.host.settings import kafka_settings_from, settings_from
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.layout import Survey, apply_command, apply_topics, expected_topics, full_names, survey
from stepstream.runtime.kafka.topic_files import render_commands, render_strimzi
from stepstream.runtime.ports import LogError

if sys.platform == "win32":
    import asyncio as runner
else:
    import uvloop as runner

logger = logging.getLogger(__name__)
topics_cli = typer.Typer(no_args_is_help=True, help="Make and check the topics of a cluster.")

Bootstrap = Annotated[
    str | None, typer.Option("--kafka", help="A broker, HOST:PORT [127.0.0.1:9092], or STEPSTREAM_KAFKA_BOOTSTRAP.")
]
Namespace = Annotated[str | None, typer.Option(help="Goes before the name of every topic and group.")]
LogFormat = Annotated[Format, typer.Option(envvar="STEPSTREAM_LOG_FORMAT", help="How lines are logged.")]
LogLevel = Annotated[
    Level, typer.Option(envvar="STEPSTREAM_LOG_LEVEL", help="The least that is logged; each step is info.")
]
Apps = Annotated[
    list[str] | None, typer.Option("--app", help="An app that needs a topic for its workers, or APP.QUEUE.")
]
Replicas = Annotated[
    int | None,
    typer.Option(help="Replicas of each partition; from 3 on a write waits for two [as the others; first 1].", min=1),
]


class Form(StrEnum):
    """What `stepstream topics render` prints."""

    KAFKA = "kafka"
    STRIMZI = "strimzi"


@contextmanager
def errors_told() -> Iterator[None]:
    """End the command with a line and a code when something goes wrong that it can tell of."""
    try:
        yield
    except (StepstreamError, LogError) as error:
        raise failed_by(error) from None


def run(code: Coroutine[Any, Any, Any]) -> Any:
    """Run a command's code and return what it returns; what goes wrong ends the command with a line and a code."""
    with errors_told():
        return runner.run(code)


def cluster_of(kafka: str | None, namespace: str | None) -> Cluster:
    """Return the cluster that a command is for; a setting that is wrong ends the command."""
    with errors_told():
        return Cluster(kafka_settings_from(bootstrap=kafka, namespace=namespace))


def _greet(form: Format, *lines: str) -> None:
    """Say what came up, for people; where machines read along it is a line of the log."""
    if form is Format.JSON:
        logger.info("; ".join(line.strip() for line in lines))
        return
    for line in lines:
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def engine(
    kafka: Bootstrap = None,
    namespace: Namespace = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the tables are kept [.stepstream].")] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on [8288]; 0 takes a free one.")] = None,
    standby: Annotated[
        bool | None, typer.Option("--standby", help="Keep warm copies of the shards that other engines own.")
    ] = None,
    sources: Annotated[
        Path | None, typer.Option(help="A TOML file of topics whose records become events; docs/kafka.md.")
    ] = None,
    log_format: LogFormat = Format.TEXT,
    log_level: LogLevel = Level.INFO,
) -> None:
    """Serve shards on Kafka, with the HTTP API; any number of these share the shards among them."""
    Logs(log_format, log_level)

    async def serve() -> None:
        settings = settings_from(data_dir=data_dir, host=host, port=port, standby=standby, sources=sources)
        cluster = kafka_settings_from(bootstrap=kafka, namespace=namespace)

        def ready(actual: int, shards: int) -> None:
            _greet(
                log_format,
                f"stepstream engine {__version__} on {cluster.bootstrap}, {shards} shards in all",
                f"  {address_of(settings.host, actual)}, tables in {settings.data_dir}",
            )

        await serve_engine(settings, cluster, ready)

    run(serve())


def worker(
    target: Annotated[str, typer.Argument(metavar="FILE[:APP]", help="The file with your App.")],
    kafka: Bootstrap = None,
    namespace: Namespace = None,
    queue: Annotated[str, typer.Option(help="Run only the steps of this queue of the app.")] = "",
    concurrency: Annotated[
        int, typer.Option(help="How many runs, or steps of a queue, are at work at once.", min=1)
    ] = (RUNS_ACTIVE_MAX),
    metrics_host: Annotated[str | None, typer.Option(help="Where to answer probes [127.0.0.1].")] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Answer /health, /ready and /metrics on this port [none]; 0 takes a free one.")
    ] = None,
    drain_s: Annotated[
        float | None, typer.Option(help="When asked to end, how many seconds steps at work have to end [25].", min=0)
    ] = None,
    log_format: LogFormat = Format.TEXT,
    log_level: LogLevel = Level.INFO,
) -> None:
    """Run the code of an app on Kafka; any number of these share the runs among them."""
    logs = Logs(log_format, log_level)

    async def serve() -> None:
        app = load_app(target)
        post = WorkerSpec(app, queue, concurrency)
        settings = settings_from(metrics_host=metrics_host, metrics_port=metrics_port, drain_s=drain_s)
        cluster = kafka_settings_from(bootstrap=kafka, namespace=namespace)
        logs.know(app.name, app_version(app, settings), code_versions(app, settings))

        def ready(_shards: int, port: int | None) -> None:
            code = app_version(app, settings)
            lines = [f"stepstream worker {__version__} for {post.name} {code} on {cluster.bootstrap}"]
            if port is not None:
                lines.append(f"  {address_of(settings.metrics_host, port)}/metrics")
            if not len(app):
                lines.append(f"  {NO_FUNCTION}")
            _greet(log_format, *lines)

        await serve_worker(post, settings, cluster, ready)

    run(serve())


@topics_cli.command("apply", epilog="Example: stepstream topics apply --shards 8 --app shop")
def apply(
    shards: Annotated[int, typer.Option(help="How many shards, for ever; needed the first time.", min=0)] = 0,
    apps: Apps = None,
    replicas: Replicas = None,
    kafka: Bootstrap = None,
    namespace: Namespace = None,
) -> None:
    """Create the topics that are missing; never change those that are there, but say what differs."""
    cluster = cluster_of(kafka, namespace)
    made = run(apply_topics(cluster, apps or [], shards, replicas or 0, functools.partial(_tell_differences, cluster)))
    out.print("\n".join(f"[green]created[/green] {name}" for name in made) or "nothing is missing")


@topics_cli.command("check", epilog="Example: stepstream topics check --app shop")
def check(apps: Apps = None, replicas: Replicas = None, kafka: Bootstrap = None, namespace: Namespace = None) -> None:
    """Say whether the topics are those of the contract; exit with 2 when they are not."""
    cluster = cluster_of(kafka, namespace)
    found: Survey = run(survey(cluster, apps or [], replicas=replicas or 0))
    for topic in found.missing:
        _tell("missing", f"topic {cluster.settings.name(topic)!r} is missing")
    _tell_differences(cluster, found)
    if found.missing:
        _tell_command(apply_command(cluster.settings, apps or [], found.shards, found.replicas))
    if found:
        raise typer.Exit(EXIT_USAGE)
    out.print(f"the topics are as they should be, with {found.shards} shards")


def _tell_differences(cluster: Cluster, found: Survey) -> None:
    """Say what differs, and the command for each topic that would change it."""
    for line in [*found.repartitioned, *found.underreplicated, *map(str, found.configs)]:
        _tell("differs", line)
    mendable = [each for each in found.configs if each.actual]
    for topic in dict.fromkeys(each.topic for each in mendable):
        words = ["kafka-configs.sh", "--bootstrap-server", cluster.settings.bootstrap, "--alter", "--topic", topic]
        wanted = ",".join(f"{each.key}={each.expected}" for each in mendable if each.topic == topic)
        _tell_command(shlex.join([*words, "--add-config", wanted]))
    if found.underreplicated:
        _tell_command("kafka-reassign-partitions.sh adds replicas to a topic that is there")


def _tell(what: str, line: str) -> None:
    err.print(Text.assemble((what, "yellow"), " ", line), soft_wrap=True)


def _tell_command(command: str) -> None:
    err.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)


@topics_cli.command("render", epilog="Example: stepstream topics render --shards 8 --app shop --format strimzi")
def render(
    shards: Annotated[int, typer.Option(help="How many shards, for ever.", min=1)],
    apps: Apps = None,
    replicas: Replicas = None,
    form: Annotated[Form, typer.Option("--format", help="Commands for a shell, or KafkaTopic resources.")] = Form.KAFKA,
    strimzi_cluster: Annotated[str, typer.Option(help="The name of the Kafka resource, for strimzi.")] = "kafka",
    kafka: Bootstrap = None,
    namespace: Namespace = None,
) -> None:
    """Print what creates the topics, for those who keep them elsewhere; asks no broker."""
    with errors_told():
        settings = kafka_settings_from(bootstrap=kafka, namespace=namespace)
        topics = expected_topics(apps or [], shards)
        full_names(settings, topics)
    match form:
        case Form.KAFKA:
            text = render_commands(settings, topics, replicas or 1)
        case Form.STRIMZI:
            text = render_strimzi(settings, topics, replicas or 1, strimzi_cluster)
    typer.echo(text, nl=False)
