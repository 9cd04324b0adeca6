"""Frames of Connect as they were captured, and the messages that they contain."""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from stepstream.gateway.connect import frames_pb2 as pb
from tests.gateway.exchanges import names, read

CAPTURES = names("connect/*")
# The messages of frames by kind; all other kinds have none.
FORMS: Mapping[str, type[Message]] = {
    "WORKER_CONNECT": pb.WorkerConnectRequestData,
    "GATEWAY_CONNECTION_READY": pb.GatewayConnectionReadyData,
    "GATEWAY_EXECUTOR_REQUEST": pb.GatewayExecutorRequestData,
    "WORKER_REQUEST_ACK": pb.WorkerRequestAckData,
    "WORKER_REPLY": pb.SDKResponse,
    "WORKER_REPLY_ACK": pb.WorkerReplyAckData,
    "WORKER_REQUEST_EXTEND_LEASE": pb.WorkerRequestExtendLeaseData,
    "WORKER_REQUEST_EXTEND_LEASE_ACK": pb.WorkerRequestExtendLeaseAckData,
}


def frames(name: str) -> list[Mapping[str, Any]]:
    """Return the frames of a capture."""
    return [each.fields for each in read(f"connect/{name}") if "kind" in each.fields]


def all_payloads() -> Iterator[tuple[str, Any]]:
    """Yield the kind and the payload of all frames that have one."""
    for name in CAPTURES:
        yield from ((each["kind"], each["payload"]) for each in frames(name) if each["payload"])


def message_of(form: type[Message], payload: Any) -> Any:
    """Return a captured payload as a message; raise ParseError if a field of it is not known."""
    return ParseDict(_encoded(payload), form())


def json_of(payload: Any) -> Any:
    """Return the JSON value of captured bytes."""
    return payload["_json_bytes"]


def _encoded(value: Any) -> Any:
    """Return a value with bytes that contain JSON in base64."""
    match value:
        case {"_json_bytes": content}:
            return base64.b64encode(json.dumps(content).encode()).decode()
        case dict():
            return {name: _encoded(item) for name, item in value.items()}
        case list():
            return [_encoded(item) for item in value]
    return value
