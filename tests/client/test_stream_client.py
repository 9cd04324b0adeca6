"""The client of streams: each message once and in order, wherever a connection is cut."""

import asyncio
import enum
import importlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stepstream import (
    App,
    Channel,
    Context,
    Event,
    RetryAfterError,
    StreamClient,
    StreamLost,
    StreamMessage,
    StreamRefused,
    on,
)
from stepstream.client.messages import EVENT_BYTES_MAX, EventParser, ServerSentEvent
from stepstream.contract.errors import InvalidInput
from tests.client.cutting import OK, cutting, error
from tests.client.serving import Pauses, engine_served
from tests.docs.pages import DOCS, write_files

app = App("live")
failed = set[str]()


@app.function(on("go"))
async def talk(ctx: Context) -> None:
    """Fail once after two tokens, then publish them again with one more."""

    async def body() -> None:
        for number in range(2):
            await ctx.publish("tokens", number)
        if ctx.run_id not in failed:
            failed.add(ctx.run_id)
            raise RetryAfterError("the model is busy", 1)
        await ctx.publish("tokens", {"last": "é"})
        await ctx.publish("a/b c%2F?ü", ctx.run_id, shared=True)

    await ctx.step.run("talk", body)


class Known(enum.StrEnum):
    """The one message that a typed channel expects."""

    A0 = "A0"


@asynccontextmanager
async def client_of(url: str, **options: Any) -> AsyncIterator[StreamClient]:
    """Open a client that does not wait before it connects again."""
    async with StreamClient(url, **({"pause": Pauses()} | options)) as client:
        yield client


async def read(client: StreamClient, after: str = "") -> tuple[list[Any], list[Any], str]:
    """Return the data of a stream in order, that which a program shows at the end, and how the run ended."""
    got, shown = list[Any](), list[StreamMessage[Any]]()
    stream = client.run("run", after=after)
    async for message in stream:
        got.append(message.data)
        shown = [each for each in shown if not message.replaces(each)]
        shown.append(message)
    return got, [each.data for each in shown], stream.status


@pytest.mark.slow
@pytest.mark.parametrize("is_chunked", [True, False], ids=["chunked", "plain"])
async def test_a_stream_that_is_cut_at_any_byte_has_each_message_once(is_chunked: bool) -> None:
    """In order, without what was written twice, and without what an attempt sent after its successor."""
    async with cutting("A0", "A1", "A1", "x0", "B0", "A2", "B1", is_chunked=is_chunked) as server:
        size = len(server.response())
        async with client_of(server.url) as client:
            for cut in range(size + 1):
                server.cuts, server.asked = [cut], []
                assert await read(client) == (["A0", "A1", "x0", "B0", "B1"], ["x0", "B0", "B1"], "completed"), cut
                assert len(server.asked) <= 2


@pytest.mark.parametrize("is_chunked", [True, False], ids=["chunked", "plain"])
async def test_a_stream_that_is_cut_many_times_continues(is_chunked: bool) -> None:
    """Each connection continues after the last whole message of the one before, and not earlier."""
    names = [f"A{number}" for number in range(20)]
    async with cutting(*names, is_chunked=is_chunked) as server, client_of(server.url) as client:
        server.cuts = [500] * 40
        assert await read(client) == (names, names, "completed")
        assert len(server.asked) >= 10
        assert await read(client, after="0-17") == (["A18", "A19"], ["A18", "A19"], "completed")


async def test_a_client_waits_longer_after_each_failure() -> None:
    """It connects again at once after a connection that served, and then after twice the time, up to 30 s."""
    pauses = Pauses()
    async with cutting("A0") as server, client_of(server.url, pause=pauses) as client:
        server.responses = [error(503, "full")] * 8
        assert (await read(client))[0] == ["A0"]
        longest = [0, 1, 2, 4, 8, 16, 30, 30]
        assert len(pauses.seconds) == len(longest)
        assert all(most / 2 <= got <= most for got, most in zip(pauses.seconds, longest, strict=True))
        pauses.seconds.clear()
        server.cuts = [len(server.response()) - 60]
        assert (await read(client))[0] == ["A0"]
        assert pauses.seconds[0] == 0


