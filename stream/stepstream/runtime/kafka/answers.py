"""What Kafka answers, as stepstream has it: sizes, configurations, members, refusals, records."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from stepstream.contract.errors import StepstreamError
from stepstream.runtime.kafka.settings import KafkaSettings
from stepstream.runtime.ports import LogRecord

_NO_ERROR, _TOPIC_ALREADY_EXISTS = 0, 36

_REMEDIES = {
    "INVALID_REPLICATION_FACTOR": "give another --replicas, at most as many as there are brokers",
    "POLICY_VIOLATION": "`stepstream topics render` prints what is wanted, for those who keep the cluster",
    "TOPIC_AUTHORIZATION_FAILED": "its user needs the right Create on these topics",
    "CLUSTER_AUTHORIZATION_FAILED": "its user needs the right Create on these topics, or on the cluster",
    "INVALID_TOPIC_EXCEPTION": "choose another --namespace, or another name for the app",
    "REQUEST_TIMED_OUT": "run it again; topics that are there stay as they are",
}


class TopicsRefused(StepstreamError):
    """Kafka has not made some topics; the message has its words, and what to do.

    `refused` has of each topic the name of the error and, where Kafka has one, its message.
    """

    code = "topics-refused"

    def __init__(self, refused: Mapping[str, tuple[str | None, ...]]) -> None:
        by_reason: dict[tuple[str | None, ...], list[str]] = {}
        for topic, reason in refused.items():
            by_reason.setdefault(reason, []).append(topic)
        parts = []
        for (name, *words), topics in by_reason.items():
            told = ": ".join(filter(None, [name, *words])).rstrip(".")
            remedy = _REMEDIES.get(name or "", "mend that and run it again; topics that are there stay as they are")
            parts.append(f"Kafka does not make {', '.join(map(repr, topics))}: {told}; {remedy}")
        super().__init__("\n".join(parts))
        self.refused = refused


class Extent(NamedTuple):
    """How large a topic is; `replicas` are those of its partition that has the fewest."""

    partitions: int
    replicas: int


def extents_in(described: Iterable[Mapping[str, Any]], settings: KafkaSettings) -> dict[str, Extent]:
    """Return the topics of the namespace, by their plain names, and how large each is."""
    prefix = settings.name("")
    return {
        settings.plain(topic["topic"]): Extent(
            len(topic["partitions"]), min((len(each["replicas"]) for each in topic["partitions"]), default=0)
        )
        for topic in described
        if topic["topic"].startswith(prefix) and not topic["is_internal"]
    }


def refused_in(errors: Iterable[Any], name_of: Callable[[int], str]) -> dict[str, tuple[str | None, ...]]:
    """Return the topics that were not made though they are not there, each with the error's name and message."""
    return {
        topic: (name_of(code), *words)
        for topic, code, *words in errors
        if code not in (_NO_ERROR, _TOPIC_ALREADY_EXISTS)
    }


def configs_in(answers: Iterable[Any]) -> dict[str, dict[str, str]]:
    """Return the configuration of each topic that may be read."""
    places = [place for answer in answers for place in answer.resources]
    return {name: {key: value for key, value, *_ in entries} for _, _, _, name, entries in places}


def clients_in(answers: Iterable[Any]) -> list[str]:
    """Return what the members of the groups call themselves as clients, one for each."""
    groups = [described for answer in answers for described in answer.groups]
    return [client for *_, members in (described[:6] for described in groups) for _, client, *_ in members]


def _nulls_of(record: Any) -> tuple[str, ...]:
    return tuple(name for name in ("key", "value") if getattr(record, name) is None)


def records_in(found: Mapping[Any, Iterable[Any]], settings: KafkaSettings) -> list[LogRecord]:
    """Return the records that a consumer has fetched, with the plain names of their topics."""
    return [
        LogRecord(
            settings.plain(record.topic),
            record.partition,
            record.offset,
            record.key or b"",
            record.value or b"",
            tuple(record.headers),
            record.timestamp,
            () if record.key is not None and record.value is not None else _nulls_of(record),
        )
        for records in found.values()
        for record in records
    ]
