"""Workers of each SDK as they were captured, against the server: what they are sent, and what they reply."""

from collections.abc import Mapping
from typing import Any

import pytest

from stepstream.gateway.connect import frames_pb2 as pb
from stepstream.gateway.wire.answers import Failed, Ops, Returned, read_answer
from tests.gateway.connect.captured import FORMS, frames, json_of, message_of
from tests.gateway.connect.worker import Server, Worker, serving

READY = {"GATEWAY_CONNECTION_READY", "GATEWAY_HELLO"}
# Ours has them too: the worker returns them.
MORE = {"system_trace_ctx", "user_trace_ctx", "job_id"}


def fields_of(message: Any) -> set[str]:
    """Return the names of the fields that a message has."""
    return {field.name for field, _ in message.ListFields()}


@pytest.mark.parametrize("name", ["py-connect", "js3-connect", "js4-connect", "go-connect"])
async def test_captured_worker_is_served(name: str) -> None:
    """Each frame of the capture is sent or expected in its order, with the fields that it had."""
    captured = [each for each in frames(name) if "HEARTBEAT" not in each["kind"]]
    (hello,) = [each["payload"] for each in captured if each["kind"] == "WORKER_CONNECT"]
    configs = json_of(hello["apps"][0]["functions"])
    async with serving() as server, server.dial() as worker:
        await worker.expect(pb.GATEWAY_HELLO)
        await worker.say(pb.WORKER_CONNECT, _connecting(hello, worker))
        ready = await worker.expect(pb.GATEWAY_CONNECTION_READY, pb.GatewayConnectionReadyData)
        assert fields_of(ready) == {"heartbeat_interval", "extend_lease_interval"}
        assert {each.id for each in server.registered[0].functions} == {each["id"] for each in configs}
        assert not server.registered[0].refused
        begin = next(at for at, each in enumerate(captured) if each["kind"] == "GATEWAY_EXECUTOR_REQUEST")
        assert [each["kind"] for each in captured[:begin] if each["kind"] not in READY] == ["WORKER_CONNECT"] + [
            "WORKER_READY"
        ] * (name == "js4-connect")
        if name == "js4-connect":
            await worker.say(pb.WORKER_READY)
        await _exchange(captured[begin:], server, worker)


def _connecting(hello: Mapping[str, Any], worker: Worker) -> pb.WorkerConnectRequestData:
    message: pb.WorkerConnectRequestData = message_of(pb.WorkerConnectRequestData, hello)
    message.connection_id = worker.started.connection_id
    message.auth_data.CopyFrom(worker.tokens)
    return message


async def _exchange(captured: list[Mapping[str, Any]], server: Server, worker: Worker) -> None:
    """Make the calls of a capture, one after the other, and check their outcomes."""
    call, asked = None, pb.GatewayExecutorRequestData()
    for each in captured:
        kind, payload = each["kind"], each["payload"]
        message: Any = message_of(FORMS[kind], payload) if payload else None
        match kind:
            case "GATEWAY_EXECUTOR_REQUEST":
                call = server.call(message.step_id, message.request_id, message.function_slug)
                asked = await worker.asked()
                assert fields_of(asked) - MORE == fields_of(message)
                assert (asked.app_name, asked.function_slug) == (message.app_name, message.function_slug)
            case "WORKER_REPLY_ACK":
                acknowledged = await worker.expect(pb.WORKER_REPLY_ACK, FORMS[kind])
                assert acknowledged == message
                assert call is not None
                response = await call
                answer = read_answer(response.status, response.headers, response.body)
                assert isinstance(answer, Returned | Ops | Failed)
                assert answer.sdk.startswith(("inngest-py:", "inngest-js:", "go:"))
            case _:
                await worker.say(getattr(pb, kind), message)
