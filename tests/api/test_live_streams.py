"""The live streams of runs and channels: how they resume, what bounds them, and when they end."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from stepstream import App, Context, Event, on
from stepstream.api.guards import Keys
from stepstream.api.http import make_api
from stepstream.api.streams import StreamOptions, Streams
from stepstream.contract.live import run_stream
from stepstream.contract.topics import LIVE
from stepstream.runtime.ports import LogError, NewRecord
from stepstream.runtime.stream_stats import StreamEnd, StreamStats
from stepstream.testing import VirtualEngine
from tests.api.pages.streaming import FAST, Stream, api_of, streaming
from tests.fakes.facades import facade_of

app = App("live")
FIRST = ": connected\nretry: 1000\n\n"


@app.function(on("go"))
async def talk(ctx: Context) -> None:
    """Publish five tokens, something else, a message that all may read, and after an hour one more."""

    async def body() -> None:
        for number in range(5):
            await ctx.publish("tokens", number)
        await ctx.publish("state", "done")
        await ctx.publish("news/all", {"from": ctx.run_id}, shared=True)

    await ctx.step.run("talk", body)
    await ctx.step.sleep("nap", "1h")
    await ctx.publish("tokens", "late")


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """Yield an engine in which one run has published and sleeps."""
    async with VirtualEngine(app) as made:
        await made.send(Event("go"))
        yield made


async def part(stream: Stream) -> str:
    """Return the next part that is not a heartbeat."""
    while (found := await stream.read()) == ": heartbeat\n\n":
        pass
    return found or ""


async def take(stream: Stream, count: int) -> list[tuple[str, Any]]:
    """Return the ids and the data of the next messages."""
    found: list[tuple[str, Any]] = []
    while len(found) < count:
        lines = dict(line.split(": ", 1) for line in (await part(stream)).strip().split("\n") if line[0] != ":")
        if "id" in lines:
            found.append((lines["id"], json.loads(lines["data"]).get("data")))
    return found


async def test_a_client_that_resumes_gets_each_message_once(engine: VirtualEngine) -> None:
    """After any message, by the header or the parameter, a stream continues with the one that follows."""
    api, path = api_of(engine), f"/v1/runs/{engine.run().run_id}/stream"
    async with streaming(api, path) as stream:
        assert await stream.read() == FIRST
        messages = await take(stream, 6)
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["cache-control"] == "no-store"
    assert [data for _, data in messages] == [0, 1, 2, 3, 4, "done"]
    for at, (id, _) in enumerate(messages[:-1]):
        rest = messages[at + 1 :]
        async with streaming(api, path + "?after=0-0", last_event_id=id) as by_header:
            assert await take(by_header, len(rest)) == rest
        async with streaming(api, f"{path}?after={id}") as by_parameter:
            assert await take(by_parameter, len(rest)) == rest


async def test_a_message_names_its_code(engine: VirtualEngine) -> None:
    """A client sees the run, the step, the attempt, the execution and the number, by which it drops what failed."""
    run = engine.run()
    async with streaming(api_of(engine), f"/v1/runs/{run.run_id}/stream?channel=state") as stream:
        assert await stream.read() == FIRST
        message = json.loads((await part(stream)).split("data: ")[1])
    assert message.pop("execution")
    assert message == {
        "type": "published",
        "run_id": run.run_id,
        "channel": "state",
        "step": run.steps[0].step,
        "step_id": "talk",
        "attempt": 0,
        "number": 5,
        "at": engine.now_ms,
        "data": "done",
    }


async def test_a_stream_ends_after_the_last_message(engine: VirtualEngine) -> None:
    """What the run publishes last comes before its end; after that a browser does not reconnect, late or not."""
    api, path = api_of(engine), f"/v1/runs/{engine.run().run_id}/stream"
    end = 'id: end\nevent: end\ndata: {"status":"completed"}\n\n'
    async with streaming(api, path + "?channel=tokens&channel=none") as stream:
        await take(stream, 5)
        await engine.advance("1h")
        assert (await take(stream, 1))[0][1] == "late"
        assert await part(stream) == end
        assert await stream.read() is None
    async with streaming(api, path + "?channel=none") as late:
        assert [await late.read() for _ in range(3)] == [FIRST, end, None]
    async with streaming(api, path, last_event_id="end") as again:
        assert (await again.read(), again.status) == (None, 204)


async def test_a_shared_channel_has_messages_of_all_runs(engine: VirtualEngine) -> None:
    """Each client gets the messages of all runs on the channel; no run's own channels are in it."""
    api = api_of(engine)
    async with (
        streaming(api, "/v1/channels/news/all/stream") as stream,
        streaming(api, "/v1/channels/tokens/stream") as other,
    ):
        await engine.send(Event("go"))
        found = [data["from"] for _, data in await take(stream, 2)]
        assert sorted(found) == sorted(run.run_id for run in engine.runs())
        assert await other.read() == FIRST
    assert b"data" not in other.body


async def test_idle_streams_send_heartbeats(engine: VirtualEngine) -> None:
    """A comment keeps the connection open through proxies."""
    api = api_of(engine, StreamOptions(heartbeat_s=0.01))
    async with streaming(api, "/v1/channels/none/stream") as stream:
        assert [await stream.read() for _ in range(2)] == [FIRST, ": heartbeat\n\n"]


