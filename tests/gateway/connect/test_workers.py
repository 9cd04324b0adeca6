"""Calls over connections of workers: leases, lost workers, capacity, versions, and the end of either side."""

import asyncio
from typing import Any

import pytest

from stepstream.gateway.connect import connect_server
from stepstream.gateway.connect import frames_pb2 as pb
from stepstream.gateway.connect.connect_transport import ConnectTransport
from stepstream.gateway.connect.worker_call import CALL_LIFE, WorkerCall, WorkerCallPhase
from stepstream.gateway.runs.transport import NotCalled, Unreachable
from stepstream.gateway.wire.calls import CALL_BYTES_MAX, app_uuid, function_uuid
from tests.fakes.waiting import iterate, until
from tests.gateway.connect.worker import NoHttp, serving


async def test_call_reaches_the_worker_and_its_reply_is_the_response() -> None:
    """The request has what workers return, the function and the step; the SDK is that of the worker."""
    async with serving() as server, server.worker() as worker:
        call = server.call("c0ffee")
        asked = await worker.asked()
        assert (asked.app_name, asked.function_slug, asked.step_id, asked.run_id) == ("demo", "demo-f", "c0ffee", "run")
        assert (asked.function_id, asked.app_id, asked.job_id) == (function_uuid("demo-f"), app_uuid("demo"), "job")
        assert (asked.request_payload, asked.system_trace_ctx, asked.user_trace_ctx) == (b"{}", b"{}", b"{}")
        assert asked.account_id
        assert asked.env_id
        await worker.acknowledge(asked)
        assert await worker.extend(asked)
        await worker.reply(asked, '"done"')
        response = await call
        assert (response.status, response.body) == (200, b'"done"')
        assert response.headers["X-Inngest-Sdk"] == "py:v0.5.19"
        await worker.reply(asked, '"again"')


async def test_app_with_another_name_in_topics_is_called_by_its_own() -> None:
    """A worker finds its functions by the name that it gave."""
    async with serving() as server, server.worker(app="my shop", functions=("my shop-f",)) as worker:
        calls, topic_name = server.connect.calls, server.registered[0].topic_name
        request = pb.GatewayExecutorRequestData(request_id="R", function_slug="my shop-f")
        call = asyncio.ensure_future(calls.call(topic_name, request))
        asked = await worker.asked()
        assert asked.app_name == "my shop" != topic_name
        await worker.reply(asked)
        await call


async def test_call_without_a_worker_waits() -> None:
    """It is no failed attempt, and the developer reads once why nothing happens."""
    async with serving() as server:
        calls = [server.call(request="A"), server.call(request="B")]
        await iterate()
        assert server.lines == ["no worker of app demo is connected: its calls wait"]
        async with server.worker(functions=("demo-g",)) as other, server.worker() as worker:
            asked = [await worker.asked(), await worker.asked()]
            assert [each.request_id for each in asked] == ["A", "B"]
            for each in asked:
                await worker.reply(each)
            await other.heartbeat()
        assert [(await call).status for call in calls] == [200, 200]


async def test_worker_gets_no_more_calls_than_it_takes() -> None:
    """The call that has waited the longest is next; apps of one worker share its capacity."""
    async with serving() as server, server.worker(functions=("demo-f", "demo-g"), max_worker_concurrency=2) as worker:
        functions = ["demo-f", "demo-f", "demo-g", "demo-f"]
        calls = [server.call(request=str(number), function=each) for number, each in enumerate(functions)]
        first, second = await worker.asked(), await worker.asked()
        await worker.heartbeat()
        await worker.reply(second)
        third = await worker.asked()
        await worker.reply(first)
        last = await worker.asked()
        assert [each.request_id for each in (first, second, third, last)] == ["0", "1", "2", "3"]
        await worker.reply(third)
        await worker.reply(last)
        await asyncio.gather(*calls)


