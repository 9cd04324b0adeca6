"""The page of what waits follows the engine: lists are replaced, and forms of approvals are left alone."""

from collections.abc import AsyncIterator

import pytest

from stepstream import App, Context, Event, on
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import Browser
from tests.api.pages.streaming import api_of, source_of, streaming

app = App("shop")


@app.function(on("ask"))
async def ask(ctx: Context) -> None:
    """Ask a person."""
    await ctx.step.wait_for_approval("ok", title="May I?", timeout="1d")


@app.function(on("order"))
async def fulfil(ctx: Context) -> None:
    """Wait for a payment."""
    await ctx.step.wait_for_event("paid", event="paid", match="data.id", timeout="1d")


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """Yield the engine of the shop."""
    async with VirtualEngine(app) as made:
        yield made


async def test_waits_that_begin_and_end_are_shown(engine: VirtualEngine) -> None:
    """The list is replaced when a run begins to wait, and when the event has come."""
    api = api_of(engine)
    page = await Browser(api).open("/ui/waiting?kind=events")
    assert "No run waits for an event." in page.text
    async with streaming(api, source_of(page)) as stream:
        assert "No run waits" in (await stream.texts("waiting"))["waiting"]
        await engine.send(Event("order", {"id": 7}))
        while "fulfil" not in (parts := await stream.texts("waiting"))["waiting"]:
            pass
        assert parts["pages"].startswith("Runs 1")
        await engine.send(Event("paid", {"id": 7}))
        while "No run waits" not in (await stream.texts("waiting"))["waiting"]:
            pass


async def test_a_new_approval_replaces_no_form(engine: VirtualEngine) -> None:
    """The page says that the list has changed, and what a person has entered stays."""
    await engine.send(Event("ask"))
    api = api_of(engine)
    page = await Browser(api).open("/ui/waiting")
    assert len(page.all("article form")) == 1
    async with streaming(api, source_of(page)) as stream:
        assert (await stream.texts("changed"))["changed"] == ""
        await engine.send(Event("ask"))
        while not (parts := await stream.texts("changed"))["changed"]:
            pass
        assert parts["changed"] == "The list has changed: show it"
        assert parts["pages"].startswith("Runs 2 open Waiting 2 to decide")
        assert "waiting" not in parts


async def test_a_stream_of_an_unknown_kind_is_refused(engine: VirtualEngine) -> None:
    """A stream takes the parameters of its page, and no other."""
    browser = Browser(api_of(engine))
    for query in ("kind=all", "kind=events&x=1"):
        assert (await browser.open(f"/ui/live/waiting?{query}")).status == 400
