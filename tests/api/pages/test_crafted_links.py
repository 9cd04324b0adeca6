"""Crafted links: none of them makes a page state the outcome of a form, or hide an approval."""

from collections.abc import AsyncIterator, Sequence
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from stepstream import App, Context, Event, on
from stepstream.api.guards import Keys
from stepstream.contract.topics import EVENTS
from stepstream.runtime.ports import NewRecord
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import browser_of

app = App("shop", queues=["gpu"])
PAUSE = "form[aria-label='Pause the run']"
WORDS = ("cancelled", "rerun", "paused", "resumed", "delivered", "stored", "late", "sent", "redriven", "1", "x")


@app.function(on("refund"))
async def refund(ctx: Context) -> None:
    """Ask a person."""
    await ctx.step.wait_for_approval("ask", title="Refund?", timeout="3d")


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """Yield an engine with an open approval and a dead letter."""
    async with VirtualEngine(app) as made:
        await made.send(Event("refund", {}, id="r1"))
        await made.embedded.append([NewRecord(EVENTS, -1, b"k", b"{", ())])
        await made.until_idle()
        yield made


def pages_of(engine: VirtualEngine) -> Sequence[str]:
    """Return a page of each kind that states outcomes, as its URL up to the value of `done`."""
    (asked,) = engine.index.open_approvals()
    return [
        f"/ui/runs/{asked.run_id}?done=",
        f"/ui/approvals/{asked.run_id}/{asked.step}?done=",
        "/ui/waiting?done=",
        "/ui/workers?done=",
        "/ui/function?id=refund&done=",
        "/ui/event?id=r1&done=",
        "/ui/dead-letter?place=0-0&done=",
    ]


@pytest.mark.parametrize("keys", [Keys(), Keys("event", "api", "read")], ids=["no-keys", "keys"])
async def test_a_crafted_outcome_is_not_shown(engine: VirtualEngine, keys: Keys) -> None:
    """Neither a bare word, nor one with the signature of another page, word or session, changes a page."""
    browser, other = browser_of(engine, keys), browser_of(engine, keys)
    if keys.api:
        for each in (browser, other):
            await each.submit(await each.open("/ui/login"), "main form", key="api", user="eve")
    (asked,) = engine.index.open_approvals()
    signed: list[str] = []
    for each in (browser, other):
        page = await each.submit(await each.open("/ui/function?id=refund"), "form[aria-label='Pause the function']")
        assert "It is paused" in page.text
        signed += parse_qs(urlsplit(page.path).query)["done"]
        await each.submit(page, "form[aria-label='Resume the function']")
    marks = [".", *(done.removeprefix("paused") for done in signed)]
    decided = f"{asked.run_id}/{asked.step}"
    crafted = [*WORDS, decided, *(f"{word}{mark}" for word in ("paused", "stored", decided) for mark in marks)]
    for start in pages_of(engine):
        plain = (await browser.open(start.rpartition("done=")[0].rstrip("?&"))).text
        for done in crafted:
            if (start, done) != ("/ui/function?id=refund&done=", signed[0]):
                assert (await browser.open(start + quote(done, safe=""))).text == plain


async def test_an_outcome_is_shown_to_its_session_only(engine: VirtualEngine) -> None:
    """The one who sent the form may reload the page; another reader of the same URL sees only its state."""
    browser = browser_of(engine)
    page = await browser.submit(await browser.open(pages_of(engine)[0].partition("?")[0]), PAUSE)
    assert "The run is paused." in page.text
    assert "The run is paused." in (await browser.open(page.path)).text
    assert "The run is paused." not in (await browser_of(engine).open(page.path)).text


async def test_an_outcome_is_stated_for_a_minute(engine: VirtualEngine) -> None:
    """The same URL, opened again later in the session, states nothing; neither does one with a later end."""
    browser = browser_of(engine)
    page = await browser.submit(await browser.open(pages_of(engine)[0].partition("?")[0]), PAUSE)
    await engine.advance("59s")
    assert "The run is paused." in (await browser.open(page.path)).text
    await engine.advance("2s")
    assert "The run is paused." not in (await browser.open(page.path)).text
    outcome, until, signature = parse_qs(urlsplit(page.path).query)["done"][0].split(".")
    later = quote(f"{outcome}.{int(until) + 60_000}.{signature}")
    assert "The run is paused." not in (await browser.open(f"{pages_of(engine)[0]}{later}")).text


async def test_a_crafted_link_to_an_unknown_event_is_404(engine: VirtualEngine) -> None:
    """It does not say that an event was sent."""
    page = await browser_of(engine).open("/ui/event?id=never&done=sent.0")
    assert (page.status, "was sent." in page.text) == (404, False)