async def test_calls_go_to_the_worker_with_the_most_room() -> None:
    """One that takes ten calls gets more than one that takes two."""
    async with (
        serving() as server,
        server.worker(instance_id="small", max_worker_concurrency=2) as small,
        server.worker(instance_id="large", max_worker_concurrency=10) as large,
    ):
        await small.heartbeat()
        await large.heartbeat()
        calls = [server.call(request=str(number)) for number in range(6)]
        await iterate()
        found = {each.instance: len(each.calls) for each in server.connect.calls.connections}
        assert found == {"small": 1, "large": 5}
        for call in calls:
            call.cancel()


async def test_newest_version_of_an_app_is_preferred() -> None:
    """An older one gets calls while the newer ones have no room, and of functions that only it has."""
    async with (
        serving() as server,
        server.worker(version="1", functions=("demo-f", "demo-old")) as old,
        server.worker(version="2", max_worker_concurrency=1) as new,
        server.worker(version="1", max_worker_concurrency=9) as again,
    ):
        for each in (old, new, again):
            await each.heartbeat()
        calls = [server.call(request="A"), server.call(request="B", function="demo-old")]
        assert (await new.asked()).request_id == "A"
        assert (await old.asked()).request_id == "B"
        calls.append(server.call(request="C"))
        assert (await again.asked()).request_id == "C"
        for call in calls:
            call.cancel()


async def test_call_of_a_worker_that_dies_goes_to_another_one() -> None:
    """It had acknowledged the call, so it has the time of the lease to connect again."""
    async with serving(lease_s=0.05) as server, server.worker(instance_id="other") as other:
        async with server.worker(version="2") as worker:
            call = server.call()
            asked = await worker.asked()
            await worker.acknowledge(asked)
        again = await other.asked()
        assert (again.request_id, again.request_payload) == (asked.request_id, asked.request_payload)
        assert again.lease_id != asked.lease_id
        await other.reply(again)
        assert (await call).status == 200


async def test_call_that_was_not_acknowledged_moves_at_once() -> None:
    """A worker that died before has not begun it."""
    async with serving() as server, server.worker() as other:
        async with server.worker(version="2") as worker:
            call = server.call()
            await worker.asked()
        await other.reply(await other.asked())
        assert (await call).status == 200


async def test_silence_about_a_call_sends_it_to_another_worker_only() -> None:
    """The only worker may be busy: it must not get the call twice."""
    async with serving(ack_s=0.02) as server, server.worker() as worker:
        call = server.call()
        asked = await worker.asked()
        # It gets the call no second time.
        await worker.say(pb.WORKER_PAUSE)
        await worker.heartbeat()
        async with server.worker(instance_id="other") as other:
            again = await other.asked()
            assert again.request_id == asked.request_id
            # The first worker acknowledges late, and has lost the call.
            await worker.acknowledge(asked)
            assert await worker.extend(asked) == ""
            assert await other.extend(again) == again.lease_id
            await worker.reply(asked)
            assert (await call).status == 200


async def test_lease_is_extended_over_another_connection() -> None:
    """A worker that connects again keeps its calls, and they count as its load there."""
    async with serving() as server:
        async with server.worker() as worker:
            call = server.call()
            asked = await worker.asked()
            await worker.acknowledge(asked)
            await worker.heartbeat()
        async with server.worker() as again:
            assert await again.extend(asked) == asked.lease_id
            (connection,) = server.connect.calls.connections
            assert list(connection.calls) == [asked.request_id]
            await again.reply(asked)
            assert (await call).status == 200
            assert not connection.calls


async def test_late_acknowledgement_over_a_new_connection_counts() -> None:
    """A worker that lost its connection after it received a call runs it."""
    async with serving() as server:
        async with server.worker(max_worker_concurrency=1) as worker:
            call = server.call()
            asked = await worker.asked()
        await until(lambda: not server.connect.calls.connections)
        async with server.worker(worker_manual_readiness_ack=True) as again:
            await again.acknowledge(asked)
            await again.say(pb.WORKER_READY)
            await again.heartbeat()
            await again.reply(asked)
            assert (await call).status == 200


