"""The commands `stepstream topics apply`, `check`, `render` and `acls`."""

import functools
from enum import StrEnum
from typing import Annotated, Any

import typer

from stepstream.cli.kafka import cluster_of, run
from stepstream.cli.options import Bootstrap, Namespace
from stepstream.cli.terminal.console import EXIT_USAGE, commands, err, out
from stepstream.host.settings import kafka_settings_from
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.topics.acls import Principals, expected_acls, render_acl_commands, render_acl_json
from stepstream.runtime.kafka.topics.layout import (
    Survey,
    alter_command,
    apply_command,
    apply_topics,
    expected_topics,
    full_names,
    survey,
)
from stepstream.runtime.kafka.topics.topic_files import render_commands, render_strimzi

cli = commands("Create and check the topics of a cluster.")

Apps = Annotated[
    list[str] | None,
    typer.Option(
        "--app", help="An app whose workers need a topic, or APP.QUEUE for a queue; may be repeated (default: none)."
    ),
]
Replicas = Annotated[
    int | None,
    typer.Option(
        help="Replicas of each partition; with 3 or more, a write waits for two of them "
        "(default: as many as the existing topics have, else 1).",
        min=1,
    ),
]


class Form(StrEnum):
    """What `stepstream topics render` prints."""

    KAFKA = "kafka"
    STRIMZI = "strimzi"


class AclForm(StrEnum):
    """What `stepstream topics acls` prints."""

    KAFKA = "kafka"
    JSON = "json"


@cli.command(epilog="Example: stepstream topics apply --shards 8 --app shop")
def apply(
    shards: Annotated[
        int,
        typer.Option(
            help="Number of shards, which can never be changed; needed only when there are no topics yet.", min=0
        ),
    ] = 0,
    apps: Apps = None,
    replicas: Replicas = None,
    kafka: Bootstrap = None,
    namespace: Namespace = None,
) -> None:
    """Create the topics that are missing; existing topics are compared, and never changed."""
    cluster = cluster_of(kafka, namespace)
    show = functools.partial(_show_differences, cluster)
    created = run(apply_topics(cluster, apps or [], shards, replicas or 0, show))
    for name in created:
        out.line(("created", "green"), f" {name}")
    if not created:
        out.line("no topic is missing")


@cli.command(epilog="Example: stepstream topics check --app shop")
def check(
    shards: Annotated[
        int, typer.Option(help="Number of shards that the topics should have (default: as many as they have).", min=0)
    ] = 0,
    apps: Apps = None,
    replicas: Replicas = None,
    kafka: Bootstrap = None,
    namespace: Namespace = None,
) -> None:
    """Compare the topics with what stepstream needs; exit with 2 if they differ."""
    cluster = cluster_of(kafka, namespace)
    found: Survey = run(survey(cluster, apps or [], shards, replicas or 0))
    other_shards = found.shards and shards not in (0, found.shards)
    if other_shards:
        _show("differs", f"the topics have {found.shards} shards, not {shards}; this number can never be changed")
    for topic in found.missing:
        _show("missing", f"topic {cluster.settings.name(topic)!r} does not exist")
    _show_differences(cluster, found)
    if found.missing:
        _show_command(apply_command(cluster.settings, apps or [], found.shards or shards, found.replicas))
    if found or other_shards:
        raise typer.Exit(EXIT_USAGE)
    out.line(f"the topics are as they should be, with {found.shards} shards")


def _show_differences(cluster: Cluster, found: Survey) -> None:
    """Print what differs, and for each topic the command that would change it."""
    for line in [*found.repartitioned, *found.underreplicated, *map(str, found.configs)]:
        _show("differs", line)
    for line in found.grown:
        _show("note", f"{line}; Kafka cannot remove them")
    changeable = [each for each in found.configs if each.actual]
    for topic in dict.fromkeys(each.topic for each in changeable):
        own = [each for each in changeable if each.topic == topic]
        _show_command(alter_command(cluster.settings, topic, own))
    if found.underreplicated:
        _show_command("kafka-reassign-partitions.sh adds replicas to an existing topic")


def _show(what: str, line: str) -> None:
    err.line((what, "yellow"), f" {line}")


def _show_command(command: str) -> None:
    err.line(f"  {command}")


@cli.command(epilog="Example: stepstream topics render --shards 8 --app shop --format strimzi")
def render(
    shards: Annotated[int, typer.Option(help="Number of shards, which can never be changed.", min=1)],
    apps: Apps = None,
    replicas: Replicas = None,
    form: Annotated[
        Form, typer.Option("--format", help="Shell commands for Kafka's tools, or KafkaTopic resources for Strimzi.")
    ] = Form.KAFKA,
    strimzi_cluster: Annotated[str, typer.Option(help="Name of the Kafka resource, with --format strimzi.")] = "kafka",
    kafka: Bootstrap = None,
    namespace: Namespace = None,
) -> None:
    """Print commands or resources that create the topics, for clusters where you manage topics with other tools."""
    settings = kafka_settings_from(bootstrap=kafka, namespace=namespace)
    topics = expected_topics(apps or [], shards)
    full_names(settings, topics)
    match form:
        case Form.KAFKA:
            text = render_commands(settings, topics, replicas or 1)
        case Form.STRIMZI:
            text = render_strimzi(settings, topics, replicas or 1, strimzi_cluster)
    out.text(text.rstrip("\n"))


def _principal(who: str) -> Any:
    return typer.Option(help=f"{who}, as TYPE:NAME; without a name it gets no ACLs.")


@cli.command(epilog="Example: stepstream topics acls --app shop --worker User:shop")
def acls(
    apps: Apps = None,
    engine: Annotated[str, _principal("The user of the engines")] = "User:engine",
    worker: Annotated[str, _principal("The user of the workers of these apps")] = "User:worker",
    producer: Annotated[str, _principal("The user of programs that write to `events` themselves")] = "User:producer",
    operator: Annotated[str, _principal("The user of `topics apply`, `topics check` and `dead-letters`")] = (
        "User:operator"
    ),
    gateway: Annotated[str, _principal("The user of the gateways of apps of Inngest SDKs")] = "",
    form: Annotated[AclForm, typer.Option("--format", help="Shell commands for Kafka's tools, or JSON.")] = (
        AclForm.KAFKA
    ),
    kafka: Bootstrap = None,
    namespace: Namespace = None,
) -> None:
    """Print the access control lists that let each process do what it needs, and nothing else."""
    settings = kafka_settings_from(bootstrap=kafka, namespace=namespace)
    full_names(settings, expected_topics(apps or [], 1))
    found = expected_acls(settings, apps or [], Principals(engine, worker, producer, operator, gateway))
    out.text((render_acl_json(found) if form is AclForm.JSON else render_acl_commands(settings, found)).rstrip("\n"))
