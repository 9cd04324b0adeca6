"""Realtime of SDKs: publications, tokens, and subscriptions over WebSockets of a real server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from stepstream import App, Context, on
from stepstream.gateway.rest.parts import RestOptions
from stepstream.gateway.rest.realtime import RealtimeTokens, Subscriptions, Topic
from stepstream.gateway.rest.realtime_routes import SOCKET_PATH
from stepstream.gateway.wire.signing import SigningKey
from stepstream.host.http_server import ServerLimits
from tests.gateway.rest.sites import SdkClient, running
from tests.gateway.rest.subscribers import received, served, token

app = App("shop")
KEY = SigningKey("signkey-test-0011")
PUBLISH = "/v1/realtime/publish"


@app.function(on("go"), id="shop-go")
async def work(ctx: Context) -> None:
    """Publish on a channel of the run, and on a shared one."""
    await ctx.publish("tokens", "own")
    await ctx.publish("prices", {"eur": 1}, shared=True)


@pytest.fixture
async def client() -> AsyncIterator[SdkClient]:
    """A client of a server in dev mode."""
    async with running(app) as made:
        yield made


async def publish(client: SdkClient, channel: str, topic: str, body: str, **more: str) -> None:
    """Publish a body as an SDK does."""
    answer = await client.http.post(PUBLISH, params={"channel": channel, "topic": topic, **more}, content=body)
    assert answer.status_code == 200, answer.text


async def test_subscribers_get_the_messages_of_their_topics(client: SdkClient) -> None:
    """JSON as it is and text as a string, also what was published after the issue of the token and before they came."""
    await client.send({"name": "go"})
    run_id = client.engine.run().run_id
    jwt = await token(client, ("chat:1", "news"), (run_id, "steps"))
    await publish(client, "chat:1", "news", '{"n": 1}', run_id=run_id)
    async with served(client) as session, session.ws_connect(f"{SOCKET_PATH}?token={jwt}") as socket:
        first = await received(socket)
        assert (first["kind"], first["channel"], first["topic"], first["data"]) == ("data", "chat:1", "news", {"n": 1})
        assert (first["run_id"], first["created_at"][-1]) == (run_id, "Z")
        await publish(client, "chat:1", "other", "1")
        await publish(client, "chat:2", "news", "2")
        await publish(client, "chat:1", "news", "plain text")
        second = await received(socket)
        assert (second["data"], "run_id" in second) == ("plain text", False)
        await publish(client, run_id, "steps", "[3]")
        third = await received(socket)
        assert (third["channel"], third["topic"], third["data"], third["run_id"]) == (run_id, "steps", [3], run_id)


async def _parts(*parts: bytes, between: Callable[[], Awaitable[object]]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
        await between()


async def test_a_stream_is_published_in_parts_as_they_arrive(client: SdkClient) -> None:
    """Subscribers get its start, each part before the next one is sent, and its end; characters stay whole."""
    await client.send({"name": "go"})
    run_id = client.engine.run().run_id
    jwt = await token(client, ("answers", "tokens"))
    found: list[dict[str, Any]] = []
    async with served(client) as session, session.ws_connect(f"{SOCKET_PATH}?token={jwt}") as socket:

        async def take() -> None:
            found.append(await received(socket))

        body = _parts("Grü".encode()[:-1], "üße".encode()[1:], between=take)
        params = {"channel": "answers", "topic": "tokens", "run_id": run_id}
        headers = {"Content-Type": "text/stream"}
        async with session.post(PUBLISH, params=params, data=body, headers=headers) as answer:
            assert answer.status == 200
        await take()
        await take()
    assert [each["kind"] for each in found] == ["datastream-start", "chunk", "chunk", "datastream-end"]
    (stream_id,) = {each["stream_id"] for each in found}
    assert [each["data"] for each in found] == [stream_id, "Gr", "üße", stream_id]
    assert {(each["channel"], each["topic"], each["run_id"]) for each in found} == {("answers", "tokens", run_id)}
    assert await client.engine.shared_stream("answers") == [None, "Gr", "üße", None]


async def test_a_stream_outlives_the_deadline_of_a_body(client: SdkClient) -> None:
    """It has a later one, at which its connection is closed; its end is published then too."""
    headers, params = {"Content-Type": "text/stream"}, {"channel": "answers", "topic": "tokens"}
    for limits, is_published in ((ServerLimits(body_s=0.05), True), (ServerLimits(stream_s=0.05), False)):
        hold = asyncio.Event()

        async def body(hold: asyncio.Event = hold) -> AsyncIterator[bytes]:
            yield b"one"
            await asyncio.wait_for(hold.wait(), 5)

        async with served(client, limits) as session:
            silent, writer = await asyncio.open_connection("127.0.0.1", session._base_url.port)  # type: ignore[union-attr]
            writer.write(b"POST /v1/signals HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n")
            posting = asyncio.ensure_future(session.post(PUBLISH, params=params, data=body(), headers=headers))
            if is_published:
                assert await silent.read() == b""
                hold.set()
                assert (await posting).status == 200
            else:
                with pytest.raises(aiohttp.ClientError):
                    await posting
            writer.close()
    assert await client.engine.shared_stream("answers") == [None, "one", None] * 2


async def test_a_stream_that_is_too_large_ends(client: SdkClient) -> None:
    """What came before the limit is published."""
    headers, params = {"Content-Type": "text/stream"}, {"channel": "answers", "topic": "tokens"}

    async def body() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b"x" * 65_536

    answer = await client.http.post(PUBLISH, params=params, content=body(), headers=headers)
    assert answer.status_code == 413
    assert [each and len(each) for each in await client.engine.shared_stream("answers")] == [None, *[65_536] * 16, None]


async def test_apps_and_python_functions_share_streams(client: SdkClient) -> None:
    """What an app publishes is on the live streams, and what Python publishes reaches subscribers."""
    jwt = await token(client, ("prices", "prices"))
    await client.send({"name": "go"})
    run_id = client.engine.run().run_id
    await publish(client, run_id, "tokens", '"app"')
    await publish(client, run_id, "tokens", '"app"')
    assert await client.engine.stream(run_id, "tokens") == ["own", "app", "app"]
    await publish(client, "prices", "usd", "2")
    assert await client.engine.shared_stream("prices") == [{"eur": 1}, 2]
    headers = {"Authorization": f"Bearer {jwt}"}
    async with served(client) as session, session.ws_connect(SOCKET_PATH, headers=headers) as socket:
        message = await received(socket)
        assert (message["topic"], message["data"], message["run_id"]) == ("prices", {"eur": 1}, run_id)


async def test_a_subscription_outlives_the_deadlines_of_requests(client: SdkClient) -> None:
    """A connection that sends nothing is closed at the deadline, and a WebSocket is not."""
    limits = ServerLimits(header_s=0.05, body_s=0.05)
    jwt = await token(client, ("c", "t"))
    async with served(client, limits) as session, session.ws_connect(f"{SOCKET_PATH}?token={jwt}") as socket:
        silent, writer = await asyncio.open_connection("127.0.0.1", session._base_url.port)  # type: ignore[union-attr]
        assert await silent.read() == b""
        writer.close()
        await publish(client, "c", "t", "1")
        assert (await received(socket))["data"] == 1


async def test_a_server_that_stops_closes_subscriptions(client: SdkClient) -> None:
    """Clients connect again elsewhere."""
    jwt = await token(client, ("c", "t"))
    async with served(client) as session:
        socket = await session.ws_connect(f"{SOCKET_PATH}?token={jwt}")
    assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (f"{SOCKET_PATH}?token=wrong", {}, 403),
        (f"{SOCKET_PATH}?token=é.é", {}, 403),
        (SOCKET_PATH, {}, 403),
        (f"{SOCKET_PATH}?token=TOKEN", {"Origin": "https://evil.example"}, 403),
        # The paths of other endpoints are no WebSockets.
        ("/health", {}, 200),
    ],
)
async def test_wrong_subscriptions_are_refused(
    client: SdkClient, path: str, headers: dict[str, str], status: int
) -> None:
    """Without a valid token, or from a page of another site."""
    path = path.replace("TOKEN", await token(client, ("c", "t")))
    async with served(client) as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(path, headers=headers)
    assert refused.value.status == status


async def test_subscriptions_are_limited(client: SdkClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than the limit is refused, until another one ends."""
    monkeypatch.setattr(Subscriptions, "refusal", "full")
    jwt = await token(client, ("c", "t"))
    async with served(client) as session:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(f"{SOCKET_PATH}?token={jwt}")


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {"channel": "c"},
        [{"channel": "", "name": "t"}],
        [{"channel": "c", "name": "t"}] * 101,
        [{"channel": str(n), "name": "t"} for n in range(11)],
    ],
)
async def test_tokens_are_issued_for_valid_topics_only(client: SdkClient, body: Any) -> None:
    """An array of 1 to 100 topics of at most ten channels."""
    answer = await client.http.post("/v1/realtime/token", json=body)
    assert (answer.status_code, answer.json()["status"]) == (400, 400)