async def test_nothing_is_queued_for_a_slow_client(engine: VirtualEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log keeps what a client has not taken, and beyond its size the client continues with what is left."""
    live: Any = engine.engine.live
    monkeypatch.setattr(live, "_bytes_max", 100_000)
    async with streaming(api_of(engine), f"/v1/runs/{engine.run().run_id}/stream") as stream:
        await take(stream, 1)
        record = live.between(live.first, live.end)[0]
        large = record.value.replace(b'"data":0', b'"data":"%b"' % (b"x" * 10_000))
        for _ in range(40):
            await live.publish([NewRecord(LIVE, 0, record.key, large)])
        assert live.end - live.first == 9
        # The part that the client has not taken, and those that were read with it.
        found = await take(stream, 5 + 9)
        assert [data for _, data in found[:5]] == [1, 2, 3, 4, "done"]
        assert [int(id.split("-")[1]) for id, _ in found[5:]] == list(range(live.first, live.end))


async def test_streams_are_bounded_in_number(engine: VirtualEngine) -> None:
    """One stream more than an engine has is refused; live pages have places of their own."""
    api = api_of(engine, StreamOptions(streams_max=1))
    path = "/v1/channels/none/stream"
    async with streaming(api, path) as first, client_of(api) as client:
        await first.read()
        refused = await client.get(path)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.json()["error"]["message"] == "this engine has 1 live streams, its limit"
    async with streaming(api, path) as again:
        assert await again.read() == FIRST


def client_of(api: Any) -> httpx.AsyncClient:
    """Return a client of the API."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost")


async def test_wrong_requests_are_refused(engine: VirtualEngine) -> None:
    """A stream needs the API key, an existing run, and the id of one of its messages."""
    path = f"/v1/runs/{engine.run().run_id}/stream"
    async with client_of(api_of(engine)) as client:
        assert (await client.get(path + "?after=x")).json()["error"]["field"] == "after"
        assert (await client.get(path + "?before=1")).json()["error"]["field"] == "before"
        assert (await client.get("/v1/runs/01HZZZZZZZZZZZZZZZZZZZZZZZ/stream")).status_code == 404
        assert (await client.get(f"/v1/channels/{'x' * 257}/stream")).status_code == 400
    keys = Keys("event-key", "api-key", "read-key")
    async with client_of(api_of(engine, keys=keys)) as client:
        assert (await client.get(path)).status_code == 401
        assert (await client.get("/v1/channels/none/stream")).status_code == 401


async def test_streams_end_when_the_process_stops(engine: VirtualEngine) -> None:
    """An open stream ends by itself, and its client resumes at another engine."""
    closing = asyncio.Event()
    async with streaming(api_of(engine, closing=closing), "/v1/channels/none/stream") as stream:
        assert await stream.read() == FIRST
        closing.set()
        assert await part(stream) == ""


async def test_a_stream_ends_when_the_log_fails(engine: VirtualEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client connects again, at the message after its last one; records that are not messages are left out."""
    live: Any = engine.engine.live
    first = live.between(live.first, live.end)[0]
    await live.publish([NewRecord(LIVE, 0, first.key, value) for value in (b"", b'{"type":"x"}', b"\xff")])

    async def failing(_: float) -> None:
        raise LogError("no broker")

    listener = live.listen(run_stream(engine.run().run_id), "", 0)
    monkeypatch.setattr(live, "listen", lambda *_: listener)
    async with streaming(api_of(engine), f"/v1/runs/{engine.run().run_id}/stream") as stream:
        await take(stream, 6)
        monkeypatch.setattr(listener.enter_result, "read", failing)
        assert await part(stream) == ""


@asynccontextmanager
async def counting(
    engine: VirtualEngine, query: str = "", options: StreamOptions = FAST
) -> AsyncIterator[tuple[Any, StreamStats]]:
    """Yield an API and its counts while a client, which has taken two parts of the stream of a run, is connected."""
    stats = StreamStats()
    facade = dataclasses.replace(facade_of(engine.engine), stream_stats=stats)
    streams = Streams(engine.index.changes, None, options)
    api = make_api(facade, engine.index, lambda: b"", streams=streams, now_ms=lambda: engine.now_ms)
    async with streaming(api, f"/v1/runs/{engine.run().run_id}/stream{query}") as stream:
        for _ in range(2):
            await stream.read()
        yield api, stats


async def test_streams_are_counted(engine: VirtualEngine) -> None:
    """By how they end: a client that has taken all has left, and one that has not is slow."""
    async with counting(engine, options=dataclasses.replace(FAST, streams_max=1)) as (api, slow):
        assert slow.open == 1
        async with client_of(api) as client:
            assert (await client.get("/v1/channels/none/stream")).status_code == 503
    assert (slow.open, slow.refused, slow.ended) == (0, 1, {StreamEnd.SLOW: 1})
    async with counting(engine, "?channel=state") as (_, left):
        assert left.open == 1
    assert (left.sent, left.refused, left.ended) == (1, 0, {StreamEnd.LEFT: 1})
    await engine.advance("1h")
    async with counting(engine, "?channel=none") as (_, ended):
        assert ended.open == 0
    assert (ended.open, ended.sent, ended.ended) == (0, 0, {StreamEnd.RUN_ENDED: 1})
    read = {(name, *labels): value for name, labels, value in ended.read()}
    assert read.pop(("live_streams_ended", "run-ended")) == 1
    assert len(read) == 7
    assert not any(read.values())
