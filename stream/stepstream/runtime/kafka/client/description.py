"""The request that describes topics with their ids; the requests of aiokafka return no ids.

A topic that was deleted and created again has another id. Kafka returns ids since 2.8 (KIP-516, version 10 of the
request); older brokers answer the older request, without ids.
"""

import base64
from collections.abc import Sequence
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v5
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

_API_KEY = 3
_ID_BYTES = 16
_NO_ID = bytes(_ID_BYTES)


class _Id:
    """A UUID on the wire, as Kafka's tools print it."""

    @classmethod
    def decode(cls, data: Any) -> str:
        raw = data.read(_ID_BYTES)
        return "" if raw == _NO_ID else base64.urlsafe_b64encode(raw).decode().rstrip("=")

    @classmethod
    def encode(cls, _value: str) -> bytes:
        return _NO_ID

    @classmethod
    def repr(cls, value: object) -> str:
        return repr(value)


class _Response(Response):  # type: ignore[misc]  # aiokafka's classes have no types.
    API_KEY = _API_KEY
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Id),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _RequestWithIds(RequestStruct):  # type: ignore[misc]  # As above.
    API_KEY = _API_KEY
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Id), ("topic", CompactString("utf-8")), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class DescribeTopics(Request[MetadataRequest_v5 | _RequestWithIds]):  # type: ignore[misc]  # As above.
    """Describes some topics, or all that the user may see (None); it creates none, whatever the broker's settings."""

    API_KEY = _API_KEY

    def __init__(self, topics: Sequence[str] | None) -> None:
        self._topics = topics

    def build(self, request_struct_class: Any) -> Any:
        """Return the request in the newest version that the broker has."""
        names = None if self._topics is None else list(self._topics)
        if request_struct_class is MetadataRequest_v5:
            return MetadataRequest_v5(names, False)
        no_tags: dict[int, bytes] = {}
        topics = None if names is None else [("", name, no_tags) for name in names]
        return _RequestWithIds(topics, False, False, False, {})
