"""The access control lists with which each process may do what it needs, and nothing else."""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stepstream.contract.topics import (
    CHANGELOG,
    COMMANDS,
    DEAD_LETTERS,
    ENGINES,
    EVENTS,
    FUNCTIONS,
    HISTORY,
    INBOX,
    LIVE,
    LOGS,
    REPLIES,
    commands_topic,
)
from stepstream.runtime.kafka.client.settings import KafkaSettings


class Acl(NamedTuple):
    """What a principal may do with a resource of the type topic, group or transactional-id.

    The name of a `prefixed` resource is the beginning of many names.
    """

    principal: str
    type: str
    name: str
    operations: tuple[str, ...]
    prefixed: bool = False


@dataclass(frozen=True, slots=True)
class Principals:
    """The users of Kafka as which processes connect, such as `User:engine`; without a name a role gets no ACLs.

    engine    the engines
    worker    the workers of the given apps
    producer  programs that write events to the topic themselves
    operator  who creates and checks topics, and redrives dead letters
    gateway   the gateways, for all apps of Inngest SDKs
    """

    engine: str = ""
    worker: str = ""
    producer: str = ""
    operator: str = ""
    gateway: str = ""


_READ, _WRITE, _BOTH = ("Describe", "Read"), ("Describe", "Write"), ("Describe", "Read", "Write")


def expected_acls(settings: KafkaSettings, apps: Sequence[str], of: Principals) -> list[Acl]:
    """Return the ACLs of each principal; apps are APP, or APP.QUEUE for the workers of a queue."""
    roles = (
        (of.engine, _engine()),
        (of.worker, _worker(apps)),
        (of.producer, _producer()),
        (of.operator, _operator()),
        (of.gateway, _gateway()),
    )
    return [
        acl._replace(principal=principal, name=settings.name(acl.name))
        for principal, acls in roles
        if principal
        for acl in acls
    ]


def _engine() -> Iterator[Acl]:
    for topic in (INBOX, CHANGELOG, HISTORY, EVENTS, REPLIES, ENGINES):
        yield Acl("", "topic", topic, (*_BOTH, "DescribeConfigs"))
    for topic in (FUNCTIONS, LOGS, LIVE):
        yield Acl("", "topic", topic, (*_READ, "DescribeConfigs"))
    # Its page lists dead letters, and sends them again.
    yield Acl("", "topic", DEAD_LETTERS, (*_BOTH, "DescribeConfigs"))
    yield Acl("", "transactional-id", "redrive", _WRITE)
    # An engine creates a commands topic that was deleted.
    yield Acl("", "topic", f"{COMMANDS}.", (*_WRITE, "Create", "DescribeConfigs"), prefixed=True)
    yield Acl("", "group", "engine", _READ)
    # It measures the backlogs of workers.
    yield Acl("", "group", "worker-", ("Describe",), prefixed=True)
    yield Acl("", "transactional-id", "shard-", _WRITE, prefixed=True)


def _worker(apps: Sequence[str]) -> Iterator[Acl]:
    for app in apps:
        yield Acl("", "topic", commands_topic(app), (*_READ, "DescribeConfigs"))
        yield Acl("", "group", f"worker-{app}", _READ)
        yield Acl("", "group", f"sources-{app}", _READ)
    for topic in (INBOX, DEAD_LETTERS, EVENTS, LOGS, LIVE):
        yield Acl("", "topic", topic, (*_WRITE, "DescribeConfigs"))
    yield Acl("", "topic", FUNCTIONS, (*_BOTH, "DescribeConfigs"))
    # At its start a worker checks that all topics exist, and reads the number of shards.
    yield Acl("", "topic", CHANGELOG, _READ)
    # Its code receives the answers to the signals and cancellations that it sends.
    yield Acl("", "topic", REPLIES, (*_READ, "DescribeConfigs"))
    for topic in (HISTORY, ENGINES):
        yield Acl("", "topic", topic, ("Describe",))


def _gateway() -> Iterator[Acl]:
    """Yield what the workers of any app need; a gateway also creates the topics of new apps, and lists runs."""
    yield Acl("", "topic", f"{COMMANDS}.", (*_READ, "Create", "DescribeConfigs"), prefixed=True)
    yield Acl("", "group", "worker-", _READ, prefixed=True)
    yield from (acl for acl in _worker(()) if acl.name not in (HISTORY, LOGS, LIVE))
    yield Acl("", "topic", HISTORY, (*_READ, "DescribeConfigs"))
    # It writes the metadata that apps send.
    yield Acl("", "topic", LOGS, (*_BOTH, "DescribeConfigs"))
    # It writes what apps publish, and sends it to their subscribers.
    yield Acl("", "topic", LIVE, (*_BOTH, "DescribeConfigs"))


def _producer() -> Iterator[Acl]:
    yield Acl("", "topic", EVENTS, _WRITE)


def _operator() -> Iterator[Acl]:
    for topic in (INBOX, EVENTS, FUNCTIONS):
        yield Acl("", "topic", topic, (*_WRITE, "Create", "DescribeConfigs"))
    yield Acl("", "topic", f"{COMMANDS}.", (*_WRITE, "Create", "DescribeConfigs"), prefixed=True)
    yield Acl("", "topic", DEAD_LETTERS, (*_BOTH, "Create", "DescribeConfigs"))
    # The number of shards is recorded in the changelog.
    yield Acl("", "topic", CHANGELOG, (*_READ, "Create", "DescribeConfigs"))
    for topic in (HISTORY, REPLIES, ENGINES, LOGS, LIVE):
        yield Acl("", "topic", topic, ("Describe", "Create", "DescribeConfigs"))
    yield Acl("", "transactional-id", "redrive", _WRITE)


def render_acl_commands(settings: KafkaSettings, acls: Sequence[Acl]) -> str:
    """Return shell commands of `kafka-acls.sh`, one per line; ACLs that differ only in their names share a command."""
    names: dict[Acl, list[str]] = {}
    for acl in acls:
        names.setdefault(acl._replace(name=""), []).append(acl.name)
    lines = (shlex.join(_command(settings.bootstrap, acl, found)) for acl, found in names.items())
    return "".join(f"{line}\n" for line in lines)


def _command(bootstrap: str, acl: Acl, names: Sequence[str]) -> list[str]:
    words = ["kafka-acls.sh", "--bootstrap-server", bootstrap, "--add", "--allow-principal", acl.principal]
    words += [word for name in names for word in (f"--{acl.type}", name)]
    words += ["--resource-pattern-type", "prefixed" if acl.prefixed else "literal"]
    return words + [word for operation in acl.operations for word in ("--operation", operation)]


def render_acl_json(acls: Sequence[Acl]) -> str:
    """Return the ACLs as JSON, for other tools."""
    return json.dumps([acl._asdict() for acl in acls], indent=2) + "\n"