async def test_expired_lease_is_extended_while_no_other_worker_has_the_call() -> None:
    """The worker that runs it was only slow."""
    async with serving(lease_s=0.02) as server, server.worker(max_worker_concurrency=1) as worker:
        call = server.call()
        asked = await worker.asked()
        await worker.say(pb.WORKER_PAUSE)
        await worker.acknowledge(asked)
        await worker.heartbeat()
        (connection,) = server.connect.calls.connections
        await until(lambda: not connection.calls)
        assert await worker.extend(asked) == asked.lease_id
        await worker.reply(asked)
        assert (await call).status == 200


async def test_call_that_loses_its_workers_repeatedly_fails() -> None:
    """It may be what ends them: the attempt has failed, and the next one follows later."""
    async with serving(lease_s=0.01) as server:
        call = server.call()
        for _ in range(3):
            async with server.worker() as worker:
                await worker.acknowledge(await worker.asked())
        with pytest.raises(Unreachable, match="3 workers in a row were lost"):
            await call


async def test_call_that_takes_too_long_fails() -> None:
    """Its lease is no longer extended."""
    async with serving(lease_s=0.05, call_s_max=0.01) as server, server.worker() as worker:
        call = server.call()
        asked = await worker.asked()
        await worker.acknowledge(asked)
        while await worker.extend(asked):
            await iterate()
        with pytest.raises(Unreachable, match=r"no reply within 0.01 s"):
            await call


async def test_cancelled_call_occupies_its_worker_until_the_reply() -> None:
    """The worker cannot be stopped: it extends the lease and replies, and nothing waits for that."""
    async with serving() as server, server.worker(max_worker_concurrency=1) as worker:
        call = server.call(request="A")
        asked = await worker.asked()
        call.cancel()
        following = server.call(request="B")
        await iterate()
        await worker.acknowledge(asked)
        assert await worker.extend(asked) == asked.lease_id
        await worker.reply(asked)
        await worker.reply(await worker.asked())
        assert (await following).status == 200
        assert call.cancelled()


async def test_cancelled_call_frees_a_worker_that_is_gone() -> None:
    """By the end of its lease, or of the connection."""
    async with serving(lease_s=0.02) as server, server.worker(max_worker_concurrency=1) as worker:
        call = server.call(request="A")
        await worker.acknowledge(await worker.asked())
        await worker.heartbeat()
        call.cancel()
        second = server.call(request="B")
        await worker.asked()
        second.cancel()
        waiting = server.call(request="C")
        await iterate()
        waiting.cancel()
        await iterate()
        async with server.worker(version="2") as other:
            await worker.ws.close()
            await until(lambda: len(server.connect.calls.connections) == 1)
            await other.heartbeat()


async def test_silent_worker_gets_no_calls_until_its_heartbeat() -> None:
    """Its connection works again then."""
    async with serving() as server, server.worker() as worker:
        await worker.heartbeat()
        (connection,) = server.connect.calls.connections
        connection.last_frame_at -= 2 * server.connect.calls.times.heartbeat_s
        call = server.call()
        await iterate()
        assert not connection.calls
        await worker.heartbeat()
        await worker.reply(await worker.asked())
        await call


async def test_worker_that_stays_silent_is_disconnected() -> None:
    """Its connection may be gone without a sign of that."""
    async with serving(heartbeat_s=0.01) as server, server.worker() as worker:
        assert await worker.closed() == (1008, "connect_worker_silent")


async def test_worker_that_pauses_ends_its_calls_and_gets_no_other() -> None:
    """It is about to stop."""
    async with serving() as server, server.worker() as worker:
        first = server.call(request="A")
        asked = await worker.asked()
        await worker.say(pb.WORKER_PAUSE)
        await worker.heartbeat()
        second = server.call(request="B")
        await worker.acknowledge(asked)
        await worker.extend(asked)
        await worker.reply(asked)
        await worker.ws.close()
        assert (await first).status == 200
        async with server.worker() as other:
            await other.reply(await other.asked())
            await second


