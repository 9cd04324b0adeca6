"""Cancelling a run with the runs that it waits for: by the API and by the page."""

from collections.abc import AsyncIterator

import httpx
import pytest

from stepstream import App, Context, Event, on
from stepstream.api.http import make_api
from stepstream.runtime.metrics import Metrics
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import browser_of
from tests.fakes.facades import facade_of

app = App("family")
FORM = 'form[aria-label="Cancel the run"]'


@app.function()
async def child(ctx: Context) -> None:
    """Sleep."""
    await ctx.step.sleep("nap", "1h")


@app.function(on("go"))
async def parent(ctx: Context) -> None:
    """Wait for a child."""
    await ctx.step.invoke("child", function=child)


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """Yield the engine of a parent that waits for its child."""
    async with VirtualEngine(app) as made:
        await made.send(Event("go"))
        yield made


@pytest.mark.parametrize(("given", "status"), [({}, "running"), ({"children": "true"}, "cancelled")])
async def test_a_request_chooses_what_happens_to_the_children(
    engine: VirtualEngine, given: dict[str, str], status: str
) -> None:
    """They continue unless the request says otherwise."""
    api = make_api(facade_of(engine.engine), engine.index, Metrics("engine").text)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost") as client:
        path = f"/v1/runs/{engine.run('parent').run_id}"
        assert (await client.delete(path, params=given)).json() == {"cancelled": True}
    await engine.until_idle()
    assert engine.run("child").status == status


@pytest.mark.parametrize(("chosen", "status"), [("", "running"), ("cancel", "cancelled")])
async def test_the_page_offers_to_cancel_the_children(engine: VirtualEngine, chosen: str, status: str) -> None:
    """Only the form of a run that waits for one has the choice."""
    browser = browser_of(engine)
    alone = await browser.open(f"/ui/runs/{engine.run('child').run_id}")
    assert not alone.all(f"{FORM} select")
    page = await browser.open(f"/ui/runs/{engine.run('parent').run_id}")
    done = await browser.submit(page, FORM, children=chosen)
    assert done.texts(".note") == ["The run is cancelled."]
    await engine.until_idle()
    assert engine.run("child").status == status