async def test_a_client_raises_an_error_when_no_engine_serves() -> None:
    """The error says for how long it tried, and what happened last."""
    async with cutting() as server, client_of(server.url, reconnect_timeout=0) as client:
        server.responses = [error(503, "this engine has 64 live streams, its limit")]
        with pytest.raises(
            StreamLost, match=r"no engine served http://.*/v1/runs/run/stream for 0 s: this engine has 64"
        ):
            await read(client)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with client_of(url, reconnect_timeout=0) as client:
            with pytest.raises(StreamLost, match="Cannot connect"):
                await read(client)
            with pytest.raises(StreamLost, match="no token from http"):
                await client.issue_token(runs=["run"])


async def test_a_slow_program_does_not_lose_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client connects again, although nothing came for longer than `reconnect_timeout` while it was not read."""
    loop, ahead_s = asyncio.get_running_loop(), [0.0]
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + ahead_s[0])
    async with cutting("A0", "A1") as server, client_of(server.url, reconnect_timeout="5m") as client:
        server.cuts = [len(server.response()) - 60]
        got, stream = [], client.run("run")
        async for message in stream:
            got.append(message.data)
            ahead_s[0] += 600
        assert (got, stream.status, len(server.asked)) == (["A0", "A1"], "completed", 2)


async def test_an_engine_that_is_overloaded_or_behind_is_asked_again() -> None:
    """A run that the next engine does not list yet is unknown for a moment only."""
    async with cutting("A0") as server, client_of(server.url) as client:
        server.responses = [error(404, "there is no run 'run'"), error(503, "full"), error(500, "bug")]
        assert await read(client) == (["A0"], ["A0"], "completed")
        assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("response", "status", "reason"),
    [
        (error(401, "send the API key"), 401, "send the API key"),
        (b"HTTP/1.1 302 X\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", 302, "not of an engine"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi", 200, "not of an engine"),
        (OK + b"Content-Length: 10\r\n\r\ndata: {}\n\n", 200, "sends other things than messages"),
        (OK + b"Content-Length: 10\r\n\r\ndata: \xff\xff\n\n", 200, "sends other things than messages"),
    ],
    ids=["key", "redirect", "page", "other", "bytes"],
)
async def test_a_refusal_is_not_repeated(response: bytes, status: int, reason: str) -> None:
    """The error has the status and the reason of the response."""
    async with cutting("A0") as server, client_of(server.url) as client:
        server.responses = [response]
        with pytest.raises(StreamRefused, match=reason) as caught:
            await read(client)
        assert (caught.value.status, len(server.asked)) == (status, 1)


async def test_messages_have_the_type_of_their_channel() -> None:
    """A message that does not fit ends the stream with an error, and the next stream may continue after it."""
    async with cutting("A0", "A1") as server, client_of(server.url) as client:
        channel = Channel("c", Known)
        stream = client.run("run", channel)
        with pytest.raises(InvalidInput, match="data on channel 'c': 1 validation error"):
            assert [each.data async for each in stream] == ["A0"]
        assert stream.last_id == "0-1"
        assert [each.data async for each in client.run("run", channel, after=stream.last_id)] == []
        got = [each.data async for each in client.channel(Channel("{of}", str, shared=True).of(of="c"))]
        assert got == ["A0", "A1"]
        paths = [head.split()[1] for head in server.asked]
        assert paths == ["/v1/runs/run/stream?channel=c"] * 2 + ["/v1/channels/c/stream"]
        with pytest.raises(InvalidInput, match="'c' belongs to a run, so runs do not share it"):
            client.channel(channel)
        with pytest.raises(InvalidInput, match="'c' is shared, so no run has it"):
            client.run("run", Channel("c", str, shared=True))
        with pytest.raises(InvalidInput, match="lacks values"):
            await client.issue_token(channels=[Channel("{of}", str, shared=True)])


async def test_a_stream_that_is_left_closes_its_connection() -> None:
    """A program may stop at any message, and continue after it later."""
    async with cutting("A0", "A1") as server, client_of(server.url) as client:
        stream = client.run("run", "c")
        async for message in stream:
            assert message.data == "A0"
            break
        assert (stream.last_id, stream.status) == ("0-0", "")
        assert [each.data async for each in client.run("run", "c", after=stream.last_id)] == ["A1"]
        assert "GET /v1/runs/run/stream?channel=c HTTP/1.1" in server.asked[0]


def test_events_are_parsed_as_the_standard_says() -> None:
    """Fields may lack a blank or a value; comments, events without data and unknown fields are left out."""
    text = b"\xe2\x80\xa6: x\nid:1\r\ndata:a\r\ndata:  b\r\n\r\nid: 2\n\n: c\ndata\n:\nevent: e\n\ndata: cut"
    expected = [ServerSentEvent("1", "", "a\n b"), ServerSentEvent("", "e", "")]
    for size in (1, 2, 3, len(text)):
        parser = EventParser()
        parts = [text[at : at + size] for at in range(0, len(text), size)]
        assert [event for part in parts for event in parser.feed(part)] == expected
    with pytest.raises(ValueError, match="a line has more than"):
        list(EventParser().feed(b"x" * (EVENT_BYTES_MAX + 1)))


@pytest.mark.parametrize("url", ["localhost:8288", "ftp://x", "http://", ""])
def test_a_wrong_address_is_refused(url: str) -> None:
    """The error says how an address is written."""
    with pytest.raises(InvalidInput, match="give it as http://HOST:PORT"):
        StreamClient(url)
    with pytest.raises(InvalidInput, match="use it in `async with`"):
        StreamClient().run("run")


@pytest.mark.slow
async def test_a_client_reads_what_an_engine_serves() -> None:
    """The stream of a run whose first attempt failed, a shared channel, and a token for them."""
    async with engine_served(app) as (engine, url), client_of(url, api_key="api-key") as client:
        await engine.send(Event("go"))
        await engine.advance("1s")
        run = engine.run()
        stream = client.run(run.run_id, "tokens")
        got = [message async for message in stream]
        assert [(each.attempt, each.data) for each in got] == [(0, 0), (0, 1), (1, 0), (1, 1), (1, {"last": "é"})]
        assert (got[2].step_id, got[2].channel, got[2].run_id) == ("talk", "tokens", run.run_id)
        assert [got[2].replaces(each) for each in got] == [True, True, False, False, False]
        assert stream.status == run.status == "completed"
        async for message in client.channel("a/b c%2F?ü"):
            assert message.data == run.run_id
            break
        assert await client.issue_token(runs=[run.run_id], channels=["a/b c%2F?ü"], expires="1h")
        with pytest.raises(StreamRefused, match="name at least one run") as caught:
            await client.issue_token()
        assert caught.value.status == 400
        async with client_of(url) as stranger:
            with pytest.raises(StreamRefused, match="send the API key"):
                await read(stranger)


@pytest.mark.slow
async def test_the_example_of_the_page_reads_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of docs/streams.md returns what its function has published."""
    write_files(DOCS / "streams.md", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    chat = importlib.import_module("chat")
    async with engine_served(chat.app) as (engine, url):
        await engine.send(Event("question.asked", {"question": "life"}))
        assert await chat.answer_of(engine.run().run_id, url, "api-key") == "The answer to life is 42."
        await engine.send(Event("import.requested"))
        (imported,) = [run for run in engine.runs() if run.function == "import-prices"]
        assert await chat.progress_of(imported.run_id, url, "api-key") == [1, 2]