@pytest.mark.parametrize("frame", [b"\xff", b"\x08\x06\x12\x01\xff"], ids=["frame", "payload"])
async def test_frame_that_cannot_be_read_ends_the_connection(frame: bytes) -> None:
    """So does text."""
    async with serving() as server, server.worker() as worker:
        await worker.ws.send_bytes(frame)
        assert await worker.closed() == (1008, "connect_worker_invalid_payload")
    async with serving() as server, server.worker() as worker:
        await worker.ws.send_str("text")
        assert await worker.closed() == (1008, "connect_worker_invalid_payload")


async def test_unknown_frames_are_ignored() -> None:
    """A later SDK may send more; a status needs no answer."""
    async with serving() as server, server.worker() as worker:
        await worker.say(pb.WORKER_STATUS, pb.WorkerStatusData(in_flight_request_ids=["A"]))
        await worker.ws.send_bytes(b"\x08\x63")
        await worker.heartbeat()


async def test_large_call_is_not_sent() -> None:
    """The SDK for Python would close the connection."""
    async with serving() as server, server.worker() as worker:
        transport = ConnectTransport("demo", NoHttp(), server.connect.calls)
        with pytest.raises(Unreachable, match="a worker takes at most"):
            await transport.post("wss://connect?fnId=demo-f&stepId=step", {}, b" " * (CALL_BYTES_MAX + 1))
        assert (await transport.post("http://app/", {}, b"")).body == b"http://app/"
        await worker.heartbeat()


async def test_draining_gateway_lets_workers_go_as_their_calls_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle worker leaves at once, a busy one after its reply; calls that no worker has are not made."""
    monkeypatch.setattr(connect_server, "_LEAVE_S", 0.02)
    async with (
        serving() as server,
        server.worker(instance_id="idle") as idle,
        server.worker(version="2", max_worker_concurrency=1) as busy,
    ):
        call = server.call(request="A")
        asked = await busy.asked()
        await busy.acknowledge(asked)
        waiting = server.call(request="B", function="demo-unknown")
        await busy.heartbeat()
        server.connect.drain()
        await idle.expect(pb.GATEWAY_CLOSING)
        with pytest.raises(NotCalled):
            await waiting
        await busy.extend(asked)
        await busy.reply(asked)
        await busy.expect(pb.GATEWAY_CLOSING)
        assert (await call).status == 200
        await server.connect.close()
        for worker in (idle, busy):
            assert await worker.closed() == (1001, "connect_gateway_closing")


def test_life_of_a_call_ends_everywhere() -> None:
    """From each phase a call can end, and after its end nothing happens to it."""
    assert CALL_LIFE.keys() == set(WorkerCallPhase)
    for phase, moves in CALL_LIFE.items():
        assert (WorkerCallPhase.ENDED in moves.values()) is (phase is not WorkerCallPhase.ENDED)


async def test_every_move_of_a_call_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of this module, again, make each move of the table."""
    made = set()
    move = WorkerCall.on

    def noted(call: WorkerCall, event: Any) -> None:
        made.add((call.phase, event))
        move(call, event)

    monkeypatch.setattr(WorkerCall, "on", noted)
    for test in (
        test_call_reaches_the_worker_and_its_reply_is_the_response,
        test_call_of_a_worker_that_dies_goes_to_another_one,
        test_call_that_was_not_acknowledged_moves_at_once,
        test_silence_about_a_call_sends_it_to_another_worker_only,
        test_expired_lease_is_extended_while_no_other_worker_has_the_call,
        test_cancelled_call_occupies_its_worker_until_the_reply,
        test_cancelled_call_frees_a_worker_that_is_gone,
    ):
        await test()
    await test_draining_gateway_lets_workers_go_as_their_calls_end(monkeypatch)
    assert made == {(phase, event) for phase, moves in CALL_LIFE.items() for event in moves}
