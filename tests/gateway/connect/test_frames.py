"""The frames that SDKs sent and received: all of their fields are known, and replies mean what responses mean."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from inngest.connect._internal import connect_pb2 as sdk_pb

from stepstream.contract.errors import InvalidInput
from stepstream.gateway.connect import frames_pb2 as pb
from stepstream.gateway.connect.frames import frame, read, response_of
from stepstream.gateway.wire.answers import Answer, Failed, Ops, Returned, read_answer
from tests.gateway.connect.captured import CAPTURES, FORMS, all_payloads, frames, message_of


@pytest.mark.parametrize("kind", FORMS)
def test_captured_frames_have_the_bytes_of_the_sdk(kind: str) -> None:
    """Each field has the number that the official SDK for Python gives it, in both directions."""
    form, found = FORMS[kind], [payload for each, payload in all_payloads() if each == kind]
    theirs: Any = getattr(sdk_pb, form.__name__)
    assert found
    for payload in found:
        message = message_of(form, payload)
        data = frame(getattr(pb, kind), message)
        envelope = sdk_pb.ConnectMessage.FromString(data)
        assert sdk_pb.GatewayMessageType.Name(envelope.kind) == kind
        assert envelope.payload == message_of(theirs, payload).SerializeToString()
        assert read(form, read(pb.ConnectMessage, data).payload) == message


def test_all_messages_have_the_fields_of_the_sdk() -> None:
    """Those of no capture too, as far as this SDK has them."""
    for name, ours in pb.DESCRIPTOR.message_types_by_name.items():
        theirs = sdk_pb.DESCRIPTOR.message_types_by_name.get(name, ours)
        numbers = {field.number: (field.name, field.type, field.has_presence) for field in theirs.fields}
        for field in ours.fields:
            known = (field.name, field.type, field.has_presence)
            assert numbers.get(field.number, known) == known, f"{name}.{field.name}"
    kinds = {value.number: value.name for value in sdk_pb.DESCRIPTOR.enum_types_by_name["GatewayMessageType"].values}
    assert kinds.items() <= {value.number: value.name for value in pb.FrameKind.DESCRIPTOR.values}.items()


def test_captured_frames_are_of_known_kinds() -> None:
    """Frames without a message are bare signals."""
    kinds = {each["kind"] for name in CAPTURES for each in frames(name)}
    assert kinds > FORMS.keys()
    assert all(read(pb.ConnectMessage, frame(getattr(pb, kind))).payload == b"" for kind in kinds)


def meaning(reply: pb.SDKResponse) -> Answer:
    """Return what a reply means."""
    found = response_of(reply, "go:v0.16.0")
    return read_answer(found.status, found.headers, found.body)


def test_captured_replies_mean_what_responses_mean() -> None:
    """A reply without a status has ops, one that is done has the output, and others are failures."""
    expected: dict[tuple[int, bool], type[Any]] = {
        (pb.NOT_COMPLETED, False): Ops,
        (pb.NOT_COMPLETED, True): Ops,
        (pb.DONE, False): Returned,
        (pb.DONE, True): Failed,
        (pb.ERROR, False): Failed,
        (pb.ERROR, True): Failed,
    }
    seen = set()
    for kind, payload in all_payloads():
        if kind != "WORKER_REPLY":
            continue
        reply = message_of(pb.SDKResponse, payload)
        found = meaning(reply)
        seen.add((reply.status, reply.no_retry))
        assert type(found) is expected[reply.status, reply.no_retry]
        assert found.sdk == (reply.sdk_version or "go:v0.16.0")
        assert found.version == (reply.request_version or 2)
        if isinstance(found, Failed | Ops):
            assert found.final == reply.no_retry
            assert (found.retry_after is not None) == bool(reply.retry_after)
        if isinstance(found, Failed):
            assert found.error.message in ("boom", "no use", "later", "error calling function: always")
    assert seen >= {(pb.NOT_COMPLETED, True), (pb.DONE, True), (pb.ERROR, False), (pb.ERROR, True)}


@pytest.mark.parametrize(
    ("form", "data"), [(pb.ConnectMessage, b"\xff"), (pb.SDKResponse, b"\x0a\x05ab"), (pb.AuthData, b"\x0a\x01\xff")]
)
def test_malformed_bytes_are_refused(form: Callable[[], Any], data: bytes) -> None:
    """The error says what was expected."""
    with pytest.raises(InvalidInput, match="bytes are not a"):
        read(form, data)  # type: ignore[arg-type]


def test_messages_of_captures_lose_nothing() -> None:
    """What a capture has of a message is in the message."""
    for kind, payload in all_payloads():
        shown = MessageToDict(message_of(FORMS[kind], payload), preserving_proto_field_name=True)
        assert shown.keys() == payload.keys()
