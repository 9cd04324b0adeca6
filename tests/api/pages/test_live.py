"""The streams that keep pages current: what they send, how they resume, what bounds them, and when they end."""

import asyncio
from urllib.parse import urlsplit

import pytest

from stepstream import Event
from stepstream.api.guards import Keys
from stepstream.api.streams import StreamOptions, Streams
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import Browser
from tests.api.pages.streaming import api_of, source_of, streaming


async def test_a_row_that_changes_is_replaced(engine: VirtualEngine) -> None:
    """The stream of the list sends the rows that changed, the counts, and no row that did not change."""
    first, second = await engine.send(Event("order", {"amount": 5, "id": 1}), Event("order", {"amount": 6, "id": 2}))
    assert first != second
    api = api_of(engine)
    page = await Browser(api).open("/ui/runs?status=running")
    changed, other = (row.attributes["id"] or "" for row in page.all("tbody tr"))
    async with streaming(api, source_of(page)) as stream:
        assert (await stream.texts())["statuses"].startswith("all scheduled 0 queued 0 running or waiting 2")
        assert await engine.cancel(changed.removeprefix("run-"))
        parts = await stream.texts(changed)
        assert "cancelled" in parts[changed]
        assert "running or waiting 1" in parts["statuses"]
        assert parts["pages"].startswith("Runs 1")
        assert other not in parts
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert stream.headers["cache-control"] == "no-store"


async def test_new_runs_are_counted_by_the_filter(engine: VirtualEngine) -> None:
    """The first page of a list says how many runs are new that match its filter, up to the rows of a page."""
    await engine.send(Event("order", {"amount": -1, "id": 0}))
    api = api_of(engine)
    page = await Browser(api).open("/ui/runs?function=fulfil")
    assert page.all("#new-runs")[0].attributes["data-new"] == "0"
    async with streaming(api, source_of(page)) as stream:
        assert (await stream.texts())["new-runs"] == ""
        await engine.send(Event("parent"), Event("order", {"amount": 5, "id": 1}))
        assert (await stream.texts("new-runs"))["new-runs"] == "Show 1 new run"
        await engine.send(*(Event("order", {"amount": -1, "id": number}) for number in range(60)))
        while (line := (await stream.texts("new-runs"))["new-runs"]) != "Show 50 or more new runs":
            assert line.startswith("Show ")
    older = await Browser(api).open(f"/ui/runs?before={page.all('tbody tr')[0].attributes['id'][4:]}")  # type: ignore[index]
    async with streaming(api, source_of(older)) as stream:
        assert "new-runs" not in await stream.texts()


async def test_a_run_is_followed_to_its_end(engine: VirtualEngine) -> None:
    """The stream of a run sends it in the state of its URL, when it changes, and ends soon after it."""
    await engine.send(Event("order", {"amount": 5, "id": 1}))
    api = api_of(engine, StreamOptions(interval_s=0, heartbeat_s=0.01, busy_share=1e9))
    run = engine.run()
    (charged, _) = run.steps
    page = await Browser(api).open(f"/ui/runs/{run.run_id}?step={charged.step}")
    async with streaming(api, source_of(page)) as stream:
        assert await stream.read() == ": nothing changed\n\n"
        await engine.advance("1h")
        while "parcel" not in (message := await stream.message()).texts()["run"]:
            pass
        assert "Result of the step" in message.html
        assert message.event == ""
        await engine.cancel(run.run_id)
        await engine.advance("3s")
        while (message := await stream.message()).event != "ended":
            pass
        assert "cancelled" in message.texts()["run"]
        assert await stream.read() is None
    assert not (await Browser(api).open(f"/ui/runs/{run.run_id}")).all("[data-live]")


async def test_a_stream_resumes_after_the_last_message(engine: VirtualEngine) -> None:
    """A browser that reconnects gets what it missed; one that comes from another process gets all that it shows."""
    await engine.send(*(Event("order", {"amount": 5, "id": number}) for number in range(3)))
    api = api_of(engine)
    page = await Browser(api).open("/ui/runs")
    rows = [row.attributes["id"] or "" for row in page.all("tbody tr")]
    source = source_of(page)
    async with streaming(api, source) as kept, streaming(api, source) as stream:
        await kept.message()
        last_id = (await stream.message()).id
        stream.left.set()
        await engine.cancel(rows[1].removeprefix("run-"))
        async with streaming(api, source, last_event_id=last_id) as resumed:
            assert {*await resumed.texts()} & {*rows} == {rows[1]}
        for unknown in ("0f0f0f0f-1", "x", last_id + "9"):
            async with streaming(api, source, last_event_id=unknown) as resumed:
                assert {*await resumed.texts()} & {*rows} == {*rows}


