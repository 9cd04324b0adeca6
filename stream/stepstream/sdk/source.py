"""Sources: how the records of other topics become events."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.common import get_event_factory_for_version
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.formats.json import JSONFormat

from stepstream.contract.codec import Json, dump_json, load_json, type_name
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import EventRecord, check_batch, check_event, check_event_name
from stepstream.contract.limits import Limits
from stepstream.contract.text.durations import moment_ms
from stepstream.expressions.errors import EvaluationError, ExpressionError
from stepstream.sdk.deferred import check, evaluate
from stepstream.sdk.errors import DefinitionError

Format = Literal["json", "cloudevents"]
FORMATS: tuple[Format, ...] = ("json", "cloudevents")
VARIABLES = frozenset({"value", "key", "headers", "topic", "partition", "offset", "timestamp"})
_TOPIC_CHARACTERS_MAX = 249


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """A record of a source, as a callable mapping receives it.

    Attributes:
        topic: The topic.
        partition: The partition.
        offset: The offset in the partition.
        key: The key as a string; bytes that are not UTF-8 are replaced.
        headers: The headers as strings, the last of each name.
        timestamp: The record's own time in Unix milliseconds.
        value: The decoded JSON value; for a CloudEvent an object with its attributes and its `data`.
    """

    topic: str
    partition: int
    offset: int
    key: str
    headers: Mapping[str, str]
    timestamp: int
    value: Json


Mapped = str | Callable[[SourceRecord], Any]


@dataclass(frozen=True, slots=True)
class Source:
    """A topic whose records become events. `app.source(…)` creates it.

    Each mapping is a CEL expression on `value`, `key`, `headers`, `topic`, `partition`, `offset` and `timestamp`, or a
    callable that takes a `SourceRecord`. A record that cannot be decoded, or whose mapping fails or returns a
    value of the wrong type, goes to the topic `dead-letters` with the reason.

    Args:
        topic: The full name of the topic; the namespace is not added.
        name: The name of the events. For CloudEvents it may be omitted: the name is then their `type`.
        id: The identity of the event: a non-empty string or an integer. By default `TOPIC-PARTITION-OFFSET`, so
            that a record that is read twice starts a function once; for a CloudEvent its `source` and `id`.
        data: The data of the event, an object. By default the value; for a CloudEvent its data.
        ts: The time of the event: Unix milliseconds or an ISO 8601 string. By default the time of the record, or
            of the CloudEvent.
        if_: True or false; a record for which it is false is skipped.
        format: `"json"`, or `"cloudevents"` in structured or binary mode.

    Raises `DefinitionError`.
    """

    topic: str
    name: str = ""
    id: Mapped = ""
    data: Mapped = ""
    ts: Mapped = ""
    if_: Mapped = ""
    format: Format = "json"

    def __post_init__(self) -> None:
        at = f"source of topic {self.topic!r}"
        if not 0 < len(self.topic) <= _TOPIC_CHARACTERS_MAX:
            raise DefinitionError(f"{at}: use a topic name of 1 to {_TOPIC_CHARACTERS_MAX} characters")
        if self.format not in FORMATS:
            raise DefinitionError(f"{at}: format {self.format!r} is not one of {', '.join(FORMATS)}")
        if not self.name and self.format == "json":
            raise DefinitionError(f'{at}: give its events a name, for example name="shop/order.created"')
        try:
            if self.name:
                check_event_name(self.name)
            for expression in (self.id, self.data, self.ts, self.if_):
                if isinstance(expression, str) and expression:
                    check(expression, VARIABLES)
        except (InvalidInput, ExpressionError) as error:
            raise DefinitionError(f"{at}: {error}") from None

    def event_of(
        self,
        value: bytes,
        headers: Mapping[str, bytes],
        *,
        partition: int,
        offset: int,
        key: bytes,
        timestamp: int,
        limits: Limits,
    ) -> EventRecord | None:
        """Return the event of a record, None for one that `if_` skips; raise InvalidInput or TooLarge."""
        decoded, defaults = _decode(self, value, headers)
        texts = {name: content.decode(errors="replace") for name, content in headers.items()}
        record = SourceRecord(self.topic, partition, offset, key.decode(errors="replace"), texts, timestamp, decoded)
        if self.if_ and not _truth(self._mapped("if_", self.if_, record)):
            return None
        data = self._mapped("data", self.data, record) if self.data else defaults.data
        if not isinstance(data, Mapping):
            raise InvalidInput(f"the value is a {type_name(data)}; map it to an object with data=", "data")
        place = f"{self.topic}-{partition}-{offset}"
        event = EventRecord(
            self.name or defaults.name,
            dump_json(dict(data), "data"),
            _identity(self._mapped("id", self.id, record)) if self.id else defaults.id or place,
            moment_ms(self._mapped("ts", self.ts, record)) if self.ts else defaults.ts or timestamp,
        )
        check_event(event)
        check_batch([event], limits)
        return event

    def _mapped(self, field: str, by: Mapped, record: SourceRecord) -> Any:
        try:
            if callable(by):
                return by(record)
            return evaluate(by, {name: getattr(record, name) for name in VARIABLES})
        except EvaluationError as error:
            raise InvalidInput(str(error), field) from None
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything
            raise InvalidInput(f"{type(error).__name__}: {error}", field) from None


def _identity(value: Any) -> str:
    """Return an id as a string; null would be the same id for every record that has none."""
    match value:
        case str() if value:
            return value
        case int() if not isinstance(value, bool):
            return str(value)
    found = "an empty string" if value == "" else f"of type {type_name(value)}"
    raise InvalidInput(f"the result is {found}; it must be a non-empty string or an integer", "id")


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(f"the result is of type {type_name(value)}; it must be true or false", "if_")
    return value


@dataclass(frozen=True, slots=True)
class _Defaults:
    """The values of fields that have no mapping."""

    data: Any
    name: str = ""
    id: str = ""
    ts: int = 0


def _decode(source: Source, value: bytes, headers: Mapping[str, bytes]) -> tuple[Json, _Defaults]:
    if source.format == "json":
        decoded = load_json(value)
        return decoded, _Defaults(decoded)
    given: set[str] = set()

    def make(attributes: dict[str, Any], data: Any) -> BaseCloudEvent:
        # The library generates a missing id or time: the record would become a different event each time it is read.
        given.update(attributes)
        if "id" not in given:
            raise InvalidInput("not a CloudEvent: the attribute id is missing", "value")
        return get_event_factory_for_version(str(attributes.get("specversion", "")))(attributes, data)

    try:
        event = from_kafka(KafkaMessage(headers=dict(headers), key=None, value=value), JSONFormat(), make)
        attributes = {name: item for name, item in event.get_attributes().items() if name in given}
        time = event.get_time() if "time" in given else None
        decoded = load_json(dump_json({**_texts(attributes), "data": event.get_data()}, "the CloudEvent"))
        identity = f"{event.get_source()}#{event.get_id()}"
        return decoded, _Defaults(
            event.get_data(), event.get_type(), identity, int(time.timestamp() * 1_000) if time else 0
        )
    except InvalidInput:
        raise
    except Exception as error:  # noqa: BLE001 - the library raises errors of many kinds
        raise InvalidInput(f"not a CloudEvent: {type(error).__name__}: {error}", "value") from None


def _texts(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item if isinstance(item, str | int | bool) else str(item) for name, item in attributes.items()}
