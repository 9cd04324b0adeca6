"""Frames of Connect: protobuf messages that gateway and workers exchange, each with its kind."""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import MIB
from stepstream.gateway.connect import frames_pb2 as pb
from stepstream.gateway.runs.transport import Response

M = TypeVar("M", bound=Message)
FRAME_BYTES_MAX = 8 * MIB
# A worker that leaves the version out uses this one.
_VERSION = 2
_STATUSES = {pb.NOT_COMPLETED: 206, pb.DONE: 200}
_FAILED, _FAILED_FOR_GOOD = 500, 400


def frame(kind: pb.FrameKind, message: Message | None = None) -> bytes:
    """Return a frame; some kinds have no message."""
    payload = message.SerializeToString() if message is not None else b""
    return pb.ConnectMessage(kind=kind, payload=payload).SerializeToString()


def read(form: type[M], data: bytes) -> M:
    """Return the message in some bytes; raise InvalidInput if they are not one of this form."""
    message = form()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise InvalidInput(f"{len(data):,} bytes are not a {form.__name__}", "payload") from None
    return message


def response_of(reply: pb.SDKResponse, sdk: str) -> Response:
    """Return the reply of a worker as the response of an app; `sdk` is that of a worker whose replies do not name it.

    A reply that is done and must not be retried is a failure for good: SDKs for TypeScript send their 400 that way.
    """
    is_failure = reply.status == pb.DONE and reply.no_retry
    status = _FAILED_FOR_GOOD if is_failure else _STATUSES.get(reply.status, _FAILED)
    headers = {
        "X-Inngest-Sdk": reply.sdk_version or sdk,
        "X-Inngest-Req-Version": str(reply.request_version or _VERSION),
        "X-Inngest-No-Retry": "true" if reply.no_retry else "false",
    }
    if reply.retry_after:
        headers["Retry-After"] = reply.retry_after
    return Response(status, headers, reply.body)