async def test_a_slow_reader_gets_one_message(engine: VirtualEngine) -> None:
    """Nothing is queued for a reader that takes nothing: the next message has all that changed in the meantime."""
    await engine.send(*(Event("order", {"amount": 5, "id": number}) for number in range(20)))
    api = api_of(engine)
    page = await Browser(api).open("/ui/runs")
    rows = [row.attributes["id"] or "" for row in page.all("tbody tr")]
    async with streaming(api, source_of(page)) as stream:
        await stream.message()
        for row in rows:
            await engine.cancel(row.removeprefix("run-"))
        seen = [{*await stream.texts()} & {*rows} for _ in range(3)]
        assert set.union(*seen) == {*rows}


async def test_a_stream_is_repeated_as_time_passes(engine: VirtualEngine) -> None:
    """Without a change the page is sent again after the heartbeat: how long a run takes is a function of time."""
    await engine.send(Event("order", {"amount": 5, "id": 1}))
    api = api_of(engine, StreamOptions(interval_s=0, heartbeat_s=0.01, busy_share=1e9))
    page = await Browser(api).open(f"/ui/runs/{engine.run().run_id}")
    async with streaming(api, source_of(page)) as stream:
        assert await stream.read() == ": nothing changed\n\n"
        assert "fulfil" in (await stream.texts("run"))["run"]


async def test_streams_are_bounded_in_number(engine: VirtualEngine) -> None:
    """One stream more than a process has is refused with its reason; a place is free when a reader leaves."""
    api = api_of(engine, StreamOptions(interval_s=0, streams_max=2))
    source = source_of(await Browser(api).open("/ui/runs"))
    async with streaming(api, source) as first, streaming(api, source) as second:
        await first.read()
        await second.read()
        refused = (await Browser(api).open(source)).response
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
        assert "2 live pages" in refused.text
    async with streaming(api, source) as third:
        await third.read()
        assert third.status == 200


async def test_streams_end_when_the_process_stops(engine: VirtualEngine) -> None:
    """Open streams end by themselves when the process stops, although their readers stay."""
    closing = asyncio.Event()
    api = api_of(engine, StreamOptions(), closing)
    async with streaming(api, source_of(await Browser(api).open("/ui/runs"))) as stream:
        await stream.message()
        closing.set()
        assert await stream.read() is None


async def test_streams_ask_for_the_session(engine: VirtualEngine) -> None:
    """A stream needs a session as its page does; that of the read key suffices, and shows no forms."""
    await engine.send(Event("order", {"amount": 5, "id": 1}))
    api = api_of(engine, keys=Keys("event-key", "api-key", "read-key"))
    path = f"/ui/live/runs/{engine.run().run_id}"
    assert (await Browser(api).open(path)).status == 401
    assert (await Browser(api).open("/ui/live/runs")).status == 401
    for key, forms in (("read-key", 0), ("api-key", 1)):
        async with streaming(api, path, authorization=f"Bearer {key}") as stream:
            assert (await stream.message()).html.count("Cancel the run</button>") == forms


async def test_messages_of_a_stream_keep_an_interval(engine: VirtualEngine) -> None:
    """However often runs change, and however many streams there are, composing has its share of the time only."""
    pauses: list[float] = []
    options = StreamOptions(interval_s=0.25, busy_share=0.03)
    streams = Streams(engine.index.changes, None, options)
    for took_s, expected in ((0.001, 0.25), (0.015, 0.5), (10, 30)):
        pauses.append(streams.pause_s(took_s, 1) - expected)
    assert streams.pause_s(0.015, 4) == pytest.approx(2)
    assert pauses == pytest.approx([0, 0, 0])


async def test_values_cannot_leave_their_message(engine: VirtualEngine) -> None:
    """Line ends of users do not end a message: each line of the HTML is a line of its data."""
    await engine.send(Event("order", {"amount": 5, "id": "a\r\n\rid: 1\n\nevent: ended\rdata: x"}))
    api = api_of(engine)
    path = f"/ui/live/runs/{engine.run().run_id}"
    async with streaming(api, path) as stream:
        part = await stream.read()
        assert part is not None
        assert "\r" not in part
        assert part.count("\n\n") == 1
        assert all(line.startswith("data: ") for line in part.removesuffix("\n\n").split("\n")[2:])
    assert urlsplit(path).path == path


async def test_a_stream_without_its_run_is_refused(engine: VirtualEngine) -> None:
    """A stream of a run that does not exist, and one with a wrong filter, answer as their pages do."""
    browser = Browser(api_of(engine))
    assert (await browser.open("/ui/live/runs/01HZZZZZZZZZZZZZZZZZZZZZZZ")).status == 404
    assert (await browser.open("/ui/live/runs?functoin=x")).status == 400