def test_tokens_expire_and_belong_to_a_key() -> None:
    """A token is valid for five minutes, at each gateway that has the key, also if the key is its second one."""
    now, other = [1_000_000.0], SigningKey("signkey-test-22")
    tokens = RealtimeTokens([KEY], lambda: now[0])
    jwt = tokens.issue(b'[{"channel": "c", "name": "t"}]')
    subscription = RealtimeTokens([other, KEY], lambda: now[0]).read(jwt)
    assert subscription is not None
    assert (subscription.topics, subscription.issued_at) == ((Topic("c", "t"),), 1_000_000_000)
    assert RealtimeTokens([other], lambda: now[0]).read(jwt) is None
    now[0] += 301
    assert tokens.read(jwt) is None


async def test_a_server_in_the_cloud_issues_tokens_to_apps_only() -> None:
    """A token needs the signing key, and a subscriber only the token, from any page."""
    options = RestOptions(kind="cloud", signing_keys=[KEY])  # type: ignore[arg-type]
    async with running(app, options, realtime=RealtimeTokens([KEY], lambda: 1.0)) as client:
        body, headers = [{"channel": "c", "name": "t"}], {"Authorization": f"Bearer {KEY.bearer}"}
        assert (await client.http.post("/v1/realtime/token", json=body)).status_code == 401
        jwt = (await client.http.post("/v1/realtime/token", json=body, headers=headers)).json()["jwt"]
        url, origin = f"{SOCKET_PATH}?token={jwt}", {"Origin": "https://shop.example.com"}
        async with served(client) as session, session.ws_connect(url, headers=origin) as socket:
            params = {"channel": "c", "topic": "t"}
            assert (await client.http.post(PUBLISH, params=params, content="1", headers=headers)).status_code == 200
            assert (await received(socket))["data"] == 1


async def test_publications_are_bounded(client: SdkClient) -> None:
    """In their size, and in the names of channels and topics."""
    large = await client.http.post(PUBLISH, params={"channel": "c", "topic": "t"}, content=b"x" * (512 * 1024 + 1))
    unnamed = await client.http.post(PUBLISH, params={"channel": "c"}, content=b"1")
    long = await client.http.post(PUBLISH, params={"channel": "c" * 257, "topic": "t"}, content=b"1")
    assert [each.status_code for each in (large, unnamed, long)] == [413, 400, 400]
