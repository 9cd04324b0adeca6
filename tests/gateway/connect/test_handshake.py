"""How a worker is greeted: what is registered, when it gets calls, and why it is refused."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from stepstream.contract.errors import Conflict, StepstreamError
from stepstream.gateway.connect import connect_server
from stepstream.gateway.connect import frames_pb2 as pb
from stepstream.gateway.connect.handshake import APPS_MAX
from stepstream.gateway.connect.handshake_limit import HandshakeLimit
from stepstream.gateway.connect.session_tokens import SessionTokens
from stepstream.gateway.sync.signing_keys import SigningKeys
from stepstream.gateway.wire.signing import SigningKey
from tests.fakes.waiting import iterate, until
from tests.gateway.connect.worker import Worker, config, serving

IDS = ("demo-f", "demo-g")
KEYS = SigningKeys.of("signkey-prod-00ff", "signkey-prod-11ee")
Opening = Callable[[Worker], Awaitable[None]]
UPGRADE = (
    f"GET {connect_server.PATH} HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Protocol: {connect_server.PROTOCOL}\r\n\r\n"
).encode()


async def test_worker_registers_its_apps_and_gets_the_intervals() -> None:
    """All is done when the connection is ready."""
    async with serving() as server, server.worker(ready=False, functions=IDS) as worker:
        ready = await worker.expect(pb.GATEWAY_CONNECTION_READY, pb.GatewayConnectionReadyData)
        assert (ready.heartbeat_interval, ready.extend_lease_interval) == ("10s", "15s")
        (app,) = server.registered
        assert (app.name, app.sdk, app.version, app.url) == ("demo", "py:v0.5.19", "1", "wss://connect")
        assert [each.url for each in app.functions] == [config(id)["steps"]["step"]["runtime"]["url"] for id in IDS]
        await worker.heartbeat()
        assert server.lines == ["worker worker-1 of demo (py:v0.5.19) is connected"]
    await until(lambda: len(server.lines) == 2)
    assert server.lines[1] == "worker worker-1 of demo is disconnected"


async def test_sdks_are_named_as_in_registrations() -> None:
    """Calls to TypeScript depend on it."""
    async with serving() as server, server.worker(sdk_language="typescript", sdk_version="v4.24.0"):
        assert server.registered[0].sdk == "js:v4.24.0"


async def test_worker_with_functions_that_cannot_run_is_served() -> None:
    """The others of the app are registered, as of an app that is called over HTTP."""
    batched = config("demo-b", batchEvents={"maxSize": 2, "timeout": "1s"}, singleton={"mode": "skip"})
    async with serving() as server, server.worker(functions=("demo-f", batched)) as worker:
        assert [each.id for each in server.registered[0].functions] == ["demo-f"]
        assert [each.id for each in server.registered[0].refused] == ["demo-b"]
        await worker.heartbeat()
        assert server.lines[0].startswith("app demo: function 'demo-b': ")


async def test_worker_that_says_when_it_is_ready_gets_no_call_before() -> None:
    """A call that came earlier waits."""
    async with serving() as server, server.worker(worker_manual_readiness_ack=True) as worker:
        call = server.call()
        await worker.heartbeat()
        await worker.say(pb.WORKER_READY)
        await worker.reply(await worker.asked())
        assert (await call).status == 200


async def say_nothing(worker: Worker) -> None:
    """Wait until the time for the first frame is over."""
    await worker.expect(pb.GATEWAY_HELLO)


async def say_something_else(worker: Worker) -> None:
    """Send another frame first."""
    await worker.expect(pb.GATEWAY_HELLO)
    await worker.say(pb.WORKER_READY)


async def say_text(worker: Worker) -> None:
    """Send text."""
    await worker.expect(pb.GATEWAY_HELLO)
    await worker.ws.send_str("hello")


async def say_bad_bytes(worker: Worker) -> None:
    """Send a malformed frame."""
    await worker.expect(pb.GATEWAY_HELLO)
    await worker.ws.send_bytes(b"\xff")


def saying(**said: Any) -> Opening:
    """Return an opening that says this of the worker."""

    async def greet(worker: Worker) -> None:
        await worker.greet(**said)

    return greet


async def take_other_tokens(worker: Worker) -> None:
    """Use the tokens of one connection for another."""
    await worker.greet(connection_id="01M8HHEQ4B8G5KRWXTA556P1GA")


async def swap_tokens(worker: Worker) -> None:
    """Use one token for the other."""
    tokens = pb.AuthData(session_token=worker.started.sync_token, sync_token=worker.started.session_token)
    await worker.greet(auth_data=tokens)


MANY = [pb.AppConfiguration(app_name=f"app-{number}", functions=b"[]") for number in range(APPS_MAX + 1)]
NAMELESS = saying(app="")
REFUSALS: list[tuple[str, Opening, int]] = [
    ("connect_worker_hello_timeout", say_nothing, 1008),
    ("connect_worker_hello_invalid_msg", say_something_else, 1008),
    ("connect_worker_hello_invalid_payload", say_text, 1008),
    ("connect_worker_hello_invalid_payload", say_bad_bytes, 1008),
    ("connect_worker_hello_invalid_payload", saying(instance_id=""), 1008),
    ("connect_worker_hello_invalid_payload", saying(apps=[]), 1008),
    (
        "connect_authentication_failed",
        saying(auth_data=pb.AuthData(**dict.fromkeys(("session_token", "sync_token"), "x"))),
        1008,
    ),
    ("connect_authentication_failed", saying(auth_data=None), 1008),
    ("connect_authentication_failed", saying(connection_id="mine"), 1008),
    ("connect_authentication_failed", take_other_tokens, 1008),
    ("connect_authentication_failed", swap_tokens, 1008),
    ("connect_too_many_apps_per_connection", saying(apps=MANY), 1008),
    ("connect_invalid_function_config", saying(functions=({"id": 1},)), 1008),
    ("connect_invalid_function_config", saying(apps=[pb.AppConfiguration(app_name="a", functions=b"{}")]), 1008),
    ("connect_invalid_function_config", NAMELESS, 1008),
]


@pytest.mark.parametrize(("reason", "opening", "code"), REFUSALS)
async def test_worker_is_refused_with_a_reason(reason: str, opening: Opening, code: int) -> None:
    """The connection is closed with the code that SDKs show, and nothing is registered."""
    async with serving(KEYS, hello_s=0.05 if opening is say_nothing else 5.0) as server, server.dial() as worker:
        await opening(worker)
        assert await worker.closed() == (code, reason)
        assert not server.registered
        assert not server.connect.calls.connections
        is_listed = reason == "connect_invalid_function_config" and opening is not NAMELESS
        assert bool(server.failures.all()) is is_listed


@pytest.mark.parametrize(
    ("failure", "closed"),
    [
        (Conflict("another app has it"), (1008, "connect_invalid_function_config")),
        (StepstreamError("Kafka is away"), (1011, "connect_internal_error")),
    ],
)
async def test_app_that_cannot_be_registered_is_refused(failure: Exception, closed: tuple[int, str]) -> None:
    """The developer reads why; the worker does not become ready."""
    async with serving() as server, server.dial() as worker:
        server.failure = failure
        await worker.greet()
        assert await worker.closed() == closed
        assert server.lines == [f"a worker of app demo is refused: {failure}"]


async def test_tokens_of_another_gateway_with_the_key_are_accepted() -> None:
    """A worker may start at one gateway and connect to another one, also while the key is being changed."""
    old, other = SigningKey("signkey-prod-11ee"), SigningKey("signkey-prod-22")
    for key, is_known in ((old, True), (other, False)):
        started = SessionTokens([key]).start("ws://unused")
        async with serving(KEYS) as server:
            assert server.connect.tokens.accept(started.connection_id, _tokens(started)) is is_known


def _tokens(started: pb.StartResponse) -> pb.AuthData:
    return pb.AuthData(session_token=started.session_token, sync_token=started.sync_token)


def test_tokens_expire() -> None:
    """Who learns them later cannot use them."""
    now_s = 1_000_000.0
    tokens = SessionTokens(KEYS.all, lambda: now_s)
    started = tokens.start("ws://unused")
    found = []
    for after_s in (0, 299, 301):
        now_s = 1_000_000.0 + after_s
        found.append(tokens.accept(started.connection_id, _tokens(started)))
    assert found == [True, True, False]


@pytest.mark.parametrize(
    ("protocol", "headers", "status"),
    [
        ("v0.connect.inngest.com", {"Origin": "https://example.com"}, 403),
        ("another", {}, 400),
    ],
)
async def test_other_clients_are_refused(protocol: str, headers: dict[str, str], status: int) -> None:
    """A page of any site may open a WebSocket to this machine."""
    async with serving() as server:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with server.dial(protocol, **headers):
                raise AssertionError
        assert caught.value.status == status


async def test_there_is_a_limit_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused before it may send anything."""
    monkeypatch.setattr(connect_server, "CONNECTIONS_MAX", 1)
    async with serving() as server, server.worker():
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with server.dial():
                raise AssertionError
        assert caught.value.status == 503


