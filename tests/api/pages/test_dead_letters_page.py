"""The pages of dead letters: what could not be read, its bytes, and sending it again by a form, with the user."""

from collections.abc import AsyncIterator

import httpx
import pytest

from stepstream import App, Context, on
from stepstream.api.guards import Keys
from stepstream.api.http import make_api
from stepstream.contract.topics import EVENTS
from stepstream.host.deadletters.latest import LatestDeadLetters
from stepstream.runtime.ports import NewRecord
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import browser_of
from tests.fakes.facades import facade_of

BINARY = bytes(range(256)) * 20
HOSTILE = b'{"name": "<img src=x onerror=alert(1)>", "data": \xe2\x80\xae'

app = App("shop")


@app.function(on("order"))
async def fulfil(_ctx: Context) -> None:
    """End at once."""


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """Yield the engine of the shop."""
    async with VirtualEngine(app) as made:
        yield made


async def poison(engine: VirtualEngine, *values: bytes, key: bytes = b"k") -> None:
    """Append records that no shard can read."""
    for value in values:
        await engine.embedded.append([NewRecord(EVENTS, -1, key, value, (("trace", b"t-1"), ("raw", b"\xff")))])
        await engine.advance("1s")


async def test_dead_letters_are_listed_with_their_reason(engine: VirtualEngine) -> None:
    """The newest is first; a row has the origin, the size and the reason, and leads to the bytes."""
    await poison(engine, HOSTILE, BINARY)
    browser = browser_of(engine)
    page = await browser.open("/ui/dead-letters")
    second, first = page.texts("tbody tr")
    assert second.startswith("0-1 2026-01-01")
    assert f"events-0-1 {len(BINARY):,} bytes" in second
    assert f"events-0-0 {len(HOSTILE):,} bytes" in first
    assert all(page.texts("tbody .error"))
    assert page.texts("nav[aria-label=Pages] [aria-current=page]") == ["Dead letters"]
    assert len(page.all("tr[data-row] a")) == 2
    one = await browser.open(page.link("0-0"))
    assert not one.all("img")
    assert '"<img src=x onerror=alert(1)>"' in one.texts("pre")[1]
    assert "\\u202e" in one.texts("pre")[1]


async def test_bytes_that_are_not_text_are_shown_as_numbers(engine: VirtualEngine) -> None:
    """16 a line with their characters, cut after 4 KiB; headers too."""
    await poison(engine, BINARY, key=b"")
    page = await browser_of(engine).open("/ui/dead-letter?place=0-0")
    (value, trace, raw) = [node.text() for node in page.all("pre")]
    lines = value.splitlines()
    assert lines[0].startswith("00000000  00 01 02 03")
    assert lines[4].endswith("@ABCDEFGHIJKLMNO")
    assert (len(lines), lines[-1]) == (4_096 // 16 + 1, "… (5,120 bytes)")
    assert (trace, raw.split()) == ("t-1", ["00000000", "ff", "."])
    assert "empty" in page.text


async def test_a_dead_letter_is_redriven_once_by_the_form(engine: VirtualEngine) -> None:
    """The mark names who sent it again; a second press is refused, and the record fails again as a new one."""
    await poison(engine, HOSTILE)
    browser = browser_of(engine, Keys("event", "api", "read"))
    browser.client.headers["Authorization"] = "Bearer api"
    page = await browser.open("/ui/dead-letter?place=0-0")
    done = await browser.submit(page, ".actions")
    assert "The record was sent again." in done.text
    assert "Redriven by API key" in done.text
    assert not done.all(".actions")
    again = await browser.submit(page, ".actions")
    assert (again.status, "redriven before" in again.text) == (409, True)
    await engine.until_idle()
    listed = await browser.open("/ui/dead-letters")
    # The mark has a place in the topic too.
    assert [row.split(" ")[0] for row in listed.texts("tbody tr")] == ["0-2", "0-0"]
    assert "Redriven before 1 time" in (await browser.open("/ui/dead-letter?place=0-2")).text


async def test_a_record_that_was_just_sent_has_no_form(engine: VirtualEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brokers show the mark a moment after the commit; the page must not invite to send the record twice."""

    async def send(*_: object) -> None:
        """Leave no mark."""

    monkeypatch.setattr(LatestDeadLetters, "redrive", send)
    await poison(engine, HOSTILE)
    browser = browser_of(engine)
    done = await browser.submit(await browser.open("/ui/dead-letter?place=0-0"), ".actions")
    assert "The record was sent again." in done.text
    assert not done.all("main form")
    assert (await browser.open("/ui/dead-letter?place=0-0&done=1")).all("main form")


async def test_a_dead_letter_that_cannot_be_redriven_says_why(engine: VirtualEngine) -> None:
    """Readers have no form, and a place that is no longer among the latest is 404."""
    browser = browser_of(engine, Keys("event", "api", "read"))
    browser.client.headers["Authorization"] = "Bearer read"
    assert "There are no dead letters." in (await browser.open("/ui/dead-letters")).text
    await poison(engine, HOSTILE)
    page = await browser.open("/ui/dead-letter?place=0-0")
    assert not page.all("main form")
    assert (await browser.client.post("/ui/dead-letter?place=0-0")).status_code in (403, 415)
    assert (await browser.open("/ui/dead-letter?place=7-7")).status == 404
    browser.client.headers["Authorization"] = "Bearer api"
    gone = await browser.client.post("/ui/dead-letter?place=7-7", data={"a": "b"})
    assert gone.status_code == 409


async def test_dead_letters_are_answered_by_the_api(engine: VirtualEngine) -> None:
    """Bytes that are not text are base64; redriving says who did it."""
    await poison(engine, b"\xff")
    api = make_api(facade_of(engine.engine), engine.index, bytes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost") as client:
        (listed,) = (await client.get("/v1/dead-letters")).json()["dead_letters"]
        assert (listed["place"], listed["size"], "value" in listed) == ("0-0", 1, False)
        one = (await client.get("/v1/dead-letters/0-0")).json()
        assert (one["value"], one["key"]) == ({"base64": "/w=="}, "k")
        assert one["headers"] == [["trace", "t-1"], ["raw", {"base64": "/w=="}]]
        assert (await client.get("/v1/dead-letters/9-9")).status_code == 404
        assert (await client.post("/v1/dead-letters/0-0/redrive")).json() == {"redriven": True}
        assert (await client.post("/v1/dead-letters/0-0/redrive")).status_code == 409
        one = (await client.get("/v1/dead-letters/0-0")).json()
        assert (one["is_sent"], one["by"]) == (True, "local")