async def test_silent_clients_do_not_keep_a_worker_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not count as workers, and their handshakes are aborted for clients that come later."""
    monkeypatch.setattr(connect_server, "CONNECTIONS_MAX", 20)
    monkeypatch.setattr(connect_server, "_SILENT_S_MAX", 0.01)
    async with serving(KEYS) as server, AsyncExitStack() as silent:
        port = server.connect.port
        for _ in range(40):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            silent.callback(writer.close)
            writer.write(UPGRADE)
        assert not server.connect.is_full
        async with server.worker():
            assert len(server.connect.calls.connections) == 1


async def test_wait_to_be_greeted_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is not admitted is refused in time, and has not been upgraded."""
    limit = HandshakeLimit(1, 60.0)
    monkeypatch.setattr(connect_server, "HandshakeLimit", lambda *_: limit)
    async with serving(KEYS, hello_s=0.05) as server, limit.admitted(60.0):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with server.dial():
                raise AssertionError
        assert caught.value.status == 503


async def test_unknown_clients_have_few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more closes the oldest, not a worker."""
    monkeypatch.setattr(connect_server, "STRANGERS_MAX", 3)
    async with serving(KEYS) as server, server.worker() as worker, AsyncExitStack() as idle:
        opened = []
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.connect.port)
            idle.callback(writer.close)
            opened.append(reader)
            await iterate()
        assert await opened[0].read() == await opened[1].read() == b""
        assert not opened[2].at_eof()
        await worker.heartbeat()


async def test_latest_client_is_admitted_next() -> None:
    """After a long wait the longest handshake is aborted for it; a client that was cancelled is not admitted."""
    limit, entered = HandshakeLimit(1, 0.01), list[str]()

    async def client(name: str) -> None:
        async with limit.admitted(5.0):
            entered.append(name)
            await asyncio.get_running_loop().create_future()

    clients = []
    for name in ("first", "second", "third", "fourth"):
        clients.append(asyncio.ensure_future(client(name)))
        await iterate()
    clients.pop(2).cancel()
    await until(lambda: len(entered) == 3)
    assert entered == ["first", "fourth", "second"]
    assert isinstance(clients[0].exception(), TimeoutError)
    for each in clients:
        each.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    async with limit.admitted(5.0):
        pass
